"""A site: what a cluster is like, as a file a person edits (`sites/*.yml`, or a DP-GEN machine file).

Nothing here enters a stage's identity: a campaign may be begun on one site and ended on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.paths import ROOT
from jobs.base.schema import (
    COUNT,
    FLAG,
    POSITIVE,
    TEXT,
    WHOLE,
    Table,
    Value,
    list_of,
    one_of,
    or_null,
    read_keys,
)

SITES = Path(__file__).parent / "sites"
BATCH_TYPES = ("Slurm", "PBS", "Torque", "LSF", "SGE")
LAUNCHERS = ("mpirun", "srun")
_KINDS = sorted(path.stem for path in (ROOT / "jobs" / "stages").glob("[!_]*.py"))
_LINES = list_of(TEXT, "texts")
TEXT_OR_NUMBER = Value("text or a number", lambda v: type(v) in (str, int, float))
_REQUEST: Table = {
    "image?": or_null(TEXT),
    "queue?": TEXT,
    "cores?": COUNT,
    "gpus?": WHOLE,
    "memory_gb?": or_null(POSITIVE),
    "walltime_h?": or_null(POSITIVE),
    "flags?": _LINES,
    "setup?": _LINES,
    "environment?": {"*": TEXT_OR_NUMBER},
}
_SITE: Table = {
    "name": TEXT,
    "batch_type": one_of(*BATCH_TYPES),
    "cores_per_node?": COUNT,
    "images?": or_null(TEXT),
    "binds?": _LINES,
    "mpi?": {
        "launcher?": one_of(*LAUNCHERS),
        "options?": _LINES,
        "share_namespaces?": FLAG,
        "host_libraries?": or_null(TEXT),
    },
    "gpu_may_be_absent?": FLAG,
    "max_jobs?": COUNT,
    "kinds": {"default": _REQUEST, **{f"{kind}?": _REQUEST for kind in _KINDS}},
}


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
        notes: what its file says that is not kept, a line for each part.
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
    if path.suffix == ".json":
        from jobs.running.dpgen import read_machine_file

        return checked(read_machine_file(path))
    return checked(_from_yaml(path))


def _from_yaml(path: Path) -> Site:
    content = read_keys(path, _SITE)
    mpi, kinds = content.get("mpi", {}), content["kinds"]
    default = _request(kinds["default"], Request())
    return Site(
        name=content["name"],
        path=path,
        batch_type=content["batch_type"],
        cores_per_node=content.get("cores_per_node", 1),
        images=_folder(content.get("images")),
        binds=tuple(Path(folder).expanduser().resolve() for folder in content.get("binds", ())),
        launcher=mpi.get("launcher", "mpirun"),
        launcher_options=tuple(mpi.get("options", ())),
        share_namespaces=mpi.get("share_namespaces", False),
        host_mpi=_folder(mpi.get("host_libraries")),
        gpu_may_be_absent=content.get("gpu_may_be_absent", False),
        max_jobs=content.get("max_jobs", 1000),
        kinds={kind: _request(entry, default) for kind, entry in kinds.items()},
    )


def _folder(value: str | None) -> Path | None:
    """A folder as the site file means it: relative to where the suite is run."""
    return None if value is None else Path(value).expanduser().resolve()


def _request(entry: Mapping[str, Any], default: Request) -> Request:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    if "environment" in values:
        values["environment"] = {key: str(value) for key, value in values["environment"].items()}
    return replace(default, **values)


def checked(site: Site) -> Site:
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
