"""Site files: those that come with the suite, one of your own, or a DP-GEN machine file, as a `Site`.

`SiteKeys` and the classes before it are the file's sections; each key is explained below its attribute.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from jobs.base.errors import SuiteError
from jobs.base.schema import (
    Count,
    Flag,
    Keys,
    OneOf,
    PositiveOrNull,
    Text,
    TextOrNull,
    TextOrNumber,
    Texts,
    Whole,
    names,
    read_model,
)
from jobs.running import untried
from jobs.running.site import BATCH_TYPES, Request, Site
from jobs.running.sites.dpgen import read_machine_file
from jobs.stages.kinds import ROOMS


class RequestKeys(Keys):
    """What a job of one kind of stage asks for; what it does not say, `default` says."""

    image: TextOrNull = None
    """Name of a file of the images' folder; null: the engines of this environment, or of loaded modules."""
    queue: Text = ""
    """The scheduler's queue or partition."""
    cores: Count = 1
    """Of one node, at least; a stage that asks for more gets them."""
    gpus: Whole = 0
    """Of one node; a stage of the kind that cannot use one takes `default` instead."""
    memory_gb: PositiveOrNull = None
    """Of one node; null: what the scheduler gives."""
    walltime_h: PositiveOrNull = 24.0
    """Longest time of a job; a longer stage becomes a chain of jobs. Null: what `flags` say."""
    flags: Texts = ()
    """Whole lines of the scheduler (#SBATCH --account=...)."""
    setup: Texts = ()
    """Shell lines before the work (module load apptainer)."""
    environment: Annotated[dict[str, TextOrNumber], names()] = Field(default={})
    """Variables of the job."""

    def said(self) -> dict[str, Any]:
        """What the file says, as `Request` has it."""
        values = self.model_dump(exclude_unset=True)
        if "environment" in values:
            values["environment"] = {name: str(value) for name, value in values["environment"].items()}
        return values


class Mpi(Keys):
    """How ranks are started."""

    launcher: Annotated[str, OneOf("mpirun", "srun")] = "mpirun"
    """srun: the scheduler starts each rank in the image; mpirun: all inside one image, on one node."""
    options: Texts = ()
    """Of the launcher, as --mpi=pmi2."""
    share_namespaces: Flag = False
    """Whether the ranks of a node share one user namespace (apptainer exec --sharens)."""
    host_libraries: TextOrNull = None
    """Folder of the site's own MPICH-ABI libraries, to use inside the image."""


class SiteKeys(Keys):
    """What a cluster is like."""

    name: Text
    """Says where a product was probed; any word."""
    batch_type: Annotated[str, OneOf(*BATCH_TYPES)]
    """The scheduler, in dpdispatcher's words."""
    cores_per_node: Count = 1
    """Most cores that one job gets on one node."""
    images: TextOrNull = None
    """Folder of the .sif files, relative to where the suite is run."""
    binds: Texts = ()
    """Folders that jobs see besides the repository and the store."""
    mpi: Mpi = Mpi()
    """How ranks are started."""
    gpu_may_be_absent: Flag = False
    """Go on without the GPU that was asked for; for test machines."""
    max_jobs: Count = 1000
    """Most jobs in the queue."""
    kinds: Annotated[dict[str, RequestKeys], names(only=("default", *ROOMS), needed=("default",))]
    """What jobs ask for, by kind of stage; `default` holds for the others."""


SITES = Path(__file__).parent / "sites"


def known_sites() -> list[str]:
    """Names of the site files that come with the suite."""
    return sorted(path.stem for path in SITES.glob("*.yml"))


def read_site(name: str) -> Site:
    """A site by its name in `sites/`, by the path of a site file, or of a DP-GEN machine file (.json).

    Raises:
        SuiteError: no such file, not a site, a key or a value that is not understood.
    """
    given = Path(name)
    path = given if given.suffix in (".yml", ".yaml", ".json") else SITES / f"{name}.yml"
    if not path.is_file():
        raise SuiteError(f"site {name}: not found, expected one of {', '.join(known_sites())}, or a file")
    site = _fitting(read_machine_file(path) if path.suffix == ".json" else _from_yaml(path))
    return replace(site, notes=(*site.notes, *untried.notes(site.batch_type, site.host_mpi)))


def _from_yaml(path: Path) -> Site:
    content = read_model(path, SiteKeys)
    default = Request(**content.kinds["default"].said())
    return Site(
        name=content.name,
        path=path,
        batch_type=content.batch_type,
        cores_per_node=content.cores_per_node,
        images=_folder(content.images),
        binds=tuple(Path(folder).expanduser().resolve() for folder in content.binds),
        launcher=content.mpi.launcher,
        launcher_options=tuple(content.mpi.options),
        share_namespaces=content.mpi.share_namespaces,
        host_mpi=_folder(content.mpi.host_libraries),
        gpu_may_be_absent=content.gpu_may_be_absent,
        max_jobs=content.max_jobs,
        kinds={kind: replace(default, **entry.said()) for kind, entry in content.kinds.items()},
    )


def _folder(value: str | None) -> Path | None:
    """A folder as the site file means it: relative to where the suite is run."""
    return None if value is None else Path(value).expanduser().resolve()


def _fitting(site: Site) -> Site:
    """A site whose parts fit together.

    Raises:
        SuiteError: they do not.
    """
    if site.launcher == "srun" and site.batch_type != "Slurm":
        raise SuiteError(f"{site.path}: mpi: found launcher srun with {site.batch_type}, expected Slurm")
    if site.images is None:
        for kind, request in site.kinds.items():
            if request.image is not None:
                raise SuiteError(
                    f"{site.path}: kinds: {kind}: found image {request.image} and no images folder, "
                    "expected images: FOLDER"
                )
    return site
