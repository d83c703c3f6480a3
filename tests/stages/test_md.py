"""MD in LAMMPS: ensembles, conservation, what a kill leaves, and inputs that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.machine import NATIVE_KERNEL, native_kernel
from jobs.base.silica import cristobalite, read_data, write_data
from jobs.engines.lammps import dynamics
from jobs.engines.lammps.kernel import DEEPMD, MIXED, NATIVE, Choice
from jobs.engines.lammps.potential import builtin_potential
from jobs.stages.motion import md
from jobs.store.workspace import Workspace
from tests.helpers.md_tools import crystal_product, kill_after_checkpoint, read_dump, start_stage

BOLTZMANN_EV_K = 8.617333262e-5


def parameters(**changes: Any) -> dict[str, Any]:
    return {
        "potential": "tersoff",
        "configuration": 0,
        "density_g_cm3": 2.2,
        "ensemble": "nvt",
        "schedule": [{"temperature_K": 1500, "steps": 1000}, {"temperature_K": 1000, "steps": 4000}],
        "timestep_fs": 1.0,
        "damping_fs": 100,
        "dump_every": 10,
        "thermo_every": 5,
        "checkpoint_every": 1000,
        "replicate": [1, 1, 1],
        "thermostat": "nose-hoover",
        "ranks": 1,
        **changes,
    }


def run(directory: Path, start: Path, **changes: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    directory.mkdir()
    md.run(Workspace(parameters(**changes), seed=5, inputs={"start": start}, directory=directory))
    return json.loads((directory / "md.json").read_text()), pd.read_csv(directory / "thermo.csv")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return crystal_product(tmp_path / "start")


@pytest.mark.engine
def test_nvt_is_canonical(tmp_path: Path, start: Path) -> None:
    facts, thermo = run(tmp_path / "md", start)
    production = thermo[thermo["step"] > 2000]
    assert production["temperature_K"].mean() == pytest.approx(1000, rel=0.03)
    # Canonical kinetic energy: relative variance 2 / (degrees of freedom).
    spread = production["temperature_K"].std() / production["temperature_K"].mean()
    assert spread == pytest.approx(np.sqrt(2 / (3 * 192 - 3)), rel=0.35)
    assert abs(facts["conserved_drift_meV_atom_ps"]) < 0.3
    assert facts["dangerous_builds"] == 0
    assert facts["n_si"] == 64
    assert facts["temperature_K"] == 1000
    assert thermo["step"].tolist() == list(range(0, 5001, 5))
    np.testing.assert_allclose(thermo["time_ps"], thermo["step"] / 1000)


@pytest.mark.engine
def test_trajectory_is_the_motion(tmp_path: Path, start: Path) -> None:
    facts, thermo = run(
        tmp_path / "md",
        start,
        potential="bks",
        ensemble="nve",
        schedule=[{"temperature_K": 1000, "steps": 200}, {"temperature_K": 1000, "steps": 300}],
        dump_every=1,
        thermo_every=1,
        checkpoint_every=110,
    )
    steps, frames = read_dump(tmp_path / "md" / "trajectory.lmpbin")
    assert steps == list(range(200, 501))
    assert facts["frames"] == len(steps)
    assert (frames[:, :, 0] == np.arange(1, 193)).all()
    # Velocities (A/ps) are the central differences of the positions, and carry the kinetic energy.
    positions, velocities = frames[:, :, 2:5], frames[:, :, 5:8]
    differences = (positions[2:] - positions[:-2]) / 0.002
    assert np.sqrt(np.mean((differences - velocities[1:-1]) ** 2)) < 0.02 * velocities.std()
    masses = np.where(frames[0, :, 1] == 1, 28.0855, 15.999)[None, :, None]
    kinetic = 0.5 * (masses * velocities**2).sum(axis=(1, 2)) * 1.0364269e-4  # amu A2/ps2 in eV
    expected = thermo.set_index("step").loc[steps, "kinetic_eV"].to_numpy()
    np.testing.assert_allclose(kinetic, expected, rtol=1e-6)
    # NVE: the total energy stands still, by far less than it is exchanged.
    production = thermo[thermo["step"] > 200]
    assert production["total_eV"].std() < 0.02 * production["kinetic_eV"].std()
    assert abs(facts["conserved_drift_meV_atom_ps"]) < 0.5
    assert facts["ensemble"] == "nve"


@pytest.mark.engine
def test_no_more_ranks_than_cores(tmp_path: Path, start: Path) -> None:
    schedule = [{"temperature_K": 1000, "steps": 20}, {"temperature_K": 1000, "steps": 20}]
    facts, _ = run(tmp_path / "md", start, schedule=schedule, checkpoint_every=20, ranks=8)
    assert (facts["ranks"], facts["threads"]) == (1, 1), "a workspace has one core"


@pytest.mark.engine
def test_killed_and_resumed(tmp_path: Path, start: Path) -> None:
    # BKS, so that charges and the k-space solver come back too.
    given = parameters(
        potential="bks",
        schedule=[{"temperature_K": 1000, "steps": 100}, {"temperature_K": 1000, "steps": 400}],
        checkpoint_every=100,
    )
    directory = tmp_path / "killed"
    process = start_stage("md", given, directory=directory, inputs={"start": start})
    kept = kill_after_checkpoint(process, directory, 200)
    assert not (directory / "md.json").exists()
    assert not (directory / "trajectory.lmpbin").exists()
    again = start_stage("md", given, directory=directory, inputs={"start": start})
    assert again.wait() == 0
    # It went on from the restart, losing at most one interval.
    assert (directory / "checkpoints" / f"from-{kept}.in").exists()
    steps, frames = read_dump(directory / "trajectory.lmpbin")
    assert steps == list(range(100, 501, 10))
    thermo = pd.read_csv(directory / "thermo.csv")
    assert thermo["step"].tolist() == list(range(0, 501, 5))
    whole = tmp_path / "whole"
    assert start_stage("md", given, directory=whole, inputs={"start": start}).wait() == 0
    unbroken = pd.read_csv(whole / "thermo.csv")
    # The same motion until rounding has grown: the restart holds the whole state, thermostat included.
    near = thermo["step"] <= kept + 50
    np.testing.assert_allclose(thermo["temperature_K"][near], unbroken["temperature_K"][near], rtol=2e-3)
    np.testing.assert_allclose(thermo["conserved_eV"], unbroken["conserved_eV"], atol=0.2)
    steps_whole, frames_whole = read_dump(whole / "trajectory.lmpbin")
    assert steps_whole == steps
    early = [index for index, step in enumerate(steps) if step <= kept + 50]
    np.testing.assert_allclose(frames[early, :, 2:5], frames_whole[early, :, 2:5], atol=5e-3)
    # A finished folder is not computed again.
    stamp = (directory / "checkpoints" / f"from-{kept}.log").stat().st_mtime_ns
    assert start_stage("md", given, directory=directory, inputs={"start": start}).wait() == 0
    assert (directory / "checkpoints" / f"from-{kept}.log").stat().st_mtime_ns == stamp


@pytest.mark.engine
def test_the_kernel_of_every_attempt_is_told(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed half-way, then before it is sealed; each attempt finds another kernel."""
    directory = tmp_path / "md"
    directory.mkdir()
    given = parameters(schedule=[{"temperature_K": 1000, "steps": 40}], checkpoint_every=20)
    run_lammps = dynamics.run_lammps

    def killed(script: str, **options: Any) -> None:
        until = "shell mv restart.tmp restart-20"
        run_lammps(script.split(until)[0] + until, **options)
        raise KeyboardInterrupt

    def attempt(kernel: str) -> tuple[str, dict[str, str]]:
        choice = Choice(builtin_potential("tersoff"), kernel, "no compiler" if kernel == DEEPMD else None)
        monkeypatch.setattr(dynamics, "choose_kernel", lambda *_, **__: choice)
        workspace = Workspace(given, seed=5, inputs={"start": start}, directory=directory)
        md.run(workspace)
        return workspace.facts["kernel"], workspace.software

    monkeypatch.setattr(dynamics, "run_lammps", killed)
    with pytest.raises(KeyboardInterrupt):
        attempt(NATIVE)
    monkeypatch.setattr(dynamics, "run_lammps", run_lammps)
    assert attempt(DEEPMD) == (MIXED, {NATIVE_KERNEL: native_kernel()})
    assert attempt(NATIVE)[0] == MIXED, "all steps were there"


