"""CP2K's own output files, as 7.1 to 2025.1 write them (tried with 2023.1).

Molecular dynamics: `NAME-pos-1.xyz` (A), `NAME-frc-1.xyz` (Hartree/bohr) and, where they are,
`NAME-vel-1.xyz`, `NAME-1.ener`, `NAME-1.cell` and `NAME-1.restart` (the cell, if it is fixed), with the log
beside them, which alone tells whether each SCF converged; geometry and cell optimisations alike. A single
point: the log, if it prints coordinates and forces (`FORCE_EVAL/PRINT/FORCES ON`, print level MEDIUM). A cell
that changes is read from `.cell` only. The energy, `ENERGY| Total FORCE_EVAL`, is the
free energy where electrons are smeared, as the forces are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import tilts_angstrom
from jobs.base.streams import head, lines, open_binary
from jobs.base.units import ATOMIC_TIME_FS, BOHR_ANGSTROM, HARTREE_EV
from jobs.reference.formats import (
    HALF,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    atom_count,
    collect,
)
from jobs.reference.formats.cp2k.level import LevelOfLog, has_three_bodies, level_of_input

_T = TypeVar("_T")
NOT_IN_LOG = "SCF not in the log"
ROUNDED_CELL = "the log gives the cell to 0.001 A"
REPEATED = "steps that a restart made again"
_FORCE = HARTREE_EV / BOHR_ANGSTROM
_VELOCITY = BOHR_ANGSTROM / ATOMIC_TIME_FS
_POSITIONS = re.compile(r"(.+)-pos-1\.xyz(\.gz|\.xz|\.bz2)?$")
_TITLE = re.compile(rb"i =\s*(\d+),.*E =\s*(\S+)")
_LOG_SIGN = b"CP2K| version string"
# Units that energies and forces of a log may be in.
_ENERGY_UNITS = {"a.u.": HARTREE_EV, "hartree": HARTREE_EV, "eV": 1.0}
_FORCE_UNITS = {"a.u.": _FORCE, "hartree/bohr": _FORCE, "eV/angstrom": 1.0}
# What each file of a trajectory is in, if its section of MOTION/PRINT says nothing else.
_UNITS = {"TRAJECTORY": "angstrom", "FORCES": "hartree*bohr^-1", "VELOCITIES": "bohr*au_t^-1"}


@dataclass
class _Log:
    """What a log says: settings, and for each energy whether its SCF converged (None: not said)."""

    path: Path
    version: str | None = None
    level: LevelOfLog = field(default_factory=LevelOfLog)
    timestep_fs: float | None = None
    target_K: float = float("nan")
    ensemble: str | None = None
    run_type: str | None = None
    cell: NDArray[np.float64] | None = None
    rounded: bool = False
    orthorhombic: bool = False
    cell_moved: bool = False
    periodicity: str = "XYZ"
    project: str | None = None
    input_file: str | None = None
    stress: bool = False
    ended: bool = False
    evaluations: int = 0
    methods: set[str] = field(default_factory=set)
    energy_unit: str = "a.u."
    converged: dict[str, bool | None] = field(default_factory=dict)

    @property
    def cell_changes(self) -> bool:
        """Whether its run moves the cell, or does not say what it does."""
        if self.run_type in ("GEO_OPT", "ENERGY_FORCE", "ENERGY"):
            return False
        if self.run_type is None and self.ensemble is None:
            return self.cell_moved
        return self.ensemble is None or self.ensemble.startswith(("NP", "MSST", "HYDRO", "REFTRAJ"))


def recognises(path: Path) -> bool:
    """Whether this is a `-pos-1.xyz` or a log of CP2K."""
    return bool(_POSITIONS.match(path.name)) or _LOG_SIGN in head(path, 16384)


def open_source(path: Path) -> Source:
    """A trajectory (given its `-pos-1.xyz`) or a single point (given its log).

    Raises:
        SuiteError: a trajectory without its forces, log or cell; a log without coordinates and forces.
    """
    match = _POSITIONS.match(path.name)
    return _trajectory(path, match.group(1)) if match else _single_point(path)


def energy_key(text: str) -> str:
    """A Hartree energy with the 10 decimals that both the log and the trajectory have."""
    return f"{float(text):.10f}"


def _describe(source: Source, log: _Log, restart: str | None) -> None:
    source.engine, source.engine_version = "CP2K", log.version
    deck = None if log.input_file is None else log.path.parent / Path(log.input_file).name
    for text in (restart, deck.read_text(errors="replace") if deck and deck.is_file() else None):
        if text is not None and log.level.dispersion is not None and has_three_bodies(text):
            log.level.dispersion.three_bodies = True
    said = log.level.level()
    if restart is not None:
        also = level_of_input(restart)
        whole = also if said.exchange_correlation is None else said
        said = replace(whole, basis=said.basis or also.basis, grid=said.grid or also.grid)
    source.level = said
    if not said.grid:
        source.remarks.append("neither log nor restart file says METHOD and CUTOFF, which move its energies")


def _refuse_other_methods(log: _Log) -> None:
    """Refuse energies that are not those of electrons alone, as of a force field."""
    if others := sorted(log.methods - {"QS"}):
        raise SuiteError(f"{log.path}: found energies of METHOD {others[0]}, expected those of QS")


def _method(line: bytes) -> str:
    """METHOD of FORCE_EVAL, which an energy has in brackets; QS where it is cut off."""
    found = re.search(rb"FORCE_EVAL \( *(\w+) *\)", line)
    return found.group(1).decode() if found else "QS"


# The log ------------------------------------------------------------------------------------------


def _read_log(path: Path) -> _Log:
    log = _Log(path)
    inner: bool | None = None
    outer: bool | None = None
    with open_binary(path) as stream:
        for line in lines(stream):
            if b"SCF" in line and b"onverge" in line:
                if b"SCF run" in line:
                    inner = b"NOT" not in line
                elif b"outer SCF loop" in line:
                    outer = b"FAILED" not in line
            elif line.startswith(b" ENERGY| Total FORCE_EVAL"):
                # The outer loop has the last word.
                with suppress(ValueError):  # cut off, or stars
                    log.converged[energy_key(line.split()[-1].decode())] = inner if outer is None else outer
                log.methods.add(_method(line))
                log.energy_unit = _unit(line.decode(errors="replace"), _ENERGY_UNITS, path)
                log.evaluations += 1
                inner = outer = None
            elif b"|" in line[:20] or (line.startswith(b"     ") and any(key in line for key in _OF_A_KIND)):
                with suppress(ValueError, IndexError):  # cut off: not said
                    _read_setting(log, line.decode(errors="replace"))
            elif b"PROGRAM ENDED" in line:
                log.ended = True
    return log


# What stands in the description of an atomic kind, without a bar.
_OF_A_KIND = (b"Orbital Basis Set", b"Potential information for", b"momentum number L:", b"U(eff)")


def _unit(line: str, known: dict[str, float], path: Path) -> str:
    """The unit that a line has in brackets.

    Raises:
        SuiteError: it is none of those known.
    """
    found = re.search(r"energy [\[(]([^\])]+)[\])]|in \[([^\]]+)\]|forces \[([^\]]+)\]", line)
    unit = next((group for group in found.groups() if group), "") if found else ""
    if unit not in known:
        raise SuiteError(f"{path}: found {' '.join(line.split())[:60]!r}, expected one of {', '.join(known)}")
    return unit


def _read_setting(log: _Log, line: str) -> None:
    words = line.split()
    if line.startswith(" CP2K| version"):
        log.version = words[-1]
    elif line.startswith(" CP2K| Input file name"):
        log.input_file = words[-1]
    elif line.startswith(" POISSON| Periodicity"):
        # Of the cell, or of the electrons alone.
        log.periodicity = log.periodicity if words[-1] == "XYZ" else words[-1]
    elif line.startswith(" GLOBAL| Project name"):
        log.project = words[-1]
    elif line.startswith(" GLOBAL| Run type"):
        log.run_type = words[-1]
    # Up to 7.1 these lines begin with MD|.
    elif line.startswith((" MD_PAR| Time step [fs]", " MD| Time Step [fs]")):
        log.timestep_fs = float(words[-1])
    elif line.startswith((" MD_PAR| Temperature [K]", " MD| Temperature [K]")):
        if math.isnan(log.target_K):  # the first; each step has its own under the older name
            log.target_K = float(words[-1])
    elif line.startswith((" MD_PAR| Ensemble", " MD| Ensemble")):
        log.ensemble = words[-1]
    elif line.startswith(" STRESS| ") or "| Pressure [bar]" in line:
        log.stress = True
    elif line.startswith(" CELL| Vector"):
        vector = np.array(words[4:7], dtype=float)
        axis = "abc".index(words[2])
        if log.cell is None:
            log.cell = np.zeros((3, 3))
        # Three decimals for the components; for the length three up to 7.1, then six.
        log.rounded |= len(words[-1].partition(".")[2]) < 6
        log.cell[axis] = vector * float(words[-1]) / np.linalg.norm(vector)
    elif line.startswith(" CELL| Numerically orthorhombic"):
        # 7.1 says YES of a cell of 95 degrees.
        tilted = log.cell is not None and bool((tilts_angstrom(log.cell[None]) > 0).any())
        log.orthorhombic = words[-1] == "YES" and not tilted
    elif line.startswith(" MD| Cell lengths"):
        log.cell_moved = True  # said of runs at constant pressure only
    elif line.startswith(" CELL| Periodicity"):
        log.periodicity = words[-1]
    else:
        log.level.read(line)


def _read_restart(log: _Log, path: Path) -> str:
    """A restart file, which is the whole input: its cell, its run and its text."""
    text = path.read_text(errors="replace")
    cell = text.partition("&SUBSYS")[2].partition("&CELL")[2].partition("&END CELL")[0]
    number = r"([-+\d.Ee]+)"
    vectors = [re.search(rf"^\s*{axis}\s+{number}\s+{number}\s+{number}\s*$", cell, re.M) for axis in "ABC"]
    try:
        if all(vectors):
            log.cell = np.array([[float(word) for word in match.groups()] for match in vectors if match])
            log.orthorhombic, log.rounded = True, False  # or not orthorhombic: all digits are there
    except ValueError:
        raise SuiteError(f"{path}: found a cell that is no numbers, expected CP2K's restart file") from None
    poisson = text.partition("&POISSON")[2].partition("&END POISSON")[0]
    for section in (cell, poisson):
        if (match := re.search(r"^\s*PERIODIC\s+(\w+)", section, re.M)) and match.group(1) != "XYZ":
            log.periodicity = match.group(1)
    if log.ensemble is None and (match := re.search(r"^\s*ENSEMBLE\s+(\S+)", text, re.M)):
        log.ensemble = match.group(1)
    _check_units(path, text)
    return text


def _check_units(path: Path, text: str) -> None:
    """Refuse an input that has a trajectory written in units of its own."""
    motion = text.partition("&MOTION")[2].partition("&END MOTION")[0]
    for printed, usual in _UNITS.items():
        unit = re.search(rf"&{printed}\b(?:(?!&END).)*?^\s*UNIT\s+(\S+)", motion, re.M | re.S | re.I)
        if unit and unit.group(1).lower().strip("[]") != usual:
            raise SuiteError(
                f"{path}: found {printed} with UNIT {unit.group(1)}, expected {usual}, which is the default"
            )


def _find_log(directory: Path, project: str) -> Path:
    candidates = []
    for path in sorted(directory.iterdir()):
        if path.is_file() and not re.search(r"\.(xyz|ener|cell|restart|wfn|inp)|RESTART", path.name):
            start = head(path, 16384)
            if _LOG_SIGN in start and re.search(rf"Project name\s+{re.escape(project)}\s".encode(), start):
                candidates.append(path)
    if len(candidates) != 1:
        found = ", ".join(path.name for path in candidates) or "none"
        raise SuiteError(
            f"{directory}: found {found} for logs of CP2K's project {project}, expected exactly one: "
            "only the log tells which frames converged"
        )
    return candidates[0]


# Trajectories -------------------------------------------------------------------------------------


def _beside(path: Path, project: str, ending: str) -> Path | None:
    for packed in ("", ".gz", ".xz", ".bz2"):
        candidate = path.parent / f"{project}{ending}{packed}"
        if candidate.is_file():
            return candidate
    return None


def _trajectory(path: Path, project: str) -> Source:
    forces = _beside(path, project, "-frc-1.xyz")
    if forces is None:
        raise SuiteError(
            f"{path.parent / project}-frc-1.xyz: found no such file, expected the forces "
            "(MOTION/PRINT/FORCES ON)"
        )
    log_path = _find_log(path.parent, project)
    velocities, energies = _beside(path, project, "-vel-1.xyz"), _beside(path, project, "-1.ener")
    cells = _beside(path, project, "-1.cell")
    log = _read_log(log_path)
    _refuse_other_methods(log)
    restart_path = path.parent / f"{project}-1.restart"
    restart = _read_restart(log, restart_path) if restart_path.is_file() else None
    for deck in path.parent.glob("*.inp"):
        text = deck.read_text(errors="replace")
        if re.search(rf"^\s*PROJECT(?:_NAME)?\s+{re.escape(project)}\s*$", text, re.M | re.I):
            _check_units(deck, text)
    if log.periodicity != "XYZ":
        raise SuiteError(f"{log_path}: found a cell periodic in {log.periodicity}, expected XYZ")
    if cells is None and (log.cell is None or not log.orthorhombic or log.cell_changes):
        why = "the cell may change" if log.cell_changes else "the log has three decimals"
        raise SuiteError(
            f"{path.parent / project}-1.cell: found no such file, expected it (MOTION/PRINT/CELL ON) or, "
            f"for a cell that does not change, {project}-1.restart: {why}"
        )
    with open_binary(path) as stream:
        first = stream.readline()
        n_atoms = atom_count(first)
        if n_atoms is None:
            raise SuiteError(f"{path}: found {first[:40]!r}, expected the number of atoms")
        stream.readline()
        names = [line.split()[:1] for line in islice(stream, n_atoms)]
        if [] in names:
            raise SuiteError(f"{path}: found an empty line among its atoms, expected {n_atoms} of them")
        species = tuple(name.decode(errors="replace") for (name,) in names)
    source = Source(path, "CP2K trajectory", timestep_fs=log.timestep_fs)
    source.files = [p for p in (path, forces, velocities, energies, cells, log_path) if p is not None]
    _describe(source, log, restart)
    if cells is None and log.rounded:
        source.remarks.append(ROUNDED_CELL)
    source.thermostat = "none" if log.ensemble == "NVE" else log.ensemble
    if not log.ended:
        source.remarks.append("the log has no PROGRAM ENDED: the run was killed or goes on")
    frames = _frames(path, forces, velocities, energies, cells, log, n_atoms, source)
    source.batches = collect(((species, frame) for frame in frames), source)
    return source


def _blocks(path: Path | None, n_atoms: int) -> Iterator[tuple[int, str, list[bytes]]]:
    """(step, energy, rows) of each whole block; a cut one comes without rows.

    One is cut where the run was killed: at the end, or further up if the run went on into the same file. The
    block after such a one may be lost with it: the next line that is a number of atoms begins again.
    """
    if path is None:
        return
    count, seen, lost = str(n_atoms).encode(), False, False
    with open_binary(path) as stream:
        source = lines(stream)
        for line in source:
            begins = line.strip() == count
            title = _TITLE.search(next(source, b"")) if begins else None
            rows = [] if title is None else list(islice(source, n_atoms))
            if title is not None and len(rows) == n_atoms and _is_whole(rows):
                seen, lost = True, False
                yield int(title.group(1)), title.group(2).decode(errors="replace"), rows
            elif begins and not seen and title is None:
                raise SuiteError(f"{path}: found no 'i = step, time, E' title, expected CP2K's XYZ files")
            elif line.strip() and not lost:
                lost = True
                yield -1, "", []


def _is_whole(rows: list[bytes]) -> bool:
    """Whether no other block begins among the rows, and the last is no piece."""
    return rows[-1].endswith(b"\n") and not any(b"=" in row for row in rows)


def _values(rows: list[bytes]) -> NDArray[np.float64]:
    words = b" ".join(rows).split()
    del words[::4]
    return np.array(list(map(float, words))).reshape(len(rows), 3)


def _rows(path: Path | None) -> Iterator[tuple[int, list[float]]]:
    """(step, numbers after the step) of an `.ener` or `.cell` file."""
    if path is None:
        return
    with open_binary(path) as stream:
        for line in lines(stream):
            step, *words = line.split() or [b"#"]
            if step.isdigit() and line.endswith(b"\n"):
                yield int(step), [_number(word) for word in words]


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:  # CP2K prints stars where a number does not fit
        return math.nan


class _Follower(Generic[_T]):
    """Goes along a file that has (step, value, ...) in growing steps."""

    def __init__(self, entries: Iterator[tuple[int, _T]]) -> None:
        self.entries = entries
        self.now = next(entries, None)

    def at(self, step: int) -> _T | None:
        """The value of a step, None if the file has none."""
        while self.now is not None and self.now[0] < step:
            self.now = next(self.entries, None)
        return self.now[1] if self.now is not None and self.now[0] == step else None


def _whole(blocks: Iterator[tuple[int, str, list[bytes]]]) -> Iterator[tuple[int, list[bytes]]]:
    for step, _, rows in blocks:
        if rows:
            yield step, rows


def _frames(
    positions: Path,
    forces: Path,
    velocities: Path | None,
    energies: Path | None,
    cells: Path | None,
    log: _Log,
    n_atoms: int,
    source: Source,
) -> Iterator[Snapshot]:
    force_rows = _Follower(_whole(_blocks(forces, n_atoms)))
    velocity_rows = _Follower(_whole(_blocks(velocities, n_atoms)))
    thermo, boxes = _Follower(_rows(energies)), _Follower(_rows(cells))
    cell, last, seen = log.cell, -1, 0
    for step, energy, rows in _blocks(positions, n_atoms):
        seen += 1
        if not rows:
            source.refused[HALF] += 1
            continue
        if step <= last:
            source.refused[REPEATED] += 1
            continue
        last = step
        found = force_rows.at(step)
        if found is None and force_rows.now is None:
            source.refused[HALF] += 1
            continue
        if found is None:  # also where forces were printed less often than positions
            source.refused[WITHOUT_FORCES] += 1
            continue
        try:
            key = energy_key(energy)
        except ValueError:
            source.refused[UNREADABLE] += 1
            continue
        if key not in log.converged:
            source.refused[NOT_IN_LOG] += 1
            continue
        if not source.accepts(log.converged[key], doubtful=True):
            continue
        try:
            moving, state, box = velocity_rows.at(step), thermo.at(step), boxes.at(step)
            if box is not None:
                cell = np.array(box[1:10]).reshape(3, 3)
            if cell is None or (cells is not None and box is None):
                source.refused[HALF] += 1
                continue
            yield Snapshot(
                positions=_values(rows),
                cell=cell,
                energy_eV=float(energy) * HARTREE_EV,
                forces=_values(found) * _FORCE,
                velocities=None if moving is None else _values(moving) * _VELOCITY,
                step=step,
                target_K=log.target_K,
                kinetic_K=math.nan if state is None or len(state) < 3 else state[2],
                stress=log.stress,
            )
        except ValueError:
            source.refused[UNREADABLE] += 1
    if log.evaluations > seen:
        source.remarks.append(f"the log has {log.evaluations} energies, the trajectory {seen} frames")


# Single points ------------------------------------------------------------------------------------


def _table(stream: Iterator[bytes], words: int, *, first: int = 0) -> list[list[bytes]]:
    """Rows of `words` words that have a number as their `first`, up to the first other line after them."""
    rows: list[list[bytes]] = []
    for line in stream:
        split = line.split()
        if len(split) == words + first and split[first].isdigit():
            rows.append(split[first:])
        elif rows:
            break
    return rows


@dataclass
class _Tables:
    """Coordinates (A) and forces (eV/A) that a log lists, with the atoms' names; the last of each."""

    species: tuple[str, ...] = ()
    coordinates: list[list[float]] = field(default_factory=list)
    forces: list[list[float]] = field(default_factory=list)


