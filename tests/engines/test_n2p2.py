"""n2p2's own `nnp-predict` and ours on the same files, where n2p2 is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.n2p2_files import read_network, write_network
from tests.helpers.hdnnp_tools import VARIED, liquid_like, random_network, symbols_of

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("nnp-predict") is None, reason="n2p2 is not installed: no nnp-predict"),
]


@pytest.mark.parametrize("functions", [None, VARIED], ids=["plain", "varied"])
def test_n2p2_gives_the_same_energy_and_forces(tmp_path: Path, functions: dict | None) -> None:
    write_network(random_network(functions), tmp_path, comment="a test's")
    atoms = liquid_like(seed=1)
    symbols = symbols_of(atoms)
    lines = ["begin"]
    lines += [f"lattice {' '.join(map(str, row))}" for row in atoms.cell / BOHR_ANGSTROM]
    for position, symbol in zip(atoms.positions / BOHR_ANGSTROM, symbols, strict=True):
        lines.append(f"atom {' '.join(f'{x:.14f}' for x in position)} {symbol} 0 0 0 0 0")
    lines += ["energy 0", "charge 0", "end"]
    (tmp_path / "input.data").write_text("\n".join(lines) + "\n")
    subprocess.run(["nnp-predict", "1"], cwd=tmp_path, check=True, capture_output=True)
    words = [line.split() for line in (tmp_path / "output.data").read_text().splitlines()]
    energy_hartree = float(next(line[1] for line in words if line[0] == "energy"))
    forces = np.array([line[-3:] for line in words if line[0] == "atom"], dtype=float)
    ours = Evaluator(read_network(tmp_path))(atoms.positions, atoms.cell, symbols)
    assert energy_hartree * HARTREE_EV == pytest.approx(ours.energy_eV, abs=1e-4)
    np.testing.assert_allclose(forces * HARTREE_EV / BOHR_ANGSTROM, ours.forces_eV_A, atol=1e-5)
