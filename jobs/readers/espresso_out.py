"""pw.x output (Quantum ESPRESSO 6 and 7): scf, relax and md; one frame per SCF with forces.

The energy marked `!` is the free energy where electrons are smeared, the one that the forces belong to. The
positions of a step are printed after the step before it; its temperature is printed after its forces. With
`scf_must_converge=.false.` pw.x writes "convergence has been achieved" also where it has not (seen with 6.7),
so the estimated accuracy of each step is compared with the threshold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.engines.espresso import RYDBERG_EV, RYDBERG_PER_BOHR_EV_ANGSTROM
from jobs.errors import SuiteError
from jobs.frames import UNCONVERGED
from jobs.readers import (
    HALF,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    blocks,
    collect,
    head,
    numbers,
    refuse_second_run,
)
from jobs.units import ATOMIC_TIME_FS, BOHR_ANGSTROM

# Whole lines, by which the file is cut: what follows the first belongs to the first SCF, and so on.
_RUN = b"Program PWSCF"
_SCF = b"     Self-consistent Calculation"
_ENERGY = re.compile(
    rb"^!\s+total energy\s+=\s+(\S+) Ry"
    rb"(?:\s+Harris-Foulkes estimate\s+=\s+\S+ Ry)?"  # up to 6.5
    rb"(?:\s+estimated scf accuracy\s+<\s+(\S+) Ry)?",
    re.MULTILINE,
)
_SITE = re.compile(rb"^\s+\d+\s+(\w+)\s+tau\(\s*\d+\) = \((.*)\)", re.MULTILINE)
_AXIS = re.compile(rb"a\(\d\) = \((.*)\)")
_ATOM_FORCE = re.compile(rb"^\s+atom\s+\d+ type\s+\d+\s+force =(.*)$", re.MULTILINE)
_POSITIONS = re.compile(rb"ATOMIC_POSITIONS \(?(\w+)\)?.*\n((?:\s*[A-Z]\w*(?:\s+[-\d.]+){3}.*\n)+)")
_CELL = re.compile(rb"CELL_PARAMETERS \(?(\w+)(?:\s*=\s*([\d.]+))?\)?\s*\n((?:(?:\s+[-\d.]+){3}\s*\n){3})")
_TEMPERATURE = re.compile(rb"temperature\s+=\s+([\d.]+) K")


def recognises(path: Path) -> bool:
    """Whether this is the output of pw.x."""
    return _RUN in head(path)


def open_source(path: Path) -> Source:
    """A run's settings and frames.

    Raises:
        SuiteError: no atoms or cell before the first SCF.
    """
    parts = blocks(path, _SCF)
    first, complete = next(parts)

    def search(pattern: str, text: bytes = first) -> str | None:
        match = re.search(pattern.encode(), text)
        return match.group(1).decode().strip() if match else None

    # Six decimals here, four where the lattice parameter has a name.
    alat = search(r"celldm\(1\)=\s*(\S+)")
    n_atoms = int(search(r"number of atoms/cell\s+=\s+(\d+)") or 0)
    # With verbosity='high' the same sites come a second time, along the crystal's axes.
    sites, axes = _SITE.findall(first)[:n_atoms], _AXIS.findall(first)[:3]
    if alat is None or not n_atoms or len(sites) != n_atoms or len(axes) != 3 or not complete:
        raise SuiteError(f"{path}: found no cell or no atoms before the first SCF, expected the head of pw.x")
    alat_A = float(alat) * BOHR_ANGSTROM
    cell = np.array([numbers(axis) for axis in axes]) * alat_A
    species = tuple(re.sub(r"\d+$", "", name.decode()) for name, _ in sites)
    positions = np.array([numbers(where) for _, where in sites]) * alat_A
    source = Source(path, "Quantum ESPRESSO pw.x", engine="Quantum ESPRESSO", files=[path])
    source.engine_version = search(r"Program PWSCF v\.(\S+)")
    exchange = search(r"Exchange-correlation\s*=\s*(.+)")
    source.functional = _functional(exchange)
    cutoff = search(r"kinetic-energy cutoff\s+=\s+(\S+)")
    source.basis = None if cutoff is None else f"plane waves, {float(cutoff):g} Ry"
    files = re.findall(rb"PseudoPot\. #\s*\d+ for (\w+)\s+read from file:\s+(\S+)", first)
    if files:
        named = {re.sub(r"\d+$", "", name.decode()): Path(file.decode()).name for name, file in files}
        source.settings = {"pseudopotentials": str(dict(sorted(named.items(), reverse=True)))}
    threshold = float(search(r"scf convergence threshold\s+=\s+(\S+)") or "inf")
    frames = _frames(parts, species, positions, cell, alat_A, threshold, source)
    # The dynamics introduce themselves after the first SCF: look at its frame before anything is said.
    source.batches = collect(((species, frame) for frame in chain(*_started(frames))), source.refused)
    return source


def _started(frames: Iterator[Snapshot]) -> tuple[list[Snapshot], Iterator[Snapshot]]:
    first = next(frames, None)
    return ([] if first is None else [first]), frames


def _functional(exchange: str | None) -> str | None:
    """`SLA PW PBE PBE` and its like, by the names that are usual elsewhere."""
    if exchange is None:
        return None
    words = exchange.partition("(")[0].replace("+", " ").upper().split()
    names = {
        ("SLA", "PW", "PBE", "PBE"): "PBE",
        ("PBE",): "PBE",
        ("SLA", "PW", "PBX", "PBC"): "PBE",
        ("SLA", "PW", "PSX", "PSC"): "PBEsol",
        ("PBESOL",): "PBEsol",
        ("SLA", "PZ", "NOGX", "NOGC"): "LDA",
        ("PZ",): "LDA",
    }
    return names.get(tuple(words), " ".join(words))


def _in_angstrom(unit: bytes, alat_A: float) -> float:
    return {b"angstrom": 1.0, b"bohr": BOHR_ANGSTROM, b"alat": alat_A}[unit]


def _frames(
    parts: Iterator[tuple[bytes, bool]],
    species: tuple[str, ...],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    alat_A: float,
    threshold_Ry: float,
    source: Source,
) -> Iterator[Snapshot]:
    n_atoms, step, target = len(species), 0, float("nan")
    for block, more in parts:
        refuse_second_run(source.path, _RUN in block)
        if match := re.search(rb"Time step\s+=\s+([\d.]+) a\.u\.", block):
            # Rydberg atomic units of time: two of the usual ones.
            source.timestep_fs = float(match.group(1)) * 2 * ATOMIC_TIME_FS
            source.thermostat = "none"
        if match := re.search(rb"Starting temperature\s+=\s+([\d.]+) K", block):
            target = float(match.group(1))
        if match := re.search(rb"temperature is controlled by (.+)", block):
            source.thermostat = match.group(1).decode().strip()
        energy = _ENERGY.findall(block)
        table = _ATOM_FORCE.findall(block)[:n_atoms]
        loose = bool(energy) and float(energy[-1][1] or "inf") > threshold_Ry
        if b"convergence NOT achieved" in block or loose:
            source.refused[UNCONVERGED] += 1
        elif len(table) == n_atoms and energy and table[-1].count(b".") == 3:
            kinetic = _TEMPERATURE.findall(block)
            try:
                yield Snapshot(
                    positions=positions,
                    cell=cell,
                    energy_eV=float(energy[-1][0]) * RYDBERG_EV,
                    forces=np.array([numbers(row) for row in table]) * RYDBERG_PER_BOHR_EV_ANGSTROM,
                    step=step,
                    target_K=target,
                    kinetic_K=float(kinetic[-1]) if kinetic else float("nan"),
                    stress=b"total   stress" in block,
                )
            except ValueError:
                source.refused[UNREADABLE] += 1
        elif not more and b"JOB DONE" not in block:
            source.refused[HALF] += 1
        elif energy:
            source.refused[WITHOUT_FORCES] += 1
        moved = _POSITIONS.search(block)
        if found := _CELL.search(block):
            unit, own_alat, rows = found.groups()
            scale = float(own_alat) * BOHR_ANGSTROM if own_alat else _in_angstrom(unit, alat_A)
            cell = numbers(rows).reshape(3, 3) * scale
        if moved:
            step += 1
            unit, rows = moved.groups()
            table = [row.split()[1:4] for row in rows.splitlines()]
            if len(table) != n_atoms:
                if more:
                    source.refused[UNREADABLE] += 1
                return
            values = np.array(table, dtype=float)
            positions = values @ cell if unit == b"crystal" else values * _in_angstrom(unit, alat_A)
