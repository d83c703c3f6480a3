"""Batch jobs under a real Slurm: nothing runs twice, nothing is lost, and what is wrong is one line.

Needs a Slurm that this user may submit to (CI brings up one node); skipped with that reason elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jobs.base.errors import SuiteError
from jobs.base.machine import IMAGE_VARIABLE
from jobs.campaign.build import build_campaign
from jobs.running import batch, scheduler
from jobs.running.batch import State
from jobs.running.local import run as dispatch_run
from jobs.running.site import Site
from jobs.running.site_files import read_site
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import plan

ROOT = Path(__file__).resolve().parents[2]
TIER = ROOT / "tests" / "helpers" / "tiny.yml"
PATIENCE_S = 300
# How an Apptainer image begins; enough for what is only looked at.
SIF_HEAD = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + bytes(64)
SITE = {
    "name": "bare",
    "batch_type": "Slurm",
    "cores_per_node": 2,
    "gpu_may_be_absent": True,
    "mpi": {"launcher": "srun", "options": ["--mpi=pmi2"]},
    "kinds": {"default": {"memory_gb": 1, "walltime_h": 0.5}},
}


def slurm_answers() -> bool:
    if shutil.which("squeue") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, timeout=30).returncode == 0


pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not slurm_answers(), reason="needs a Slurm that answers (see docs/cluster.md)"),
    pytest.mark.skipif(
        find_spec("dpdispatcher") is None, reason="needs dpdispatcher: pip install -e '.[hpc]'"
    ),
]


def write_site(folder: Path, **changes: Any) -> Path:
    path = folder / "bare.yml"
    path.write_text(json.dumps({**SITE, **changes}))
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return read_site(str(write_site(tmp_path)))


@pytest.fixture
def store(tmp_path: Path, site: Site) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    store.prepare()
    yield store
    scheduler.cancel(site, [job.id for job in jobs_of(site, store)])


def jobs_of(site: Site, store: Store) -> list[scheduler.Job]:
    return [job for jobs in scheduler.queued(site, store, {}).values() for job in jobs]


def wait_for(ready: Callable[[], Any], what: str, *, patience_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + patience_s
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
    return answer


def chain(*, steps: int, ranks: int = 1, seed: int = 1) -> tuple[Stage, Stage]:
    """A melt, and BKS dynamics from it: about a millisecond a step."""
    about = {
        "n_atoms": 96,
        "temperature_K": 5000.0,
        "timestep_fs": 1.0,
        "duration_ps": 0.2,
        "configurations": 1,
    }
    melt = Stage("melt", "melt", about, seed=seed)
    dynamics = {
        "n_atoms": 96,
        "configuration": 0,
        "density_g_cm3": 2.2,
        "timestep_fs": 1.0,
        "damping_fs": 100.0,
        "replicate": [1, 1, 1],
        "ranks": ranks,
        "dump_every": 100,
        "thermo_every": 100,
        "checkpoint_every": 200,
        "potential": "bks",
        "ensemble": "nvt",
        "thermostat": "nose-hoover",
        "schedule": [{"temperature_K": 5000.0, "steps": steps}],
    }
    md = Stage("md", "dynamics", dynamics, seed=seed, inputs={"start": melt}, cores=ranks)
    return melt, md


def standing(site: Site, store: Store, stage: Stage) -> batch.Standing:
    return batch.look(site, store, [stage])[stage.name]


def attempts(store: Store, stage: Stage) -> list[str]:
    return sorted(path.name for path in scheduler.job_root(store, stage.name).glob("*"))


def resumed(store: Store, stage: Stage) -> bool:
    """Whether LAMMPS was started from a restart file."""
    scripts = (store.part(stage.name) / "checkpoints").glob("from-*.in")
    return any(path.stem != "from-0" for path in scripts)


def finished_at(store: Store, stage: Stage) -> int:
    return (store.path(stage.name) / "manifest.json").stat().st_mtime_ns


def test_a_chain_with_two_mpi_ranks_runs_as_jobs_once(site: Site, store: Store) -> None:
    melt, md = chain(steps=300, ranks=2)
    outcome = batch.run([md], store, site, wait=True)
    assert not outcome.failed
    assert set(outcome.made) == {melt.name, md.name}
    manifest = store.manifest(md.name)
    assert manifest["cores"] == 2
    log = next(store.root.glob(f"jobs/{md.name}/1/.*.sub.run")).read_text()
    assert "srun --mpi=pmi2 --ntasks=2" in log
    probe = next(store.root.glob("probe-*/probe.json"))
    assert "scratch" in json.loads(probe.read_text())
    before = finished_at(store, md)
    again = batch.run([md], store, site, wait=True)
    assert (again.made, again.reused) == ([], 1)
    assert finished_at(store, md) == before
    assert attempts(store, melt) == attempts(store, md) == ["1"]


def test_without_waiting_it_returns_and_later_finds_everything_again(site: Site, store: Store) -> None:
    melt, md = chain(steps=300)
    outcome = batch.run([md], store, site)
    assert set(outcome.pending) == {melt.name, md.name}
    assert "job" in outcome.pending[md.name]
    assert batch.run([md], store, site).pending.keys() <= outcome.pending.keys()
    wait_for(lambda: store.is_done(md.name), "the product")
    assert batch.run([md], store, site).reused == 1
    assert attempts(store, md) == ["1"]


def test_a_submission_that_was_not_recorded_is_found_in_the_queue(site: Site, store: Store) -> None:
    melt, md = chain(steps=2000)
    batch.run([md], store, site)
    for stage in (melt, md):  # as after a kill between sbatch and the record
        (scheduler.job_root(store, stage.name) / "1" / batch.SUBMISSION).unlink()
    count = len(jobs_of(site, store))
    batch.run([md], store, site)
    assert len(jobs_of(site, store)) <= count
    assert attempts(store, melt) == attempts(store, md) == ["1"]


@pytest.mark.parametrize("delay_s", [0.6, 1.2, 1.8])
def test_submission_killed_anywhere_goes_on_without_a_second_job(
    tmp_path: Path, site: Site, store: Store, delay_s: float
) -> None:
    command = [sys.executable, "-m", "jobs", "run", "--tier", TIER, "--site", tmp_path / "bare.yml"]
    command += ["--store", store.root, "--only", "liquid-96-bks"]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)
    names = [job.directory.parent.name for job in jobs_of(site, store)]
    assert len(names) == len(set(names)), "a stage has two jobs"


@pytest.mark.skipif(
    not (ROOT / "images" / "lammps-mpi.sif").is_file(), reason="needs: python -m jobs images build lammps-mpi"
)
def test_an_nnp_of_two_ranks_each_in_the_image_has_the_native_kernel(store: Store) -> None:
    """`lmp` runs in the image and what writes its script does not: the plugin is the image's."""
    melt, _ = chain(steps=1)
    planned = build_campaign("smoke", start_from="potentials").labels["liquid-96-nvt"][0]
    nnp = next(stage for stage in planned.walk() if "potential" in stage.inputs)
    given = {**nnp.parameters, "ranks": 2, "schedule": [{"temperature_K": 3000.0, "steps": 20}]}
    md = replace(nnp, parameters=given, inputs={**nnp.inputs, "start": melt}, cores=2)
    outcome = batch.run([md], store, read_site("one-node"), wait=True)
    assert not outcome.failed
    facts = json.loads((store.path(md.name) / "md.json").read_text())
    assert facts["kernel"] == "native"


