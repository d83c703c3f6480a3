"""Training by the Kalman filter: its algebra, its derivatives, and the stage, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.engines.deepmd.program import read_system
from jobs.engines.hdnnp.evaluation import Evaluator, predict
from jobs.engines.hdnnp.kalman import Schedule, first_covariance, update
from jobs.engines.hdnnp.n2p2_files import read_network
from jobs.engines.hdnnp.training import Labelled, Settings, Trainer
from jobs.engines.lammps.potential import read_potential
from jobs.stages.potentials import parity, train_hdnnp
from jobs.store.workspace import Workspace
from tests.helpers.hdnnp_tools import PLAIN, VARIED
from tests.stages.test_parity import cristobalite, labelled, write_system

PARAMETERS: dict[str, Any] = {
    "name": "HDNNP-test",
    "functions": {
        "radial_eta_per_bohr2": [0.01, 0.06, 0.2],
        "angular_eta_per_bohr2": [0.001, 0.02],
        "zeta": [1, 4],
        "lambda": [1, -1],
    },
    "cutoff_angstrom": 6.0,
    "nodes": [8, 8],
    "updates": 300,
    "frames_per_update": 4,
    "forces_per_update": 40,
    "energy_weight": 30.0,
    "epsilon": 0.01,
    "eta": [0.01, 1.0],
    "q": [0.01, 1e-6],
    "checkpoint_every": 20,
}
RUN = """
import json, sys
from pathlib import Path
from jobs.stages.potentials import train_hdnnp
from jobs.store.workspace import Workspace
train_hdnnp.run(Workspace(json.loads(sys.argv[1]), 5, {"dataset": Path(sys.argv[2])}, Path(sys.argv[3])))
"""


def test_one_update_of_a_linear_model_is_bayes_rule() -> None:
    """With predictions linear in the weights the filter is the Gaussian posterior, written out."""
    random = np.random.default_rng(1)
    truth, derivatives = random.normal(size=7), random.normal(size=(7, 4))
    schedule = Schedule(0.5, (2.0, 2.0), (0.01, 0.01))
    weights, covariance = np.zeros(7), first_covariance(7, schedule)
    update(weights, covariance, derivatives, derivatives.T @ truth, eta=2.0, q=0.01)
    posterior = np.linalg.inv(0.5 * np.eye(7) + 2.0 * derivatives @ derivatives.T)
    np.testing.assert_allclose(weights, posterior @ (2.0 * derivatives @ derivatives.T @ truth), rtol=1e-10)
    lower = np.tril_indices(7)
    np.testing.assert_allclose(covariance[lower], (posterior + 0.01 * np.eye(7))[lower], rtol=1e-10)


def test_noises_go_from_their_first_to_their_last_value() -> None:
    schedule = Schedule(0.01, (0.01, 1.0), (0.01, 1e-6))
    assert (schedule.eta_at(0), schedule.eta_at(0.5), schedule.eta_at(1)) == pytest.approx((0.01, 0.1, 1))
    assert (schedule.q_at(0), schedule.q_at(0.5), schedule.q_at(1)) == pytest.approx((1e-2, 1e-4, 1e-6))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BKS labels, so that energies and forces are those of a real potential."""
    directory = tmp_path_factory.mktemp("dataset")
    random = np.random.default_rng(11)
    learnt = labelled(cristobalite(random, frames=60, rattle=0.08), directory)
    heldout = labelled(cristobalite(random, frames=6, rattle=0.08), directory)
    write_system(directory / "train/bks", learnt)
    write_system(directory / "test/T3000/bks", heldout)
    about = {
        "frames": {"train": 60, "test": 6, "refused": 0},
        "train_systems": ["train/bks"],
        "test_systems": {"3000": ["test/T3000/bks"]},
        "sets": [],
        "temperatures_K": [3000.0],
        "lowest_temperature_K": 3000.0,
        "volumes_A3": [],
        "min_distance_angstrom": {"Si-Si": 2.9, "Si-O": 1.4, "O-O": 2.3},
    }
    (directory / "dataset.json").write_text(json.dumps(about))
    return directory


def trainer(dataset: Path, functions: dict | None = None, **changes: Any) -> Trainer:
    frames = train_hdnnp.labelled(read_system(dataset / "train/bks"))[:5]
    settings = train_hdnnp.read_settings(PARAMETERS | changes)
    functions = functions or {"O": PLAIN, "Si": PLAIN}
    return Trainer(functions, frames, settings, seed=3, watch=lambda share, text: None)


@pytest.mark.engine
@pytest.mark.parametrize("functions", [None, VARIED], ids=["plain", "varied"])
def test_derivatives_are_slopes_of_the_residuals(dataset: Path, functions: dict | None) -> None:
    training = trainer(dataset, functions)
    drawn = training.draw(0)
    derivatives, residuals = training.observe(drawn)
    direction, step = np.random.default_rng(2).normal(size=len(training.weights)), 1e-5
    training.weights += step * direction
    _, above = training.observe(drawn)
    training.weights -= 2 * step * direction
    _, below = training.observe(drawn)
    slopes = direction @ derivatives
    np.testing.assert_allclose(-(above - below) / (2 * step), slopes, atol=1e-5 * np.abs(slopes).max())
    assert len(residuals) == 4 + 40


@pytest.mark.engine
def test_residuals_are_those_of_the_network_that_is_written(dataset: Path) -> None:
    training = trainer(dataset)
    frames, components = training.draw(1)
    _, residuals = training.observe((frames, components))
    evaluate = Evaluator(training.network())

    def errors(frame: Labelled) -> tuple[float, np.ndarray]:
        found = evaluate(frame.positions, frame.cell, [("O", "Si")[e] for e in frame.elements])
        energy = (frame.energy_eV - found.energy_eV) / len(frame.elements) * PARAMETERS["energy_weight"]
        return energy, frame.forces_eV_A - found.forces_eV_A

    drawn = [errors(training.data[frame].frame) for frame in frames]
    expected = [energy for energy, _ in drawn] + [drawn[p][1][i, a] for p, i, a in components]
    np.testing.assert_allclose(residuals, expected, atol=2e-5)


