"""The aimd stage for real, on one SiO2 molecule in a small box: labels, stepwise and short runs."""

from __future__ import annotations

import hashlib
import json
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.frames import read_extxyz
from jobs.base.silica import Configuration, write_data
from jobs.engines.first_principles import cp2k, cp2k_output
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.process import run_program
from jobs.stages.data import aimd
from jobs.store.workspace import Workspace
from tests.engines import test_espresso
from tests.engines.test_cp2k import needs_cp2k

SETTINGS = {
    "basis": "SZV-MOLOPT-SR-GTH",
    "cutoff_Ry": 100,
    "rel_cutoff_Ry": 25,
    "eps_default": 1e-9,
    "eps_scf": 1e-5,
    "max_scf": 20,
    "outer_max_scf": 5,
}
NVT_BY_CSVR = {"mode": "short", "ensemble": "nvt", "thermostat": "csvr", "temperature_K": 3000}
POSITIONS = np.array([[2.5, 2.5, 2.5], [4.02, 2.6, 2.5], [0.98, 2.45, 2.62]])
CELL = 5.0


def starts_file(path: Path, *, positions: np.ndarray = POSITIONS, replicas: tuple[int, ...] = (7,)) -> Path:
    text = ""
    for replica in replicas:
        text += f'3\nLattice="{CELL} 0 0 0 {CELL} 0 0 0 {CELL}" Properties=species:S:1:pos:R:3'
        text += f' replica={replica} temperature_K=2000 source=bks pbc="T T T"\n'
        for species, row in zip(("Si", "O", "O"), positions, strict=True):
            text += f"{species} {row[0] + 0.01 * replica} {row[1]} {row[2]}\n"
    path.write_text(text)
    return path


