"""The deposit of first-principles frames under `reference/aimd`: how it is read and how it grows.

A set is a folder: `set.yml` (what it is, and the list of its runs with checksums), `runs/*.npz`,
`decks/*` and `SHA256SUMS`. A *run* is what one calculation produced: one trajectory at one temperature,
or all single points of one melt. Listing reads `set.yml` files only; iterating holds one part of one
run (at most 500 frames) in memory.

Storage. The whole deposit must stay below 60 MB with up to 10 000 frames of 96 to 216 atoms. Plain
float32 arrays of positions, velocities and forces take 36 bytes per atom and frame (78 MB for 10 000
frames of 216) and hardly compress. Here each array is a fixed-point integer of 32 bits in units of a
*quantum*, stored as four byte planes so that deflate sees the nearly empty upper planes in one piece:
20 bytes per atom and frame on real data (43 MB for the same frames). The quanta are 1e-5 A, 1e-6 A/fs
and 1e-4 eV/A. Rounding forces adds 0.03 meV/A rms, and rounding positions, at the 60 eV/A2 of a stiff
Si-O bond, changes the force that belongs to them by 0.2 meV/A; the labels' own noise is 8 meV/A.
Energies and cells are float64.

Atoms are stored Si first, then O, otherwise in the order of the source; the mean force of each frame,
which is not zero on a finite grid, is subtracted. Both are recorded in `set.yml`.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import SuiteError
from jobs.files import parse_yaml
from jobs.frames import TYPE_MAP, Frame, density_g_cm3, read_extxyz
from jobs.models import deposited_model
from jobs.store import file_sha256

DEPOSIT = Path(__file__).resolve().parent.parent / "reference" / "aimd"
FORMAT = 1
FRAMES_PER_PART = 500
MAX_DEPOSIT_BYTES = 60_000_000
QUANTA = {"positions": 1e-5, "velocities": 1e-6, "forces": 1e-4}  # A, A/fs, eV/A
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


@dataclass(frozen=True)
class Frames:
    """F frames of N atoms of one run, atoms ordered Si first.

    `types` (N,) indices into `TYPE_MAP`; `positions` (F, N, 3) A, unwrapped in a trajectory; `forces`
    (F, N, 3) eV/A, zero mean; `velocities` (F, N, 3) A/fs or None; `energies_eV` (F,) totals of the
    engine; `cells` (F, 3, 3) A, rows are vectors; `temperatures_K` (F,) targets; `first` is the index of
    the first of these frames in its run.
    """

    types: NDArray[np.int8]
    positions: NDArray[np.float64]
    forces: NDArray[np.float64]
    velocities: NDArray[np.float64] | None
    energies_eV: NDArray[np.float64]
    cells: NDArray[np.float64]
    temperatures_K: NDArray[np.float64]
    first: int = 0

    def __len__(self) -> int:
        return len(self.energies_eV)

    def select(self, chosen: NDArray[Any] | slice) -> Frames:
        """The frames that an index array, a mask or a slice picks."""
        return Frames(
            types=self.types,
            positions=self.positions[chosen],
            forces=self.forces[chosen],
            velocities=None if self.velocities is None else self.velocities[chosen],
            energies_eV=self.energies_eV[chosen],
            cells=self.cells[chosen],
            temperatures_K=self.temperatures_K[chosen],
            first=self.first,
        )


@dataclass(frozen=True)
class Run:
    """One entry of `set.yml`: a source run, its files and their checksums.

    `melt` names what the run descends from: two runs of one melt, in whatever set, are not independent.
    The first `unequilibrated_frames` of a trajectory still remember the start. `decorrelated_frames` is
    None where it was not assessed. `smallest_gap_eV` is between occupied and empty orbitals, over the
    frames, where the engine told it of all: near zero, a label depends on how its SCF began.
    """

    id: str
    melt: str
    frames: int
    temperatures_K: tuple[float, ...]
    unequilibrated_frames: int
    decorrelated_frames: int | None
    autocorrelation_frames: float | None
    parts: tuple[tuple[str, str], ...]  # (file relative to the set, sha256)
    smallest_gap_eV: float | None = None


@dataclass(frozen=True)
class DepositedSet:
    """A deposited set: where it is, what its `set.yml` says, and its runs."""

    name: str
    directory: Path
    sha256: str
    facts: Mapping[str, Any] = field(repr=False)
    types: NDArray[np.int8] = field(repr=False)
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def kind(self) -> str:
        """`trajectory` or `singlepoints`."""
        return str(self.facts["kind"])

    @property
    def use(self) -> str:
        """`train` or `judge`; what judges never trains."""
        return str(self.facts["use"])

    @property
    def held_out(self) -> bool:
        """Whether its frames may be held out of training, to measure errors: a sample of the liquid may."""
        return bool(self.facts.get("held_out", True))

    @property
    def sampler(self) -> Mapping[str, str] | None:
        """The deposited network that drew the configurations: `model` (its name) and `sha256`, or None."""
        found: Mapping[str, str] | None = self.facts.get("sampler")
        return found

    @property
    def level(self) -> tuple[str, ...]:
        """Engine, functional and basis, and with CP2K the grid, which moves its energies by meV per atom."""
        grid = (
            str(self.facts["settings"][key])
            for key in ("method", "cutoff_Ry")
            if key in self.facts["settings"]
        )
        return (self.facts["engine"], self.facts["functional"], self.facts["basis"], *grid)

    @property
    def n_atoms(self) -> int:
        """Atoms per frame."""
        return len(self.types)

    @property
    def frames(self) -> int:
        """Frames of all runs."""
        return sum(run.frames for run in self.runs)

    @property
    def decorrelated_frames(self) -> int | None:
        """Frames that count as independent; None where no run was assessed."""
        assessed = [run.decorrelated_frames for run in self.runs if run.decorrelated_frames is not None]
        return sum(assessed) if assessed else None

    @property
    def time_between_frames_fs(self) -> float | None:
        """Time from one frame of a trajectory to the next; None for single points."""
        if self.kind != "trajectory":
            return None
        return float(self.facts["timestep_fs"]) * int(self.facts["steps_between_frames"])

    def run(self, run_id: str) -> Run:
        """The run of this name.

        Raises:
            SuiteError: the set has no such run.
        """
        for run in self.runs:
            if run.id == run_id:
                return run
        raise SuiteError(
            f"{self.directory}: found no run {run_id}, expected one of {', '.join(r.id for r in self.runs)}"
        )


# Reading ------------------------------------------------------------------------------------------


def read_set(name: str, *, root: Path = DEPOSIT) -> DepositedSet:
    """What `set.yml` of a set says; reads no frame.

    Raises:
        SuiteError: no such set, or a `set.yml` that this code cannot read.
    """
    path = root / name / "set.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in root.glob("[!.]*/set.yml"))) or "none"
        raise SuiteError(f"{path}: found no such set, expected one of: {known}")
    content = path.read_bytes()
    facts = _parse_index(content)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise SuiteError(
            f"{path}: found no 'format: {FORMAT}', expected a set.yml written by `python -m jobs deposit`"
        )
    runs = tuple(
        Run(
            id=entry["id"],
            melt=entry["melt"],
            frames=entry["frames"],
            temperatures_K=tuple(entry["temperatures_K"]),
            unequilibrated_frames=entry["unequilibrated_frames"],
            decorrelated_frames=entry["decorrelated_frames"],
            autocorrelation_frames=entry["autocorrelation_frames"],
            parts=tuple((part["file"], part["sha256"]) for part in entry["parts"]),
            smallest_gap_eV=entry.get("smallest_gap_eV"),
        )
        for entry in facts["runs"]
    )
    types = np.repeat(np.arange(len(TYPE_MAP), dtype=np.int8), [facts["atoms"][s] for s in TYPE_MAP])
    return DepositedSet(name, path.parent, hashlib.sha256(content).hexdigest(), facts, types, runs)


@lru_cache(maxsize=64)
def _parse_index(content: bytes) -> Any:
    """The content of a set.yml; planning a campaign asks for the same ones dozens of times."""
    return parse_yaml(content)


def find_set(name: str, parameters: Mapping[str, Any]) -> DepositedSet:
    """A set that a tier or a stage names: of the user's deposit if it has it, else of the project's.

    Raises:
        SuiteError: neither has it.
    """
    own = deposit_root(parameters)
    if (own / name / "set.yml").is_file() or not (DEPOSIT / name / "set.yml").is_file():
        return read_set(name, root=own)
    return read_set(name)


def deposit_root(parameters: Mapping[str, Any]) -> Path:
    """Where a stage finds its deposited sets: a deposit of the user's (`deposit`), or the project's."""
    return Path(parameters["deposit"]) if "deposit" in parameters else DEPOSIT


def list_sets(*, root: Path = DEPOSIT) -> list[DepositedSet]:
    """Every deposited set by name; reads `set.yml` files only."""
    return [read_set(path.parent.name, root=root) for path in sorted(root.glob("[!.]*/set.yml"))]


def verify_set(deposited: DepositedSet) -> None:
    """Compare every file of a set with its checksum.

    Raises:
        SuiteError: a file is missing or its content is not what was deposited; the line names the file.
    """
    sums = deposited.directory / "SHA256SUMS"
    if not sums.is_file():
        raise SuiteError(f"{sums}: found no such file, expected the checksums of the set")
    expected = {
        name: digest for digest, name in (line.split(maxsplit=1) for line in sums.read_text().splitlines())
    }
    if set(expected) != {"set.yml", *_listed_files(deposited.facts)}:
        raise SuiteError(f"{sums}: found other files than set.yml lists, expected the same ones")
    for name, digest in expected.items():
        _check_file(deposited.directory / name, digest)
    for name, digest in _listed_files(deposited.facts).items():
        if expected[name] != digest:
            raise SuiteError(f"{sums}: found another sha256 of {name} than set.yml has, expected {digest}")


def _listed_files(facts: Mapping[str, Any]) -> dict[str, str]:
    files = {deck["file"]: deck["sha256"] for deck in facts["decks"]}
    files.update({part["file"]: part["sha256"] for run in facts["runs"] for part in run["parts"]})
    return files


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected sha256 {expected}")
    found = file_sha256(path)
    if found != expected:
        raise SuiteError(
            f"{path}: found sha256 {found}, expected {expected}: not the file that was deposited"
        )


def iter_run(deposited: DepositedSet, run_id: str) -> Iterator[Frames]:
    """The frames of one run, at most 500 at a time, each file compared with its checksum first.

    Raises:
        SuiteError: no such run, or a file that is not the deposited one.
    """
    first = 0
    for name, digest in deposited.run(run_id).parts:
        path = deposited.directory / name
        _check_file(path, digest)
        with np.load(path, allow_pickle=False) as arrays:
            yield Frames(
                types=deposited.types,
                positions=_unpack(arrays["positions"], "positions"),
                forces=_unpack(arrays["forces"], "forces"),
                velocities=_unpack(arrays["velocities"], "velocities") if "velocities" in arrays else None,
                energies_eV=arrays["energies_eV"],
                cells=arrays["cells"],
                temperatures_K=arrays["temperatures_K"],
                first=first,
            )
            first += len(arrays["energies_eV"])


def iter_runs(deposited: DepositedSet) -> Iterator[tuple[Run, Frames]]:
    """All frames of a set, run after run, at most 500 frames at a time (see `iter_run`)."""
    for run in deposited.runs:
        for frames in iter_run(deposited, run.id):
            yield run, frames


def read_run(deposited: DepositedSet, run_id: str, *, equilibrated: bool) -> Frames:
    """One whole run; with `equilibrated`, without its unequilibrated first frames.

    Raises:
        SuiteError: no such run, a file that is not the deposited one, or no frame left.
    """
    parts = list(iter_run(deposited, run_id))
    velocities = [part.velocities for part in parts if part.velocities is not None]
    whole = Frames(
        types=deposited.types,
        positions=np.concatenate([part.positions for part in parts]),
        forces=np.concatenate([part.forces for part in parts]),
        velocities=np.concatenate(velocities) if len(velocities) == len(parts) else None,
        energies_eV=np.concatenate([part.energies_eV for part in parts]),
        cells=np.concatenate([part.cells for part in parts]),
        temperatures_K=np.concatenate([part.temperatures_K for part in parts]),
    )
    skip = deposited.run(run_id).unequilibrated_frames if equilibrated else 0
    if skip >= len(whole):
        raise SuiteError(
            f"{deposited.directory}: run {run_id}: found {len(whole)} frames, expected more than the {skip} "
            "unequilibrated ones"
        )
    return whole.select(slice(skip, None))


def summary(deposited: DepositedSet) -> dict[str, Any]:
    """What `--list --json` prints of a set.

    `density_g_cm3` lists every density that occurs, `equilibrated_frames` those of each trajectory.
    """
    facts = deposited.facts
    return {
        "name": deposited.name,
        "engine": f"{facts['engine']} {facts['engine_version']}",
        "functional": facts["functional"],
        "atoms": deposited.n_atoms,
        "frames": deposited.frames,
        "decorrelated_frames": deposited.decorrelated_frames,
        "temperatures_K": sorted({t for run in deposited.runs for t in run.temperatures_K}),
        "density_g_cm3": facts["densities_g_cm3"],
        "kind": deposited.kind,
        "use": deposited.use,
        "held_out": deposited.held_out,
        "start": facts["start"],
        "thermostat": facts["thermostat"],
        "equilibrated_frames": [run.frames - run.unequilibrated_frames for run in deposited.runs]
        if deposited.kind == "trajectory"
        else None,
        "sampler": deposited.sampler["model"] if deposited.sampler else None,
        "timestep_fs": facts["timestep_fs"],
        "runs": len(deposited.runs),
        "melts": len({run.melt for run in deposited.runs}),
        "licence": facts["licence"],
        "sha256": deposited.sha256,
    }


def _pack(values: NDArray[np.float64], what: str) -> NDArray[np.uint8]:
    """Fixed-point 32-bit integers as byte planes (4, F, N, 3), least significant first."""
    steps = np.rint(values / QUANTA[what])
    if np.abs(steps).max() > np.iinfo(np.int32).max:
        raise SuiteError(
            f"found {what} up to {np.abs(values).max():g}, expected less than {QUANTA[what] * 2**31:g}"
        )
    return np.ascontiguousarray(np.moveaxis(steps.astype("<i4")[..., None].view(np.uint8), -1, 0))


def _unpack(planes: NDArray[np.uint8], what: str) -> NDArray[np.float64]:
    steps = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<i4")[..., 0]
    return steps * QUANTA[what]


# Depositing ---------------------------------------------------------------------------------------


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
            "positions": _pack(np.array([f.positions for f in frames]), "positions"),
            "forces": _pack(np.array([f.forces for f in frames]), "forces"),
            "energies_eV": np.array([f.energy_eV for f in frames]),
            "cells": np.array([f.cell for f in frames]),
            "temperatures_K": np.array([f.temperature_K for f in frames]),
        }
        if frames[0].velocities is not None:
            arrays["velocities"] = _pack(np.array([f.velocities for f in frames]), "velocities")
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
    sums = {"set.yml": hashlib.sha256(text.encode()).hexdigest(), **_listed_files(facts)}
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
                    f"{source}: found {other[0]:g} g/cm3, expected {_span(old['densities_g_cm3'])} as in "
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


# Command line -------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs deposit`."""
    parser.add_argument("path", type=Path, nargs="?", help="extended XYZ file of labelled frames")
    parser.add_argument(
        "--from-stage",
        type=Path,
        nargs="+",
        metavar="STORE/aimd-ID",
        help="instead of a file: finished aimd products, which say by themselves what made them; then only "
        "--name and --use are needed (of a trajectory with refused steps, the longest stretch without one "
        "is deposited)",
    )
    parser.add_argument("--list", action="store_true", help="list the deposited sets instead")
    parser.add_argument(
        "--verify", action="store_true", help="compare every deposited file with its checksum instead"
    )
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.add_argument("--name", help="name of the set")
    parser.add_argument("--append", action="store_true", help="add runs to the set of this name")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--use", choices=USES, help="what judges never trains")
    parser.add_argument("--start", choices=STARTS, help="what the configurations descend from")
    parser.add_argument("--engine", help="for example CP2K")
    parser.add_argument("--engine-version")
    parser.add_argument("--functional", help="for example PBE")
    parser.add_argument("--basis")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    parser.add_argument("--thermostat", help="of a trajectory; none for NVE")
    parser.add_argument(
        "--sampler",
        metavar="MODEL",
        help="of single points to judge: the network under reference/models/ that drew every configuration; "
        "they then make the reweighted reference",
    )
    parser.add_argument(
        "--never-held-out",
        action="store_true",
        help="of frames to train that were chosen because a network failed there: no sample of the liquid, "
        "so no error is measured on them",
    )
    parser.add_argument("--timestep-fs", type=float, help="of a trajectory")
    parser.add_argument(
        "--unequilibrated",
        type=int,
        default=None,
        metavar="FRAMES",
        help="first frames of each trajectory that still remember the start; needed where it judges "
        "(default: 0; of a stepwise product, its relaxation)",
    )
    parser.add_argument("--licence", help="SPDX name, for example CC0-1.0")
    parser.add_argument("--provenance", help="who computed what, from what")
    parser.add_argument("--decks", type=Path, nargs="+", default=[], help="input files of the engine")
    parser.add_argument(
        "--root",
        type=Path,
        default=DEPOSIT,
        metavar="DIR",
        help="a deposit of your own (default: the project's)",
    )


