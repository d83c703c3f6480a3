"""How the deposit of first-principles frames under `reference/aimd` grows (what a set is: `sets.py`).

Atoms are stored Si first, then O, otherwise in the order of the source; the mean force of each frame,
which is not zero on a finite grid, is subtracted. Both are recorded in `set.yml`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.base.frames import Frame
from jobs.reference.potentials import deposited_model
from jobs.reference.set_writer import SetWriter
from jobs.reference.sets import (
    DEPOSIT,
    FORMAT,
    QUANTA,
    DepositedSet,
    list_sets,
    listed_files,
    read_set,
    verify_set,
)

MAX_DEPOSIT_BYTES = 60_000_000
KINDS = ("trajectory", "singlepoints")
USES = ("train", "judge")
STARTS = ("bks", "nnp", "tersoff", "other")

# What a set holds before its first run.
_NOTHING: Mapping[str, Any] = {
    "runs": [],
    "decks": [],
    "densities_g_cm3": [],
    "provenance": [],
    "largest_net_force_eV_A": 0.0,
}


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One writer per deposit; what an earlier, killed writer left half-made is removed."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for leftover in root.glob(".*.part"):
            shutil.rmtree(leftover)
        yield
    finally:
        os.close(handle)


def _write_index(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write `set.yml` and `SHA256SUMS`, each whole or not at all, `set.yml` first."""
    import yaml

    text = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True, width=110)
    sums = {"set.yml": hashlib.sha256(text.encode()).hexdigest(), **listed_files(facts)}
    contents = {
        "set.yml": text,
        "SHA256SUMS": "".join(f"{digest}  {name}\n" for name, digest in sums.items()),
    }
    for name, content in contents.items():
        (directory / f".{name}.new").write_text(content)
    for name in contents:
        os.replace(directory / f".{name}.new", directory / name)