def workspace(directory: Path, file: Path | None = None, *, cores: int = 1, **changes: Any) -> Workspace:
    parameters: dict[str, Any] = {
        "mode": "labels",
        "engine": "cp2k",
        "settings": SETTINGS,
        "source": "nnp",
        "density_g_cm3": None,
    }
    if file is not None:
        parameters |= {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    directory.mkdir(exist_ok=True)
    return Workspace(parameters | changes, seed=3, inputs={}, directory=directory, cores=cores)


def product(directory: Path) -> dict[str, Any]:
    return json.loads((directory / aimd.RECORD_FILE).read_text())


def test_every_run_has_a_noise_of_its_own():
    """Melts, temperatures, starts of one melt, seeds: of one noise, temperatures go up and down together."""
    start = Configuration(np.array([0, 1, 1], np.int8), POSITIONS, np.eye(3) * CELL)
    seeds = [
        aimd._noise_seed(seed, aimd._Task("t", replica, kelvin, "nnp", start), index)
        for seed in (1, 2, 1001)
        for replica in (1, 2, 3, 1000)
        for kelvin in (5000.0, 4500.0, 3000.0)
        for index in range(10)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_when_one_start_fails_the_others_are_stopped(tmp_path):
    """Two starts at a time; the second's program would run for a minute."""

    def single_point(settings, start, *, directory, threads, watch):
        if directory.name == "start-0":
            raise EngineError("it failed")
        directory.mkdir(parents=True)
        run_program(["sleep", "60"], directory=directory, log=tmp_path / "log", environment={}, watch=watch)

    stage = workspace(tmp_path / "out", starts_file(tmp_path / "starts.xyz", replicas=(7, 8)), cores=2)
    program = aimd._Program(SimpleNamespace(single_point=single_point), None)
    begun = time.monotonic()
    with pytest.raises(EngineError, match="it failed"):
        aimd._independent(stage, program, aimd._tasks(stage))
    assert time.monotonic() - begun < 30


class TestRuns:
    pytestmark = needs_cp2k

    def test_labels(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz", replicas=(7, 8))
        stage = workspace(tmp_path / "out", file)
        aimd.run(stage)
        frames = list(read_extxyz(stage.directory / "frames.xyz"))
        assert [frame.info["replica"] for frame in frames] == ["7", "8"]
        assert {frame.info["source"] for frame in frames} == {"bks"}
        assert {frame.temperature_K for frame in frames} == {2000.0}
        direct = cp2k.single_point(
            cp2k.read_settings(SETTINGS),
            Configuration(frames[0].types, frames[0].positions, frames[0].cell),
            directory=tmp_path / "direct",
            threads=1,
        )
        assert frames[0].energy_eV == pytest.approx(direct.energy_eV, abs=1e-5)
        np.testing.assert_allclose(frames[0].forces, direct.forces, atol=1e-4)
        record = product(stage.directory)
        assert (record["frames"], record["refused"], record["functional"]) == (2, 0, "PBE")
        assert record["engine_version"]
        assert "RUN_TYPE ENERGY_FORCE" in (stage.directory / "decks" / "start-0.inp").read_text()
        # Killed after the last label, the stage computes nothing again.
        log = stage.checkpoints / "start-0" / cp2k_output.LOG
        before = log.stat().st_mtime_ns
        (stage.directory / aimd.RECORD_FILE).unlink()
        aimd.run(stage)
        assert log.stat().st_mtime_ns == before
        assert product(stage.directory)["frames"] == 2

    def test_stepwise_from_a_melt(self, tmp_path):
        melt = tmp_path / "melt"
        melt.mkdir()
        molecule = Configuration(np.array([0, 1, 1]), POSITIONS, np.eye(3) * CELL)
        write_data(melt / "config-2.data", molecule)
        stage = workspace(
            tmp_path / "out",
            mode="stepwise",
            frames=[2],
            replica=5,
            temperatures_K=[2000, 1500],
            relaxation_steps=1,
            collection_steps=2,
            timestep_fs=1.0,
            ensemble="nvt",
            thermostat="csvr",
            damping_fs=50.0,
            density_g_cm3=0.85,
        )
        stage = Workspace(stage.parameters, 3, {"start": melt}, stage.directory)
        aimd.run(stage)
        frames = list(read_extxyz(stage.directory / "frames.xyz"))
        assert [(frame.temperature_K, frame.info["step"]) for frame in frames] == [
            *((2000.0, step) for step in "0123"),
            *((1500.0, step) for step in "123"),
        ]
        assert [frame.info["relaxation"] for frame in frames] == list("TTFFTFF")
        # One trajectory: atoms move as their velocities say, across the change of temperature too.
        for before, after in pairwise(frames):
            assert before.velocities is not None
            assert after.velocities is not None
            moved = after.positions - before.positions
            expected = (before.velocities + after.velocities) / 2
            assert np.abs(moved - expected).max() < 0.25 * np.abs(moved).max()
        assert [run["density_g_cm3"] for run in product(stage.directory)["runs"]] == pytest.approx([0.85] * 2)

    def test_unconverged_steps_are_refused_and_counted(self, tmp_path):
        """The first SCF, from atoms, needs more steps than it is given; the extrapolated ones do not."""
        file = starts_file(tmp_path / "starts.xyz")
        stage = workspace(
            tmp_path / "out",
            file,
            mode="short",
            steps=3,
            temperature_K=300.0,
            timestep_fs=0.5,
            ensemble="nve",
            thermostat=None,
            damping_fs=100.0,
            settings={**SETTINGS, "max_scf": 5, "outer_max_scf": 1},
        )
        aimd.run(stage)
        record = product(stage.directory)
        kept = [int(frame.info["step"]) for frame in read_extxyz(stage.directory / "frames.xyz")]
        refused = [refusal["step"] for refusal in record["refusals"]]
        assert 0 in refused
        assert kept
        assert sorted(kept + refused) == [0, 1, 2, 3]
        assert record["frames"] == len(kept)
        assert record["refused"] == len(refused)

    def test_starts_of_one_melt_have_noise_of_their_own(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz", replicas=(7, 7))
        nvt = {**NVT_BY_CSVR, "timestep_fs": 1.0, "damping_fs": 5.0, "steps": 1}
        stage = workspace(tmp_path / "out", file, **nvt)
        aimd.run(stage)
        frames = list(read_extxyz(stage.directory / "frames.xyz"))
        one, other = (frame.info["kinetic_temperature_K"] for frame in frames if frame.info["step"] == "1")
        assert one != other

    def test_no_converged_frame_is_an_error(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz")
        stage = workspace(tmp_path / "out", file, settings={**SETTINGS, "max_scf": 5, "outer_max_scf": 1})
        with pytest.raises(SuiteError, match=r"all 1 frames refused \(SCF not converged\)"):
            aimd.run(stage)
        assert not (stage.directory / "frames.xyz").exists()


@pytest.mark.engine
@pytest.mark.skipif(not test_espresso.INSTALLED, reason="Quantum ESPRESSO is not installed")
def test_another_engine_is_one_word(tmp_path):
    """The same stage by Quantum ESPRESSO: labels, and a short run with a thermostat."""
    file = starts_file(tmp_path / "starts.xyz")
    other = {"engine": "espresso", "settings": test_espresso.SETTINGS}
    stage = workspace(tmp_path / "labels", file, **other)
    aimd.run(stage)
    record = product(stage.directory)
    assert (record["engine"], record["functional"], record["frames"]) == ("espresso", "PBE", 1)
    assert record["engine_version"].startswith(("6.", "7."))
    assert "calculation = 'scf'" in (stage.directory / "decks" / "start-0.in").read_text()
    label = next(read_extxyz(stage.directory / "frames.xyz"))
    run = workspace(
        tmp_path / "run",
        file,
        **other,
        mode="short",
        steps=2,
        temperature_K=1000.0,
        timestep_fs=0.5,
        ensemble="nvt",
        thermostat="csvr",
        damping_fs=5.0,
    )
    aimd.run(run)
    frames = list(read_extxyz(run.directory / "frames.xyz"))
    assert [frame.info["step"] for frame in frames] == ["0", "1", "2"]
    assert frames[0].energy_eV == pytest.approx(label.energy_eV, abs=1e-5)
    np.testing.assert_allclose(frames[0].forces, label.forces, atol=1e-3)
    assert float(frames[0].info["kinetic_temperature_K"]) == pytest.approx(1000.0, abs=1.0)
    assert "conserved_drift_meV_atom_ps" not in product(run.directory)["runs"][0]


class TestRefusals:
    def test_fused_atoms(self, tmp_path):
        # Two oxygens that meet through the boundary of the box.
        positions = np.array([[2.5, 2.5, 2.5], [4.8, 2.5, 2.5], [0.1, 2.5, 2.5]])
        file = starts_file(tmp_path / "starts.xyz", positions=positions)
        with pytest.raises(SuiteError, match=r"frame 1: found atoms 0\.30 A apart"):
            aimd.run(workspace(tmp_path / "out", file))

    def test_changed_file(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz")
        with pytest.raises(SuiteError, match="expected 00"):
            aimd.run(workspace(tmp_path / "out", file, sha256="00"))

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"mode": "all"}, "mode 'all'"),
            ({"engine": "abinit"}, "engine 'abinit'"),
            ({"settings": {}}, r"\[\]"),
            ({"mode": "short", "ensemble": "npt", "temperature_K": 3000}, "ensemble 'npt'"),
            (
                {"engine": "vasp", "settings": named_settings("vasp", "default"), **NVT_BY_CSVR},
                "thermostat csvr, expected nose-hoover",
            ),
        ],
    )
    def test_parameters(self, tmp_path, changes, found):
        file = starts_file(tmp_path / "starts.xyz")
        with pytest.raises(SuiteError, match=f"found {found}"):
            aimd.run(workspace(tmp_path / "out", file, **changes))

    def test_foreign_species(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz")
        file.write_text(file.read_text().replace("Si ", "Ge "))
        with pytest.raises(SuiteError, match="frame 1: found species Ge"):
            aimd.run(workspace(tmp_path / "out", file))

    def test_file_without_replicas(self, tmp_path):
        file = starts_file(tmp_path / "starts.xyz")
        file.write_text(file.read_text().replace(" replica=7", ""))
        with pytest.raises(SuiteError, match="frame 1: found no replica="):
            aimd.run(workspace(tmp_path / "out", file))