def test_a_cancelled_job_goes_on_where_it_stopped(site: Site, store: Store) -> None:
    melt, md = chain(steps=20_000)
    batch.run([md], store, site)
    part = store.part(md.name) / "checkpoints"
    wait_for(lambda: list(part.glob("restart-*")), "a checkpoint")
    melted = finished_at(store, melt)
    scheduler.cancel(site, list(standing(site, store, md).jobs))
    wait_for(lambda: not jobs_of(site, store), "an empty queue")
    assert standing(site, store, md).state is State.LOST
    batch.run([md], store, site)
    wait_for(lambda: resumed(store, md), "a run from the checkpoint")
    outcome = batch.run([md], store, site, wait=True)
    assert outcome.made == [md.name]
    assert finished_at(store, melt) == melted
    assert attempts(store, md) == ["1", "2"]


def test_a_job_at_its_walltime_is_followed_by_the_next_of_its_chain(tmp_path: Path, store: Store) -> None:
    # A minute is the shortest limit there is, and Slurm looks at limits twice a minute: the dynamics must
    # take longer than a minute and a half on any machine (less than 0.45 ms a step was seen).
    site = read_site(str(write_site(tmp_path, kinds={"default": {"memory_gb": 1, "walltime_h": 1 / 60}})))
    _, md = chain(steps=300_000)
    long = Stage("md", md.label, md.parameters, seed=md.seed, inputs=md.inputs, core_seconds=400)
    assert batch.chain_length(site, long) == 10
    batch.run([long], store, site)
    first = standing(site, store, long).jobs[0]
    wait_for(lambda: first not in standing(site, store, long).jobs, "the end of the first job")
    assert scheduler.last_word(site, first) == "TIMEOUT"
    wait_for(lambda: resumed(store, md), "a run from the checkpoint")
    wait_for(lambda: store.is_done(md.name), "the product of a later job", patience_s=800)
    assert attempts(store, long) == ["1"], "the chain needs nobody who submits again"


