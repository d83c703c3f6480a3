"""LAMMPS as an engine: potentials against plain sums, MPI, and one-line refusals."""

from __future__ import annotations

import os
from math import erfc, exp, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import Configuration, check_cell_width, cristobalite, perpendicular_widths, write_data
from jobs.engines.lammps import program as lammps
from jobs.engines.lammps.potential import (
    builtin_potential,
    interaction_commands,
    read_potential,
    write_potential,
)
from jobs.engines.lammps.program import evaluate, run_lammps

COULOMB_EV_A = 14.399645  # e2 / (4 pi eps0), CODATA


def bks_pair(pair: str, r: float) -> float:
    """Short-range energy in eV as published, without any shift."""
    a, rho, c = {"SiO": (18003.7572, 0.205205, 133.5381), "OO": (1388.7730, 0.362319, 175.0)}[pair]
    eps, s = {"SiO": (3.098e-3, 1.313635), "OO": (1.051e-3, 1.779239)}[pair]
    return a * exp(-r / rho) - c / r**6 + 4 * eps * ((s / r) ** 30 - (s / r) ** 6)


def ewald_energy(positions: np.ndarray, charges: np.ndarray, edge: float) -> float:
    """Coulomb energy of a neutral cubic cell (eV), tin-foil boundary: both sums written out."""
    alpha = 6.0 / edge
    shifts = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]) * edge
    energy = 0.0
    for i in range(len(charges)):
        for j in range(len(charges)):
            for shift in shifts:
                r = float(np.linalg.norm(positions[i] - positions[j] + shift))
                if r > 1e-9:
                    energy += 0.5 * charges[i] * charges[j] * erfc(alpha * r) / r
    waves = np.array(
        [
            (i, j, k)
            for i in range(-14, 15)
            for j in range(-14, 15)
            for k in range(-14, 15)
            if (i, j, k) != (0, 0, 0)
        ]
    ) * (2 * pi / edge)
    k2 = (waves**2).sum(axis=1)
    structure = np.abs((charges * np.exp(1j * waves @ positions.T)).sum(axis=1)) ** 2
    energy += float((2 * pi / edge**3 * np.exp(-k2 / 4 / alpha**2) / k2 * structure).sum())
    return (energy - alpha / sqrt(pi) * float((charges**2).sum())) * COULOMB_EV_A


@pytest.mark.engine
def test_bks_is_the_published_function(tmp_path: Path) -> None:
    # One SiO2 molecule in a box so wide that only its three pairs are within the short-range cut-off.
    edge = 30.0
    positions = np.array([[10.0, 10, 10], [11.6, 10, 10], [10, 11.8, 10.3]])
    molecule = Configuration(np.array([0, 1, 1]), positions, np.eye(3) * edge)
    d1, d2, d3 = (float(np.linalg.norm(positions[i] - positions[j])) for i, j in ((0, 1), (0, 2), (1, 2)))
    expected = ewald_energy(positions, np.array([2.4, -1.2, -1.2]), edge)
    expected += bks_pair("SiO", d1) + bks_pair("SiO", d2) + bks_pair("OO", d3)
    # LAMMPS' shift at the cut-offs, 10 A (Buckingham) and 6 A (30-6): 1e-4 eV a pair.
    found = evaluate(molecule, builtin_potential("bks"), directory=tmp_path)
    assert found.energy == pytest.approx(expected, abs=2e-3)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["bks", "tersoff"])
def test_forces_are_the_slope_of_the_energy(tmp_path: Path, name: str) -> None:
    crystal = cristobalite(2, displacement_angstrom=0.1, seed=3)
    potential = builtin_potential(name)
    forces = evaluate(crystal, potential, directory=tmp_path).forces
    assert np.abs(forces.sum(axis=0)).max() < 1e-3
    direction = np.random.default_rng(0).normal(size=forces.shape)
    direction /= np.linalg.norm(direction)
    step = 0.02
    energies = []
    for sign in (1, -1):
        moved = Configuration(crystal.types, crystal.positions + sign * step * direction, crystal.cell)
        energies.append(evaluate(moved, potential, directory=tmp_path).energy)
    slope = -(energies[0] - energies[1]) / (2 * step)
    assert slope == pytest.approx(float((forces * direction).sum()), abs=2e-3)


@pytest.mark.engine
def test_ewald_and_pppm_are_the_same_potential(tmp_path: Path) -> None:
    from dataclasses import replace

    crystal = cristobalite(2, displacement_angstrom=0.1, seed=3)
    bks = builtin_potential("bks")
    forces = []
    for solver in ("ewald", "pppm"):
        commands = (*bks.commands[:-1], f"kspace_style {solver} 1.0e-5")
        forces.append(evaluate(crystal, replace(bks, commands=commands), directory=tmp_path).forces)
    rms = float(np.sqrt(np.mean(forces[0] ** 2)))
    assert np.abs(forces[0] - forces[1]).max() < 1e-3 * rms


