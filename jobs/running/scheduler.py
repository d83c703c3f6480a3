"""The batch scheduler: job scripts and submission through dpdispatcher, the queue, cancelling.

Each job works in a folder of its own, `<store>/jobs/<stage>/<attempt>/`, which also names it: the
scheduler is asked which folders have a job before anything is submitted, so that an interrupted
submission is found again. dpdispatcher writes the scripts and speaks to the schedulers; it does not
supervise: a stage is done when its product is there, and only then.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.machine import IMAGE_VARIABLE
from jobs.base.paths import ROOT
from jobs.cost.estimates import speed_is_unknown
from jobs.engines.apptainer import exec_prefix
from jobs.engines.lammps.kernel import NATIVE
from jobs.engines.lammps.native.build import RANKS_IMAGE
from jobs.engines.lammps.program import MPI_LAUNCH
from jobs.engines.process import THREAD_VARIABLES
from jobs.running import dispatcher, untried
from jobs.running.site import Request, Site
from jobs.running.worker import FAILURE
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store

COMMAND_TIMEOUT_S = 60
PROBE_WALLTIME_H = 0.25
EXIT_CODE = "exit-code"
OUTPUT, ERRORS = "job.out", "job.err"

# Lines of a script that dpdispatcher leaves to its users.
_WALLTIME = {"Slurm": "#SBATCH --time={hms}", **untried.WALLTIME}
_MEMORY = {"Slurm": "#SBATCH --mem={mb}M", **untried.MEMORY}
_DEPENDENCY = {
    "Slurm": "#SBATCH --dependency={conditions}\n#SBATCH --kill-on-invalid-dep=yes",
    **untried.DEPENDENCY,
}
_CANCEL = {"Slurm": "scancel", **untried.CANCEL}


@dataclass(frozen=True)
class Job:
    """A job in the queue: its id, `PENDING` or `RUNNING`, the scheduler's reason, and its folder."""

    id: str
    state: str
    reason: str
    directory: Path


def knows_dependencies(site: Site) -> bool:
    """Whether jobs may be submitted before what they need is there."""
    return site.batch_type in _DEPENDENCY


def job_root(store: Store, stage_name: str) -> Path:
    """Where the jobs of a stage work."""
    return store.root / "jobs" / stage_name


# The queue ----------------------------------------------------------------------------------------


def _call(*command: str) -> str:
    """What a scheduler's command prints.

    Raises:
        SuiteError: it is not installed, fails, or does not answer.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SuiteError(f"{command[0]}: not found on PATH, expected the scheduler's commands") from None
    except subprocess.TimeoutExpired:
        raise SuiteError(
            f"{command[0]}: no answer in {COMMAND_TIMEOUT_S} s; the scheduler is busy or down"
        ) from None
    if done.returncode != 0:
        said = " | ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise SuiteError(f"{command[0]} ended with code {done.returncode}: {said or 'it said nothing'}")
    return done.stdout


def queued(site: Site, store: Store, submitted: Mapping[str, Sequence[str]]) -> dict[str, list[Job]]:
    """Jobs of this store that wait or run, by stage name.

    `submitted` holds the known job ids by stage name; Slurm is asked once and finds jobs by their folder,
    other schedulers are asked for each known job.

    Raises:
        SuiteError: the scheduler does not answer.
    """
    found: dict[str, list[Job]] = {}
    if site.batch_type == "Slurm":
        root = store.root / "jobs"
        for line in _call("squeue", "--me", "--noheader", "--format=%i|%T|%r|%Z").splitlines():
            job_id, state, reason, folder = line.split("|", 3)
            directory = Path(folder)
            if directory.is_relative_to(root):
                waits = state in ("PENDING", "CONFIGURING", "SUSPENDED", "REQUEUED")
                job = Job(job_id, "PENDING" if waits else "RUNNING", reason, directory)
                found.setdefault(directory.relative_to(root).parts[0], []).append(job)
        return found
    for name, ids in submitted.items():
        for job_id in ids:
            if standing := untried.state(site.batch_type, job_id):
                found.setdefault(name, []).append(Job(job_id, standing, "", job_root(store, name)))
    return found


def last_word(site: Site, job_id: str) -> str:
    """How a job ended, in the scheduler's word (`TIMEOUT`, ...); empty where it has forgotten."""
    if site.batch_type != "Slurm":
        return ""
    try:
        said = _call("scontrol", "--oneliner", "show", "job", job_id)
    except SuiteError:
        return ""
    return next((word.split("=", 1)[1] for word in said.split() if word.startswith("JobState=")), "")


