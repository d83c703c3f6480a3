"""The LAMMPS that `SILICA_LMP` names: what it runs and what not, what the manifest says, wrong names."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.frames import Frames
from jobs.base.silica import cristobalite
from jobs.engines.lammps import program
from jobs.engines.lammps.potential import Potential, builtin_potential, read_potential
from jobs.engines.lammps.program import MPI_LAUNCH, OWN_LAMMPS, evaluate, lammps_command
from jobs.engines.lammps.timing import Layout, time_launch
from jobs.reference.potentials import imported_potential
from jobs.stages import cost
from jobs.stages.motion import md
from jobs.stages.potentials import potential
from jobs.stages.potentials.parity import rerun
from jobs.store.workspace import Workspace
from tests.helpers.md_tools import crystal_product

# A spring between two atoms, found by their ids: like MACE's, this style needs an atom map.
SPRING = "pair_style hybrid/overlay zero 5.0 list spring.txt 9.0\npair_coeff * * zero\npair_coeff * * list\n"
CRYSTAL = cristobalite(2, displacement_angstrom=0.1, seed=1)
OWN = Potential("x", "lammps", ("pair_style zero 5.0", "pair_coeff * *"), None, 5.0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LAMMPS of the user's: the real binary behind a script that keeps how often it was called."""
    binary, needs = program._program()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in needs.items()]
    path = tmp_path / "build" / "lmp_own"
    path.parent.mkdir()
    path.write_text("\n".join(["#!/bin/sh", *lines, f'echo "$@" >> {path}.calls', f'exec {binary} "$@"', ""]))
    path.chmod(0o755)
    monkeypatch.setenv(OWN_LAMMPS, f"{path} -var cutoff 5.0")
    return path


def calls(own: Path) -> int:
    """How often the user's LAMMPS was started since the last question."""
    kept = Path(f"{own}.calls")
    lines = kept.read_text().splitlines() if kept.exists() else []
    kept.unlink(missing_ok=True)
    assert all(line.startswith("-var cutoff 5.0 -in ") for line in lines)
    return len(lines)


def workspace(directory: Path, given: Any, **inputs: Path) -> Workspace:
    directory.mkdir()
    return Workspace(given, seed=1, inputs=inputs, directory=directory)


@pytest.mark.engine
def test_every_stage_of_the_users_potential_runs_in_it(tmp_path: Path, own: Path) -> None:
    (tmp_path / "spring.txt").write_text("1 2 harmonic 1.0 1.6\n")
    (tmp_path / "own.lmp").write_text(SPRING)
    taken = workspace(tmp_path / "potential", imported_potential(tmp_path / "own.lmp", "own").parameters)
    potential.run(taken)
    assert calls(own) == 2  # the trial and the first look
    ran = taken.facts["lammps"]
    assert ran["program"] == f"{own} -var cutoff 5.0"
    assert ran["version"].split()[2].isdigit()  # 22 Jul 2025 - Update 2

    given = {
        "configuration": 0, "density_g_cm3": 2.2, "ensemble": "nvt", "thermostat": "nose-hoover",
        "schedule": [{"temperature_K": 300, "steps": 4}], "timestep_fs": 1.0, "damping_fs": 100,
        "dump_every": 2, "thermo_every": 2, "checkpoint_every": 2, "replicate": [1, 1, 1], "ranks": 1,
    }  # fmt: skip
    start = crystal_product(tmp_path / "start")
    moved = workspace(tmp_path / "md", given, start=start, potential=taken.directory)
    md.run(moved)
    assert calls(own) == 1
    assert moved.facts["lammps"] == ran

    mine = read_potential(taken.directory)
    frames = Frames(
        CRYSTAL.types, CRYSTAL.positions[None], CRYSTAL.cell[None], np.zeros(1), np.zeros((1, 192, 3))
    )
    rerun(mine, [frames], directory=tmp_path)
    time_launch(
        mine,
        start / "config-0.data",
        Layout(),
        steps=2,
        timestep_fs=1,
        temperature_K=300,
        seed=1,
        name="time",
    )
    assert calls(own) == 2


