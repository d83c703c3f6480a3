"""Quantum ESPRESSO for real, on one SiO2 molecule in a small box: forces, units, resuming, refusals."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import MASSES_AMU, Configuration
from jobs.engines.first_principles import espresso
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.first_principles.types import Dynamics, Run, kinetic_energies_eV
from tests.helpers.first_principles_tools import kill_after, slope_and_force

# The package's own PBE pseudopotentials, at a cut-off at which they run in a second.
SETTINGS = {
    "ecutwfc_Ry": 16,
    "ecutrho_Ry": 80,
    "conv_thr_Ry": 1e-9,
    "electron_maxstep": 60,
    "mixing_beta": 0.5,
    "pseudopotentials": {"Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF", "O": "O.pbe-rrkjus.UPF"},
}
INSTALLED = shutil.which("pw.x") is not None and espresso.DEBIAN_PSEUDO.is_dir()
needs_espresso = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not INSTALLED, reason="Quantum ESPRESSO is not installed; see docs/first-principles.md"
    ),
]
# O before Si: nothing may depend on the order.
MOLECULE = Configuration(
    types=np.array([1, 0, 1], np.int8),
    positions=np.array([[4.02, 2.6, 2.5], [2.5, 2.5, 2.5], [0.98, 2.45, 2.62]]),
    cell=np.diag([5.0, 5.0, 5.0]),
    velocities=np.array([[-2.0, -1.0, 1.0], [1.0, 2.0, -1.0], [0.5, -2.5, 1.0]]) * 1e-2,
)
STEPS = 5
NVE = Dynamics(steps=STEPS, timestep_fs=1.0, temperature_K=1000.0, thermostat=None, damping_fs=100.0, seed=1)


def settings(**changes: object) -> espresso.Settings:
    return espresso.read_settings({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, espresso.run_dynamics(settings(), MOLECULE, NVE, directory=directory, threads=1)


class TestSinglePoint:
    pytestmark = needs_espresso

    def test_forces_are_minus_the_slope_of_the_energy(self, tmp_path):
        slope, along = slope_and_force(espresso, settings(), MOLECULE, tmp_path)
        assert abs(along) > 0.5
        # What is left is the net force of a coarse density grid, and the third derivative.
        assert slope == pytest.approx(along, abs=0.02)

    def test_reads_what_ase_reads(self, tmp_path):
        from ase.io import read

        label = espresso.single_point(settings(), MOLECULE, directory=tmp_path, threads=1)
        log = tmp_path / "run-00000000.out"
        atoms = read(log, format="espresso-out")
        # ASE keeps to the constants of 2006, 1e-7 off today's.
        assert label.energy_eV == pytest.approx(atoms.get_potential_energy(), rel=2e-7)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-5)
        raw = re.search(r"!\s+total energy\s+=\s+(\S+) Ry", log.read_text())
        assert raw is not None
        assert label.energy_eV == pytest.approx(float(raw.group(1)) * 13.605693, rel=1e-7)
        assert espresso.version(tmp_path)[0].isdigit()

    def test_failure_is_said_in_its_words(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ESPRESSO_PSEUDO", str(tmp_path))
        for name in SETTINGS["pseudopotentials"].values():
            (tmp_path / name).write_text("Functional: PBE\nand nothing else\n")
        with pytest.raises(EngineError, match=r"^pw\.x: .*: .* \(log: .*run-00000000\.out\)$") as caught:
            espresso.single_point(settings(), MOLECULE, directory=tmp_path / "run", threads=1)
        assert "MPI" not in str(caught.value)

    def test_unconverged_is_said(self, tmp_path):
        label = espresso.single_point(settings(electron_maxstep=2), MOLECULE, directory=tmp_path, threads=1)
        assert label.refusal == "SCF not converged"
        assert label.scf_steps == 2
        assert np.isfinite(label.forces).all()


class TestDynamics:
    pytestmark = needs_espresso

    def test_units_obey_newton(self, whole):
        """Positions, velocities and forces fit together as velocity Verlet makes them."""
        _, run = whole
        assert run.converged.all()
        np.testing.assert_array_equal(run.steps, np.arange(STEPS + 1))
        masses = np.array(MASSES_AMU)[MOLECULE.types][:, None]
        accelerations = run.forces / masses * 9.648533e-3  # eV/A/amu in A/fs2
        accelerations -= (masses * accelerations).sum(axis=1, keepdims=True) / masses.sum()
        predicted = run.velocities[:-1] + (accelerations[1:] + accelerations[:-1]) / 2
        np.testing.assert_allclose(predicted, run.velocities[1:], atol=1e-7)
        np.testing.assert_allclose(run.positions[0], MOLECULE.positions, atol=1e-9)
        # The start's own velocities, without the motion of the whole.
        net = (masses * MOLECULE.velocities).sum(axis=0) / masses.sum()
        np.testing.assert_allclose(run.velocities[0], MOLECULE.velocities - net, atol=1e-6)

    def test_energies_are_those_that_pw_prints(self, whole):
        directory, run = whole
        text = (directory / "run-00000000.out").read_text()
        printed = [float(value) * 13.605693 for value in re.findall(r"\(Ekin\) =\s+(\S+) Ry", text)]
        kinetic = kinetic_energies_eV(MOLECULE.types, run.velocities)
        np.testing.assert_allclose(kinetic, printed, rtol=1e-4)
        temperatures = [float(value) for value in re.findall(r"temperature\s+=\s+(\S+) K", text)]
        np.testing.assert_allclose(run.temperatures_K, temperatures, rtol=1e-4)
        exchanged = np.ptp(run.energies_eV)
        assert exchanged > 0.05
        assert np.ptp(run.conserved_eV) < 0.05 * exchanged
        np.testing.assert_allclose(run.conserved_eV, run.energies_eV + kinetic, atol=1e-3)
        assert (run.seconds > 0).all()

    def test_reads_what_ase_reads(self, whole):
        from ase.io import read

        directory, run = whole
        images = read(directory / "run-00000000.out", format="espresso-out", index=":")
        assert len(images) == len(run.steps)
        for image, positions, forces, energy in zip(
            images, run.positions, run.forces, run.energies_eV, strict=True
        ):
            np.testing.assert_allclose(image.positions, positions, atol=2e-6)
            np.testing.assert_allclose(image.get_forces(), forces, atol=1e-5)
            assert image.get_potential_energy() == pytest.approx(energy, rel=2e-7)

    def test_killed_run_goes_on_and_loses_at_most_one_step(self, whole, tmp_path):
        _, uninterrupted = whole
        log = tmp_path / "run-00000000.out"

        def steps_done() -> int:
            return log.read_text().count("Ekin + Etot") if log.is_file() else 0

        kill_after(2, "espresso", tmp_path, steps_done=steps_done)
        done = steps_done()
        assert 2 <= done < STEPS + 1
        run = espresso.run_dynamics(settings(), MOLECULE, NVE, directory=tmp_path, threads=1)
        np.testing.assert_array_equal(run.steps, np.arange(STEPS + 1))
        assert run.converged.all()
        # The last whole state is evaluated again, nothing before it.
        assert [path.name for path in sorted(tmp_path.glob("run-*.out"))] == [
            log.name,
            f"run-{done - 1:08d}.out",
        ]
        np.testing.assert_allclose(run.positions, uninterrupted.positions, atol=1e-5)
        np.testing.assert_allclose(run.velocities, uninterrupted.velocities, atol=1e-5)
        np.testing.assert_allclose(run.energies_eV, uninterrupted.energies_eV, atol=1e-4)

    def test_step_cut_off_while_it_was_written_is_made_again(self, whole, tmp_path):
        directory, uninterrupted = whole
        text = (directory / "run-00000000.out").read_text()
        last = text.rindex("Forces acting on atoms")
        (tmp_path / "run-00000000.out").write_text(text[: last + 150])
        run = espresso.run_dynamics(settings(), MOLECULE, NVE, directory=tmp_path, threads=1)
        np.testing.assert_array_equal(run.steps, uninterrupted.steps)
        np.testing.assert_allclose(run.forces, uninterrupted.forces, atol=1e-3)

    def test_finished_run_is_only_read(self, whole):
        directory, run = whole
        before = (directory / "run-00000000.out").stat().st_mtime_ns
        again = espresso.run_dynamics(settings(), MOLECULE, NVE, directory=directory, threads=1)
        assert (directory / "run-00000000.out").stat().st_mtime_ns == before
        np.testing.assert_array_equal(again.forces, run.forces)

    def test_csvr_couples_to_the_bath(self, tmp_path):
        """A bath of 100 K that acts at every step takes most heat from 3000 K at once."""
        cold = Dynamics(
            steps=2, timestep_fs=1.0, temperature_K=100.0, thermostat="csvr", damping_fs=1.0, seed=1
        )
        start = Configuration(MOLECULE.types, MOLECULE.positions, MOLECULE.cell, MOLECULE.velocities * 3)
        run = espresso.run_dynamics(settings(), start, cold, directory=tmp_path, threads=1)
        assert run.temperatures_K[0] > 2000
        assert run.temperatures_K[1:].max() < run.temperatures_K[0] / 2
        assert np.isnan(run.conserved_eV).all()
        # Cut back to before its last piece, the run makes it again with the same noise.
        (tmp_path / "run-00000001.out").unlink()
        again = espresso.run_dynamics(settings(), start, cold, directory=tmp_path, threads=1)
        np.testing.assert_allclose(again.velocities, run.velocities, atol=1e-6)


def test_csvr_samples_the_canonical_kinetic_energy():
    """From far off, K goes to its mean, with the variance 2 / g of a canonical system of g freedoms."""
    rng = np.random.default_rng(1)
    ratio, ratios = 20.0, []
    for _ in range(20_000):
        ratio *= espresso.csvr_factor(ratio, degrees_of_freedom=30, times=0.2, rng=rng) ** 2
        ratios.append(ratio)
    decay = 1 + 19 * np.exp(-0.2 * np.arange(1, 6))
    np.testing.assert_allclose(ratios[:5], decay, rtol=0.4)
    assert np.mean(ratios[1000:]) == pytest.approx(1, abs=0.02)
    assert np.var(ratios[1000:]) == pytest.approx(2 / 30, rel=0.1)


class TestRefusals:
    def test_missing_program_is_one_line(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("ESPRESSO_COMMAND", raising=False)
        with pytest.raises(EngineError, match=r"^Quantum ESPRESSO: found none of pw\.x on PATH") as caught:
            espresso.check(settings(), None)
        assert "\n" not in str(caught.value)

    def test_thermostat_that_pw_does_not_have(self):
        with pytest.raises(SuiteError, match="found thermostat nose-hoover, expected csvr"):
            espresso.check(settings(), "nose-hoover")

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"ecutwfc_Ry": 0}, "ecutwfc_Ry 0"),
            ({"conv_thr_Ry": "1e-9"}, "conv_thr_Ry '1e-9', expected a positive number"),
            ({"unknown": 1}, "unknown"),
            ({"pseudopotentials": {"Si": "Si.UPF"}}, "expected a file for each of Si and O"),
        ],
    )
    def test_wrong_settings(self, changes, found):
        with pytest.raises(SuiteError, match=f"^Quantum ESPRESSO settings: found .*{found}"):
            settings(**changes)

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            (None, "found no such file"),
            ("Functional:  SLA  PZ   NOGX NOGC\n", "found functional SLA PZ NOGX"),
        ],
    )
    def test_pseudopotentials(self, monkeypatch, tmp_path, header, message):
        program = tmp_path / "pw.x"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("ESPRESSO_COMMAND", str(program))
        monkeypatch.setenv("ESPRESSO_PSEUDO", str(tmp_path))
        if header:
            for name in SETTINGS["pseudopotentials"].values():
                (tmp_path / name).write_text(header)
        with pytest.raises(SuiteError, match=message):
            espresso.check(settings(), None)


def test_deck_says_what_was_asked():
    dynamics = Dynamics(100, 2.0, 3000.0, "csvr", 100.0, 5)
    deck = " ".join(espresso.write_deck(settings(), MOLECULE, dynamics=dynamics, steps=(40, 100)).split())
    for expected in (
        "calculation = 'md'",
        "ecutwfc = 16",
        "nstep = 61",  # 40 to 100, both of them
        "dt = 41.341",  # 2 fs in Rydberg units of time
        "ion_temperature = 'not_controlled'",  # the thermostat is outside
        "K_POINTS gamma",
        "O 15.999 O.pbe-rrkjus.UPF",
        "O 4.02 2.6 2.5 Si 2.5 2.5 2.5",
    ):
        assert expected in deck
    single = espresso.write_deck(settings(), MOLECULE, dynamics=None)
    assert "&IONS" not in single
    assert "VELOCITIES" not in single


def test_named_settings_are_whole():
    for name in ("default", "tight"):
        espresso.read_settings(named_settings("espresso", name))
