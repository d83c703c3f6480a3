"""Labelled frames and the streaming reader of extended XYZ files.

Units: A, fs, eV, eV/A, A/fs, K. One frame is in memory at a time; every wrong input stops with one
line that names the file, the frame, what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.silica import SPECIES, Configuration

UNCONVERGED = "SCF not converged"
NOT_KNOWN = "SCF convergence not known"
# Keys by which codes and converters say in a frame's comment line whether the SCF converged.
_CONVERGED = re.compile(r"(un|not|non)?conv(erged?|ergence)?")
_DENIED = {"un", "not", "non", "no", "failed", "fail"}
# Convergence of something else than the SCF, or a number about it.
_OF_OTHERS = {"geometry", "geo", "ionic", "ion", "opt", "relax", "force", "forces", "cell", "stress"}
_NUMBERS = {
    "ev",
    "ry",
    "ha",
    "thr",
    "tol",
    "threshold",
    "criterion",
    "tolerance",
    "accuracy",
    "limit",
    "steps",
    "energy",
}
_FALSE = {
    "f",
    "false",
    ".false.",
    "0",
    "0.0",
    "no",
    "n",
    "unconverged",
    "not converged",
    "not_converged",
    "failed",
}
_TRUE = {"t", "true", ".true.", "1", "1.0", "yes", "y", "converged", "ok", "reached"}
VELOCITIES = "velocities_A_per_fs"
TILT_ANGSTROM = 1e-8  # beyond it a cell is not orthorhombic
_WORDS = {"pos": "position", "forces": "force", VELOCITIES: "velocity"}
_ASSIGNMENT = re.compile(r'([\w-]+)=("[^"]*"|\S+)')


@dataclass(frozen=True, kw_only=True)
class Frame(Configuration):
    """A configuration with its label, atoms in the order of its source.

    `energy_eV` is the total; `forces` (N, 3) eV/A; `temperature_K` the target of the run that the frame is
    of. `info` is what else the source said.
    """

    energy_eV: float
    forces: NDArray[np.float64]
    temperature_K: float
    info: Mapping[str, str] = field(default_factory=dict)


def comment_values(comment: str) -> dict[str, str]:
    """The assignments of an extended XYZ comment line, as text and without their quotation marks."""
    return {key: value.strip('"') for key, value in _ASSIGNMENT.findall(comment)}


def converged_keys(info: Mapping[str, str]) -> dict[str, bool | None]:
    """Keys that say whether the SCF of a frame converged, and what they say; None if it is not understood."""
    found: dict[str, bool | None] = {}
    for key, value in info.items():
        words = re.split(r"[_-]+", key.lower())
        if set(words) & (_OF_OTHERS | _NUMBERS):
            continue
        of_scf = next((match for word in words if (match := _CONVERGED.fullmatch(word))), None)
        if of_scf is None and not ("scf" in words and set(words) & {"failed", "fail", "status"}):
            continue
        word = value.strip().lower()
        said = True if word in _TRUE else False if word in _FALSE else None
        denied = set(words) & _DENIED or (of_scf is not None and of_scf[1])
        found[key] = not said if denied and said is not None else said
    return found


def unconverged_key(info: Mapping[str, str]) -> str | None:
    """Which key says that the SCF of a frame failed, if one does."""
    return next((key for key, said in converged_keys(info).items() if said is False), None)


def tilts_angstrom(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each cell (F, 3, 3) is from orthorhombic: its largest component off the diagonal, in A."""
    largest: NDArray[np.float64] = np.abs(cells * (1 - np.eye(3))).max(axis=(1, 2))
    return largest


def are_upright(cells: NDArray[np.float64]) -> bool:
    """Whether all cells (F, 3, 3) are orthorhombic with their vectors along the axes."""
    flat = cells.reshape(-1, 9)
    tilts = flat[:, [1, 2, 3, 5, 6, 7]]
    return bool(flat[:, ::4].min() > TILT_ANGSTROM and np.abs(tilts).max() <= TILT_ANGSTROM)


