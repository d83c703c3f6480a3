"""pw.x output (Quantum ESPRESSO 5, 6 and 7): scf, relax, md, vc-relax, vc-md; one frame per SCF with forces.

The energy marked `!` (`!!` with exact exchange) is the free energy where electrons are smeared, the one that
the forces belong to. The positions of a step are printed after the step before it; its temperature is printed
after its forces. With `scf_must_converge=.false.` pw.x writes "convergence has been achieved" also where it
has not (seen with 6.7), so the estimated accuracy of each step is compared with the threshold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import UNCONVERGED
from jobs.base.streams import blocks, head
from jobs.base.units import ATOMIC_TIME_FS, BOHR_ANGSTROM, RYDBERG_EV, RYDBERG_PER_BOHR_EV_ANGSTROM
from jobs.reference.formats import (
    HALF,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    collect,
    numbers,
    refuse_second_run,
)
from jobs.reference.formats.level import Level

# Whole lines, by which the file is cut: what follows the first belongs to the first SCF, and so on.
_RUN = b"Program PWSCF"
_SCF = b"     Self-consistent Calculation"
_ENERGY = re.compile(rb"^(!!?)\s+total energy\s+=\s+(\S+) Ry", re.MULTILINE)
# With PAW an all-electron energy stands between the two.
_ACCURACY = b"estimated scf accuracy"
_ACHIEVED = b"convergence has been achieved"
_REFINE = b"EXX: now go back to refine exchange calculation"
# Electrons that are periodic in fewer directions than three, whatever the cell.
_NOT_PERIODIC = (
    "Assuming isolated system",
    "Effective Screening Medium Method",
    "running with the 2D cutoff",
    "Makov-Payne",
)
STOPPED = "SCF stopped before its end"
# The threshold is printed with two digits.
_PRINTED_THRESHOLD = 1.05
# Which of them an output does not say.
UNSAID_DAMPING = "its damping is not said"
_D3_VERSIONS = {"2": "D2 (of DFT-D3)", "3": "D3", "4": "D3(BJ)", "5": "D3M", "6": "D3M(BJ)"}
# How the energy's terms are called, by the correction that they are of.
_DISPERSION_TERM = re.compile(rb"^\s+(\S*.*ispersion.*?)\s+=\s+\S+ Ry", re.MULTILINE)
_DISPERSION = {
    "Dispersion Correction": "D2",
    "DFT-D3 Dispersion": f"D3 ({UNSAID_DAMPING})",
    "Dispersion T-S Correction": "TS",
    "Dispersion XDM Correction": "XDM",
    "Dispersion MBD Correction": "MBD",
}
_SITE = re.compile(rb"^\s+\d+\s+(\w+)\s+tau\(\s*\d+\) = \((.*)\)", re.MULTILINE)
_AXIS = re.compile(rb"a\(\d\) = \((.*)\)")
_ATOM_FORCE = re.compile(rb"^\s+atom\s+(\d{1,8}) type\s+\d+\s+force =(.*)$", re.MULTILINE)
_POSITIONS = re.compile(rb"ATOMIC_POSITIONS \(?(\w+)\)?.*\n((?:\s*[A-Z]\w*(?:\s+[-\d.]+){3}.*\n)+)")
_CELL = re.compile(rb"CELL_PARAMETERS \(?(\w+)(?:\s*=\s*([\d.]+))?\)?\s*\n((?:(?:\s+[-\d.]+){3}\s*\n){3})")
_TEMPERATURE = re.compile(rb"temperature\s+=\s+(\d+\.?\d*) K")


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
        return match.group(1).decode(errors="replace").strip() if match else None

    # Six decimals here, four where the lattice parameter has a name.
    for sign in _NOT_PERIODIC:
        if sign.encode() in first:
            raise SuiteError(f"{path}: found {sign!r} (assume_isolated), expected a run that is periodic")
    alat = search(r"celldm\(1\)=\s*(\S+)")
    n_atoms = int(search(r"number of atoms/cell\s+=\s+(\d{1,8})") or 0)
    # With verbosity='high' the same sites come a second time, along the crystal's axes.
    sites, axes = _SITE.findall(first)[:n_atoms], _AXIS.findall(first)[:3]
    if alat is None or not n_atoms or len(sites) != n_atoms or len(axes) != 3 or not complete:
        raise SuiteError(f"{path}: found no cell or no atoms before the first SCF, expected the head of pw.x")
    species = tuple(re.sub(r"\d+$", "", name.decode()) for name, _ in sites)
    try:
        alat_A = float(alat) * BOHR_ANGSTROM
        cell = np.array([numbers(axis) for axis in axes]).reshape(3, 3) * alat_A
        positions = np.array([numbers(where) for _, where in sites]).reshape(n_atoms, 3) * alat_A
        threshold = search(r"scf convergence threshold\s+=\s+(\S+)")
        threshold_Ry = None if threshold is None else float(threshold)
        level = _level(first.decode(errors="replace"), species)
    except ValueError as error:
        raise SuiteError(f"{path}: found {error} before the first SCF, expected numbers") from None
    source = Source(path, "Quantum ESPRESSO pw.x", engine="Quantum ESPRESSO", files=[path])
    source.engine_version = search(r"Program PWSCF v\.(\S+)")
    source.level = _with_damping(level, _input_beside(path, search(r"Reading input from (\S+)")))
    if UNSAID_DAMPING in (source.level.dispersion or ""):
        source.remarks.append("which damping D3 has is in the input file only: lay it beside this output")
    frames = _frames(parts, species, positions, cell, alat_A, threshold_Ry, source)
    # The dynamics introduce themselves after the first SCF: look at its frame before anything is said.
    source.batches = collect(((species, frame) for frame in chain(*_started(frames))), source)
    return source


def _input_beside(path: Path, name: str | None) -> str | None:
    """The input file that an output names, if it lies beside it."""
    deck = None if name is None else path.parent / Path(name).name
    return deck.read_text(errors="replace") if deck is not None and deck.is_file() else None


def _with_damping(level: Level, deck: str | None) -> Level:
    """A level whose D3 has the damping that its input file says, or pw.x's own."""
    if deck is None or level.dispersion is None or UNSAID_DAMPING not in level.dispersion:
        return level
    code = re.sub(r"!.*", "", deck)
    version = re.search(r"dftd3_version\s*=\s*(\d+)", code, re.IGNORECASE)
    pairs_only = re.search(r"dftd3_threebody\s*=\s*\.?f", code, re.IGNORECASE)
    name = _D3_VERSIONS.get(version.group(1) if version else "3", "D3 of another version")
    return replace(level, dispersion=f"{name} without three-body terms" if pairs_only else name)


