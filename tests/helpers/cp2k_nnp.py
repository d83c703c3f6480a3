"""CP2K's own symmetry-function networks (`METHOD NNP`), which read n2p2's files: an oracle for ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.first_principles.cp2k import find_cp2k
from jobs.engines.hdnnp.n2p2_files import INPUT_FILE, SCALING_FILE, potential_files, read_network
from jobs.engines.hdnnp.network import Array
from jobs.engines.process import run_program, thread_environment


def energy_and_forces(
    folder: Path, positions_angstrom: Array, cell_angstrom: Array, symbols: Sequence[str], *, directory: Path
) -> tuple[float, Array]:
    """Energy (eV) and forces (N, 3) in eV/A of one configuration, by CP2K in `directory`.

    Raises:
        SuiteError: the folder's potential is none that CP2K does right.
        EngineError: CP2K is missing or failed.
    """
    network = read_network(folder)
    if any(one.activation != "tanh" for one in network.elements.values()):
        raise SuiteError(
            f"{folder / INPUT_FILE}: found softplus, expected tanh: CP2K's forces of it are wrong"
        )
    # Beside the deck: CP2K cuts paths of more than 80 characters.
    for file in potential_files(folder):
        shutil.copyfile(file, directory / file.name)
    rows = [" ".join(f"{value:.12f}" for value in row) for row in (*cell_angstrom, *positions_angstrom)]
    deck = f"""&GLOBAL
  PROJECT nnp
  RUN_TYPE ENERGY_FORCE
&END GLOBAL
&FORCE_EVAL
  METHOD NNP
  &NNP
    NNP_INPUT_FILE_NAME {INPUT_FILE}
    SCALE_FILE_NAME {SCALING_FILE}
    &MODEL
      WEIGHTS weights
    &END MODEL
  &END NNP
  &PRINT
    &FORCES
      NDIGITS 15
      FILENAME =forces
    &END FORCES
  &END PRINT
  &SUBSYS
    &CELL
      A {rows[0]}
      B {rows[1]}
      C {rows[2]}
    &END CELL
    &COORD
{chr(10).join(f"      {symbol} {row}" for symbol, row in zip(symbols, rows[3:], strict=True))}
    &END COORD
  &END SUBSYS
&END FORCE_EVAL
"""
    (directory / "nnp.inp").write_text(deck)
    log, forces = directory / "nnp.log", directory / "forces"
    forces.unlink(missing_ok=True)
    environment = thread_environment(1)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(name, None)
    run_program([find_cp2k(), "-i", "nnp.inp"], directory=directory, log=log, environment=environment)
    energy = re.search(r"ENERGY\| Total FORCE_EVAL.*:\s+(\S+)", log.read_text())
    if energy is None or not forces.is_file():
        raise EngineError(f"cp2k: found no energy and forces, expected both (log: {log})")
    lines = [line.split() for line in forces.read_text().splitlines()]
    table = [
        [float(word) for word in words[3:6]] for words in lines if len(words) == 6 and words[0].isdigit()
    ]
    return float(energy[1]) * HARTREE_EV, np.array(table) * HARTREE_EV / BOHR_ANGSTROM