def deposit(
    frames: Iterable[Frame],
    *,
    source: str,
    name: str,
    kind: str,
    use: str,
    engine: str,
    engine_version: str,
    functional: str,
    basis: str,
    settings: Mapping[str, str],
    start: str,
    thermostat: str | None,
    timestep_fs: float | None,
    unequilibrated_frames: int,
    licence: str,
    provenance: str,
    decks: Sequence[Path],
    sampler: str | None = None,
    held_out: bool = True,
    digests: Sequence[str] = (),
    append: bool = False,
    root: Path = DEPOSIT,
) -> DepositedSet:
    """Deposit frames as a new set or, with `append`, as further runs of one that exists.

    Frames are grouped by their `replica` (trajectories: and by temperature); `start` and the replica
    name the melt they descend from, so equal names in different sets are one melt. Nothing is left
    behind when anything is wrong.

    Args:
        frames: any number of frames, consumed one at a time.
        source: name of where they come from, for messages.
        name: of the set, letters, digits and dashes.
        kind: `trajectory` (evenly spaced `step`s in `Frame.info`) or `singlepoints`.
        use: `train` or `judge`.
        engine: and `engine_version`, `functional`, `basis`, `settings`: what made the labels.
        engine_version: see `engine`.
        functional: see `engine`.
        basis: see `engine`.
        settings: see `engine`.
        start: `bks`, `nnp`, `tersoff` or `other`, what the configurations descend from.
        thermostat: of a trajectory, `none` for NVE; None for single points.
        timestep_fs: of a trajectory; None for single points.
        unequilibrated_frames: first frames of each deposited trajectory that still remember the start.
        licence: SPDX name.
        provenance: who computed what, from what, in a sentence.
        decks: input files of the engine, copied into the set.
        sampler: of single points with use judge, the deposited model (`reference/models/<name>`) that drew
            all their configurations; its sha256 is recorded, and the set can be reweighted to its functional.
        held_out: False for frames that train and were chosen because an NNP failed there: errors on them
            would say nothing about the liquid.
        digests: of the contents of other people's files that the frames are from.
        append: add runs to the set `name`; what describes it must be the same as before.
        root: the deposit; the project's own stays below `MAX_DEPOSIT_BYTES`.

    Raises:
        SuiteError: wrong frames or a contradiction; the deposit is as it was.
    """
    if not re.fullmatch(r"[a-z0-9][\w.-]*", name, flags=re.ASCII | re.IGNORECASE):
        raise SuiteError(f"--name: found {name!r}, expected letters, digits, points and dashes")
    for deck in decks:
        if not deck.is_file():
            raise SuiteError(f"{deck}: found no such deck, expected an input file of {engine}")
    described = {
        "kind": kind,
        "use": use,
        "engine": engine,
        "engine_version": engine_version,
        "functional": functional,
        "basis": basis,
        "settings": dict(settings),
        "start": start,
        "thermostat": thermostat,
        "timestep_fs": timestep_fs,
        "licence": licence,
    }
    if sampler is not None:
        described["sampler"] = {"model": sampler, "sha256": deposited_model(sampler)[1]["sha256"]}
    if not held_out:
        described["held_out"] = False
    _check_description(described, unequilibrated_frames=unequilibrated_frames)
    with _locked(root):
        final = root / name
        before = _before(final, described, source=source, append=append)
        work = final if before else root / f".{name}.part"
        (work / "runs").mkdir(parents=True, exist_ok=True)
        (work / "decks").mkdir(exist_ok=True)
        writer = SetWriter(
            work,
            kind=kind,
            start=start,
            unequilibrated_frames=unequilibrated_frames,
            atoms=dict(before.facts["atoms"]) if before else None,
            steps_between_frames=before.facts["steps_between_frames"] if before else None,
            timestep_fs=timestep_fs,
            taken={run.id for run in before.runs} if before else set(),
        )
        try:
            for number, frame in enumerate(frames, start=1):
                writer.add(frame, f"{source}: frame {number}")
            entries = writer.finish()
            if not entries:
                raise SuiteError(f"{source}: found no frame, expected at least one")
            _refuse_double_use({entry["melt"] for entry in entries}, use=use, root=root)
            old = dict(before.facts) if before else dict(_NOTHING)
            if before and (other := sorted(writer.densities - set(old["densities_g_cm3"]))):
                raise SuiteError(
                    f"{source}: found {other[0]:g} g/cm3, expected {span(old['densities_g_cm3'])} as in "
                    f"{name}: frames at another volume are a set of their own"
                )
            old["decks"] = _copy_decks(decks, writer, kept=old["decks"])
            old["provenance"] = [*old["provenance"], provenance]
            old["sources"] = [*old.get("sources", []), *digests]
            if root.resolve() == DEPOSIT.resolve():
                _check_size(root)
            _write_index(work, _facts(name, described, old, writer, entries))
            if before is None:
                os.rename(work, final)
        except BaseException:
            if before is None:
                shutil.rmtree(work, ignore_errors=True)
            else:
                for path in writer.written:
                    path.unlink(missing_ok=True)
            raise
    return read_set(name, root=root)


def _check_description(described: Mapping[str, Any], *, unequilibrated_frames: int) -> None:
    """Refuse words that are not known and options that contradict one another."""
    kind, use = described["kind"], described["use"]
    for option, allowed in (("kind", KINDS), ("use", USES), ("start", STARTS)):
        if described[option] not in allowed:
            raise SuiteError(f"--{option}: found {described[option]!r}, expected one of {', '.join(allowed)}")
    if any((kind == "trajectory") != (described[key] is not None) for key in ("timestep_fs", "thermostat")):
        raise SuiteError(
            f"--kind {kind}: expected --timestep-fs and --thermostat for a trajectory and only there"
        )
    if kind == "singlepoints" and unequilibrated_frames:
        raise SuiteError("--unequilibrated: found single points, expected a trajectory")
    if "sampler" in described and (kind, use) != ("singlepoints", "judge"):
        raise SuiteError(f"--sampler: found {kind} to {use}, expected single points to judge")
    if "held_out" in described and use != "train":
        raise SuiteError(f"--never-held-out: found use {use}, expected train")