def straightened(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cells (F, 3, 3), those of orthorhombic lattices with their vectors along the axes and in their order.

    Vectors against the axes, or in another order, span the same lattice. As they are, DeePMD-kit takes them
    for another one. Without any such cell it is the same array.
    """
    if are_upright(cells):
        return cells
    along = np.abs(cells) > TILT_ANGSTROM
    single = ((along.sum(axis=1) == 1) & (along.sum(axis=2) == 1)).all(axis=1)
    wrong = single & (np.diagonal(cells, axis1=1, axis2=2) <= TILT_ANGSTROM).any(axis=1)
    if not wrong.any():
        return cells
    right = np.abs(cells).max(axis=1)[:, :, None] * np.eye(3)
    return np.where(wrong[:, None, None], right, cells)


def _columns(properties: str, where: str) -> dict[str, slice]:
    """Column slices by name from an extended XYZ `Properties` value."""
    parts = properties.split(":")
    columns: dict[str, slice] = {}
    start = 0
    try:
        for name, _, width in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
            columns[name] = slice(start, start + int(width))
            start += int(width)
    except ValueError:
        raise SuiteError(
            f"{where}: found Properties={properties}, expected name:type:width triples"
        ) from None
    columns["*"] = slice(0, start)
    return columns


def _finite(values: NDArray[np.float64], what: str, where: str) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        atom = int(np.argwhere(~np.isfinite(values.reshape(len(values), -1)))[0][0])
        raise SuiteError(f"{where}: found {what} not finite at atom {atom + 1}, expected finite numbers")
    return values


def _read_frame(n_line: str, comment: str, rows: list[str], where: str) -> Frame:
    n_atoms = int(n_line)
    info = comment_values(comment)
    for key in ("Lattice", "Properties", "energy", "temperature_K"):
        if key not in info:
            raise SuiteError(
                f"{where}: found no {key}= in the comment line, "
                "expected Lattice, Properties, energy and temperature_K"
            )
    if (said := unconverged_key(info)) is not None:
        raise SuiteError(f"{where}: found {said}={info[said]}, expected only frames whose SCF converged")
    columns = _columns(info["Properties"], where)
    for key in ("species", "pos", "forces"):
        if key not in columns:
            raise SuiteError(
                f"{where}: found no {key} among its properties, expected species, pos and forces"
            )
    width = columns["*"].stop
    tokens = " ".join(rows).split()
    if len(tokens) != n_atoms * width or any(len(row.split()) != width for row in (rows[0], rows[-1])):
        raise SuiteError(
            f"{where}: found {len(tokens)} values in {n_atoms} lines, "
            f"expected {n_atoms} atoms of {width} values each"
        )
    table = np.array(tokens, dtype=object).reshape(n_atoms, width)
    species = [str(name) for name in table[:, columns["species"]].ravel()]
    unknown = sorted(set(species) - set(SPECIES))
    if unknown:
        raise SuiteError(f"{where}: found species {unknown[0]}, expected only {' and '.join(SPECIES)}")

    def numbers(key: str) -> NDArray[np.float64]:
        try:
            values = table[:, columns[key]].astype(np.float64)
        except ValueError as error:
            raise SuiteError(f"{where}: found text in {key} ({error}), expected numbers") from None
        return _finite(values, _WORDS[key], where)

    try:
        lattice = np.array(info["Lattice"].split(), dtype=np.float64)
        energy = np.array([float(info["energy"])])
        temperature = np.array([float(info["temperature_K"])])
    except ValueError as error:
        raise SuiteError(f"{where}: found text where a number belongs ({error}), expected numbers") from None
    if lattice.size != 9 or abs(np.linalg.det(_finite(lattice, "cell", where).reshape(3, 3))) < 1e-6:
        raise SuiteError(
            f"{where}: found Lattice={info['Lattice']!r}, expected nine numbers that span a volume"
        )
    if (straightened(lattice.reshape(1, 3, 3)).ravel() != lattice).any():
        raise SuiteError(
            f"{where}: found Lattice={info['Lattice']!r}, expected vectors along the axes, not against "
            "them or in another order"
        )
    if info.get("pbc", "T T T").split() not in (["T", "T", "T"], ["True", "True", "True"]):
        raise SuiteError(
            f"{where}: found pbc={info['pbc']!r}, expected a cell that is periodic in all directions"
        )
    return Frame(
        types=np.array([SPECIES.index(name) for name in species], dtype=np.int8),
        positions=numbers("pos"),
        cell=lattice.reshape(3, 3),
        energy_eV=float(_finite(energy, "energy", where)[0]),
        forces=numbers("forces"),
        velocities=numbers(VELOCITIES) if VELOCITIES in columns else None,
        temperature_K=float(_finite(temperature, "temperature", where)[0]),
        info={k: v for k, v in info.items() if k not in ("Lattice", "Properties", "energy", "pbc")},
    )


def format_extxyz(
    types: NDArray[np.integer],
    columns: Mapping[str, NDArray[np.float64]],
    *,
    cell: NDArray[np.float64],
    comment: str,
) -> str:
    """One frame of extended XYZ: `columns` (N, 3) by name, `pos` first; `cell` (3, 3), rows are vectors."""
    lattice = " ".join(f"{value:.10g}" for value in cell.ravel())
    properties = ":".join(["species:S:1", *(f"{name}:R:3" for name in columns)])
    lines = [str(len(types)), f'Lattice="{lattice}" Properties={properties} {comment} pbc="T T T"']
    for species, row in zip(types, np.hstack(list(columns.values())), strict=True):
        lines.append(f"{SPECIES[species]} " + " ".join(f"{value:.9f}" for value in row))
    return "\n".join(lines) + "\n"


def read_extxyz(
    path: Path, *, check: Callable[[Mapping[str, str], str], None] = lambda info, where: None
) -> Iterator[Frame]:
    """Frames of an extended XYZ file, one at a time.

    `check` is given the assignments of each comment line, and a name of the frame, before it is read.

    Read are `Lattice`, `Properties` (species, pos, forces, velocities_A_per_fs), `energy` and
    `temperature_K`; every other assignment of the comment line comes back as text in `Frame.info`.

    Raises:
        SuiteError: truncated or malformed frame, NaN or infinity, a species that is not in `SPECIES`,
            a frame marked as unconverged, a cell that is not periodic.
    """
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected an extended XYZ file")
    with path.open(encoding="utf-8", errors="replace") as handle:
        number = 0
        while line := handle.readline():
            if not line.strip():
                continue
            number += 1
            where = f"{path}: frame {number}"
            if not re.fullmatch(r"0*[1-9][0-9]{0,8}", line.strip()):
                raise SuiteError(f"{where}: found {line.strip()[:40]!r}, expected the number of atoms")
            comment = handle.readline()
            rows = [row for row in (handle.readline() for _ in range(int(line))) if row.strip()]
            if len(rows) != int(line):
                raise SuiteError(
                    f"{where}: found {len(rows)} atoms before the end of the file, "
                    f"expected {int(line)}: truncated"
                )
            check(comment_values(comment), where)
            yield _read_frame(line, comment, rows, where)
        if number == 0:
            raise SuiteError(f"{path}: found no frame, expected at least one")


@dataclass(frozen=True)
class Frames:
    """F labelled configurations of the same N atoms.

    `types` (N,) are indices into `SPECIES`; `positions` (F, N, 3) A, unwrapped in a trajectory; `cells`
    (F, 3, 3) A, rows are vectors; `energies_eV` (F,) totals; `forces` (F, N, 3) eV/A; `velocities`
    (F, N, 3) A/fs or None; `temperatures_K` (F,) targets, empty where there is none; `first` is the index
    of the first of these frames in its run.
    """

    types: NDArray[np.integer]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    energies_eV: NDArray[np.float64]
    forces: NDArray[np.float64]
    velocities: NDArray[np.float64] | None = None
    temperatures_K: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    first: int = 0

    def __len__(self) -> int:
        return len(self.energies_eV)

    def select(self, chosen: NDArray[Any] | slice) -> Frames:
        """The frames that an index array, a mask or a slice picks."""
        return replace(
            self,
            positions=self.positions[chosen],
            cells=self.cells[chosen],
            energies_eV=self.energies_eV[chosen],
            forces=self.forces[chosen],
            velocities=None if self.velocities is None else self.velocities[chosen],
            temperatures_K=self.temperatures_K[chosen] if len(self.temperatures_K) else self.temperatures_K,
        )

    @classmethod
    def joined(cls, parts: Sequence[Frames]) -> Frames:
        """Frames of the same atoms one after the other; velocities only where all parts have them."""
        velocities = [part.velocities for part in parts if part.velocities is not None]
        return cls(
            types=parts[0].types,
            positions=np.concatenate([part.positions for part in parts]),
            cells=np.concatenate([part.cells for part in parts]),
            energies_eV=np.concatenate([part.energies_eV for part in parts]),
            forces=np.concatenate([part.forces for part in parts]),
            velocities=np.concatenate(velocities) if len(velocities) == len(parts) else None,
            temperatures_K=np.concatenate([part.temperatures_K for part in parts]),
            first=parts[0].first,
        )
