"""Energies and forces of a potential on frames, through the numba kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.base.frames import Frames
from jobs.base.silica import SPECIES
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.deepmd.program import Prediction
from jobs.engines.hdnnp.kernels import Descriptors, FunctionTables, describe
from jobs.engines.hdnnp.n2p2_files import read_network
from jobs.engines.hdnnp.network import Array, Network


@dataclass(frozen=True)
class Result:
    """Energy (eV), forces (N, 3) in eV/A and extrapolation warnings of one configuration."""

    energy_eV: float
    forces_eV_A: Array
    warnings: int


class Evaluator:
    """A potential ready for many frames."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tables = FunctionTables({symbol: one.functions for symbol, one in network.elements.items()})

    def __call__(self, positions_angstrom: Array, cell_angstrom: Array, symbols: Sequence[str]) -> Result:
        """Energy and forces of one configuration.

        Args:
            positions_angstrom: (N, 3), wrapped or not.
            cell_angstrom: (3, 3), rows are the cell vectors.
            symbols: element of each atom.
        """
        elements = np.array([self.network.symbols.index(symbol) for symbol in symbols])
        found = describe(
            self.tables, positions_angstrom / BOHR_ANGSTROM, cell_angstrom / BOHR_ANGSTROM, elements
        )
        return self.of_descriptors(found, elements)

    def of_descriptors(self, found: Descriptors, elements: Array) -> Result:
        """The same, of a frame whose symmetry functions are known."""
        gradient = np.zeros_like(found.values)
        energy, warnings = 0.0, 0
        for number, (symbol, one) in enumerate(self.network.elements.items()):
            mine = elements == number
            values = found.values[mine, : len(one.functions)]
            energies, gradient[mine, : len(one.functions)] = one.energies(values)
            energy += energies.sum() + mine.sum() * self.network.atom_energies[symbol]
            warnings += one.extrapolations(values)
        forces = np.zeros((len(elements), 3))
        by_row = np.einsum("raf,rf->ra", found.slopes, gradient[found.row_centre])
        np.subtract.at(forces, found.row_atom, by_row)
        return Result(float(energy) * HARTREE_EV, forces * HARTREE_EV / BOHR_ANGSTROM, warnings)


def predict(folder: Path, systems: Sequence[Frames]) -> list[Prediction]:
    """What the potential in a folder says of the frames of each system.

    Raises:
        SuiteError: the folder holds none that this project can do.
    """
    evaluator = Evaluator(read_network(folder))
    predictions = []
    for system in systems:
        symbols = [SPECIES[index] for index in system.types]
        found = [evaluator(x, cell, symbols) for x, cell in zip(system.positions, system.cells, strict=True)]
        predictions.append(
            Prediction(
                np.array([one.energy_eV for one in found]),
                np.array([one.forces_eV_A for one in found]).reshape(system.forces.shape),
            )
        )
    return predictions