def _started(frames: Iterator[Snapshot]) -> tuple[list[Snapshot], Iterator[Snapshot]]:
    first = next(frames, None)
    return ([] if first is None else [first]), frames


def _level(text: str, species: tuple[str, ...]) -> Level:
    """The level of theory that stands before the first SCF; of what is printed again, the last."""

    def last(pattern: str) -> str | None:
        found = re.findall(pattern, text)
        return str(found[-1]).strip() if found else None

    cutoff_Ry = last(r"kinetic-energy cutoff\s+=\s+(\S+)")
    density_Ry = last(r"charge density cutoff\s+=\s+(\S+)")
    files = re.findall(r"PseudoPot\. #\s*\d+ for\s+(\w+)\s+read from file:?\s+(\S+)", text)
    named = {re.sub(r"\d+$", "", name): Path(file).name for name, file in files}
    return Level(
        exchange_correlation=_functional(last(r"Exchange-correlation\s*=\s*(.+)")),
        exact_exchange=_exact_exchange(
            last(r"EXX-fraction\s+=\s*(\S+)"), last(r"EXX Screening parameter changed:\s*(\S+)")
        ),
        dispersion=next((name for sign, name in _ANNOUNCED.items() if sign in text), None),
        basis=None if cutoff_Ry is None else _basis(float(cutoff_Ry), density_Ry),
        plus_u=_plus_u(text),
        spin=_spin(text),
        charge=_charge(text, species),
        surroundings=_surroundings(text),
        pseudopotentials={"pseudopotentials": str(dict(sorted(named.items(), reverse=True)))}
        if named
        else {},
    )


# How a correction introduces itself before the first SCF; XDM and others do so among the energy's terms.
_ANNOUNCED = {
    "(Grimme-D2) Correction": "D2",
    "DFT-D3 Dispersion Correction": f"D3 ({UNSAID_DAMPING})",
    "TS-vdW initialization": "TS",
    "MBD initialization": "MBD",
}


def _basis(cutoff_Ry: float, density_Ry: str | None) -> str:
    """Cut-offs of the wave functions and, where it is not pw.x's own four times as much, of the density."""
    text = f"plane waves, {cutoff_Ry:g} Ry"
    if density_Ry is None or abs(float(density_Ry) - 4 * cutoff_Ry) < 1e-3:
        return text
    return f"{text}, density {float(density_Ry):g} Ry"