def test_ctrl_c_while_waiting_leaves_the_jobs_to_the_same_command(
    tmp_path: Path, site: Site, store: Store
) -> None:
    command = [sys.executable, "-m", "jobs", "run", "--tier", TIER, "--site", tmp_path / "bare.yml"]
    command += ["--store", store.root, "--only", "liquid-96-bks", "--wait"]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(job.state == "RUNNING" for job in jobs_of(site, store)), "a running job")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: the same command goes on from here" in said
    assert jobs_of(site, store), "the jobs stay in the queue"
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)
    # On a busy machine the signal may come before everything was submitted: a folder without a submission.
    submitted = [path.parent.parent.name for path in (store.root / "jobs").glob("*/*/submission.json")]
    assert len(submitted) == len(set(submitted)), "a stage was submitted twice"


def test_the_scheduler_restarted_under_running_jobs(tmp_path: Path, site: Site, store: Store) -> None:
    """slurmctld stopped and started, and slurmd killed."""
    pids = {name: Path(f"/run/slurm/{name}.pid") for name in ("slurmctld", "slurmd")}
    if os.geteuid() != 0 or not all(path.is_file() for path in pids.values()):
        pytest.skip("needs to be root of the one-node Slurm, to stop its daemons")
    _, md = chain(steps=80_000)
    outcome = batch.run([md], store, site)
    assert outcome.pending
    wait_for(lambda: list((store.part(md.name) / "checkpoints").glob("restart-*")), "a checkpoint")
    jobs = standing(site, store, md).jobs
    os.kill(int(pids["slurmctld"].read_text()), signal.SIGTERM)
    wait_for(lambda: not slurm_answers(), "the end of slurmctld")
    with pytest.raises(SuiteError, match="squeue"):
        batch.run([md], store, site)
    subprocess.run(["slurmctld"], check=True)
    wait_for(slurm_answers, "slurmctld")
    os.kill(int(pids["slurmd"].read_text()), signal.SIGKILL)
    subprocess.run(["slurmd"], check=True)
    assert standing(site, store, md).jobs == jobs
    outcome = batch.run([md], store, site, wait=True)
    assert not outcome.failed
    assert store.is_done(md.name)
    assert attempts(store, md) == ["1"]


def test_what_fails_says_why_holds_up_what_needs_it_and_is_retried_only_when_asked(
    site: Site, store: Store
) -> None:
    melt, md = chain(steps=100)
    wrong = Stage("melt", "wrong melt", {**melt.parameters, "n_atoms": 97})
    after = Stage("md", "after it", md.parameters, inputs={"start": wrong})
    outcome = batch.run([after], store, site, wait=True)
    assert "97" in outcome.failed[wrong.name]
    assert "\n" not in outcome.failed[wrong.name]
    assert "needs wrong melt" in outcome.blocked[after.name]
    assert batch.run([after], store, site, wait=True).failed == outcome.failed
    assert attempts(store, wrong) == ["1"]
    batch.run([after], store, site, wait=True, retry_failed=True)
    assert attempts(store, wrong) == ["1", "2"]