def cancel(site: Site, job_ids: Sequence[str]) -> None:
    """Take jobs out of the queue, running ones too.

    Raises:
        SuiteError: the scheduler does not answer.
    """
    if job_ids:
        _call(_CANCEL[site.batch_type], *job_ids)


# Jobs ---------------------------------------------------------------------------------------------


def asked_ranks(stage: Stage) -> int:
    """MPI ranks that a stage asks for, meant for cores."""
    return int(stage.parameters.get("ranks", 1))


def ranks(site: Site, stage: Stage) -> int:
    """MPI ranks that a stage gets: one for each GPU where its MD has GPUs, with mpirun a node's."""
    asked = asked_ranks(stage)
    if _md_on_gpus(site, stage):
        return min(asked, request_of(site, stage).gpus)
    return asked if site.launcher == "srun" else min(asked, _cores_of_a_node(site, stage))


def _by_deepmd(stage: Stage) -> bool:
    """Whether DeePMD-kit does a stage's work where there is a GPU."""
    potential = stage.inputs.get("potential", stage)
    deepmd = potential.kind == "train" or potential.parameters.get("family") == "deepmd"
    return deepmd and stage.wanted_kernel != NATIVE


def _by_own_lines(stage: Stage) -> bool:
    """Whether a user's LAMMPS lines do a stage's work."""
    return stage.inputs.get("potential", stage).parameters.get("family") == "lammps"


def _md_on_gpus(site: Site, stage: Stage) -> bool:
    return (_by_deepmd(stage) or _by_own_lines(stage)) and request_of(site, stage).gpus > 0


def launched(site: Site, stage: Stage) -> bool:
    """Whether the scheduler starts a stage's ranks, and so fixes how many they are."""
    return site.launcher == "srun" and ranks(site, stage) > 1


def kind_of(site: Site, stage: Stage) -> str:
    """The kind whose place in the site file a stage takes.

    A probe goes where the probed stages go. What cannot use a GPU never holds one: it takes the place of
    `default` where its kind asks for GPUs.
    """
    if stage.kind == "probe":
        return str(stage.parameters["of"])
    return "default" if site.request(stage.kind).gpus and not _may_use_gpu(stage) else stage.kind


def _may_use_gpu(stage: Stage) -> bool:
    """DeePMD-kit can; only the user knows it of a first-principles program and of LAMMPS commands given."""
    return stage.kind == "aimd" or _by_own_lines(stage) or _by_deepmd(stage)


def request_of(site: Site, stage: Stage) -> Request:
    """What a stage's job asks for."""
    return site.request(kind_of(site, stage))


def image_of(site: Site, stage: Stage) -> Path | None:
    """The image that a stage's job runs in."""
    return site.image(kind_of(site, stage))


def _cores_of_a_node(site: Site, stage: Stage) -> int:
    """Most cores of one node for a stage; a request of more knows better than `cores_per_node`."""
    return max(site.cores_per_node, request_of(site, stage).cores)


def nodes_and_cores(site: Site, stage: Stage) -> tuple[int, int]:
    """Nodes, and cores on each, that a stage's job gets.

    Only MPI ranks can use several nodes; what measures cost gets a whole one, so that nothing runs beside it.
    """
    count, node = ranks(site, stage), _cores_of_a_node(site, stage)
    if stage.kind == "cost":
        return 1, node
    wanted = stage.cores if count == asked_ranks(stage) else count
    cores = max(request_of(site, stage).cores, wanted)
    if count == 1:
        return 1, min(cores, node)
    nodes = math.ceil(cores / node)
    return nodes, math.ceil(cores / nodes)


