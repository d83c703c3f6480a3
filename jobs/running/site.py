"""A site: what a cluster is like, and what jobs ask for there (its files are read by `site_files.py`).

Nothing here enters a stage's identity: a campaign may be begun on one site and ended on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.running import untried

BATCH_TYPES = ("Slurm", *untried.SCHEDULERS)


@dataclass(frozen=True)
class Request:
    """What a job of one kind of stage asks for.

    `cores` and `gpus` are per node and at least. A stage that asks for more cores gets them: MPI ranks
    that `srun` starts on as many nodes as that takes, anything else up to those of one node. `image`
    names a file of the site's images folder, null runs the engines of this Python's environment or of the
    loaded modules. `flags` are whole lines of the scheduler (`#SBATCH --account=...`), `setup` shell
    lines before the work (`module load apptainer`), `teardown` lines after it. `backend` are settings of
    dpdispatcher's own for this scheduler (its `kwargs`).
    """

    image: str | None = None
    queue: str = ""
    cores: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    walltime_h: float | None = 24.0
    flags: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    teardown: tuple[str, ...] = ()
    backend: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """A cluster as this suite sees it.

    Attributes:
        name: of the site.
        path: of its file, for messages.
        batch_type: scheduler, in dpdispatcher's words (`BATCH_TYPES`).
        cores_per_node: most cores that one node gives to a job.
        images: folder of the .sif files, or None.
        binds: folders that jobs see besides the repository and the store.
        launcher: `srun`: ranks are started by the scheduler, each in the image; `mpirun`: inside one image
            on one node.
        launcher_options: of it, for example `--mpi=pmi2`.
        share_namespaces: start the ranks of a node in one user namespace (`apptainer exec --sharens`).
        host_mpi: folder of the site's own MPICH-ABI libraries to use inside the image, or None.
        gpu_may_be_absent: go on without the GPU that was asked for; for test machines.
        max_jobs: most jobs in the queue at once.
        kinds: request by kind of stage; `default` holds for the others.
        notes: what is said to whoever uses it, a line each: what of its file is not kept, what was never run.
    """

    name: str
    path: Path
    batch_type: str
    cores_per_node: int
    images: Path | None
    binds: tuple[Path, ...]
    launcher: str
    launcher_options: tuple[str, ...]
    share_namespaces: bool
    host_mpi: Path | None
    gpu_may_be_absent: bool
    max_jobs: int
    kinds: Mapping[str, Request]
    notes: tuple[str, ...] = ()

    def request(self, kind: str) -> Request:
        """What a stage of this kind asks for."""
        return self.kinds.get(kind, self.kinds["default"])

    def image(self, kind: str) -> Path | None:
        """The image that a stage of this kind runs in."""
        name = self.request(kind).image
        if name is None or self.images is None:
            return None
        return self.images / f"{name}.sif"
