"""CP2K's METHOD NNP and ours on the same files: two codes that share nothing but n2p2's formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.engines.first_principles import cp2k
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.n2p2_files import read_network, write_network
from tests.helpers import cp2k_nnp
from tests.helpers.hdnnp_tools import VARIED, liquid_like, random_network, symbols_of

try:
    cp2k.find_cp2k()
    INSTALLED = True
except EngineError:
    INSTALLED = False
NEEDS_CP2K = pytest.mark.skipif(not INSTALLED, reason="CP2K is not installed; see docs/first-principles.md")


@pytest.mark.engine
@NEEDS_CP2K
@pytest.mark.parametrize("functions", [None, VARIED], ids=["plain", "varied"])
def test_cp2k_gives_the_same_energies_and_forces(tmp_path: Path, functions: dict | None) -> None:
    write_network(random_network(functions), tmp_path, comment="a test's")
    evaluate = Evaluator(read_network(tmp_path))
    for seed in (1, 2, 3):
        atoms = liquid_like(seed=seed)
        cell, symbols = atoms.cell, symbols_of(atoms)
        directory = tmp_path / f"cp2k-{seed}"
        directory.mkdir()
        energy, forces = cp2k_nnp.energy_and_forces(
            tmp_path, atoms.positions, cell, symbols, directory=directory
        )
        ours = evaluate(atoms.positions, cell, symbols)
        assert energy == pytest.approx(ours.energy_eV, abs=1e-4)
        np.testing.assert_allclose(forces, ours.forces_eV_A, atol=1e-5)


def test_softplus_is_refused_for_cp2k(tmp_path: Path) -> None:
    write_network(random_network(activation="softplus"), tmp_path, comment="a test's")
    atoms = liquid_like()
    with pytest.raises(SuiteError, match=r"input\.nn: found softplus, expected tanh: CP2K's"):
        cp2k_nnp.energy_and_forces(
            tmp_path, atoms.positions, atoms.cell, symbols_of(atoms), directory=tmp_path
        )