_REQUIRED = (
    "name",
    "kind",
    "use",
    "start",
    "engine",
    "engine_version",
    "functional",
    "basis",
    "licence",
    "provenance",
)


def main(args: argparse.Namespace) -> int:
    """Deposit a file, or list or verify the deposit.

    Raises:
        SuiteError: anything wrong, in one line; the deposit is as it was.
    """
    if args.list or args.verify:
        if not args.root.is_dir():
            raise SuiteError(f"{args.root}: found no such folder, expected a deposit")
        sets = list_sets(root=args.root)
        if args.verify:
            for deposited in sets:
                verify_set(deposited)
        rows = [summary(deposited) for deposited in sets]
        if args.json:
            json.dump(rows, sys.stdout, indent=1)
            print()
        else:
            _print_table(rows)
            if args.verify:
                print(f"{len(sets)} sets: every file as recorded")
        return 0
    if args.from_stage:
        return _deposit_stages(args)
    if args.path is None:
        raise SuiteError(
            "deposit: found no file, expected an extended XYZ file, --from-stage, --list or --verify"
        )
    missing = [f"--{option.replace('_', '-')}" for option in _REQUIRED if getattr(args, option) is None]
    if missing:
        raise SuiteError(f"deposit: found no {', '.join(missing)}, expected each of them")
    settings = {}
    for setting in args.setting:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise SuiteError(f"--setting: found {setting!r}, expected KEY=VALUE")
        settings[key] = value
    check_cut(use=args.use, kind=args.kind, unequilibrated_frames=args.unequilibrated)
    deposited = deposit(
        read_extxyz(args.path),
        source=str(args.path),
        settings=settings,
        thermostat=args.thermostat,
        timestep_fs=args.timestep_fs,
        unequilibrated_frames=args.unequilibrated or 0,
        decks=args.decks,
        sampler=args.sampler,
        held_out=not args.never_held_out,
        append=args.append,
        root=args.root,
        **{option: getattr(args, option) for option in _REQUIRED},
    )
    _print_table([summary(deposited)])
    return 0


