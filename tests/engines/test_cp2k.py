"""CP2K for real, on one SiO2 molecule in a small box: forces, units, resuming after a kill, refusals."""

from __future__ import annotations

import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import MASSES_AMU, Configuration
from jobs.engines.first_principles import cp2k, cp2k_output
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.first_principles.types import Dynamics, Run, kinetic_energies_eV, kinetic_temperatures_K
from tests.helpers.first_principles_tools import kill_after, slope_and_force

try:
    cp2k.find_cp2k()
    INSTALLED = True
except EngineError:
    INSTALLED = False
needs_cp2k = [
    pytest.mark.engine,
    pytest.mark.skipif(not INSTALLED, reason="CP2K is not installed; see docs/first-principles.md"),
]

SETTINGS = {
    "basis": "SZV-MOLOPT-SR-GTH",
    "cutoff_Ry": 120,
    "rel_cutoff_Ry": 25,
    "eps_default": 1e-10,
    "eps_scf": 1e-6,
    "max_scf": 20,
    "outer_max_scf": 5,
}
MOLECULE = Configuration(
    types=np.array([0, 1, 1], np.int8),
    positions=np.array([[2.5, 2.5, 2.5], [4.02, 2.6, 2.5], [0.98, 2.45, 2.62]]),
    cell=np.diag([5.0, 5.0, 5.0]),
    velocities=np.array([[1.0, 2.0, -1.0], [-2.0, -1.0, 1.0], [0.5, -2.5, 1.0]]) * 1e-2,
)
STEPS = 6
NVE = Dynamics(steps=STEPS, timestep_fs=1.0, temperature_K=1000.0, thermostat=None, damping_fs=100.0, seed=1)