def wall_seconds(site: Site, stage: Stage) -> float:
    """Rough time of a stage on what its job gets; cores that it did not ask for count for nothing."""
    nodes, cores = nodes_and_cores(site, stage)
    if stage.kind == "cost":
        from jobs.cost.plan import seconds_of

        return seconds_of(stage, cores)
    return stage.core_seconds / min(stage.cores, nodes * cores)


def is_estimated(stage: Stage, site: Site | None) -> bool:
    """Whether the speed of a stage is known: no GPU was ever timed, nor are LAMMPS commands of the user's."""
    on_gpu = site is not None and request_of(site, stage).gpus > 0
    return not on_gpu and not speed_is_unknown(stage)


def recipe_of(site: Site, stage: Stage) -> Recipe:
    """A stage's recipe with the cores of its job, and its ranks unless the stage may choose them.

    What was tuned on cores may not choose how many ranks share a GPU.
    """
    count, (_, cores) = ranks(site, stage), nodes_and_cores(site, stage)
    asked = count == asked_ranks(stage)
    fixed = launched(site, stage) or _md_on_gpus(site, stage) or not asked
    return Recipe.of(stage, cores=None if asked and count > 1 else cores, ranks=count if fixed else None)


def prepare_job(
    site: Site,
    store: Store,
    stage: Stage,
    directory: Path,
    *,
    image_digest: str | None,
    after_success: Sequence[str] = (),
    after_any: Sequence[str] = (),
) -> Any:
    """The dpdispatcher submission of one stage, its script not written yet.

    `after_success` and `after_any` are ids of jobs that must have succeeded, or ended, before it starts.
    """
    dpdispatcher = dispatcher.load()
    request = request_of(site, stage)
    if stage.kind == "probe" and request.walltime_h is not None:
        request = replace(request, walltime_h=min(request.walltime_h, PROBE_WALLTIME_H))
    nodes, cores = nodes_and_cores(site, stage)
    resources = dpdispatcher.Resources(
        number_node=nodes,
        cpu_per_node=cores,
        gpu_per_node=request.gpus,
        queue_name=request.queue,
        group_size=1,
        custom_flags=_flags(site, request, after_success, after_any),
        envs=_environment(site, stage, image_digest),
        prepend_script=list(request.setup),
        append_script=list(request.teardown),
        kwargs=dict(request.backend),
    )
    # A job that Slurm starts again, because a node under it failed, does not heed its own first failure.
    command = (
        f'[ -z "$SLURM_RESTART_COUNT" ] || rm -f {FAILURE}; '
        f"{shlex.join(_stage_command(site, store, stage, directory, image_digest))}; code=$?; "
        f"echo $code > {EXIT_CODE}; exit $code"
    )
    task = dpdispatcher.Task(
        command=command, task_work_path=".", outlog=OUTPUT, errlog=ERRORS, task_name=stage.name
    )
    machine = dpdispatcher.Machine.load_from_dict(dispatcher.machine(site.batch_type, directory))
    submission = dpdispatcher.Submission(".", machine=machine, resources=resources, task_list=[task])
    submission.generate_jobs()
    return submission


def script_text(submission: Any) -> str:
    """The whole script of a submission, as for `--dry-run`."""
    job = submission.belonging_jobs[0]
    return f"{submission.machine.gen_script(job)}{submission.machine.gen_script_command(job)}"


def submit(site: Site, stage: Stage, submission: Any) -> str:
    """Hand a stage's job to the scheduler and return its id.

    Raises:
        SuiteError: the scheduler refuses it; its own words, where dpdispatcher passes them on.
    """
    job = submission.belonging_jobs[0]
    try:
        job_id = str(submission.machine.do_submit(job))
    except (RuntimeError, OSError) as error:
        said = " ".join(str(error).replace("error message:", "").split())
        raise SuiteError(f"{site.batch_type}: {said}") from None
    if not job_id:
        # Slurm's words for too many jobs are also those for a job that asks for too much.
        raise SuiteError(
            f"{stage.label}: found 'Job violates accounting/QOS policy' or a full queue, expected a job "
            f"within the queue's limits (queue, walltime_h, gpus, cores of {kind_of(site, stage)}) or fewer "
            f"jobs (max_jobs) in {site.path}"
        )
    return job_id


