"""Jobs as they are submitted, and what a scheduler's answers mean; planted commands stand for Slurm's."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.base.errors import SuiteError
from jobs.engines.lammps.program import MPI_LAUNCH
from jobs.engines.process import KILLED
from jobs.running import batch, scheduler
from jobs.running.batch import State
from jobs.running.site import Site
from jobs.running.site_files import read_site
from jobs.running.worker import FAILURE, make_stage_in_job
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.workspace import Workspace
from tests.helpers.md_tools import crystal_product

needs_dpdispatcher = pytest.mark.skipif(
    find_spec("dpdispatcher") is None, reason="needs dpdispatcher: pip install -e '.[hpc]'"
)
SITE = {"name": "x", "batch_type": "Slurm", "kinds": {"default": {"memory_gb": 1, "walltime_h": 1}}}
MD = {
    "potential": "bks", "configuration": 0, "replicate": [1, 1, 1], "density_g_cm3": 2.2, "timestep_fs": 1.0,
    "damping_fs": 100.0, "ensemble": "nvt", "thermostat": "nose-hoover", "dump_every": 10, "thermo_every": 10,
    "checkpoint_every": 10, "schedule": [{"temperature_K": 300.0, "steps": 10}], "ranks": 2,
}  # fmt: skip
MELT = Stage("melt", "the melt", {})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "site.yml"
    path.write_text(json.dumps(SITE))  # JSON is YAML
    return read_site(str(path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a command on PATH. At first the queue is empty; jobs get the ids 1, 2, ... and are forgotten."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    put("squeue", "exit 0")
    put("sbatch", f"echo >> {folder}/count; wc -l < {folder}/count")
    put("scontrol", "exit 1")
    return put


@needs_dpdispatcher
def test_every_job_of_a_chain_waits_for_what_the_stage_needs(site, store, plant) -> None:
    """A lost input ends the first job, and with `afterany` alone the second would start without it."""
    long = Stage("md", "long", MD | {"ranks": 1}, inputs={"start": MELT}, core_seconds=2 * 3600)
    assert batch.chain_length(site, long) == 3
    batch.run([long], store, site)  # jobs 1 and 2: probe and melt
    scripts = [path.read_text() for path in (scheduler.job_root(store, long.name) / "1").glob(".*.sub")]
    found = sorted(re.search(r"--dependency=(\S+)", text)[1] for text in scripts)
    assert found == ["afterok:2:1", "afterok:2:1,afterany:3", "afterok:2:1,afterany:4"]


@needs_dpdispatcher
def test_a_job_that_the_queue_does_not_take_names_its_limits(site, store, plant) -> None:
    plant("sbatch", "echo 'sbatch: error: Job violates accounting/QOS policy (job submit limit)' >&2; exit 1")
    with pytest.raises(SuiteError) as caught:
        batch.run([MELT], store, site)
    said = str(caught.value)
    assert said.startswith("probe x, as for melt: found 'Job violates accounting/QOS policy' or a full queue")
    assert "(queue, walltime_h, gpus, cores of melt) or fewer jobs (max_jobs)" in said
    assert said.endswith(f"in {site.path}")


@pytest.mark.parametrize(
    ("word", "reason", "state", "says"),
    [
        ("OUT_OF_MEMORY", "lmp: died", State.FAILED, "want of memory: found memory_gb 1 for melt"),
        # Slurm forgets a job within minutes; most people look later.
        ("", f"code -9 ({KILLED})", State.FAILED, "want of memory: found memory_gb 1 for melt"),
        ("FAILED", "found 97 atoms", State.FAILED, "found 97 atoms"),
        ("", "found 97 atoms", State.FAILED, "found 97 atoms"),
        ("TIMEOUT", "srun ended with code 1", State.LOST, "its job ended without a product (TIMEOUT)"),
        ("NODE_FAIL", "srun ended with code 1", State.LOST, "its job ended without a product (NODE_FAIL)"),
    ],
)
def test_the_scheduler_is_asked_before_the_stage_is_believed(
    site, store, plant, word, reason, state, says
) -> None:
    if word:
        plant("scontrol", f"echo JobId=7 JobState={word}")
    directory = scheduler.job_root(store, MELT.name) / "1"
    directory.mkdir(parents=True)
    (directory / batch.SUBMISSION).write_text(json.dumps({"jobs": ["7"], "progress": 0.0}))
    (directory / FAILURE).write_text(json.dumps({"reason": reason}))
    (directory / scheduler.EXIT_CODE).write_text("2")
    found = batch.look(site, store, [MELT])[MELT.name]
    assert found.state is state
    assert says in found.text


def stage_with_a_start(store: Store) -> Stage:
    """MD on two ranks, planned, its start made."""
    part = crystal_product(store.part(MELT.name))
    store.finish(Recipe.of(MELT), Workspace({}, 0, {}, part), wall_seconds=1.0)
    stage = Stage("md", "dynamics", MD, seed=1, inputs={"start": MELT}, cores=2)
    store.write_recipe(Recipe.of(stage, ranks=2))
    return stage


def test_an_engine_that_was_killed_says_so(store, tmp_path, monkeypatch) -> None:
    stage = stage_with_a_start(store)
    monkeypatch.setenv(MPI_LAUNCH, "sh -c 'kill -KILL $$' lmp")
    with pytest.raises(SuiteError, match=r"sh ended with code -9 \(killed, perhaps for want of memory\)"):
        make_stage_in_job(store, stage.name, directory=tmp_path)
    assert KILLED in json.loads((tmp_path / FAILURE).read_text())["reason"]


def test_ranks_that_the_scheduler_stops_do_not_fail_the_stage(store, tmp_path, monkeypatch, capsys) -> None:
    """At the walltime Slurm ends the ranks first, and the stage half a minute later; its chain goes on."""
    stage = stage_with_a_start(store)
    monkeypatch.setenv(MPI_LAUNCH, "sh -c 'kill -TERM $$' lmp")
    with pytest.raises(SystemExit, match="143"):
        make_stage_in_job(store, stage.name, directory=tmp_path)
    assert "sh was told to stop" in capsys.readouterr().err
    assert not (tmp_path / FAILURE).exists()


@needs_dpdispatcher
@pytest.mark.parametrize(("restarts", "made"), [("", False), ("1", True)])
def test_a_job_that_slurm_starts_again_does_not_heed_its_own_failure(
    site, store, tmp_path, restarts, made
) -> None:
    """A node fails: its ranks end, the stage writes that down, and Slurm puts the job back into the queue."""
    part = crystal_product(store.part(MELT.name))
    store.finish(Recipe.of(MELT), Workspace({}, 0, {}, part), wall_seconds=1.0)
    stage = Stage("md", "dynamics", MD | {"ranks": 1}, seed=1, inputs={"start": MELT})
    store.write_recipe(Recipe.of(stage))
    directory = scheduler.job_root(store, stage.name) / "1"
    directory.mkdir(parents=True)
    (directory / FAILURE).write_text(json.dumps({"reason": "srun ended with code 1"}))
    script = scheduler.script_text(scheduler.prepare_job(site, store, stage, directory, image_digest=None))
    environment = os.environ | {"SLURM_RESTART_COUNT": restarts}
    subprocess.run(["bash", "-c", script], cwd=directory, env=environment, timeout=300)
    assert store.is_done(stage.name) is made
    assert ("srun ended with code 1" in (directory / scheduler.ERRORS).read_text()) is not made


@needs_dpdispatcher
def test_core_hours_are_of_what_was_ever_timed(site, store, plant, capsys) -> None:
    """A user's LAMMPS lines were not, nor is any GPU."""
    own = Stage("potential", "own", {"family": "lammps"}, core_seconds=10.0)
    inputs = {"start": MELT, "potential": own}
    batch.run([Stage("md", "dynamics", MD | {"ranks": 1}, inputs=inputs, core_seconds=1e9)], store, site)
    assert re.search(r"about 0\.0 core-hours and 1 stage\(s\) of unknown speed at x", capsys.readouterr().err)