def settings(**changes: object) -> cp2k.Settings:
    return cp2k.read_settings({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=directory, threads=1)


class TestSinglePoint:
    pytestmark = needs_cp2k

    def test_forces_are_minus_the_slope_of_the_energy(self, tmp_path):
        slope, along = slope_and_force(cp2k, settings(), MOLECULE, tmp_path)
        assert abs(along) > 0.5
        # What is left is the third derivative, and the grid's own ripple at this low cut-off.
        assert slope == pytest.approx(along, abs=0.02)

    def test_unconverged_is_said(self, tmp_path):
        label = cp2k.single_point(
            settings(max_scf=1, outer_max_scf=1), MOLECULE, directory=tmp_path, threads=1
        )
        assert label.refusal == "SCF not converged"

    def test_forces_do_not_depend_on_where_the_grid_lies(self, tmp_path):
        """With exchange and correlation on atomic grids; the regular grid alone has a ripple."""
        ripple = {}
        for method in cp2k.METHODS:
            forces = []
            for index, shift in enumerate((0.0, 0.07)):
                start = Configuration(MOLECULE.types, MOLECULE.positions + shift, MOLECULE.cell)
                directory = tmp_path / f"{method}-{index}"
                label = cp2k.single_point(
                    settings(method=method, cutoff_Ry=300), start, directory=directory, threads=1
                )
                assert label.refusal is None
                forces.append(label.forces)
            ripple[method] = np.sqrt(np.mean((forces[1] - forces[0]) ** 2))
        assert ripple["GPW"] > 0.05
        assert ripple["GAPW_XC"] < ripple["GPW"] / 3

    def test_fine_grid_starts_from_a_coarse_one_and_ends_where_a_cold_start_does(self, tmp_path, monkeypatch):
        fine = settings(method="GAPW_XC", cutoff_Ry=360)
        warm = cp2k.single_point(fine, MOLECULE, directory=tmp_path / "warm", threads=1)
        monkeypatch.setattr(cp2k, "_FINE_RY", 1e9)
        cold = cp2k.single_point(fine, MOLECULE, directory=tmp_path / "cold", threads=1)
        assert warm.refusal is None
        assert cold.refusal is None
        assert warm.scf_steps < cold.scf_steps
        assert warm.energy_eV == pytest.approx(cold.energy_eV, abs=1e-5)
        np.testing.assert_allclose(warm.forces, cold.forces, atol=1e-3)

    def test_the_gap_is_told_where_there_is_a_first_guess(self, tmp_path):
        """A molecule of CO2's kind has a gap of some eV; one pulled apart has nearly none."""
        fine = settings(method="GAPW_XC", cutoff_Ry=360)
        whole = cp2k.single_point(fine, MOLECULE, directory=tmp_path / "whole", threads=1)
        assert 2 < whole.gap_eV < 10
        middle = MOLECULE.positions[MOLECULE.types == 0][0]
        apart = Configuration(MOLECULE.types, middle + 2.2 * (MOLECULE.positions - middle), MOLECULE.cell)
        assert cp2k.single_point(fine, apart, directory=tmp_path / "apart", threads=1).gap_eV < 1
        plain = settings(cutoff_Ry=200)
        assert cp2k.single_point(plain, MOLECULE, directory=tmp_path / "plain", threads=1).gap_eV is None

    def test_truncated_log_is_an_error(self, whole, tmp_path):
        directory, _ = whole
        text = (directory / cp2k_output.LOG).read_text()
        (tmp_path / cp2k_output.LOG).write_text(text[: len(text) // 2])
        with pytest.raises(EngineError, match="no end in its log"):
            cp2k_output.read_single_point(tmp_path, n_atoms=3)


class TestDynamics:
    pytestmark = needs_cp2k

    def test_the_first_wave_function_is_of_a_coarse_grid(self, whole):
        directory, _ = whole
        assert "WFN_RESTART_FILE_NAME coarse/run-RESTART.wfn" in (directory / cp2k.DECK).read_text()
        assert "PRECONDITIONER FULL_ALL" in (directory / "coarse" / cp2k.DECK).read_text()

    def test_units_obey_newton(self, whole):
        """Positions, velocities and forces fit together as velocity Verlet makes them."""
        _, run = whole
        assert run.converged.all()
        np.testing.assert_array_equal(run.steps, np.arange(STEPS + 1))
        np.testing.assert_allclose(run.positions[0], MOLECULE.positions, atol=1e-8)
        # eV/A/amu in A/fs2
        accelerations = run.forces / np.array(MASSES_AMU)[MOLECULE.types][:, None] * 9.648533e-3
        predicted = run.positions[:-1] + run.velocities[:-1] + accelerations[:-1] / 2
        moved = np.abs(np.diff(run.positions, axis=0)).max()
        np.testing.assert_allclose(predicted, run.positions[1:], atol=1e-6 * moved)
        predicted = run.velocities[:-1] + (accelerations[1:] + accelerations[:-1]) / 2
        np.testing.assert_allclose(predicted, run.velocities[1:], atol=1e-7)

    def test_temperature_is_that_of_the_velocities(self, whole):
        _, run = whole
        expected = kinetic_temperatures_K(MOLECULE.types, run.velocities)
        np.testing.assert_allclose(run.temperatures_K, expected, rtol=1e-5)

    def test_energy_is_conserved(self, whole):
        _, run = whole
        exchanged = np.ptp(run.energies_eV)
        assert exchanged > 0.05
        assert np.ptp(run.conserved_eV) < 0.05 * exchanged
        total = run.energies_eV + kinetic_energies_eV(MOLECULE.types, run.velocities)
        np.testing.assert_allclose(run.conserved_eV, total, atol=1e-5)

    def test_killed_run_goes_on_and_loses_at_most_one_step(self, whole, tmp_path):
        _, uninterrupted = whole
        energies = tmp_path / "run-1.ener"

        def steps_done() -> int:
            return len(energies.read_text().splitlines()) - 2 if energies.is_file() else 0

        kill_after(2, "cp2k", tmp_path, steps_done=steps_done)
        size = energies.stat().st_size
        done = steps_done()
        assert 2 <= done < STEPS
        time.sleep(0.5)
        assert energies.stat().st_size == size
        run = cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=tmp_path, threads=1)
        np.testing.assert_array_equal(run.steps, np.arange(STEPS + 1))
        assert run.converged.all()
        # Nothing but the noise of the SCF, whose first guess differs.
        np.testing.assert_allclose(run.positions, uninterrupted.positions, atol=1e-5)
        np.testing.assert_allclose(run.energies_eV, uninterrupted.energies_eV, atol=1e-4)
        resumed = (tmp_path / cp2k_output.LOG).read_text().split("PROGRAM STARTED AT")[-1]
        first_new = int(re.findall(r"MD\| Step number\s+(\d+)", resumed)[0])
        assert first_new >= done

    def test_noise_is_the_seeds_and_goes_on_after_a_stop(self, tmp_path):
        def warmed(name: str, seed: int, steps: int = STEPS) -> np.ndarray:
            csvr = Dynamics(steps, 1.0, 1000.0, "csvr", 5.0, seed)
            run = cp2k.run_dynamics(settings(), MOLECULE, csvr, directory=tmp_path / name, threads=1)
            return run.temperatures_K

        one = warmed("one", 1)
        assert np.abs(warmed("other", 2)[1:] - one[1:]).min() > 4
        warmed("again", 1, steps=3)
        np.testing.assert_allclose(warmed("again", 1), one, atol=0.04)

    def test_frame_cut_off_while_it_was_written_is_made_again(self, whole, tmp_path):
        directory, uninterrupted = whole
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        forces = copy / "run-frc-1.xyz"
        forces.write_text(forces.read_text()[:-30])
        run = cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=copy, threads=1)
        np.testing.assert_array_equal(run.steps, uninterrupted.steps)
        np.testing.assert_allclose(run.forces, uninterrupted.forces, atol=1e-3)
        assert run.converged.all()

    def test_finished_run_is_only_read(self, whole):
        directory, run = whole

        def written() -> dict[Path, int]:
            return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}

        before = written()
        again = cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=directory, threads=1)
        assert written() == before
        np.testing.assert_array_equal(again.forces, run.forces)

    def test_kill_while_files_are_cut_loses_no_step(self, whole, tmp_path, monkeypatch):
        copy = tmp_path / "copy"
        shutil.copytree(whole[0], copy)
        forces = copy / "run-frc-1.xyz"
        forces.write_text(forces.read_text()[:-30])

        def killed(path: Path, text: str) -> None:
            path.open("w").close()
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=copy, threads=1)
        for name in cp2k_output.TRAJECTORY:
            assert STEPS - 1 in cp2k_output.read_blocks(copy / name, 3)

    def test_steps_that_no_restart_file_goes_on_from_are_kept(self, whole, tmp_path):
        directory, uninterrupted = whole
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        (copy / "run-1.ener").write_text((copy / "run-1.ener").read_text()[:-30])
        for name in copy.glob("*.restart*"):
            name.unlink()
        run = cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=copy, threads=1)
        np.testing.assert_allclose(run.positions, uninterrupted.positions, atol=1e-5)
        assert cp2k._last_step(tmp_path / "copy.aside-0", n_atoms=3) == STEPS - 1

    def test_energy_of_another_evaluation_counts_as_unconverged(self, whole, tmp_path):
        directory, _ = whole
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        log = copy / cp2k_output.LOG
        totals = re.findall(r"FORCE_EVAL.*:\s+(\S+)", log.read_text())
        log.write_text(log.read_text().replace(totals[2], "-30.0"))
        np.testing.assert_array_equal(
            cp2k_output.read_run(copy, n_atoms=3).converged, [True, True, False] + [True] * (STEPS - 2)
        )


