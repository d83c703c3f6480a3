"""From a tier's MD run to the starts of first-principles data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from jobs.base.trajectory import ArrayTrajectory, open_trajectory
from jobs.campaign.build import build_campaign
from jobs.cli.first_principles.starts import first_contact, state
from jobs.cli.main import main
from jobs.engines.first_principles.types import kinetic_temperatures_K
from jobs.store.store import Store

RUN = {
    "potential": "tersoff",
    "start": "melt",
    "atoms": 96,
    "replicas": 2,
    "timestep_fs": 1.0,
    "observe": False,
}
TRAINING = {
    "precision": "float32",
    "steps": 1,
    "start_lr": 1e-3,
    "stop_lr": 1e-5,
    "decay_steps": 1,
    "checkpoint_every": 1,
}
TINY = {
    "name": "tiny",
    "start_from": "potentials",
    "density_g_cm3": 2.2,
    "seeds": [1],
    "frames": {"deepmd-96": {}, "deepmd-216": {}},
    "training": TRAINING,
    "melt": {"duration_ps": 1, "configurations": 2},
}


@pytest.fixture
def tier(tmp_path):
    content = {**TINY, "runs": {"hot": {**RUN, "schedule": [[4000, 100]], "dump_every": 50}}}
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def command(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def starts(tier, store, output, *more, run="hot"):
    given = ("--tier", tier, "--run", run, "--first-replica", 41, "--output", output, "--store", store)
    return command("starts", *given, *more)


@pytest.mark.engine
def test_last_states_of_a_run_become_starts_that_aimd_plans(tier, tmp_path, capsys, monkeypatch):
    from ase.io import read

    store, output = tmp_path / "store", tmp_path / "starts.xyz"
    assert command("run", "--tier", tier, "--only", "hot", "--store", store) == 0
    assert starts(tier, store, output) == 0
    assert f"{output}: 2 starts, replicas 41 to 42" in capsys.readouterr().out
    frames = read(output, index=":")
    for index, (frame, stage) in enumerate(zip(frames, build_campaign(str(tier)).runs["hot"], strict=True)):
        trajectory = open_trajectory(Store(store).path(stage.name))
        last = trajectory.n_frames - 1
        assert frame.info["replica"] == 41 + index
        assert frame.info["temperature_K"] == 4000
        assert frame.info["source"] == "tersoff"
        moved = (frame.get_positions() - trajectory.positions(last, last + 1)[0]) / np.diag(frame.cell)
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-8)
        assert frame.get_scaled_positions(wrap=False).min() >= 0
        assert frame.get_scaled_positions(wrap=False).max() <= 1
        velocities = frame.arrays["velocities_A_per_fs"]
        np.testing.assert_allclose(velocities, trajectory.velocities(last, last + 1)[0], atol=1e-9)
        types = np.array([symbol == "O" for symbol in frame.get_chemical_symbols()], np.int8)
        assert 1500 < kinetic_temperatures_K(types, velocities[None])[0] < 6500
    heated = tmp_path / "heated.xyz"
    assert starts(tier, store, heated, "--heat-to", 3900) == 0
    hot = read(heated, index=0)
    np.testing.assert_allclose(hot.get_positions(), frames[0].get_positions())
    velocities = hot.arrays["velocities_A_per_fs"][None]
    types = np.array([symbol == "O" for symbol in hot.get_chemical_symbols()], np.int8)
    assert kinetic_temperatures_K(types, velocities)[0] == pytest.approx(3900, abs=0.1)
    later = tmp_path / "later.xyz"
    assert starts(tier, store, later, "--after", 1) == 0
    assert read(later).info["replica"] == 42
    touching = tmp_path / "touching.xyz"
    assert starts(tier, store, touching, "--first-contact", "Si-O", 5.0) == 0  # at once: the first frame
    run = open_trajectory(Store(store).path(build_campaign(str(tier)).runs["hot"][0].name))
    np.testing.assert_allclose(read(touching, index=0).get_positions(), state(run, 0).positions, atol=1e-8)
    assert starts(tier, store, touching, "--first-contact", "Si-Si", 0.5) == 2
    heard = capsys.readouterr()
    assert "left out replica 41: found no such contact" in heard.out
    assert "hot: found no state to start from in 2 replicas" in heard.err
    assert starts(tier, store, touching, "--first-contact", "Si", 2.1) == 2
    assert "--first-contact: found Si 2.1, expected one of Si-Si, Si-O, O-O and" in capsys.readouterr().err
    assert output.read_text().endswith(later.read_text())
    assert command("aimd", output, "--dry-run", "--store", store) == 0
    assert "labels of 2 starts (replicas 41, 42)" in capsys.readouterr().out
    there = SimpleNamespace(name="of-before", runs=[SimpleNamespace(melt="tersoff-42")])
    monkeypatch.setattr("jobs.cli.first_principles.starts.list_sets", lambda: [there])
    assert starts(tier, store, later) == 0
    assert "note: of-before has melts of these numbers already (1: tersoff-42" in capsys.readouterr().out
    # Two atoms too close: that state is left out, the others keep their numbers.
    runs = [open_trajectory(Store(store).path(stage.name)) for stage in build_campaign(str(tier)).runs["hot"]]
    closest = [state(run, run.n_frames - 1).closest_pair_angstrom() for run in runs]
    monkeypatch.setattr("jobs.cli.first_principles.starts.FUSED_ANGSTROM", float(np.mean(closest)))
    fewer = tmp_path / "fewer.xyz"
    assert starts(tier, store, fewer) == 0
    assert f"left out replica {41 + int(np.argmin(closest))}: found atoms" in capsys.readouterr().out
    assert read(fewer).info["replica"] == 41 + int(np.argmax(closest))
    monkeypatch.setattr("jobs.cli.first_principles.starts.FUSED_ANGSTROM", 5.0)
    assert starts(tier, store, fewer) == 2
    assert "hot: found no state to start from in 2 replicas" in capsys.readouterr().err


def test_the_first_contact_of_two_atoms_is_seen_through_the_box_and_of_the_right_species():
    positions = np.zeros((6, 3, 3))  # one O between two Si that approach each other through a face
    positions[:, 1, 0] = 5.0
    positions[:, 2, 0] = 9.9 - 0.1 * np.arange(6)[::-1]
    positions[:, 0, 0] = 0.2 + 0.2 * np.arange(6)[::-1] + 10.0  # unwrapped
    approaching = ArrayTrajectory(
        positions,
        None,
        types=np.array([0, 1, 0]),
        cell=np.full(3, 10.0),
        time_between_frames_fs=1.0,
        facts={},
    )
    # Si-Si distances: 1.8, 1.5, 1.2, 0.9, 0.6, 0.3 A
    assert first_contact(approaching, "Si-Si", 1.3) == 2
    assert first_contact(approaching, "Si-Si", 0.3 - 1e-9) is None
    assert first_contact(approaching, "Si-O", 3.9) == 0  # 3.8, 4.0, ... A
    assert first_contact(approaching, "Si-O", 3.7) is None
    assert first_contact(approaching, "O-O", 9.0) is None


def test_what_is_not_there_is_one_line(tier, tmp_path, capsys):
    assert starts(tier, tmp_path / "store", tmp_path / "out.xyz", run="cold") == 2
    assert "tier tiny: found no run cold, expected one of hot" in capsys.readouterr().err
    assert starts(tier, tmp_path / "store", tmp_path / "out.xyz") == 2
    assert "found 0 of the 2 replicas of hot finished, expected all; python -m jobs run --tier" in (
        capsys.readouterr().err
    )
    assert starts(tier, tmp_path / "store", tmp_path / "out.xyz", "--after", 2) == 2
    assert "found --after 2, expected 0 to 1: hot has 2 replicas" in capsys.readouterr().err
    assert not (tmp_path / "out.xyz").exists()
