"""Silica: species and masses; configurations, how they are made, scaled and copied, and LAMMPS data files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.units import FS_PER_PS

SPECIES = ("Si", "O")
MASSES_AMU = np.array([28.0855, 15.999])  # of SPECIES
GRAMS_PER_CM3 = 1.66053906660  # of 1 amu/A3 (CODATA 2018 atomic mass constant)
FUSED_ANGSTROM = 0.9
"""Atoms closer than this have fused: no liquid silica has them, a failing potential does."""


def density_g_cm3(types: NDArray[np.integer], cell: NDArray[np.float64]) -> float:
    """Mass density of a cell (3, 3) in A that holds atoms of these types (N,)."""
    mass_amu = float(MASSES_AMU[types].sum())
    return mass_amu * GRAMS_PER_CM3 / abs(float(np.linalg.det(cell)))


@dataclass(frozen=True)
class Configuration:
    """Atoms in a periodic cell with a corner at the origin.

    `types` (N,) are indices into `SPECIES`, `positions` (N, 3) A, `cell` (3, 3) A with its vectors as rows,
    `velocities` (N, 3) A/fs or None where they are not known.
    """

    types: NDArray[np.integer]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    velocities: NDArray[np.float64] | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.types)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges (3,) in A of a cell whose vectors lie along the axes.

        Raises:
            SuiteError: the cell is tilted.
        """
        edges = np.diag(self.cell).copy()
        if not np.allclose(self.cell, np.diag(edges), rtol=0, atol=1e-8):
            raise SuiteError(f"cell: found the vectors {self.cell.tolist()}, expected an orthogonal cell")
        return edges

    @property
    def density_g_cm3(self) -> float:
        """Mass density in g/cm3."""
        return density_g_cm3(self.types, self.cell)

    def closest_pair_angstrom(self) -> float:
        """Distance of the two nearest atoms, by nearest images; NaN if a position is not finite."""
        delta = self.positions[:, None] - self.positions[None]
        delta -= np.rint(delta @ np.linalg.inv(self.cell)) @ self.cell
        distances = np.linalg.norm(delta, axis=-1)
        return float((distances + np.diag(np.full(len(delta), np.inf))).min())


