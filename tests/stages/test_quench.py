"""A quench follows its temperature by the absolute step, killed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import SuiteError
from jobs.stages.motion import quench
from jobs.store.workspace import Workspace
from tests.helpers.md_tools import crystal_product, kill_after_checkpoint, read_dump, start_stage

# 3000 to 300 K in 2.7 ps: 1000 steps of 1.5 fs, then 1200 steps of 1 fs.
PARAMETERS: dict[str, Any] = {
    "potential": "tersoff",
    "configuration": 0,
    "density_g_cm3": 2.2,
    "rate_K_per_s": 1e15,
    "from_K": 3000,
    "to_K": 300,
    "switch_K": 1500,
    "timestep_above_fs": 1.5,
    "timestep_below_fs": 1.0,
    "anneal_steps": 400,
    "damping_fs": 20,
    "dump_every": 10,
    "thermo_every": 10,
    "checkpoint_every": 300,
    "coordination_cutoff_angstrom": 2.2,
    "replicate": [1, 1, 1],
    "ranks": 1,
}


def target(time_ps: np.ndarray) -> np.ndarray:
    """The temperature that a rate of 1000 K/ps asks for."""
    return np.maximum(3000 - 1000 * time_ps, 300)


@pytest.mark.engine
def test_killed_quench_is_the_same_quench(tmp_path: Path) -> None:
    start = crystal_product(tmp_path / "start")
    directory = tmp_path / "quench"
    process = start_stage("quench", PARAMETERS, directory=directory, inputs={"start": start})
    kept = kill_after_checkpoint(process, directory, 600)
    assert start_stage("quench", PARAMETERS, directory=directory, inputs={"start": start}).wait() == 0
    assert (directory / "checkpoints" / f"from-{kept}.in").exists()
    facts = json.loads((directory / "md.json").read_text())
    assert facts["quench"]["steps"] == [1000, 1200]
    assert facts["quench"]["timesteps_fs"] == [1.5, 1.0]
    assert facts["quench"]["rate_K_per_s"] == pytest.approx(1e15)
    assert facts["temperature_K"] == 300
    thermo = pd.read_csv(directory / "thermo.csv")
    assert thermo["step"].tolist() == list(range(0, 2601, 10))
    time_ps = thermo["time_ps"].to_numpy()
    assert time_ps[100] == pytest.approx(1.5)
    assert time_ps[-1] == pytest.approx(1.5 + 1.2 + 0.4)
    # The crystal starts cold in its potential energy, so the first 0.5 ps are the thermostat's; then the
    # system follows the ramp, across the kill and the change of time step.
    followed = time_ps > 0.6
    window = 15
    smooth = np.convolve(thermo["temperature_K"] - target(time_ps), np.ones(window) / window, mode="same")
    assert np.abs(smooth[followed][:-window]).max() < 200
    steps, _ = read_dump(directory / "trajectory.lmpbin")
    assert steps == list(range(2200, 2601, 10))
    # The network survives 3 ps of it.
    assert thermo["coordination_SiO"].iloc[-1] == pytest.approx(4, abs=0.1)


@pytest.mark.engine
@pytest.mark.parametrize("at", [900, 1000], ids=["within a segment", "between two"])
def test_target_is_the_same_wherever_it_resumes(at: int, tmp_path: Path) -> None:
    start = crystal_product(tmp_path / "start")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start_stage("quench", PARAMETERS, directory=whole, inputs={"start": start}).wait() == 0
    process = start_stage("quench", PARAMETERS, directory=killed, inputs={"start": start})
    kept = kill_after_checkpoint(process, killed, at)
    assert start_stage("quench", PARAMETERS, directory=killed, inputs={"start": start}).wait() == 0
    one, two = (pd.read_csv(folder / "thermo.csv") for folder in (whole, killed))
    near = one["step"] <= kept + 50
    np.testing.assert_allclose(one["temperature_K"][near], two["temperature_K"][near], rtol=1e-5)
    # Once the two have parted, their temperatures still follow one ramp.
    late = one["step"] > kept
    assert (one["temperature_K"] - two["temperature_K"])[late].mean() == pytest.approx(0, abs=25)


def test_heating_is_no_quench(tmp_path: Path) -> None:
    given = {**PARAMETERS, "from_K": 300, "to_K": 3000}
    with pytest.raises(SuiteError, match="from_K: found 300 K to 3000 K, expected cooling"):
        quench.run(Workspace(given, seed=1, inputs={}, directory=tmp_path))