def test_only_jobs_that_began_and_failed_count_as_fruitless(site: Site, store: Store) -> None:
    melt, _ = chain(steps=100)
    for number in range(1, batch.MAX_FRUITLESS + 1):
        directory = scheduler.job_root(store, melt.name) / str(number)
        directory.mkdir(parents=True)
        (directory / batch.SUBMISSION).write_text(json.dumps({"jobs": [], "progress": 0.0}))
    assert standing(site, store, melt).state is batch.State.MISSING  # none began
    for directory in scheduler.job_root(store, melt.name).iterdir():
        (directory / scheduler.OUTPUT).write_text("")
        (directory / scheduler.EXIT_CODE).write_text("0")
    assert standing(site, store, melt).state is batch.State.MISSING  # their product was deleted since
    for directory in scheduler.job_root(store, melt.name).iterdir():
        (directory / scheduler.EXIT_CODE).unlink()
    found = standing(site, store, melt)
    assert found.state is batch.State.FAILED
    assert f"{batch.MAX_FRUITLESS} jobs ended without getting any further" in found.text


def test_ranks_that_run_apart_stop_at_the_probe(tmp_path: Path, store: Store) -> None:
    site = read_site(str(write_site(tmp_path, mpi={"launcher": "srun", "options": ["--mpi=none"]})))
    _, md = chain(steps=100, ranks=2)
    outcome = batch.run([md], store, site, wait=True)
    reasons = list(outcome.failed.values())
    assert len(reasons) == 1
    assert "expected 2 ranks together" in reasons[0]
    assert "srun needs --mpi=pmi2" in reasons[0]
    assert not store.is_done(md.name)


def test_an_mpi_plugin_that_slurm_does_not_have_is_one_line(tmp_path: Path, store: Store) -> None:
    site = read_site(str(write_site(tmp_path, mpi={"launcher": "srun", "options": ["--mpi=pmi9"]})))
    _, md = chain(steps=100, ranks=2)
    (reason,) = batch.run([md], store, site, wait=True).failed.values()
    assert "pmi9" in reason
    assert "\n" not in reason


def test_a_job_killed_for_memory_names_what_was_asked_for(site: Site, store: Store) -> None:
    _, md = chain(steps=20_000)
    batch.run([md], store, site)
    folder = store.part(md.name) / "checkpoints"
    wait_for(lambda: list(folder.glob("restart-*")), "a checkpoint")
    # What the kernel does when memory runs out: SIGKILL to the process that holds it.
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and md.name.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
            os.kill(int(entry.name), signal.SIGKILL)
    wait_for(lambda: not jobs_of(site, store), "an empty queue")
    found = standing(site, store, md)
    assert found.state is State.FAILED
    assert "want of memory: found memory_gb 1 for md" in found.text
    assert "bare.yml" in found.text


def test_a_dpgen_machine_file_runs_as_it_is(tmp_path: Path, store: Store) -> None:
    resources = {
        "number_node": 1,
        "cpu_per_node": 1,
        "gpu_per_node": 0,
        "queue_name": "debug",
        "group_size": 1,
    }
    machine = {"batch_type": "Slurm", "context_type": "LocalContext", "local_root": "./", "remote_root": "./"}
    entry = {"command": "lmp", "machine": machine, "resources": resources | {"envs": {"MARK": "dpgen"}}}
    path = tmp_path / "machine.json"
    path.write_text(
        json.dumps({"api_version": "1.0", "train": [entry], "model_devi": [entry], "fp": [entry]})
    )
    melt, _ = chain(steps=100)
    outcome = batch.run([melt], store, read_site(str(path)), wait=True)
    assert outcome.made == [melt.name]
    script = next((scheduler.job_root(store, melt.name) / "1").glob(".*.sub")).read_text()
    assert "#SBATCH --partition debug" in script
    assert "export MARK=dpgen" in script
    assert "--time" not in script