def lattice_start(n_atoms: int, *, density_g_cm3: float, seed: int) -> Configuration:
    """The paper's start: Si and O at random on the smallest simple cubic lattice that holds them.

    Raises:
        SuiteError: the number of atoms is not a whole number of SiO2 units.
    """
    if n_atoms < 3 or n_atoms % 3:
        raise SuiteError(f"n_atoms: found {n_atoms}, expected a positive multiple of 3 (SiO2 units)")
    rng = np.random.default_rng(seed)
    types = rng.permutation(np.repeat([0, 1], [n_atoms // 3, 2 * n_atoms // 3]))
    sites_along = int(np.ceil(round(n_atoms ** (1 / 3), 9)))
    edge = (MASSES_AMU[types].sum() / density_g_cm3 * GRAMS_PER_CM3) ** (1 / 3)
    sites = np.sort(rng.choice(sites_along**3, n_atoms, replace=False))
    indices = np.stack(np.unravel_index(sites, (sites_along,) * 3), axis=1)
    return Configuration(types, (indices + 0.5) * edge / sites_along, np.eye(3) * edge)


def cristobalite(repeats: int, *, displacement_angstrom: float, seed: int) -> Configuration:
    """Ideal beta-cristobalite (24 atoms to a cubic cell of 7.16 A), every atom displaced at random.

    A sane place to try a potential in. `displacement_angstrom` is the standard deviation along each axis.
    """
    edge = 7.16
    diamond = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4
    silicon = np.concatenate([diamond, diamond + 0.25])
    # An oxygen half way along each of the four bonds of the first sublattice.
    bonds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 8
    oxygen = (diamond[:, None, :] + bonds).reshape(-1, 3) % 1.0
    unit = Configuration(
        np.repeat([0, 1], [8, 16]), np.concatenate([silicon, oxygen]) * edge, np.eye(3) * edge
    )
    crystal = replicate(unit, (repeats, repeats, repeats))
    noise = np.random.default_rng(seed).normal(scale=displacement_angstrom, size=crystal.positions.shape)
    return replace(crystal, positions=crystal.positions + noise)


def replicate(configuration: Configuration, times: tuple[int, int, int]) -> Configuration:
    """Copies of the cell side by side along its vectors."""
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in times), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = configuration.positions[None] + (shifts @ configuration.cell)[:, None, :]
    return Configuration(
        np.tile(configuration.types, len(shifts)),
        positions.reshape(-1, 3),
        configuration.cell * np.array(times)[:, None],
    )


def rescale(configuration: Configuration, density_g_cm3: float) -> Configuration:
    """Positions and cell scaled alike to a density in g/cm3."""
    factor = (configuration.density_g_cm3 / density_g_cm3) ** (1 / 3)
    return replace(
        configuration, positions=configuration.positions * factor, cell=configuration.cell * factor
    )


def perpendicular_widths(cell: np.ndarray) -> np.ndarray:
    """Distances (3,) between opposite faces of a cell given by its rows (3, 3), in its unit.

    Raises:
        SuiteError: the rows span no volume.
    """
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    volume = abs(np.linalg.det(cell))
    if not np.isfinite(volume) or volume <= 0:
        raise SuiteError(f"cell: found a volume of {volume} A3, expected a positive one")
    return volume / areas


def check_cell_width(cell: np.ndarray, cutoff_angstrom: float) -> str | None:
    """Compare the narrowest width of a cell (3, 3) with a cut-off; a warning, or None if all is well.

    Between one and two cut-offs an atom meets several images of a neighbour; LAMMPS and DeePMD count
    them, and the paper's own N = 96 is there. Below one cut-off it would meet itself.

    Raises:
        SuiteError: the cell is narrower than the cut-off.
    """
    width = float(perpendicular_widths(cell).min())
    if width < cutoff_angstrom:
        raise SuiteError(
            f"cell: found a width of {width:.2f} A, expected at least the cut-off of {cutoff_angstrom:.2f} A"
        )
    if width < 2 * cutoff_angstrom:
        return f"cell width {width:.2f} A is below twice the cut-off of {cutoff_angstrom:.2f} A"
    return None


def write_data(path: Path, configuration: Configuration) -> None:
    """Write a LAMMPS data file (atom_style charge, charges 0), positions wrapped into the box.

    Velocities go in where the configuration has them.

    Raises:
        SuiteError: the cell is tilted.
    """
    edges = configuration.edges
    lines = ["silica: type 1 Si, type 2 O", "", f"{configuration.n_atoms} atoms", "2 atom types", ""]
    for axis, edge in zip("xyz", edges, strict=True):
        lines.append(f"0.0 {edge:.12f} {axis}lo {axis}hi")
    lines += ["", "Masses", "", *(f"{index} {mass}" for index, mass in enumerate(MASSES_AMU, start=1))]
    lines += ["", "Atoms # charge", ""]
    wrapped = configuration.positions % edges
    for index, (species, (x, y, z)) in enumerate(zip(configuration.types, wrapped, strict=True), start=1):
        lines.append(f"{index} {species + 1} 0.0 {x:.12f} {y:.12f} {z:.12f}")
    if configuration.velocities is not None:
        lines += ["", "Velocities", ""]
        for index, (x, y, z) in enumerate(configuration.velocities * FS_PER_PS, start=1):
            lines.append(f"{index} {x:.12f} {y:.12f} {z:.12f}")
    path.write_text("\n".join(lines) + "\n")


def read_data(path: Path) -> Configuration:
    """Read a data file that LAMMPS or `write_data` wrote (atom_style charge, orthogonal); atoms in id order.

    Positions are unwrapped by the image flags where there are any.

    Raises:
        SuiteError: the file is missing, truncated, tilted, or has atoms of other types.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise SuiteError(f"{path}: not found, expected a LAMMPS data file") from None
    n_atoms, low, edges, start = 0, np.zeros(3), np.zeros(3), None
    for number, line in enumerate(lines):
        words = line.split()
        if words[1:] == ["atoms"]:
            n_atoms = int(words[0])
        elif len(words) == 4 and words[2] in ("xlo", "ylo", "zlo"):
            axis = "xyz".index(words[2][0])
            low[axis], edges[axis] = float(words[0]), float(words[1]) - float(words[0])
        elif words[3:] == ["xy", "xz", "yz"] and any(float(tilt) for tilt in words[:3]):
            raise SuiteError(f"{path}: found a tilted box, expected an orthogonal one")
        elif words[:1] == ["Atoms"]:
            start = number + 2
            break
    if start is None or n_atoms == 0 or not (edges > 0).all():
        raise SuiteError(f"{path}: found no atoms or box, expected a LAMMPS data file of atom_style charge")
    try:
        rows = np.array([[float(word) for word in line.split()] for line in lines[start : start + n_atoms]])
    except ValueError as error:
        raise SuiteError(f"{path}: found {error}, expected numbers in Atoms") from None
    if rows.shape[0] != n_atoms or rows.ndim != 2 or rows.shape[1] not in (6, 9):
        raise SuiteError(f"{path}: found {rows.shape} values in Atoms, expected {n_atoms} whole atoms")
    rows = rows[np.argsort(rows[:, 0])]
    types = rows[:, 1].astype(int) - 1
    if not np.isin(types, (0, 1)).all():
        raise SuiteError(f"{path}: found atom types {sorted(set(types + 1))}, expected 1 (Si) and 2 (O)")
    positions = rows[:, 3:6] - low
    if rows.shape[1] == 9:
        positions = positions + rows[:, 6:9] * edges
    if not np.isfinite(positions).all():
        raise SuiteError(f"{path}: found non-finite positions, expected finite ones")
    return Configuration(types, positions, np.diag(edges))


def minimum_image(separation: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Separations (..., 3) to the nearest image in an orthogonal cell (3,); right below half an edge."""
    return np.asarray(separation - np.round(separation / cell) * cell)
