"""How well a fixed potential could sample for PBE: the spread s of E_PBE - E over configurations.

    python benchmarks/sampler_spread.py reference/models/hdnnp-96 [FOLDER ...]

FOLDER has n2p2's files; the energies of several folders are averaged. When a potential draws configurations
itself, the weights exp(-(E_PBE - E)/kT) leave a share of about exp(-s^2) of them, with s in kT. Here others
drew the configurations: PBE (every tenth frame of the deposited trajectories at 3000 K), another sampler (its
60 labels), and what made the frames of 216 atoms at 3000 K. So s says how good the energy is, and not yet how
good the potential's own draws are. Only the set `pbe-216-nnp-2.20` is training data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.base.silica import SPECIES
from jobs.base.units import BOLTZMANN_EV_K
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.n2p2_files import read_network
from jobs.reference.sets import find_set, iter_runs

TEMPERATURE_K = 3000.0
# What is looked at: set, and every how many frames beyond those that are not equilibrated.
SETS = {
    "pbe-96-sampler-3000K": 1,
    "pbe-96-md-nnp-3000K": 10,
    "pbe-96-md-bks-3000K": 10,
    "pbe-216-nnp-2.20": 1,
    "pbe-216-md-nnp-3000K": 10,
}


def frames(name: str, every: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[str], float, np.ndarray]]:
    """Positions, cell, symbols, energy and forces of the frames of a set at 3000 K."""
    for run, part in iter_runs(find_set(name, {})):
        for k in range(len(part)):
            index = part.first + k - run.unequilibrated_frames
            if index < 0 or index % every or part.temperatures_K[k] != TEMPERATURE_K:
                continue
            symbols = [SPECIES[index] for index in part.types]
            yield part.positions[k], part.cells[k], symbols, float(part.energies_eV[k]), part.forces[k]


@dataclass(frozen=True)
class Spread:
    """Of `frames` of `n_atoms`: rms force error (eV/A) and the standard deviation s (eV) of E_PBE - E."""

    frames: int
    n_atoms: int
    force_rms_eV_A: float
    s_eV: float


def spread(evaluators: Sequence[Evaluator], name: str, *, every: int) -> Spread:
    """How far the mean of some potentials is from PBE on every n-th frame of a set."""
    differences, squares, n_atoms = [], [], 0
    for positions, cell, symbols, energy, forces in frames(name, every):
        found = [evaluator(positions, cell, symbols) for evaluator in evaluators]
        differences.append(energy - np.mean([one.energy_eV for one in found]))
        squares.append(np.mean((np.mean([one.forces_eV_A for one in found], axis=0) - forces) ** 2))
        n_atoms = len(symbols)
    force_rms = float(np.sqrt(np.mean(squares)))
    return Spread(len(differences), n_atoms, force_rms, float(np.std(differences, ddof=1)))


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description="The spread of E_PBE - E of n2p2 potentials, set by set.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="n2p2's files")
    evaluators = [Evaluator(read_network(folder)) for folder in parser.parse_args().folders]
    for name, every in SETS.items():
        found = spread(evaluators, name, every=every)
        print(
            f"{name}: {found.frames} frames, force error {found.force_rms_eV_A:.3f} eV/A, "
            f"s {found.s_eV / (BOLTZMANN_EV_K * TEMPERATURE_K):.2f} kT = "
            f"{1000 * found.s_eV / found.n_atoms:.1f} meV/atom"
        )


if __name__ == "__main__":
    main()
