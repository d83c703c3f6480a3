"""What CP2K wrote, read: single points, trajectories, and whether each SCF converged."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import EngineError
from jobs.base.frames import UNCONVERGED
from jobs.base.units import ATOMIC_TIME_FS, BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.first_principles.types import Label, Run

LOG = "run.log"
TRAJECTORY = ("run-pos-1.xyz", "run-vel-1.xyz", "run-frc-1.xyz")
ENERGIES = "run-1.ener"
# The log and the trajectory print one energy with 15 and 10 decimals.
_SAME_ENERGY_HARTREE = 1e-8
_TITLE = re.compile(r"i =\s*(\d+),.*E =\s*(\S+)")
_TOTAL = re.compile(r"ENERGY\| Total FORCE_EVAL.*:\s+(\S+)")
_STEP = re.compile(r"MD\| Step number\s+(\d+)")
DIAGONALIZATION_CONVERGED = "SCF run converged in"
# Printed by a diagonalization, and after an orbital transformation.
GAP = re.compile(r"(?:MO\| Band gap:.*a\.u\.|HOMO - LUMO gap \[eV\] :)\s*(\S+)")
_OUTER = re.compile(r"outer SCF loop (converged|FAILED to converge).*or\s+(\d+) steps")


def read_single_point(
    directory: Path,
    *,
    n_atoms: int,
    seconds: float = 0.0,
    gap_eV: float | None = None,
) -> Label:
    """The result of a single point from its log and `forces.dat`.

    Raises:
        EngineError: the log ends early, or the forces are not those of `n_atoms` atoms.
    """
    log = directory / LOG
    text = log.read_text(errors="replace")
    totals, outcomes = _TOTAL.findall(text), _OUTER.findall(text)
    if not totals or not outcomes or "PROGRAM ENDED" not in text:
        raise EngineError(
            f"CP2K: found no energy, no SCF outcome or no end in its log, expected all three (log: {log})"
        )
    path = directory / "forces.dat"
    lines = path.read_text().splitlines() if path.is_file() else []
    table = [words for words in map(str.split, lines) if len(words) == 6 and words[0].isdigit()]
    if len(table) != n_atoms:
        raise EngineError(f"{path}: found forces of {len(table)} atoms, expected {n_atoms} (log: {log})")
    forces = np.array([[number(word, path) for word in words[3:]] for words in table])
    return Label(
        energy_eV=number(totals[-1], log) * HARTREE_EV,
        forces=forces * HARTREE_EV / BOHR_ANGSTROM,
        refusal=None if outcomes[-1][0] == "converged" else UNCONVERGED,
        scf_steps=int(outcomes[-1][1]),
        seconds=seconds,
        gap_eV=gap_eV,
    )


def number(word: str, path: Path) -> float:
    """A number of a CP2K file; SuiteError where something else stands."""
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise EngineError(f"{path}: found {word!r}, expected a finite number")
    return value


def whole_lines(path: Path) -> list[str]:
    """Lines of a file but a last one that was cut off."""
    # A line that was cut off by a kill can still read as numbers.
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def read_blocks(path: Path, n_atoms: int) -> dict[int, tuple[float, NDArray[np.float64]]]:
    """(energy in Hartree, values (N, 3)) by step of one of CP2K's XYZ files; a cut tail is left out."""
    lines = whole_lines(path)
    blocks: dict[int, tuple[float, NDArray[np.float64]]] = {}
    for first in range(0, len(lines) - n_atoms - 1, n_atoms + 2):
        title = _TITLE.search(lines[first + 1])
        rows = [line.split()[1:] for line in lines[first + 2 : first + 2 + n_atoms]]
        if lines[first].strip() != str(n_atoms) or title is None:
            raise EngineError(
                f"{path}: found {lines[first + 1]!r}, expected 'i = step, time, E' of {n_atoms} atoms"
            )
        if any(len(row) != 3 for row in rows):
            break
        values = np.array([[number(word, path) for word in row] for row in rows])
        blocks[int(title.group(1))] = (number(title.group(2), path), values)
    return blocks


def read_energies(path: Path) -> dict[int, list[float]]:
    """Time, kinetic, temperature, potential, conserved, seconds (as printed) by step of an `.ener` file."""
    rows: dict[int, list[float]] = {}
    for line in whole_lines(path):
        words = line.split()
        if len(words) == 7 and words[0].isdigit():
            rows[int(words[0])] = [number(word, path) for word in words[1:]]
    return rows


def read_scf(log: Path) -> dict[int, tuple[float, bool, int]]:
    """(energy in Hartree, converged, SCF steps) by MD step, of a log of one or several attempts.

    The first evaluation of an attempt is of the state that it started from: step 0, or the step before
    the first one that it names.
    """
    record: dict[int, tuple[float, bool, int]] = {}
    first: tuple[float, bool, int] | None = None
    outcome: tuple[bool, int] | None = None
    pending: tuple[float, bool, int] | None = None
    fresh = False
    with log.open(errors="replace") as handle:
        for line in handle:
            if "PROGRAM STARTED AT" in line:
                first, outcome, pending, fresh = None, None, None, True
            elif match := _OUTER.search(line):
                outcome = (match.group(1) == "converged", int(match.group(2)))
            elif (match := _TOTAL.search(line)) and outcome is not None:
                pending = (number(match.group(1), log), *outcome)
                if fresh:
                    first, pending, fresh = pending, None, False
                    record.setdefault(0, first)
            elif (match := _STEP.search(line)) and pending is not None:
                step = int(match.group(1))
                record[step] = pending
                if first is not None:
                    record.setdefault(step - 1, first)
                    first = None
                pending = None
    return record


def read_run(directory: Path, *, n_atoms: int) -> Run:
    """All whole steps of the trajectory in `directory`, with the SCF's outcome of each from the log.

    Raises:
        EngineError: a file that is missing, or holds other things than expected.
    """
    for name in (*TRAJECTORY, ENERGIES, LOG):
        if not (directory / name).is_file():
            raise EngineError(f"{directory / name}: found no such file, expected one of CP2K's trajectory")
    positions, velocities, forces = (read_blocks(directory / name, n_atoms) for name in TRAJECTORY)
    rows = read_energies(directory / ENERGIES)
    scf = read_scf(directory / LOG)
    steps = sorted(set(positions) & set(velocities) & set(forces) & set(rows))
    energies = np.array([positions[step][0] for step in steps])
    converged, scf_steps = [], []
    for step, energy in zip(steps, energies, strict=True):
        logged, good, count = scf.get(step, (np.nan, False, 0))
        # A step whose record is of another evaluation counts as unconverged.
        converged.append(good and abs(logged - energy) < _SAME_ENERGY_HARTREE)
        scf_steps.append(count)
    shape = (len(steps), n_atoms, 3)
    table = np.array([rows[step] for step in steps]).reshape(len(steps), 6)
    to_velocity = BOHR_ANGSTROM / ATOMIC_TIME_FS
    return Run(
        steps=np.array(steps, dtype=np.int64),
        positions=np.array([positions[step][1] for step in steps]).reshape(shape),
        velocities=np.array([velocities[step][1] for step in steps]).reshape(shape) * to_velocity,
        forces=np.array([forces[step][1] for step in steps]).reshape(shape) * HARTREE_EV / BOHR_ANGSTROM,
        energies_eV=energies * HARTREE_EV,
        conserved_eV=table[:, 4] * HARTREE_EV,
        temperatures_K=table[:, 2],
        converged=np.array(converged, dtype=np.bool_),
        scf_steps=np.array(scf_steps, dtype=np.int64),
        seconds=table[:, 5],
    )