def _surroundings(text: str) -> str | None:
    """Fields that the electrons are in, as they introduce themselves before the first SCF."""
    parts = []
    if "Adding external electric field" in text:
        size = re.search(r"E field amplitude \[Ha a\.u\.\]:\s*(\S+)", text)
        direction = re.search(r"Computed dipole along edir\((\d)\)", text)
        parts.append(f"a field of {float(size.group(1)):g} a.u." if size else "a field")
        parts += [f"a correction of the dipole along {direction.group(1)}"] if direction else []
    if "Using Berry phase electric field" in text:
        size = re.search(r"cartesian system of reference\s*\n((?:\s*[-\d.]+\s*\n){3})", text)
        vector = " ".join(f"{float(word):g}" for word in size.group(1).split()) if size else "unknown size"
        parts.append(f"a Berry phase field of {vector}")
    parts += ["a charged plate"] if "Adding charged plate" in text else []
    return ", ".join(parts) or None


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


def _exact_exchange(share: str | None, screening: str | None) -> str | None:
    if share is None:
        return None
    text = f"{100 * float(share):g} % exact exchange"
    return f"{text} screened at {float(screening) / BOHR_ANGSTROM:.4g}/A" if screening else text


def _plus_u(text: str) -> str | None:
    """The table of Hubbard parameters, in one line."""
    match = re.search(r"(?:LDA\+U calculation.*:|Hubbard parameters of .*:)[ \t]*\n((?:[ \t]*\S.*\n)+)", text)
    if match is None:
        return "of unknown size" if "Hubbard" in text or "LDA+U" in text else None
    rows = [" ".join(row.split()) for row in match.group(1).splitlines()]
    return ", ".join(row for row in rows if not row.startswith("atomic species"))


def _spin(text: str) -> str | None:
    if "Noncollinear calculation" in text:
        return "noncollinear" if "without spin-orbit" in text else "spin-orbit"
    return "polarised" if "Starting magnetic structure" in text else None


def _charge(text: str, species: tuple[str, ...]) -> str | None:
    """The cell's charge, if it has one: its atoms' valence electrons less the electrons."""
    electrons = re.search(r"number of electrons\s+=\s+(\d+\.\d+)", text)
    table = text.partition("atomic species   valence")[2].split("\n\n")[0]
    rows = re.findall(r"^\s+(\w+)\s+(\d+\.\d+)\s", table, re.MULTILINE)
    valence = {re.sub(r"\d+$", "", name): float(number) for name, number in rows}
    if electrons is None or not set(species) <= set(valence):
        return None
    charge = sum(valence[name] for name in species) - float(electrons.group(1))
    return f"{charge:+g}" if abs(charge) > 0.01 else None


# None: the lattice parameter.
_IN_ANGSTROM: dict[bytes, float | None] = {b"angstrom": 1.0, b"bohr": BOHR_ANGSTROM, b"alat": None}


def _frames(
    parts: Iterator[tuple[bytes, bool]],
    species: tuple[str, ...],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    alat_A: float,
    threshold_Ry: float | None,
    source: Source,
) -> Iterator[Snapshot]:
    n_atoms, step, target = len(species), 0, float("nan")
    where: _Geometry | None = _Geometry(positions, cell)
    for block, more in parts:
        refuse_second_run(source.path, _RUN in block)
        if source.timestep_fs is None:  # said once
            target = _note_dynamics(block, source)
        if _REFINE in block and more:
            continue  # within one evaluation, exact exchange takes several SCFs
        energy = _ENERGY.findall(block)
        table = _ATOM_FORCE.findall(block)[:n_atoms]
        # A more talkative pw.x lists contributions after the total: rows must be those of one table.
        whole = [int(number) for number, _ in table] == list(range(1, n_atoms + 1))
        achieved = _ACHIEVED in block
        converged = _converged(block, threshold_Ry, achieved=achieved)
        _note_dispersion(block, source)
        if sum(mark == b"!" for mark, _ in energy) > 1:  # a title between two SCFs is lost
            several = max(1, block.count(b"Forces acting on atoms"))
            source.refused[UNREADABLE] += several
            step += several - 1
        elif b"Calculation stopped in scf loop" in block:
            source.refused[STOPPED] += 1
        elif b"convergence NOT achieved" in block:
            source.refused[UNCONVERGED] += 1
        elif whole and energy and table[-1][1].count(b".") == 3:
            if source.accepts(converged, doubtful=not achieved):
                kinetic = _TEMPERATURE.findall(block)
                try:
                    if where is None:
                        raise ValueError
                    yield Snapshot(
                        positions=where.positions,
                        cell=where.cell,
                        energy_eV=float(energy[-1][1]) * RYDBERG_EV,
                        forces=numbers(b" ".join([row for _, row in table])).reshape(n_atoms, 3)
                        * RYDBERG_PER_BOHR_EV_ANGSTROM,
                        step=step,
                        target_K=target,
                        kinetic_K=float(kinetic[-1]) if kinetic else float("nan"),
                        stress=b"total   stress" in block,
                        proven=converged is not None,
                    )
                except ValueError:
                    source.refused[UNREADABLE] += 1
        elif not more and b"JOB DONE" not in block:
            source.refused[HALF] += 1
        elif converged is False:
            source.refused[UNCONVERGED] += 1
        elif energy and not table:
            source.refused[WITHOUT_FORCES] += 1
        else:
            source.refused[UNREADABLE if energy else STOPPED] += 1
        if not more and b"JOB DONE" not in block:
            source.remarks.append("the file ends without JOB DONE: the run was killed or goes on")
        if more:
            step += 1
            where = _moved(block, where, species, alat_A)