def _deposit_stages(args: argparse.Namespace) -> int:
    """Deposit products of the aimd stage.

    Raises:
        SuiteError: an option that the products answer themselves, or anything wrong with them.
    """
    from jobs.deposit_stage import read_products

    answered = (
        "path",
        "kind",
        "engine",
        "engine_version",
        "functional",
        "basis",
        "thermostat",
        "timestep_fs",
    )
    for option in (*answered, "setting", "decks"):
        if getattr(args, option):
            raise SuiteError(
                f"deposit: found --{option.replace('_', '-')} with --from-stage, expected it without: "
                "the product says it"
            )
    for option in ("name", "use"):
        if getattr(args, option) is None:
            raise SuiteError(f"deposit: found no --{option}, expected --name and --use with --from-stage")
    products = read_products(args.from_stage)
    skip = args.unequilibrated
    if skip is None and products.unequilibrated_frames:
        skip = products.unequilibrated_frames
    check_cut(use=args.use, kind=products.kind, unequilibrated_frames=skip)
    with tempfile.TemporaryDirectory() as folder:
        deposited = deposit(
            products.frames(),
            source=", ".join(path.name for path in products.paths),
            name=args.name,
            kind=products.kind,
            use=args.use,
            engine=products.engine,
            engine_version=products.engine_version,
            functional=products.functional,
            basis=products.basis,
            settings=products.settings,
            start=args.start or products.start,
            thermostat=products.thermostat,
            timestep_fs=products.timestep_fs,
            unequilibrated_frames=skip or 0,
            licence=args.licence or "CC0-1.0",
            provenance=args.provenance or products.provenance,
            decks=products.copy_decks(Path(folder)),
            sampler=args.sampler,
            held_out=not args.never_held_out,
            append=args.append,
            root=args.root,
        )
    if products.lacks:
        print(products.lacks)
    _print_table([summary(deposited)])
    return 0


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        temperatures, densities = row["temperatures_K"], row["density_g_cm3"]
        step = "" if row["timestep_fs"] is None else f", {row['timestep_fs']:g} fs"
        print(
            f"{row['name']}: {row['kind']} to {row['use']}, {row['engine']} {row['functional']}, "
            f"{row['frames']} frames of {row['atoms']} atoms ({row['decorrelated_frames']} decorrelated, "
            f"{row['runs']} runs, {row['melts']} melts){step}, {_span(temperatures)} K, "
            f"{_span(densities)} g/cm3, sha256 {row['sha256'][:12]}"
        )


def _span(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}-{values[-1]:g}"
