"""The train stage with the real DeePMD-kit: killed, resumed, frozen, compressed; then the model's physics.

Labels are BKS forces of rattled beta-cristobalite, so that data and model are those of a real potential.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.frames import Frames
from jobs.engines.deepmd import program as deepmd
from jobs.engines.deepmd.program import Prediction
from jobs.engines.lammps.potential import Potential, read_potential
from jobs.stages.data.splits import neighbour_counts
from jobs.stages.potentials import parity, train
from jobs.store.workspace import Workspace
from tests.stages.test_parity import cristobalite, labelled, write_system

STEPS = 200
EVERY = 50
PARAMETERS: dict[str, Any] = {
    "name": "DeePMD-test",
    "loss": {
        "start_pref_e": 1,
        "limit_pref_e": 1,
        "start_pref_f": 100,
        "limit_pref_f": 100,
        "start_pref_v": 0,
        "limit_pref_v": 0,
    },
    "steps": STEPS,
    "precision": "float64",
    "start_lr": 5e-3,
    "stop_lr": 1e-4,
    "decay_steps": 10,
    "batch_size": 1,
    "checkpoint_every": EVERY,
    "axis_neuron": 4,
    "type_one_side": False,
}
RUN = """
import json, sys
from pathlib import Path
from jobs.stages.potentials import train
from jobs.store.workspace import Workspace
train.run(Workspace(json.loads(sys.argv[1]), 5, {"dataset": Path(sys.argv[2])}, Path(sys.argv[3])))
"""


@dataclass
class Trained:
    dataset: Path
    product: Path
    checkpoint_at_kill: int
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dataset")
    random = np.random.default_rng(11)
    learnt = labelled(cristobalite(random, frames=8, rattle=0.12), directory)
    cool, hot = (labelled(cristobalite(random, frames=2, rattle=r), directory) for r in (0.08, 0.14))
    write_system(directory / "train/bks", learnt)
    write_system(directory / "test/T2000/bks", cool)
    write_system(directory / "test/T4000/bks", hot)
    counted = [
        neighbour_counts(x, cell, f.types, cutoff_angstrom=6.0)[0].max(axis=0)
        for f in (learnt, cool, hot)
        for x, cell in zip(f.positions, f.cells, strict=True)
    ]
    most = np.max(counted, axis=0)
    about = {
        "sel": (most + 4).tolist(),
        "neighbour_max": most.tolist(),
        "frames": {"train": 8, "test": 4, "refused": 0},
        "train_systems": ["train/bks"],
        "test_systems": {"4000": ["test/T4000/bks"], "2000": ["test/T2000/bks"]},
        "sets": [],
        "temperatures_K": [3000.0],
        "lowest_temperature_K": 3000.0,
        "volumes_A3": [],
        "min_distance_angstrom": {"Si-Si": 2.9, "Si-O": 1.4, "O-O": 2.3},
    }
    (directory / "dataset.json").write_text(json.dumps(about))
    return directory


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Start the stage in another process, SIGKILL it in the middle of training, run it again to its end."""
    product = tmp_path_factory.mktemp("train")
    folder = product / "checkpoints/training"
    root = Path(train.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(PARAMETERS), str(dataset), str(product)],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    deadline = time.monotonic() + 300
    while (found := deepmd.latest_checkpoint(folder)) is None or found[0] < 2 * EVERY:
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint within 300 s"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # dp dies with its parent; nothing may be written after this
    killed_at = deepmd.latest_checkpoint(folder)
    assert killed_at is not None
    workspace = Workspace(PARAMETERS, 5, {"dataset": dataset}, product)
    train.run(workspace)
    return Trained(dataset, product, killed_at[0], workspace.facts)


def full_model(trained: Trained) -> Potential:
    commands = (f"pair_style deepmd {trained.product / 'model.pb'}", "pair_coeff * * Si O")
    return Potential("full", "deepmd", commands, None, 6.0)


def placed(frame: Frames, positions: np.ndarray, cell: np.ndarray) -> Frames:
    count = len(positions)
    return Frames(
        frame.types,
        positions,
        np.repeat(cell[None], count, axis=0),
        np.zeros(count),
        np.zeros_like(positions),
    )