@pytest.mark.engine
def test_frames_beyond_memory_are_described_again(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = trainer(dataset)
    monkeypatch.setattr("jobs.engines.hdnnp.training.KEPT_BYTES", 1)
    again = trainer(dataset)
    assert [one.kept is None for one in again.data] == [False, True, True, True, True]
    drawn = kept.draw(0)
    for one, other in zip(kept.observe(drawn), again.observe(drawn), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.engine
def test_too_many_forces_are_refused(dataset: Path) -> None:
    with pytest.raises(SuiteError, match="forces_per_update: found 400, expected at most 288: that many are"):
        trainer(dataset, forces_per_update=400)


@pytest.fixture(scope="module")
def product(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage in another process, SIGKILLed in the middle of training and run again to its end."""
    directory = tmp_path_factory.mktemp("train")
    root = Path(train_hdnnp.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(PARAMETERS), str(dataset), str(directory)],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    deadline = time.monotonic() + 300
    checkpoint = directory / "checkpoints/kalman.npz"
    while not checkpoint.is_file():
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint within 300 s"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (directory / "potential.json").exists()
    workspace = Workspace(PARAMETERS, 5, {"dataset": dataset}, directory)
    train_hdnnp.run(workspace)
    assert 0 < workspace.facts["resumed_from_step"] < PARAMETERS["updates"]
    return directory


@pytest.mark.engine
def test_a_killed_training_ends_as_an_unbroken_one(product: Path, dataset: Path, tmp_path: Path) -> None:
    train_hdnnp.run(Workspace(PARAMETERS, 5, {"dataset": dataset}, tmp_path))
    for name in ("input.nn", "scaling.data", "weights.008.data", "weights.014.data"):
        assert (product / "n2p2" / name).read_text() == (tmp_path / "n2p2" / name).read_text()
    assert (product / "lcurve.csv").read_text() == (tmp_path / "lcurve.csv").read_text()


@pytest.mark.engine
def test_it_learns_what_bks_does(product: Path, dataset: Path) -> None:
    result = json.loads((product / "train.json").read_text())
    errors = result["heldout"]["all"]
    assert errors["force_rms_reference_eV_A"] > 2
    assert errors["force_rmse_eV_A"] < 0.1
    assert errors["energy_rmse_meV_atom"] < 2
    assert (result["train_frames"], result["steps"], result["seed"]) == (60, 300, 5)
    (predicted,) = predict(product / "n2p2", [read_system(dataset / "test/T3000/bks")])
    system = read_system(dataset / "test/T3000/bks")
    rms = np.sqrt(np.mean((predicted.forces - system.forces) ** 2))
    assert rms == pytest.approx(errors["force_rmse_eV_A"])
    rows = (product / "lcurve.csv").read_text().splitlines()
    assert rows[0] == "step,energy_rmse_train_eV_atom,force_rmse_train_eV_A"
    assert len(rows) == 1 + 300 // 25


@pytest.mark.engine
def test_parity_judges_it_without_lammps(
    product: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("jobs.engines.lammps.program.executable", None)
    parity.run(Workspace({}, 0, {"dataset": dataset, "potential": product}, tmp_path))
    judged, trained = (
        json.loads(path.read_text()) for path in (tmp_path / "parity.json", product / "train.json")
    )
    assert judged["heldout"] == trained["heldout"]
    assert judged["energy_offset_removed_eV_atom"] == 0
    assert (judged["family"], judged["train_frames"], judged["steps"]) == ("hdnnp", 60, 300)


@pytest.mark.engine
def test_all_frames_train_where_that_is_asked(dataset: Path, tmp_path: Path) -> None:
    parameters = PARAMETERS | {"updates": 25, "all_frames": True}
    train_hdnnp.run(Workspace(parameters, 5, {"dataset": dataset}, tmp_path))
    result = json.loads((tmp_path / "train.json").read_text())
    assert (result["train_frames"], result["heldout"]) == (66, None)


@pytest.mark.engine
def test_of_very_many_frames_some_are_drawn(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_hdnnp, "MOST_FRAMES", 10)
    learnt = []
    for seed in (5, 6):
        directory = tmp_path / str(seed)
        directory.mkdir()
        train_hdnnp.run(Workspace(PARAMETERS | {"updates": 1}, seed, {"dataset": dataset}, directory))
        assert json.loads((directory / "train.json").read_text())["train_frames"] == 10
        learnt.append((directory / "n2p2/scaling.data").read_text())
    assert learnt[0] != learnt[1]


@pytest.mark.engine
def test_the_product_is_a_potential(product: Path) -> None:
    potential = read_potential(product)
    assert potential.commands == (f'pair_style hdnnp/native "{product}/n2p2"', "pair_coeff * * Si O")
    assert (potential.name, potential.family, potential.cutoff_angstrom) == ("HDNNP-test", "hdnnp", 6.0)
    network = read_network(product / "n2p2")
    assert [len(one.functions) for one in network.elements.values()] == [30, 30]


def test_settings_are_those_of_the_stage() -> None:
    assert train_hdnnp.read_settings(PARAMETERS) == Settings(
        nodes=(8, 8),
        updates=300,
        frames_per_update=4,
        forces_per_update=40,
        energy_weight=30.0,
        schedule=Schedule(0.01, (0.01, 1.0), (0.01, 1e-6)),
        checkpoint_every=20,
    )