@pytest.mark.engine
def test_cost_says_what_it_timed(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.cost.points.ATOM_STEPS", {"deepmd": 960, "bks": 960})
    monkeypatch.setattr("jobs.cost.bench.MELT_STEPS", 800)
    (tmp_path / "own.lmp").write_text("pair_style buck 5.0\npair_coeff * * 1000.0 0.3 0.0\n")
    taken = workspace(tmp_path / "potential", imported_potential(tmp_path / "own.lmp", "own").parameters)
    potential.run(taken)
    given = {
        "points": [{"engine": engine, "setting": "tuned", "n_atoms": 96} for engine in ("deepmd", "bks")],
        "launches": 1, "timestep_fs": 1.0, "temperature_K": 3000.0, "density_g_cm3": 2.2, "aimd": {},
        "budget_minutes": None, "not_measured": [],
    }  # fmt: skip
    timed = workspace(tmp_path / "cost", given, potential=taken.directory)
    cost.run(timed)
    assert calls(own) >= 2, "its liquid and one launch"
    assert timed.facts["lammps"] == taken.facts["lammps"]


@pytest.mark.engine
def test_everything_else_runs_in_the_usual_one(tmp_path: Path, own: Path) -> None:
    evaluate(CRYSTAL, builtin_potential("tersoff"), directory=tmp_path)
    assert calls(own) == 0
    assert "atom_modify" not in (tmp_path / "evaluate.in").read_text()


def test_ranks_of_a_batch_job_are_the_users_lammps_too(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MPI_LAUNCH, "srun --mpi=pmi2 --ntasks=2 lmp")
    launch = ["srun", "--mpi=pmi2", "--ntasks=2"]
    assert lammps_command("x", ranks=2, own=True)[:7] == [*launch, str(own), "-var", "cutoff", "5.0"]
    assert lammps_command("x", ranks=2)[:5] == [*launch, "lmp", "-in"]


@pytest.mark.parametrize("wrong", ["/nowhere/lmp", "lmp_nowhere -sf omp", "'lmp"])
def test_a_wrong_name_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(OWN_LAMMPS, wrong)
    with pytest.raises(SuiteError, match=r"^SILICA_LMP: found .*, expected LAMMPS: its path") as caught:
        evaluate(CRYSTAL, OWN, directory=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.engine
@pytest.mark.parametrize("named", [True, False])
def test_a_missing_style_says_which_program_lacks_it(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if not named:
        monkeypatch.delenv(OWN_LAMMPS)
    who = str(own) if named else program._program()[0]
    lines = ("pair_style quip", 'pair_coeff * * gap.xml "" 14 8')
    expected = rf"^{who}.*: found no pair style 'quip' \(package ML-QUIP\), expected .*: SILICA_LMP names"
    with pytest.raises(EngineError, match=expected) as caught:
        evaluate(CRYSTAL, Potential("x", "lammps", lines, None, 5.0), directory=tmp_path)
    assert "\n" not in str(caught.value)


def test_parts_of_a_named_file_are_of_the_potential(tmp_path: Path) -> None:
    """A GAP's sparse points: files that only its XML names, after its own name and a dot."""
    lines = tmp_path / "own.lmp"
    lines.write_text('pair_style quip\npair_coeff * * gap.xml "Potential xml_label=GAP" 14 8\n')
    (tmp_path / "gap.xml").write_text("<GAP/>")
    (tmp_path / "gap.xml2").touch()  # another file
    alone = imported_potential(lines, "own")
    assert list(alone.parameters["beside"]) == ["gap.xml"]
    points = tmp_path / "gap.xml.sparseX.GAP_1"
    points.write_text("1.0\n")
    whole = imported_potential(lines, "own")
    assert list(whole.parameters["beside"]) == ["gap.xml", "gap.xml.sparseX.GAP_1"]
    assert alone.identity != whole.identity
    points.write_text("2.0\n")
    assert imported_potential(lines, "own").identity != whole.identity

    taken = workspace(tmp_path / "product", whole.parameters)
    with pytest.raises(EngineError, match="found no pair style 'quip'"):
        potential.run(taken)
    assert (taken.directory / points.name).read_text() == "2.0\n"
    content = json.loads((taken.directory / "potential.json").read_text())
    assert content["commands"][1] == 'pair_coeff * * {directory}/gap.xml "Potential xml_label=GAP" 14 8'
