"""Frames of first-principles data into the run files of a deposited set (what a set is: `sets.py`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.base.frames import Frame
from jobs.base.silica import SPECIES, density_g_cm3
from jobs.reference.sets import pack

FRAMES_PER_PART = 500
# Of all runs together, before all of them are written: a set may have thousands of short runs.
_FRAMES_WAITING = 1000
# Farther than any atom goes between two saved frames of one trajectory (0.1 A in 2 fs at 3000 K).
MAX_STEP_ANGSTROM = 2.0
# First minimum of g(r) of Si-O in liquid silica; only for the autocorrelation of the coordination.
_SI_O_BOND_ANGSTROM = 2.2


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
    has_velocities: bool | None = None  # None before the first frame
    last_step: int | None = None
    last_positions: NDArray[np.float64] | None = None


class SetWriter:
    """Takes frames in any order of runs and writes run files, at most 1000 frames in memory.

    `written` are the files so far, to be removed if the set is not finished.
    """

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
        self.waiting = 0

    def add(self, frame: Frame, where: str) -> None:
        """Take a frame; `where` names it in messages.

        Raises:
            SuiteError: other atoms than the set's, no melt, a run that the set has already, velocities in
                some frames only, or a step that does not continue the trajectory.
        """
        order = np.argsort(frame.types, kind="stable")
        types = frame.types[order]
        atoms = {species: int((types == index).sum()) for index, species in enumerate(SPECIES)}
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
        if run.has_velocities is None:
            run.has_velocities = kept.velocities is not None
        if run.has_velocities != (kept.velocities is not None):
            raise SuiteError(
                f"{where}: found velocities in some frames of {run_id} only, expected all or none"
            )
        run.part_frames.append(kept)
        self.waiting += 1
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
        elif self.waiting == _FRAMES_WAITING:
            for one in self.runs.values():
                if one.part_frames:
                    self._write_part(one)

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
                    " (of a run with a gap, give the longest stretch without one as extended XYZ with step=)"
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
        self.waiting -= len(frames)
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