@dataclass(frozen=True)
class _Geometry:
    """Positions (N, 3) and cell (3, 3) of a step, in A."""

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]


@lru_cache(maxsize=8)
def _are(labels: tuple[bytes, ...], species: tuple[str, ...]) -> bool:
    """Whether labels of atoms, such as Si1, are of these species."""
    return tuple(re.sub(r"\d+$", "", label.decode(errors="replace")) for label in labels) == species


def _moved(
    block: bytes, before: _Geometry | None, species: tuple[str, ...], alat_A: float
) -> _Geometry | None:
    """Where the atoms of the next SCF are, as a step says at its end; None if that cannot be read.

    Positions of a step before must not stand in for them: forces would belong to other ones.
    """
    end = block[max(0, block.rfind(b"Total force")) :]
    moved, cell_found = _POSITIONS.search(end), _CELL.search(end)
    cell_changes = b"CELL_PARAMETERS" in end or b"new unit-cell volume" in end
    if moved is None or (cell_found is None and (cell_changes or before is None)):
        return None
    try:
        cell = None if before is None else before.cell
        if cell_found is not None:
            unit, own_alat, rows = cell_found.groups()
            scale = float(own_alat) * BOHR_ANGSTROM if own_alat else _IN_ANGSTROM[unit.lower()] or alat_A
            cell = numbers(rows).reshape(3, 3) * scale
        assert cell is not None
        unit, rows = moved.groups()
        words = [row.split() for row in rows.splitlines() if row.strip()]
        if not _are(tuple([row[0] for row in words]), species):
            return None
        values = np.array([[float(x), float(y), float(z)] for _, x, y, z, *_ in words])
        if unit == b"crystal":
            return _Geometry(values @ cell, cell)
        return _Geometry(values * (_IN_ANGSTROM[unit.lower()] or alat_A), cell)
    except (ValueError, KeyError):
        return None


def _note_dynamics(block: bytes, source: Source) -> float:
    """What molecular dynamics says of itself before its first step; its temperature (K), or NaN."""
    if match := re.search(rb"Time step\s+=\s+(\d+\.?\d*) a\.u\.", block):
        # Rydberg atomic units of time: two of the usual ones.
        source.timestep_fs = float(match.group(1)) * 2 * ATOMIC_TIME_FS
        source.thermostat = "none"
    if match := re.search(rb"temperature is controlled by (.+)", block):
        source.thermostat = match.group(1).decode(errors="replace").strip()
    match = re.search(rb"Starting temperature\s+=\s+(\d+\.?\d*) K", block)
    return float(match.group(1)) if match else float("nan")


def _converged(block: bytes, threshold_Ry: float | None, *, achieved: bool) -> bool | None:
    """Whether the last SCF's estimated accuracy is below the threshold; None if one of the two is missing."""
    where = block.rfind(_ACCURACY)
    words = block[where + len(_ACCURACY) : where + len(_ACCURACY) + 60].split()[:3]
    if threshold_Ry is None or where < 0 or len(words) < 3 or words[0] != b"<" or words[2] != b"Ry":
        return None
    try:
        slack = _PRINTED_THRESHOLD if achieved else 1.0
        return float(words[1]) <= threshold_Ry * slack
    except ValueError:
        return None


def _note_dispersion(block: bytes, source: Source) -> None:
    """A dispersion correction that is seen only among an energy's terms, such as XDM's."""
    if source.level.dispersion is None and b"ispersion" in block and (term := _DISPERSION_TERM.search(block)):
        name = " ".join(term.group(1).decode(errors="replace").split())
        source.level = replace(source.level, dispersion=_DISPERSION.get(name, name))