def test_the_whole_suite_as_one_small_job(tmp_path: Path, site: Site, store: Store) -> None:
    """`jobs/running/sites/suite.sbatch` submits, waits, judges, leaves its verdicts; nobody is logged in."""
    results = tmp_path / "results"
    command = [
        "sbatch",
        "--parsable",
        f"--output={tmp_path}/suite.log",
        ROOT / "jobs" / "running" / "sites" / "suite.sbatch",
    ]
    command += ["--site", tmp_path / "bare.yml", "--tier", TIER, "--store", store.root, "--results", results]
    command += ["-k", "dangerous-builds and bks"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    job_id = done.stdout.strip()
    wait_for(lambda: scheduler.last_word(site, job_id) not in ("PENDING", "RUNNING", "COMPLETING"), "the job")
    log = (tmp_path / "suite.log").read_text()
    (verdicts,) = results.glob("*/claims.json")
    claims = json.loads(verdicts.read_text())["claims"]
    assert claims, log
    found = {row["verdict"] for row in claims}
    assert "PASS" in found, log
    assert found <= {"PASS", "NOT TESTED"}, log


def site_with_image(tmp_path: Path, content: bytes | None, digest: str) -> Site:
    """A site whose one image is `content`, recorded with `digest`."""
    folder = tmp_path / "images"
    folder.mkdir()
    if content is not None:
        (folder / "box.sif").write_bytes(content)
        (folder / "box.json").write_text(json.dumps({"digest": digest}))
    kinds = {"default": {"image": "box", "memory_gb": 1, "walltime_h": 0.5}}
    return read_site(str(write_site(tmp_path, images=str(folder), kinds=kinds)))


def test_an_image_that_is_missing_or_another_one_stops_before_any_job(tmp_path: Path, store: Store) -> None:
    _, md = chain(steps=100)
    with pytest.raises(SuiteError, match=r"box\.sif: no such image; .*images build"):
        batch.run([md], store, site_with_image(tmp_path, None, ""))
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(SuiteError, match=r"box\.sif: found digest \w+, expected 0{12} of box\.json"):
        batch.run([md], store, site_with_image(tmp_path, SIF_HEAD, "0" * 64))
    assert not (store.root / "jobs").exists()


def test_a_product_of_another_image_is_named_stale(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    melt, _ = chain(steps=100)
    monkeypatch.setenv(IMAGE_VARIABLE, f"box:{'a' * 64}")
    dispatch_run([melt], store)  # the manifest says which image its process ran in
    assert store.manifest(melt.name)["image"] == f"box:{'a' * 64}"
    site = site_with_image(tmp_path, SIF_HEAD, hashlib.sha256(SIF_HEAD).hexdigest())
    outcome = batch.run([melt], store, site)
    said = " ".join(capsys.readouterr().err.split())
    assert outcome.reused == 1
    assert "1 products: found image box aaaaaaaaaaaa" in said
    assert "--rebuild-stale makes them again" in said


def test_three_hundred_stages_are_planned_and_submitted_quickly(site: Site, store: Store) -> None:
    stages = [chain(steps=100, seed=seed)[1] for seed in range(150)]  # each needs a melt of its own
    subprocess.run(["scontrol", "update", "PartitionName=debug", "State=DOWN"], check=True)
    try:
        begun = time.monotonic()
        assert len(plan(stages, store).to_do) == 300
        assert time.monotonic() - begun < 1.0
        begun = time.monotonic()
        outcome = batch.run(stages, store, site)
        submitted_s = time.monotonic() - begun
        assert len(outcome.pending) == 300
        assert len(jobs_of(site, store)) == 301  # and the probe
        begun = time.monotonic()
        assert len(batch.run(stages, store, site).pending) == 300
        looked_s = time.monotonic() - begun
        assert len(batch.cancel(site, store, [*stages, *[s.inputs["start"] for s in stages]])) == 300
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=debug", "State=UP"], check=True)
    print(f"300 stages: submitted in {submitted_s:.1f} s, looked at in {looked_s:.1f} s")
    assert submitted_s < 60
    assert looked_s < 3


def test_the_whole_paper_tier_is_printed_with_its_scripts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run", "--dry-run", "--tier", "paper", "--site", "example-gpu"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    text = done.stdout
    assert "#SBATCH --gres=gpu:1" in text
    assert "#SBATCH --time=24:00:00" in text
    assert "deepmd-cuda.sif" in text
    assert "node-hours" in text
    assert "disk: about" in text
    assert not (ROOT / "dpdispatcher.log").exists()