def _read_tables(path: Path) -> _Tables:
    found = _Tables()
    with open_binary(path) as stream:
        source_lines = lines(stream)
        for line in source_lines:
            if b"ATOMIC COORDINATES IN" in line.upper():
                if b"ANGSTROM" not in line.upper():
                    raise SuiteError(
                        f"{path}: found {line.strip().decode(errors='replace')!r}, expected angstrom"
                    )
                rows = _table(source_lines, 9)
                found.species = tuple(row[2].decode(errors="replace") for row in rows)
                found.coordinates = [[_number(word) for word in row[4:7]] for row in rows]
            elif b"ATOMIC FORCES in [" in line:
                scale = _FORCE_UNITS[_unit(line.decode(errors="replace"), _FORCE_UNITS, path)]
                found.forces = [
                    [_number(word) * scale for word in row[3:6]] for row in _table(source_lines, 6)
                ]
            elif line.startswith(b" FORCES| Atomic forces"):  # from 2024 on
                scale = _FORCE_UNITS[_unit(line.decode(errors="replace"), _FORCE_UNITS, path)]
                rows = _table(source_lines, 5, first=1)
                found.forces = [[_number(word) * scale for word in row[1:4]] for row in rows]
    return found


def _single_point(path: Path) -> Source:
    log = _read_log(path)
    _refuse_other_methods(log)
    tables = _read_tables(path)
    source = Source(path, "CP2K single point", files=[path])
    _describe(source, log, None)
    if log.timestep_fs is not None:
        raise SuiteError(
            f"{path}: found the log of molecular dynamics, expected its {log.project}-pos-1.xyz: give that"
        )
    if not log.ended or not log.converged:
        source.refused[HALF] += 1
        return source
    if not tables.forces or len(tables.coordinates) != len(tables.forces) or log.cell is None:
        raise SuiteError(
            f"{path}: found {len(tables.coordinates)} coordinates and {len(tables.forces)} forces in the log,"
            " expected both of all atoms (PRINT_LEVEL MEDIUM, FORCE_EVAL/PRINT/FORCES ON without a file name)"
        )
    if log.periodicity != "XYZ":
        raise SuiteError(f"{path}: found a cell periodic in {log.periodicity}, expected XYZ")
    if not log.orthorhombic and bool((tilts_angstrom(log.cell[None]) > 0).any()):
        raise SuiteError(
            f"{path}: found a cell that is not orthorhombic, expected an orthorhombic one: "
            "the log has three decimals of its vectors"
        )
    if log.evaluations != 1:
        raise SuiteError(
            f"{path}: found {log.evaluations} evaluations of the energy, expected the log of a single point: "
            "others do not say which coordinates belong to which forces"
        )
    if log.rounded:
        source.remarks.append(ROUNDED_CELL)
    (energy, converged), *_ = log.converged.items()
    if not source.accepts(converged, doubtful=True):
        return source
    frame = Snapshot(
        positions=np.array(tables.coordinates),
        cell=log.cell,
        energy_eV=float(energy) * _ENERGY_UNITS[log.energy_unit],
        forces=np.array(tables.forces),
        stress=log.stress,
    )
    source.batches = collect([(tables.species, frame)], source)
    return source