@pytest.mark.engine
@pytest.mark.parametrize("lost", [5000, None])
def test_a_trajectory_that_lacks_frames_is_not_sealed(tmp_path: Path, start: Path, lost: int | None) -> None:
    """Killed before it was sealed; then a part is cut short, or loses whole frames."""
    directory, schedule = tmp_path / "md", [{"temperature_K": 1000, "steps": 40}]
    run(directory, start, schedule=schedule, checkpoint_every=20)
    whole = (directory / "trajectory.lmpbin").read_bytes()
    part = directory / "checkpoints/part-20.bin"
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2 if lost is None else -lost])
    expected = r"part-20\.bin: .*, expected .*; the next attempt runs from step 0"
    workspace = Workspace(
        parameters(schedule=schedule, checkpoint_every=20),
        seed=5,
        inputs={"start": start},
        directory=directory,
    )
    with pytest.raises(EngineError, match=expected):
        md.run(workspace)
    md.run(workspace)
    assert (directory / "trajectory.lmpbin").read_bytes() == whole


@pytest.mark.engine
def test_planted_faults_are_what_they_say(tmp_path: Path, start: Path) -> None:
    short = [{"temperature_K": 1000, "steps": 1000}, {"temperature_K": 1000, "steps": 2000}]
    _, rescaled = run(tmp_path / "rescale", start, thermostat="rescale", schedule=short)
    late = rescaled[rescaled["step"] > 1000]["temperature_K"]
    assert late.std() / late.mean() < 0.25 * np.sqrt(2 / (3 * 192 - 3))
    facts, hot = run(tmp_path / "hot", start, thermostat="nose-hoover-hot", schedule=short)
    assert facts["temperature_K"] == 1000
    assert hot[hot["step"] > 1000]["temperature_K"].mean() == pytest.approx(1100, rel=0.03)


