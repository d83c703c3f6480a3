"""DeePMD-kit's input, checkpoints, learning curve and failures; training itself is in test_train.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.engines.deepmd import curve as curve_files
from jobs.engines.deepmd import program as deepmd

HEADER = "# step      rmse_val    rmse_trn    rmse_e_val  rmse_e_trn    rmse_f_val  rmse_f_trn         lr\n"
ROW = "{:7d}      7.71e-02    7.44e-03      8.21e-01    8.48e-01    {:.2e}    9.9e-01    1.0e-03\n"


def paper_input(**changes: Any) -> dict[str, Any]:
    loss = {f"{end}_pref_{what}": 1 for end in ("start", "limit") for what in "efv"}
    arguments: dict[str, Any] = {
        "train_systems": ["data/train/a"],
        "heldout_systems": ["data/test/T3000/a"],
        "sel": [32, 60],
        "loss": loss,
        "steps": 1000,
        "precision": "float32",
        "start_lr": 1e-3,
        "stop_lr": 1e-6,
        "decay_steps": 20,
        "batch_size": 1,
        "checkpoint_every": 100,
        "axis_neuron": 4,
        "type_one_side": False,
        "seed": 3,
    }
    return deepmd.train_input(**{**arguments, **changes})


def test_input_is_the_papers_network() -> None:
    """Sec. II B: filters {10, 20, 40} and {5, 10, 20}, fitting {40, 20, 10}, 6.0 A, smooth from 4.5 A."""
    configuration = paper_input()
    model = configuration["model"]
    angular, radial = model["descriptor"]["list"]
    assert model["descriptor"]["type"] == "hybrid"
    assert (angular["type"], angular["neuron"], angular["axis_neuron"]) == ("se_e2_a", [10, 20, 40], 4)
    assert (radial["type"], radial["neuron"]) == ("se_e2_r", [5, 10, 20])
    for part in (angular, radial):
        assert (part["rcut"], part["rcut_smth"], part["sel"]) == (6.0, 4.5, [32, 60])
        assert (part["type_one_side"], part["precision"]) == (False, "float32")
    assert model["fitting_net"]["neuron"] == [40, 20, 10]
    json.dumps(configuration, allow_nan=False)


def test_every_seed_follows_from_the_stages() -> None:
    def seeds(seed: int) -> list[int]:
        configuration = paper_input(seed=seed)
        model = configuration["model"]
        parts = [*model["descriptor"]["list"], model["fitting_net"], configuration["training"]]
        return [part["seed"] for part in parts]

    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 8


def test_checkpoint_rows_come_with_checkpoints() -> None:
    """DeePMD-kit saves only on steps that it also displays."""
    training = paper_input(checkpoint_every=250)["training"]
    assert training["save_freq"] % training["disp_freq"] == 0


def test_truncated_curve_has_every_step_once(tmp_path: Path) -> None:
    """A kill after step 400 and in the middle of a row, a restart from step 300."""
    curve = tmp_path / "lcurve.out"
    curve.write_text(
        HEADER + "".join(ROW.format(s, 1.0) for s in (0, 100, 200, 300, 400)) + "    500      7.7"
    )
    curve_files.truncate_curve(curve, before=300)
    with curve.open("a") as stream:
        stream.write(HEADER + "".join(ROW.format(s, 0.5) for s in (300, 400, 500)))
    read = curve_files.read_curve(curve)
    assert read["step"].tolist() == [0, 100, 200, 300, 400, 500]
    assert read["force_rmse_heldout_eV_A"].tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    curve_files.write_curve(read, tmp_path / "lcurve.csv")
    table = np.genfromtxt(tmp_path / "lcurve.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["learning_rate"], 1e-3)


def test_curve_that_repeats_a_step_is_refused(tmp_path: Path) -> None:
    curve = tmp_path / "lcurve.out"
    curve.write_text(HEADER + ROW.format(100, 1.0) + ROW.format(100, 1.0))
    with pytest.raises(EngineError, match="steps that do not rise"):
        curve_files.read_curve(curve)


def test_half_written_checkpoint_is_not_the_latest(tmp_path: Path) -> None:
    assert deepmd.latest_checkpoint(tmp_path) is None
    for step in (900, 1000):
        for suffix in (".index", ".data-00000-of-00001", ".meta"):
            (tmp_path / f"model.ckpt-{step}{suffix}").write_text("x")
    for suffix in (".index", ".data-00000-of-00001"):
        (tmp_path / f"model.ckpt-1100{suffix}").write_text("x")
    assert deepmd.latest_checkpoint(tmp_path) == (1000, tmp_path / "model.ckpt-1000")


def test_speed_leaves_out_the_first_interval_of_each_launch(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    launch = "start training at lr 1e-3\n" + "".join(
        f"Batch {b}: total wall time = {t:.2f} s, eta = 0:00:03\n"
        for b, t in ((50, 9.0), (100, 2.0), (150, 2.2))
    )
    log.write_text(launch + launch)
    assert curve_files.steps_per_second(log, steps_between=50) == pytest.approx(50 / 2.1)
    log.write_text("nothing\n")
    with pytest.raises(EngineError, match="no 'total wall time'"):
        curve_files.steps_per_second(log, steps_between=50)


def test_missing_dp_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"^dp: not found .*README, Run it$"):
        deepmd.train(paper_input(), directory=tmp_path, threads=1)


@pytest.mark.engine
def test_failing_dp_gives_its_reason(tmp_path: Path) -> None:
    """Systems that are not there: DeePMD-kit's own words and the path of the log, in one line."""
    with pytest.raises(EngineError) as error:
        deepmd.train(paper_input(), directory=tmp_path, threads=1)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("dp ended with code")
    assert f"log: {tmp_path}{os.sep}train.log" in message


def test_system_of_other_species_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no set\.\*, expected a DeePMD npy system"):
        deepmd.read_system(tmp_path)
    (tmp_path / "set.000").mkdir()
    for name, width in (("coord", 6), ("force", 6), ("box", 9), ("energy", 1)):
        np.save(tmp_path / f"set.000/{name}.npy", np.zeros((2, width)))
    (tmp_path / "type.raw").write_text("0\n1\n")
    (tmp_path / "type_map.raw").write_text("O\nH\n")
    with pytest.raises(SuiteError, match="found O H, expected Si O"):
        deepmd.read_system(tmp_path)