def force_rms(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


@pytest.mark.engine
def test_resumed_training_goes_on_from_its_checkpoint(trained: Trained) -> None:
    assert 2 * EVERY <= trained.checkpoint_at_kill < STEPS
    assert trained.facts["resumed_from_step"] == trained.checkpoint_at_kill
    curve = np.genfromtxt(trained.product / "lcurve.csv", delimiter=",", names=True)
    assert curve["step"].tolist() == list(range(0, STEPS + 1, EVERY))
    log = (trained.product / "checkpoints/training/train.log").read_text()
    assert log.count("start training at lr") == 2
    assert f"model.ckpt-{trained.checkpoint_at_kill}" in log


@pytest.mark.engine
def test_training_learns(trained: Trained) -> None:
    curve = np.genfromtxt(trained.product / "lcurve.csv", delimiter=",", names=True)
    assert curve["force_rmse_heldout_eV_A"][-1] < 0.5 * curve["force_rmse_heldout_eV_A"][0]
    assert curve["learning_rate"][0] > 5 * curve["learning_rate"][-1]
    result = json.loads((trained.product / "train.json").read_text())
    errors = result["heldout"]
    assert list(errors) == ["2000", "all", "4000"]
    assert errors["all"]["force_rmse_eV_A"] < 0.5 * errors["all"]["force_rms_reference_eV_A"]
    assert errors["2000"]["force_rmse_eV_A"] < errors["4000"]["force_rmse_eV_A"]
    assert result["steps_per_second"] > 0


@pytest.mark.engine
def test_product_holds_no_path_of_this_machine(trained: Trained) -> None:
    for name in ("model.pb", "compressed.pb", "input.json", "potential.json"):
        content = (trained.product / name).read_bytes()
        assert str(trained.dataset).encode() not in content
        assert str(trained.product).encode() not in content


@pytest.mark.engine
def test_model_has_the_symmetries_of_physics_and_forces_are_minus_the_gradient(
    trained: Trained, tmp_path: Path
) -> None:
    """Through LAMMPS, float64: the crystal moved, turned, mirrored, relabelled; a cluster turned freely."""
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(3)
    frame = cristobalite(random, frames=1, rattle=0.12)
    x, cell, half = frame.positions[0], frame.cells[0], frame.cells[0, 0, 0] / 2
    order = np.concatenate([random.permutation(8), 8 + random.permutation(16)])
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    turn = Rotation.random(random_state=5).as_matrix()
    big = np.eye(3) * 60.0
    crystal = [x, x + np.array([1.3, -2.1, 0.7]), x @ quarter.T, -x, x[order]]
    step = 1e-3
    moved = [(0, 0), (3, 1), (10, 2), (20, 0)]
    for atom, axis in moved:
        for sign in (1, -1):
            displaced = x.copy()
            displaced[atom, axis] += sign * step
            crystal.append(displaced)
    centred = x - half
    cluster = np.array([centred, centred @ turn.T]) + 30.0
    systems = [placed(frame, np.array(crystal), cell), placed(frame, cluster, big)]
    inside, free = parity.rerun(full_model(trained), systems, directory=tmp_path)

    np.testing.assert_allclose(inside.energies[1:5], inside.energies[0], atol=1e-7, rtol=0)
    base = inside.forces[0]
    assert np.sqrt(np.mean(base**2)) > 0.5
    for found, expected in zip(inside.forces[1:5], (base, base @ quarter.T, -base, base[order]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(base.sum(axis=0), 0, atol=1e-7)
    assert free.energies[1] == pytest.approx(free.energies[0], abs=1e-7)
    np.testing.assert_allclose(free.forces[1], free.forces[0] @ turn.T, atol=1e-7)

    energies = inside.energies[5:].reshape(-1, 2)
    gradient = (energies[:, 0] - energies[:, 1]) / (2 * step)
    np.testing.assert_allclose([base[atom, axis] for atom, axis in moved], -gradient, atol=2e-4)


@pytest.mark.engine
def test_compressed_follows_full_and_lammps_follows_deepmd(trained: Trained, tmp_path: Path) -> None:
    """On held-out frames within the gate; and where a pair is far closer than any in the training data."""
    result = json.loads((trained.product / "train.json").read_text())
    assert 0 < result["compressed_vs_full_force_rms_eV_A"] < 1e-4

    work = tmp_path / "work"
    work.mkdir()
    parity.run(Workspace({}, 0, {"dataset": trained.dataset, "potential": trained.product}, work))
    judged = json.loads((work / "parity.json").read_text())
    assert judged["energy_offset_removed_eV_atom"] == 0
    for key, errors in result["heldout"].items():
        for name, value in errors.items():
            assert judged["heldout"][key][name] == pytest.approx(value, abs=2e-4), name

    frame = cristobalite(np.random.default_rng(2), frames=1, rattle=0.05)
    x = frame.positions[0].copy()
    bond = x[8] - x[0]
    x[8] = x[0] + bond * 0.8 / np.linalg.norm(bond)
    close = placed(frame, x[None], frame.cells[0])
    write_system(tmp_path / "close", close)
    full, tabulated = (
        predictions[0]
        for predictions in deepmd.evaluate(
            [trained.product / "model.pb", trained.product / "compressed.pb"],
            [tmp_path / "close"],
            directory=tmp_path,
        )
    )
    assert np.linalg.norm(full.forces, axis=-1).max() > 1
    assert force_rms(full.forces, tabulated.forces) < 1e-2
    (by_lammps,) = parity.rerun(read_potential(trained.product), [close], directory=tmp_path)
    assert force_rms(by_lammps.forces, tabulated.forces) < 1e-6
    assert by_lammps.energies[0] == pytest.approx(tabulated.energies[0], abs=1e-5)


def test_table_that_does_not_follow_the_nets_is_refused() -> None:
    forces = np.random.default_rng(1).normal(size=(2, 24, 3))
    full = [Prediction(np.zeros(2), forces)]
    off = [Prediction(np.zeros(2), forces + 0.1)]
    assert train.check_compressed(Path("compressed.pb"), full, full) == 0
    with pytest.raises(SuiteError, match=r"compressed\.pb: found forces 0\.1 eV/A rms .* at most 0\.05"):
        train.check_compressed(Path("compressed.pb"), full, off)
    with pytest.raises(SuiteError, match="found forces nan"):
        train.check_compressed(Path("compressed.pb"), full, [Prediction(np.zeros(2), forces * np.nan)])


def test_sel_below_the_data_is_refused(dataset: Path, tmp_path: Path) -> None:
    about = json.loads((dataset / "dataset.json").read_text())
    about["sel"][1] = about["neighbour_max"][1] - 1
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(SuiteError, match=r"dataset\.json: found sel .* \(Si, O\), expected at least"):
        train.run(Workspace(PARAMETERS, 5, {"dataset": tmp_path}, tmp_path / "work"))