@pytest.mark.engine
def test_replicated_start_and_continuation(tmp_path: Path, start: Path) -> None:
    short = [{"temperature_K": 500, "steps": 20}]
    facts, _ = run(tmp_path / "large", start, replicate=[2, 1, 1], schedule=short)
    assert facts["n_atoms"] == 384
    assert facts["density_g_cm3"] == pytest.approx(2.2)
    assert facts["cell_angstrom"][0] == pytest.approx(2 * facts["cell_angstrom"][1])
    small, _ = run(tmp_path / "small", start, schedule=short)
    again, _ = run(tmp_path / "next", tmp_path / "small", schedule=short, density_g_cm3=2.3)
    assert again["density_g_cm3"] == pytest.approx(2.3)
    assert again["types"] == small["types"]
    assert read_data(tmp_path / "next" / "final.data").density_g_cm3 == pytest.approx(2.3)


@pytest.mark.engine
def test_one_row_has_no_drift(tmp_path: Path, start: Path) -> None:
    short = [{"temperature_K": 500, "steps": 20}]
    facts, thermo = run(tmp_path / "md", start, schedule=short, thermo_every=20)
    assert thermo["step"].tolist() == [0, 20]
    assert facts["conserved_drift_meV_atom_ps"] is None
    assert "NaN" not in (tmp_path / "md" / "md.json").read_text()


def test_narrow_cells(tmp_path: Path) -> None:
    folder = tmp_path / "narrow"
    folder.mkdir()
    write_data(folder / "config-0.data", cristobalite(1, displacement_angstrom=0.1, seed=1))
    with pytest.raises(SuiteError, match=r"width of 7\.\d+ A, expected at least the cut-off of 10\.00 A"):
        run(tmp_path / "md", folder, potential="bks")
    assert not (tmp_path / "md" / "md.json").exists()


@pytest.mark.engine
def test_a_cell_below_twice_the_cutoff_is_a_warning(tmp_path: Path, start: Path) -> None:
    facts, _ = run(tmp_path / "md", start, potential="bks", schedule=[{"temperature_K": 500, "steps": 10}])
    assert facts["warnings"] == ["cell width 14.26 A is below twice the cut-off of 10.00 A"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble": "npt"}, "ensemble: found 'npt', expected 'nvt' or 'nve'"),
        ({"thermostat": "langevin"}, "thermostat: found 'langevin'"),
        ({"schedule": []}, "schedule: found no segment"),
        (
            {"schedule": [{"temperature_K": 300, "steps": 15}]},
            "segment of 15 steps, expected a positive multiple of 10",
        ),
        (
            {"ensemble": "nve", "schedule": [{"temperature_K": 300, "steps": 10}]},
            "NVT segments before an NVE one",
        ),
        ({"configuration": 4}, r"config-4\.data: not found"),
        ({"potential": "morse"}, "potential 'morse': unknown"),
    ],
)
def test_wrong_parameters(tmp_path: Path, start: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message) as caught:
        run(tmp_path / "md", start, **changes)
    assert "\n" not in str(caught.value)
