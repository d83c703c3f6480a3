"""How the deposit of first-principles frames under `reference/aimd` grows (what a set is: `jobs.deposited`).

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.deposited import (
    DEPOSIT,
    FORMAT,
    QUANTA,
    DepositedSet,
    list_sets,
    listed_files,
    pack,
    read_set,
    verify_set,
)
from jobs.errors import SuiteError
from jobs.frames import TYPE_MAP, Frame, density_g_cm3
from jobs.models import deposited_model
from jobs.store import file_sha256

FRAMES_PER_PART = 500
MAX_DEPOSIT_BYTES = 60_000_000
KINDS = ("trajectory", "singlepoints")
USES = ("train", "judge")
STARTS = ("bks", "nnp", "tersoff", "other")

# Farther than any atom goes between two saved frames of one trajectory (0.1 A in 2 fs at 3000 K).
MAX_STEP_ANGSTROM = 2.0
# First minimum of g(r) of Si-O in liquid silica; only for the autocorrelation of the coordination.
_SI_O_BOND_ANGSTROM = 2.2

# What a set holds before its first run.
_NOTHING: Mapping[str, Any] = {
    "runs": [],
    "decks": [],
    "densities_g_cm3": [],
    "provenance": [],
    "largest_net_force_eV_A": 0.0,
}


def integrated_autocorrelation_time(series: NDArray[np.float64]) -> float:
    """Integrated autocorrelation time of a series (F,), in frames: 1/2 + sum of the autocorrelation.

    The sum ends at the first lag that is at least 5 times the time found so far (Sokal's window), and
    the largest partial sum counts: in a series only a few times longer than its memory the sum over the
    negative lobe, which the subtracted mean makes, would hide part of it. A constant series and white
    noise have about 1/2.
    """
    deviation = np.asarray(series, dtype=np.float64) - np.mean(series)
    n = len(deviation)
    variance = float(np.mean(deviation**2))
    if variance == 0.0:
        return 0.5
    padded = np.fft.rfft(deviation, 2 * n)
    correlation = np.fft.irfft(np.abs(padded) ** 2)[:n] / (n * variance)
    longest = 0.5
    for lag, time in enumerate(0.5 + np.cumsum(correlation[1:]), start=1):
        longest = max(longest, float(time))
        if lag >= 5 * time:
            break
    return longest


def _mean_coordination(positions: NDArray[np.float64], cell: NDArray[np.float64], n_si: int) -> float:
    """Mean number of O within 2.2 A of a Si; needs a cell at least 4.4 A wide."""
    delta = positions[:n_si, None] - positions[None, n_si:]
    delta -= np.rint(delta @ np.linalg.inv(cell)) @ cell
    return float((np.einsum("ijk,ijk->ij", delta, delta) < _SI_O_BOND_ANGSTROM**2).sum() / n_si)


@dataclass
class _GrowingRun:
    """A run while it is being written: the frames not yet in a part, and what must be remembered."""

    id: str
    melt: str
    part_frames: list[Frame] = field(default_factory=list)
    parts: list[dict[str, str]] = field(default_factory=list)
    frames: int = 0
    temperatures_K: set[float] = field(default_factory=set)
    energies_eV: list[float] = field(default_factory=list)
    coordinations: list[float] = field(default_factory=list)
    gaps_eV: list[float] = field(default_factory=list)
    last_step: int | None = None
    last_positions: NDArray[np.float64] | None = None


class _Writer:
    """Takes frames in any order of runs and writes run files, at most 500 frames of each in memory."""

    def __init__(
        self,
        directory: Path,
        *,
        kind: str,
        start: str,
        unequilibrated_frames: int,
        atoms: dict[str, int] | None,
        steps_between_frames: int | None,
        timestep_fs: float | None,
        taken: set[str],
    ) -> None:
        self.directory = directory
        self.kind = kind
        self.start = start
        self.unequilibrated_frames = unequilibrated_frames
        self.atoms = atoms
        self.steps_between_frames = steps_between_frames
        self.timestep_fs = timestep_fs
        self.taken = taken
        self.runs: dict[str, _GrowingRun] = {}
        self.densities: set[float] = set()
        self.largest_net_force = 0.0
        self.written: list[Path] = []

    def add(self, frame: Frame, where: str) -> None:
        order = np.argsort(frame.types, kind="stable")
        types = frame.types[order]
        atoms = {species: int((types == index).sum()) for index, species in enumerate(TYPE_MAP)}
        if self.atoms is None:
            self.atoms = atoms
        if atoms != self.atoms:
            raise SuiteError(
                f"{where}: found {_formula(atoms)}, expected {_formula(self.atoms)} as in the rest of the set"
            )
        if "replica" not in frame.info:
            raise SuiteError(
                f"{where}: found no replica=, expected the number of the melt that the frame descends from"
            )
        melt = f"{self.start}-{frame.info['replica']}"
        run_id = f"{melt}-{frame.temperature_K:g}K" if self.kind == "trajectory" else melt
        if not re.fullmatch(r"[\w.-]+", run_id):
            raise SuiteError(
                f"{where}: found run name {run_id!r}, expected letters, digits, points and dashes"
            )
        if run_id in self.taken:
            raise SuiteError(f"{where}: found run {run_id}, expected a run that the set does not have yet")
        run = self.runs.setdefault(run_id, _GrowingRun(run_id, melt))
        positions = frame.positions[order]
        if self.kind == "trajectory":
            positions = self._follow(run, frame, positions, where)
        net = frame.forces.mean(axis=0)
        self.largest_net_force = max(self.largest_net_force, float(np.abs(net).max()))
        kept = Frame(
            types=types,
            positions=positions,
            cell=frame.cell,
            energy_eV=frame.energy_eV,
            forces=frame.forces[order] - net,
            velocities=None if frame.velocities is None else frame.velocities[order],
            temperature_K=frame.temperature_K,
        )
        if run.part_frames and (run.part_frames[0].velocities is None) != (kept.velocities is None):
            raise SuiteError(
                f"{where}: found velocities in some frames of {run_id} only, expected all or none"
            )
        run.part_frames.append(kept)
        run.frames += 1
        run.temperatures_K.add(float(frame.temperature_K))
        run.energies_eV.append(frame.energy_eV)
        if "gap_eV" in frame.info:
            run.gaps_eV.append(float(frame.info["gap_eV"]))
        if self.kind == "trajectory":
            run.coordinations.append(_mean_coordination(positions, frame.cell, atoms["Si"]))
        self.densities.add(round(density_g_cm3(types, frame.cell), 3))
        if len(run.part_frames) == FRAMES_PER_PART:
            self._write_part(run)

    def _follow(
        self, run: _GrowingRun, frame: Frame, positions: NDArray[np.float64], where: str
    ) -> NDArray[np.float64]:
        """Positions unwrapped along the trajectory, after the steps were seen to be evenly spaced."""
        if "step" not in frame.info or not frame.info["step"].isdigit():
            raise SuiteError(
                f"{where}: found step={frame.info.get('step')}, expected the MD step of a trajectory's frame"
            )
        step = int(frame.info["step"])
        assert self.timestep_fs is not None
        try:
            late_fs = float(frame.info.get("time_fs", step * self.timestep_fs)) - step * self.timestep_fs
        except ValueError:
            late_fs = float("nan")
        if not abs(late_fs) < 1e-3:
            raise SuiteError(
                f"{where}: found time_fs={frame.info['time_fs']} at step {step}, "
                f"expected {step * self.timestep_fs:g}"
            )
        if run.last_step is not None and run.last_positions is not None:
            if self.steps_between_frames is None:
                self.steps_between_frames = step - run.last_step
            if step - run.last_step != self.steps_between_frames or step <= run.last_step:
                raise SuiteError(
                    f"{where}: found step {step} after {run.last_step}, expected evenly spaced, growing steps"
                )
            moved = positions - run.last_positions
            moved -= np.rint(moved @ np.linalg.inv(frame.cell)) @ frame.cell
            if (farthest := float(np.linalg.norm(moved, axis=1).max())) > MAX_STEP_ANGSTROM:
                raise SuiteError(
                    f"{where}: found an atom {farthest:.2f} A from where it was, "
                    "expected one continuous trajectory"
                )
            positions = run.last_positions + moved
        run.last_step, run.last_positions = step, positions
        return positions

    def _write_part(self, run: _GrowingRun) -> None:
        frames, run.part_frames = run.part_frames, []
        arrays: dict[str, NDArray[Any]] = {
            "positions": pack(np.array([f.positions for f in frames]), "positions"),
            "forces": pack(np.array([f.forces for f in frames]), "forces"),
            "energies_eV": np.array([f.energy_eV for f in frames]),
            "cells": np.array([f.cell for f in frames]),
            "temperatures_K": np.array([f.temperature_K for f in frames]),
        }
        if frames[0].velocities is not None:
            arrays["velocities"] = pack(np.array([f.velocities for f in frames]), "velocities")
        name = f"runs/{run.id}.{len(run.parts):03d}.npz"
        path = self.directory / name
        self.written.append(path)
        with path.open("wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
            handle.flush()
            os.fsync(handle.fileno())
        run.parts.append({"file": name, "sha256": file_sha256(path)})

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left and return the runs' entries of `set.yml`."""
        entries = []
        for run in self.runs.values():
            if run.part_frames:
                self._write_part(run)
            skip = self.unequilibrated_frames
            if self.kind == "trajectory" and run.frames <= skip:
                raise SuiteError(
                    f"run {run.id}: found {run.frames} frames, expected more than the {skip} unequilibrated"
                )
            time = None
            decorrelated = 1  # of the single points of one melt, only one is known to be independent
            if self.kind == "trajectory":
                series = (np.array(run.energies_eV)[skip:], np.array(run.coordinations)[skip:])
                time = max(integrated_autocorrelation_time(s) for s in series)
                decorrelated = (run.frames - skip - 1) // int(np.ceil(3 * time)) + 1
            gap = {}
            if len(run.gaps_eV) == run.frames:
                gap["smallest_gap_eV"] = round(min(run.gaps_eV), 3)
            entries.append(
                {
                    "id": run.id,
                    "melt": run.melt,
                    "frames": run.frames,
                    "temperatures_K": sorted(run.temperatures_K),
                    "unequilibrated_frames": skip,
                    "decorrelated_frames": decorrelated,
                    "autocorrelation_frames": None if time is None else round(time, 2),
                    **gap,
                    "parts": run.parts,
                }
            )
        return entries


def _formula(atoms: Mapping[str, int]) -> str:
    return " ".join(f"{count} {species}" for species, count in atoms.items())


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
    append: bool = False,
    root: Path = DEPOSIT,
    capped: bool = True,
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
        sampler: of single points that judge, the deposited model (`reference/models/<name>`) that drew all
            their configurations; its sha256 is recorded, and the set can be reweighted to its functional.
        held_out: False for frames that train and were chosen because a network failed there: errors on them
            would say nothing about the liquid.
        append: add runs to the set `name`; what describes it must be the same as before.
        root: the deposit.
        capped: whether it must stay below `MAX_DEPOSIT_BYTES`, as the project's own must.

    Raises:
        SuiteError: wrong frames or a contradiction; the deposit is as it was.
    """
    if not re.fullmatch(r"[a-z0-9][\w.-]*", name, flags=re.ASCII | re.IGNORECASE):
        raise SuiteError(f"--name: found {name!r}, expected letters, digits, points and dashes")
    for option, value, allowed in (("kind", kind, KINDS), ("use", use, USES), ("start", start, STARTS)):
        if value not in allowed:
            raise SuiteError(f"--{option}: found {value!r}, expected one of {', '.join(allowed)}")
    if (kind == "trajectory") != (timestep_fs is not None) or (kind == "trajectory") != (
        thermostat is not None
    ):
        raise SuiteError(
            f"--kind {kind}: expected --timestep-fs and --thermostat for a trajectory and only there"
        )
    if kind == "singlepoints" and unequilibrated_frames:
        raise SuiteError("--unequilibrated: found single points, expected a trajectory")
    if sampler is not None and (kind, use) != ("singlepoints", "judge"):
        raise SuiteError(f"--sampler: found {kind} to {use}, expected single points to judge")
    if not held_out and use != "train":
        raise SuiteError(f"--never-held-out: found use {use}, expected train")
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
    with _locked(root):
        final = root / name
        if final.exists() and not append:
            raise SuiteError(
                f"{final}: found a set of this name, expected a new name (or --append to add runs to it)"
            )
        before: DepositedSet | None = None
        if append:
            before = read_set(name, root=root)
            verify_set(before)
            for key in {**described, "sampler": None, "held_out": None}:
                earlier, now = before.facts.get(key), described.get(key)
                if earlier != now:
                    raise SuiteError(f"{final}/set.yml: found {key} {earlier!r}, expected {now!r} to append")
        work = final if before else root / f".{name}.part"
        (work / "runs").mkdir(parents=True, exist_ok=True)
        (work / "decks").mkdir(exist_ok=True)
        writer = _Writer(
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
            kept_decks = list(old["decks"])
            for deck in decks:
                copied = {"file": f"decks/{deck.name}", "sha256": file_sha256(deck)}
                if any(d["file"] == copied["file"] and d != copied for d in kept_decks):
                    raise SuiteError(
                        f"{deck}: found another deck of this name in the set, expected the same or a new name"
                    )
                if copied not in kept_decks:
                    writer.written.append(work / copied["file"])
                    shutil.copyfile(deck, work / copied["file"])
                    kept_decks.append(copied)
            facts = {
                "format": FORMAT,
                "name": name,
                **described,
                "atoms": writer.atoms,
                "frames": sum(e["frames"] for e in [*old["runs"], *entries]),
                "temperatures_K": sorted({t for e in [*old["runs"], *entries] for t in e["temperatures_K"]}),
                "densities_g_cm3": sorted({*old["densities_g_cm3"], *writer.densities}),
                "steps_between_frames": writer.steps_between_frames,
                "net_force": "subtracted from each frame",
                "largest_net_force_eV_A": round(
                    max(writer.largest_net_force, old["largest_net_force_eV_A"]), 6
                ),
                "atom_order": "Si first, then O, otherwise as in the source",
                "quanta": {
                    "positions_A": QUANTA["positions"],
                    "velocities_A_fs": QUANTA["velocities"],
                    "forces_eV_A": QUANTA["forces"],
                },
                "provenance": [*old["provenance"], provenance],
                "decks": kept_decks,
                "runs": [*old["runs"], *entries],
            }
            size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
            if capped and size > MAX_DEPOSIT_BYTES:
                raise SuiteError(
                    f"{root}: found {size / 1e6:.1f} MB with the new frames, "
                    f"expected at most {MAX_DEPOSIT_BYTES / 1e6:.0f} MB"
                )
            _write_index(work, facts)
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


def _refuse_double_use(melts: set[str], *, use: str, root: Path) -> None:
    for other in list_sets(root=root):
        shared = sorted(melts & {run.melt for run in other.runs})
        if shared and other.use != use:
            raise SuiteError(
                f"{other.directory}: found melt {shared[0]} to {other.use}, expected it not to {use} as "
                "well: what judges never trains"
            )


def check_cut(*, use: str, kind: str, unequilibrated_frames: int | None) -> None:
    """A trajectory that judges says where its equilibrium begins."""
    if (use, kind, unequilibrated_frames) == ("judge", "trajectory", None):
        raise SuiteError(
            "deposit: found no --unequilibrated, expected how many first frames of each trajectory still "
            "remember the start (0 if none)"
        )


def span(values: Sequence[float]) -> str:
    """The lowest and the highest of sorted values, or the only one."""
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}-{values[-1]:g}"