def _before(final: Path, described: Mapping[str, Any], *, source: str, append: bool) -> DepositedSet | None:
    """The set that grows, whole and described alike; None where a new one begins."""
    if not append:
        if final.exists():
            raise SuiteError(
                f"{final}: found a set of this name, expected a new name (or --append to add runs to it)"
            )
        return None
    before = read_set(final.name, root=final.parent)
    verify_set(before)
    for key in {**described, "sampler": None, "held_out": None}:
        earlier, now = before.facts.get(key), described.get(key)
        if earlier != now:
            what, was, is_now = _unlike(earlier, now) if key == "settings" else (key, earlier, now)
            raise SuiteError(f"{final}/set.yml: found {what} {was!r}, expected {is_now!r} to append {source}")
    return before


def _unlike(earlier: Any, now: Any) -> tuple[str, str | None, str | None]:
    """The first setting that is not the same in both, by name."""
    name = next(name for name in {**earlier, **now} if earlier.get(name) != now.get(name))
    return name, earlier.get(name), now.get(name)


def _copy_decks(
    decks: Sequence[Path], writer: SetWriter, *, kept: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """The set's decks with the new ones, which are copied; one name is one content."""
    listed = list(kept)
    for deck in decks:
        copied = {"file": f"decks/{deck.name}", "sha256": file_sha256(deck)}
        if any(d["file"] == copied["file"] and d != copied for d in listed):
            raise SuiteError(
                f"{deck}: found another deck of this name in the set, expected the same or a new name"
            )
        if copied not in listed:
            writer.written.append(writer.directory / copied["file"])
            shutil.copyfile(deck, writer.directory / copied["file"])
            listed.append(copied)
    return listed


def _facts(
    name: str,
    described: Mapping[str, Any],
    old: Mapping[str, Any],
    writer: SetWriter,
    entries: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """`set.yml`, from what it held before and the new runs."""
    runs = [*old["runs"], *entries]
    return {
        "format": FORMAT,
        "name": name,
        **described,
        "atoms": writer.atoms,
        "frames": sum(run["frames"] for run in runs),
        "temperatures_K": sorted({kelvin for run in runs for kelvin in run["temperatures_K"]}),
        "densities_g_cm3": sorted({*old["densities_g_cm3"], *writer.densities}),
        "steps_between_frames": writer.steps_between_frames,
        "net_force": "subtracted from each frame",
        "largest_net_force_eV_A": round(max(writer.largest_net_force, old["largest_net_force_eV_A"]), 6),
        "atom_order": "Si first, then O, otherwise as in the source",
        "quanta": {
            "positions_A": QUANTA["positions"],
            "velocities_A_fs": QUANTA["velocities"],
            "forces_eV_A": QUANTA["forces"],
        },
        "provenance": old["provenance"],
        **({"sources": old["sources"]} if old["sources"] else {}),
        "decks": old["decks"],
        "runs": runs,
    }


def _check_size(root: Path) -> None:
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    if size > MAX_DEPOSIT_BYTES:
        raise SuiteError(
            f"{root}: found {size / 1e6:.1f} MB with the new frames, "
            f"expected at most {MAX_DEPOSIT_BYTES / 1e6:.0f} MB"
        )


def _refuse_double_use(melts: set[str], *, use: str, root: Path) -> None:
    for other in list_sets(root=root):
        shared = sorted(melts & {run.melt for run in other.runs})
        if shared and other.use != use:
            raise SuiteError(
                f"{other.directory}: found melt {shared[0]} to {other.use}, expected it not to {use} as "
                "well: training data are never a reference"
            )


def check_cut(*, use: str, kind: str, unequilibrated_frames: int | None) -> None:
    """A trajectory with use `judge` must say where its equilibrium begins."""
    if (use, kind, unequilibrated_frames) == ("judge", "trajectory", None):
        raise SuiteError(
            "a trajectory with use judge needs --unequilibrated: how many first frames of it still remember "
            "the start (0 if none)"
        )


def span(values: Sequence[float]) -> str:
    """The lowest and the highest of sorted values, or the only one."""
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}-{values[-1]:g}"