def script_for(directory: Path, potential: lammps.Potential, steps: int = 5) -> str:
    write_data(directory / "start.data", cristobalite(2, displacement_angstrom=0.05, seed=1))
    return f"""units metal
atom_style charge
read_data start.data
{interaction_commands(potential)}
velocity all create 300 1
fix integrate all nve
thermo 1
run {steps}
"""


@pytest.mark.engine
def test_two_ranks_find_each_other(tmp_path: Path) -> None:
    script = script_for(tmp_path, builtin_potential("bks"))
    one = run_lammps(script, directory=tmp_path, name="one")
    two = run_lammps(script, directory=tmp_path, name="two", ranks=2)
    assert "1 by 1 by 2 MPI processor grid" in (tmp_path / "two.log").read_text()
    np.testing.assert_allclose(one.thermo[0]["TotEng"], two.thermo[0]["TotEng"], atol=1e-3)
    assert two.loops[0].steps == 5
    assert two.dangerous_builds == 0


@pytest.mark.engine
def test_ranks_that_run_apart_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a launcher of another MPI does: it starts the program twice, each alone.
    launcher = tmp_path / "mpirun"
    launcher.write_text('#!/bin/sh\nshift 2\n"$@"\n"$@"\n')
    launcher.chmod(0o755)
    monkeypatch.setattr(lammps, "executable", lambda name: str(launcher))
    script = script_for(tmp_path, builtin_potential("tersoff"))
    with pytest.raises(EngineError, match=r"grid 1 x 1 x 1, expected 2 ranks") as caught:
        run_lammps(script, directory=tmp_path, name="apart", ranks=2)
    assert "\n" not in str(caught.value)


@pytest.mark.engine
def test_missing_deepmd_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real binary, started without its plugin folder: LAMMPS as many clusters have it.
    real = lammps._program()
    bare = {key: value for key, value in real[1].items() if key != "LAMMPS_PLUGIN_PATH"}
    monkeypatch.setattr(lammps, "_program", lambda: (real[0], bare))
    monkeypatch.delenv("LAMMPS_PLUGIN_PATH", raising=False)
    potential = lammps.Potential("x", "deepmd", ("pair_style deepmd x.pb", "pair_coeff * * Si O"), None, 6.0)
    with pytest.raises(
        EngineError, match=r"no pair style 'deepmd'.*pip install 'deepmd-kit\[cpu,lmp\]'"
    ) as caught:
        run_lammps(script_for(tmp_path, potential), directory=tmp_path, name="bare")
    assert "\n" not in str(caught.value)


@pytest.mark.engine
def test_a_refusal_is_lammps_own_error_line(tmp_path: Path) -> None:
    potential = lammps.Potential("x", "lammps", ("pair_style buck 5.0", "pair_coeff 1 1 1 2"), None, 5.0)
    with pytest.raises(EngineError, match=r"^lmp: ERROR.*pair_coeff|^lmp: ERROR.*Incorrect args"):
        run_lammps(script_for(tmp_path, potential), directory=tmp_path, name="bad")


@pytest.mark.engine
def test_killing_us_kills_lammps(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys
    import time

    script = script_for(tmp_path, builtin_potential("bks"), steps=1_000_000)
    code = (
        "import sys; from pathlib import Path; from jobs.engines.lammps.program import run_lammps\n"
        f"run_lammps({script!r}, directory=Path({str(tmp_path)!r}), name='endless')"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, env=dict(os.environ))
    log = tmp_path / "endless.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "\n         1 " in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    for child in children:
        status = Path(f"/proc/{child}/stat")
        assert not status.exists() or status.read_text().split()[2] == "Z"


def test_unknown_builtin() -> None:
    with pytest.raises(SuiteError, match="unknown, expected 'bks' or 'tersoff'"):
        builtin_potential("morse")


def test_a_potential_is_found_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    write_potential(
        folder,
        name="n",
        family="deepmd",
        commands=["pair_style deepmd {directory}/model.pb", "pair_coeff * * Si O"],
        charges=None,
        cutoff_angstrom=6.0,
        training=None,
    )
    potential = read_potential(folder)
    assert potential.commands[0] == f'pair_style deepmd "{folder}/model.pb"'
    (folder / "potential.json").write_text("{}")
    with pytest.raises(SuiteError, match=r"potential\.json: found KeyError 'charges'"):
        read_potential(folder)
    with pytest.raises(SuiteError, match="not found, expected a potential"):
        read_potential(tmp_path)


def test_widths_of_a_sheared_cell() -> None:
    # A shear keeps the volume and one width, and narrows another by the cosine of its angle.
    cell = np.array([[10.0, 0, 0], [10.0, 10, 0], [0, 0, 12]])
    np.testing.assert_allclose(perpendicular_widths(cell), [10 / sqrt(2), 10, 12])
    with pytest.raises(SuiteError, match=r"found a width of 7\.07 A, expected at least the cut-off of 8"):
        check_cell_width(cell, 8.0)
    assert check_cell_width(cell, 6.0) == "cell width 7.07 A is below twice the cut-off of 6.00 A"
    assert check_cell_width(cell, 3.0) is None
    with pytest.raises(SuiteError, match="volume"):
        perpendicular_widths(np.zeros((3, 3)))