def _flags(site: Site, request: Request, after_success: Sequence[str], after_any: Sequence[str]) -> list[str]:
    flags = []
    if request.walltime_h is not None:
        minutes = math.ceil(request.walltime_h * 60)
        hms = f"{minutes // 60}:{minutes % 60:02d}:00"
        flags.append(_WALLTIME[site.batch_type].format(hms=hms, minutes=minutes))
    if request.memory_gb is not None:
        flags.append(_MEMORY[site.batch_type].format(mb=math.ceil(request.memory_gb * 1000)))
    conditions = [
        f"{word}:{':'.join(ids)}"
        for word, ids in (("afterok", after_success), ("afterany", after_any))
        if ids
    ]
    if conditions:
        flags += _DEPENDENCY[site.batch_type].format(conditions=",".join(conditions)).splitlines()
    return [*flags, *request.flags]


def _environment(site: Site, stage: Stage, image_digest: str | None) -> dict[str, str]:
    """What the job exports: threads, where Python finds the suite, which image it is."""
    _, cores = nodes_and_cores(site, stage)
    threads = 1 if ranks(site, stage) > 1 else cores
    environment = {name: str(threads) for name in THREAD_VARIABLES}
    environment |= {
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if (image := image_of(site, stage)) is not None:
        environment[IMAGE_VARIABLE] = f"{image.stem}:{image_digest}"
    return environment | dict(request_of(site, stage).environment)


def _stage_command(
    site: Site, store: Store, stage: Stage, directory: Path, image_digest: str | None
) -> list[str]:
    """`make` in the image; outside it where the scheduler starts the ranks, each in the image."""
    make = ["-m", "jobs", "make", stage.name, "--store", str(store.root), "--job", str(directory)]
    image = image_of(site, stage)
    if launched(site, stage):
        launch = ["srun", *site.launcher_options, f"--ntasks={ranks(site, stage)}"]
        variables = {}
        if image is not None:
            inside = _in_image(
                site, store, stage, image, environment={"PYTHONPATH": str(ROOT), RANKS_IMAGE: ""}
            )
            variables[RANKS_IMAGE] = shlex.join(inside)
            launch += [*inside, "lmp"]
        else:
            beside = Path(sys.executable).parent / "lmp"
            launch.append(str(beside) if beside.is_file() else "lmp")
        variables[MPI_LAUNCH] = shlex.join(launch)
        return ["env", *(f"{name}={value}" for name, value in variables.items()), sys.executable, *make]
    if image is None:
        return [sys.executable, *make]
    environment = _environment(site, stage, image_digest)
    return [*_in_image(site, store, stage, image, environment=environment), "python", *make]


def _in_image(
    site: Site, store: Store, stage: Stage, image: Path, *, environment: Mapping[str, str]
) -> list[str]:
    """`apptainer exec ... IMAGE` with what the stage may see; `environment` is set inside."""
    binds = [(ROOT, ROOT, False), (store.root, store.root, True)]
    binds += [(folder, folder, True) for folder in site.binds]
    # What a user gave lies where the user put it: a potential or starts, a deposit of one's own.
    given = [Path(stage.parameters["file"]).resolve().parent] if "file" in stage.parameters else []
    given += [Path(stage.parameters["deposit"]).resolve()] if "deposit" in stage.parameters else []
    binds += [(folder, folder, False) for folder in given if not folder.is_relative_to(ROOT)]
    names = dict(environment)
    if request_of(site, stage).gpus:
        # What TensorFlow compiles for a new GPU; there is no HOME inside to keep it in.
        names.setdefault("CUDA_CACHE_PATH", str(store.root / "cuda-cache"))
    if site.host_mpi is not None:
        bind, variables = untried.with_host_mpi(site.host_mpi)
        binds.append(bind)
        names |= variables
    return exec_prefix(
        image,
        binds=binds,
        gpu=request_of(site, stage).gpus > 0,
        share_namespaces=site.share_namespaces,
        environment=names,
    )
