"""Killed in the middle with SIGKILL, the same command goes on; real engines, the whole path."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.campaign.build import build_campaign
from jobs.reference.potentials import deposit_models, deposited_model
from jobs.running.worker import earlier_attempts
from jobs.store.stage import Stage
from jobs.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
TIER = ROOT / "tests" / "helpers" / "tiny.yml"
PATIENCE_S = 240

pytestmark = pytest.mark.engine


def start(store: Path, label: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jobs", "run", "--tier", TIER, "--store", store, "--only", label]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def kill_when(process: subprocess.Popen, ready) -> None:
    """SIGKILL the command as soon as `ready()`; its engines must die with it."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline, "never came to the point where it was to be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def engines_in(store: Path) -> list[str]:
    """Processes that still work inside a store."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(store) in os.readlink(entry / "cwd"):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def wait_until_no_engine(store: Path) -> None:
    deadline = time.monotonic() + 10
    while (left := engines_in(store)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def finish(store: Path, label: str) -> None:
    assert start(store, label).wait(PATIENCE_S) == 0


def stages(label: str) -> list[Stage]:
    return build_campaign(str(TIER)).labels[label]


def test_training_goes_on_from_its_last_checkpoint(tmp_path):
    store = Store(tmp_path)
    stage = stages("train-96")[0]
    training = store.part(stage.name) / "checkpoints" / "training"
    process = start(tmp_path, "train-96")
    kill_when(process, lambda: list(training.glob("model.ckpt-200.index")))
    wait_until_no_engine(tmp_path)
    assert not store.is_done(stage.name)
    ((began, ended),) = earlier_attempts(store.part(stage.name))
    assert 1 < ended - began < time.time() - began  # what the killed attempt had time for
    assert time.time() - ended < 30
    again = time.time()
    finish(tmp_path, "train-96")
    assert store.problems(stage.name) == []
    manifest = store.manifest(stage.name)
    assert manifest["attempts"] == 2
    assert ended - began < manifest["wall_s"] < ended - began + time.time() - again
    assert manifest["core_s"] == pytest.approx(manifest["wall_s"] * manifest["cores"], abs=0.02)
    facts = manifest["facts"]
    assert 150 <= facts["resumed_from_step"] <= 400
    steps = np.loadtxt(store.path(stage.name) / "lcurve.csv", delimiter=",", skiprows=1, usecols=0)
    assert (np.diff(steps) > 0).all()
    assert steps[-1] >= 350
    check_deposit(stage, store, tmp_path / "models")


def check_deposit(stage: Stage, store: Store, root: Path) -> None:
    """A trained potential can be deposited and taken from the deposit, and a changed one is refused."""
    deposit_models({"deepmd-96": stage}, store, tier="tiny", root=root)
    path, record = deposited_model("deepmd-96", root=root)
    assert record["dataset"] == stage.inputs["dataset"].name
    assert path.read_bytes() == (store.path(stage.name) / "model.pb").read_bytes()
    with pytest.raises(SuiteError, match="not found"):
        deposited_model("deepmd-216", root=root)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SuiteError, match=r"model\.yml"):
        deposited_model("deepmd-96", root=root)


def test_md_goes_on_and_its_values_agree_with_an_uninterrupted_run(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finish(whole, "liquid-96-bks")
    store = Store(killed)
    runs = [stage.inputs["trajectory"] for stage in stages("liquid-96-bks")]
    process = start(killed, "liquid-96-bks")
    kill_when(
        process, lambda: any(list(store.part(run.name).glob("checkpoints/restart-1[0-9]*")) for run in runs)
    )
    wait_until_no_engine(killed)
    before = {p.name for run in runs for p in store.part(run.name).glob("checkpoints/restart-*")}
    finish(killed, "liquid-96-bks")
    assert before
    for observed in stages("liquid-96-bks"):
        values = [np.load(Store(place).path(observed.name) / "observables.npz") for place in (killed, whole)]
        assert values[0]["thermo_time_fs"].shape == values[1]["thermo_time_fs"].shape
        temperatures = [value["temperature_K"] for value in values]
        error = np.hypot(*(t.std(ddof=1) / np.sqrt(len(t)) for t in temperatures))
        assert abs(temperatures[0].mean() - temperatures[1].mean()) < 3 * error
        heights = [value["rdf_Si-O"].max(axis=1) for value in values]
        error = np.hypot(*(h.std(ddof=1) / np.sqrt(len(h)) for h in heights))
        assert abs(heights[0].mean() - heights[1].mean()) < 3 * error