class TestRefusals:
    def test_missing_program_is_one_line(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EngineError, match=r"^CP2K: found none of") as caught:
            cp2k.find_cp2k()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "changes",
        [{"cutoff_Ry": 0}, {"eps_scf": -1e-5}, {"eps_scf": "1e-5"}, {"unknown": 1}, {"method": "GAPWX"}],
    )
    def test_wrong_settings(self, changes):
        with pytest.raises(SuiteError, match=r"^CP2K settings: found .* expected"):
            settings(**changes)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"max_scf": 15.5}, "found max_scf 15.5, expected a positive integer"),
            ({"max_scf": True}, "found max_scf True, expected a positive integer"),
            ({"outer_max_scf": 0}, "found outer_max_scf 0, expected a positive integer"),
            ({"cutoff_Ry": True}, "found cutoff_Ry True, expected a positive number"),
            ({"cutoff_Ry": math.inf}, "found cutoff_Ry inf, expected a positive number"),
            ({"eps_scf": math.nan}, "found eps_scf nan, expected a positive number"),
        ],
    )
    def test_numbers_are_numbers_and_steps_are_whole(self, changes, expected):
        with pytest.raises(SuiteError, match=f"^CP2K settings: {expected}$"):
            settings(**changes)

    def test_wrong_thermostat(self):
        with pytest.raises(SuiteError, match="found 'berendsen'"):
            Dynamics(1, 1.0, 300.0, "berendsen", 100.0, 1)


def test_deck_says_what_was_asked():
    dynamics = Dynamics(100, 2.0, 3000.0, "nose-hoover", 100.0, 5)
    deck = cp2k.write_deck(
        settings(), MOLECULE, dynamics=dynamics, restart_file="resume-40.restart", restart_step=40
    )
    words = " ".join(deck.split())
    for expected in (
        "RUN_TYPE MD",
        "&XC_FUNCTIONAL PBE",
        "RESTART_FILE_NAME resume-40.restart",
        "STEPS 60",
        "TIMESTEP 2.0",
        "TEMPERATURE 3000.0",
        "TYPE NOSE &NOSE TIMECON 100.0",
        "METHOD GPW",
        "CUTOFF 120",
        "EPS_SCF 1e-06",
        "Si 2.5 2.5 2.5",
        "POTENTIAL GTH-PBE-q4",
        "POTENTIAL GTH-PBE-q6",
        "MASS 28.0855",
    ):
        assert expected in words
    assert "PRECONDITIONER FULL_SINGLE_INVERSE" in words
    assert "THERMOSTAT" not in cp2k.write_deck(settings(), MOLECULE, dynamics=NVE)
    assert "PRECONDITIONER FULL_ALL" in cp2k.write_deck(settings(), MOLECULE, dynamics=None)


@pytest.mark.parametrize(("guess_file", "hartree"), [(None, "0.05"), ("near.wfn", "0.2")])
def test_the_preconditioner_is_told_how_far_the_first_guess_is(guess_file, hartree):
    deck = cp2k.write_deck(settings(), MOLECULE, dynamics=None, guess_file=guess_file)
    assert f"ENERGY_GAP {hartree}\n" in deck


def test_named_settings_are_in_cp2ks_library():
    """A basis of this name for both elements is among those of CP2K's file, where that is installed."""
    library = Path("/usr/share/cp2k/BASIS_MOLOPT")
    for name in ("default", "md", "tight", "tzvp"):
        chosen = cp2k.read_settings(named_settings("cp2k", name))
        if library.is_file():
            text = library.read_text()
            for species in ("Si", "O"):
                assert re.search(rf"^ *{species} +{chosen.basis}\b", text, re.MULTILINE)
    assert chosen.basis.startswith("TZVP")
