"""What was written after documentation and never run: schedulers other than Slurm, a host's own MPI.

All that is only about them is here, and whoever uses them is told (`notes`). The text of their scripts is
tested; whether a real queue takes it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.running import dispatcher

SCHEDULERS = ("PBS", "Torque", "LSF", "SGE")

# Lines of a script that dpdispatcher leaves to its users. A scheduler without a dependency line gets a stage
# only when all that it needs is there.
WALLTIME = {
    "PBS": "#PBS -l walltime={hms}",
    "Torque": "#PBS -l walltime={hms}",
    "LSF": "#BSUB -W {minutes}",
    "SGE": "#$ -l h_rt={hms}",
}
MEMORY = {
    "PBS": "#PBS -l mem={mb}mb",
    "Torque": "#PBS -l mem={mb}mb",
    "LSF": "#BSUB -M {mb}MB",
    "SGE": "#$ -l h_vmem={mb}M",
}
DEPENDENCY = {"PBS": "#PBS -W depend={conditions}", "Torque": "#PBS -W depend={conditions}"}
CANCEL = {"PBS": "qdel", "Torque": "qdel", "LSF": "bkill", "SGE": "qdel"}
# Settings of dpdispatcher's own that a DP-GEN machine file may have.
BACKEND = {
    "LSF": ("gpu_usage", "gpu_new_syntax", "gpu_exclusive", "custom_gpu_line"),
    "SGE": ("pe_name",),
}
# Where an image sees the host's MPI.
HOST_MPI = Path("/hostmpi")


def notes(batch_type: str, host_mpi: Path | None) -> Iterator[str]:
    """A line for each thing that a site asks for and that was never run."""
    if batch_type in SCHEDULERS:
        yield (
            f"note: {batch_type} was never run with this suite; scripts are written and their text is tested"
        )
    if host_mpi is not None:
        yield "note: a host's own MPI (host_libraries) was never run with this suite; its binds are tested"


def state(batch_type: str, job_id: str) -> str | None:
    """PENDING or RUNNING of a job, None when it has ended; dpdispatcher asks the scheduler.

    Raises:
        SuiteError: the scheduler does not answer.
    """
    dpdispatcher = dispatcher.load()
    machine = dpdispatcher.Machine.load_from_dict(dispatcher.machine(batch_type, Path.cwd()))
    task = dpdispatcher.Task(command="true", task_work_path=".")
    resources = dpdispatcher.Resources(1, 1, 0, "", 1)
    submission = dpdispatcher.Submission(".", machine=machine, resources=resources, task_list=[task])
    submission.generate_jobs()
    job = submission.belonging_jobs[0]
    job.job_id = job_id
    try:
        status = machine.check_status(job).name
    except (RuntimeError, OSError) as error:
        raise SuiteError(f"{batch_type}: {' '.join(str(error).split())}") from None
    return {"waiting": "PENDING", "running": "RUNNING", "completing": "RUNNING"}.get(status)


def with_host_mpi(host_mpi: Path) -> tuple[tuple[Path, Path, bool], dict[str, str]]:
    """The bind and the variables with which a program in an image finds the host's MPI, not its own."""
    return (host_mpi, HOST_MPI, False), {"LD_LIBRARY_PATH": str(HOST_MPI)}
