"""A site: what a cluster is like, as a file a person edits (`jobs/sites/*.yml`, or a DP-GEN machine file).

Nothing here enters a stage's identity: a campaign may be begun on one site and ended on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.errors import SuiteError
from jobs.keys import (
    ANYTHING,
    COUNT,
    FLAG,
    POSITIVE,
    TEXT,
    WHOLE,
    Table,
    Value,
    check_keys,
    list_of,
    one_of,
    or_null,
    read_keys,
)

SITES = Path(__file__).parent / "sites"
BATCH_TYPES = ("Slurm", "PBS", "Torque", "LSF", "SGE")
LAUNCHERS = ("mpirun", "srun")
# DP-GEN's three kinds of work, and ours.
_DPGEN = {
    "train": ("dataset", "potential", "train", "parity"),
    "model_devi": ("default", "melt", "md", "quench", "paired", "observe", "observe_pairs", "cost", "probe"),
    "fp": ("aimd",),
}
_KINDS = sorted(path.stem for path in (Path(__file__).parent / "stages").glob("[!_]*.py"))
_LINES = list_of(TEXT, "texts")
_REQUEST: Table = {
    "image?": or_null(TEXT),
    "queue?": TEXT,
    "cores?": COUNT,
    "gpus?": WHOLE,
    "memory_gb?": or_null(POSITIVE),
    "walltime_h?": or_null(POSITIVE),
    "flags?": _LINES,
    "setup?": _LINES,
    "environment?": {"*": Value("text or a number", lambda v: type(v) in (str, int, float))},
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
_BATCH_TYPES = {known.lower(): known for known in BATCH_TYPES}  # DP-GEN takes either
_DPGEN_ENTRY: Table = {
    "machine": {
        "batch_type": Value(f"one of {', '.join(BATCH_TYPES)}", lambda v: str(v).lower() in _BATCH_TYPES),
        "context_type?": TEXT,
        "*": ANYTHING,
    },
    "resources": {
        "queue_name?": TEXT,
        "cpu_per_node?": COUNT,
        "gpu_per_node?": WHOLE,
        "custom_flags?": _LINES,
        "module_unload_list?": _LINES,
        "module_list?": _LINES,
        "source_list?": _LINES,
        "prepend_script?": _LINES,
        "envs?": {"*": ANYTHING},
        "*": ANYTHING,
    },
    "*": ANYTHING,
}


@dataclass(frozen=True)
class Request:
    """What a job of one kind of stage asks for.

    `cores` and `gpus` are per node and at least. A stage that asks for more cores gets them: MPI ranks
    that `srun` starts on as many nodes as that takes, anything else up to those of one node. `image`
    names a file of the site's images folder, null runs the engines of this Python's environment or of the
    loaded modules. `flags` are whole lines of the scheduler (`#SBATCH --account=...`), `setup` shell
    lines before the work (`module load apptainer`).
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
    """A site by its name in `jobs/sites`, by the path of a site file, or of a DP-GEN machine file (.json).

    Raises:
        SuiteError: no such file, not a site, a key or a value that is not understood.
    """
    given = Path(name)
    path = given if given.suffix in (".yml", ".yaml", ".json") else SITES / f"{name}.yml"
    if not path.is_file():
        raise SuiteError(f"site {name}: not found, expected one of {', '.join(known_sites())}, or a file")
    return _from_dpgen(path) if path.suffix == ".json" else _from_yaml(path)


def _from_yaml(path: Path) -> Site:
    content = read_keys(path, _SITE)
    mpi, kinds = content.get("mpi", {}), content["kinds"]
    default = _request(kinds["default"], Request())
    site = Site(
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
    return _checked(site)


def _folder(value: str | None) -> Path | None:
    """A folder as the site file means it: relative to where the suite is run."""
    return None if value is None else Path(value).expanduser().resolve()


def _request(entry: Mapping[str, Any], default: Request) -> Request:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    if "environment" in values:
        values["environment"] = {key: str(value) for key, value in values["environment"].items()}
    return replace(default, **values)


def _checked(site: Site) -> Site:
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


def _from_dpgen(path: Path) -> Site:
    """A DP-GEN machine file: `train`, `model_devi` and `fp`, or one pair of `machine` and `resources`."""
    content = read_keys(path, {"*": ANYTHING})
    parts = {"model_devi": content} if "machine" in content else content
    kinds: dict[str, Request] = {}
    batch_type, cores_per_node = "", 1
    for part, names in _DPGEN.items():
        entry: Any = parts.get(part)
        if entry is None:
            continue
        entry = entry[0] if isinstance(entry, list) and entry else entry
        check_keys(path, entry, _DPGEN_ENTRY, at=part)
        machine, resources = entry["machine"], entry["resources"]
        batch_type = _BATCH_TYPES[machine["batch_type"].lower()]
        request = Request(
            queue=resources.get("queue_name", ""),
            cores=resources.get("cpu_per_node", 1),
            gpus=resources.get("gpu_per_node", 0),
            walltime_h=None,
            flags=tuple(resources.get("custom_flags", ())),
            setup=_dpgen_setup(resources),
            environment={key: str(value) for key, value in resources.get("envs", {}).items()},
        )
        context = machine.get("context_type", "LazyLocalContext")
        if "SSH" in context:
            raise SuiteError(
                f"{path}: {part}: found context_type {context}, "
                "expected a local one: run on the cluster's login node"
            )
        cores_per_node = max(cores_per_node, request.cores)
        kinds |= dict.fromkeys(names, request)
    if not kinds:
        raise SuiteError(f"{path}: found none of {', '.join(_DPGEN)}, expected a DP-GEN machine file")
    kinds.setdefault("default", next(iter(kinds.values())))
    site = Site(
        name=path.stem,
        path=path,
        batch_type=batch_type,
        cores_per_node=cores_per_node,
        images=None,
        binds=(),
        launcher="mpirun",
        launcher_options=(),
        share_namespaces=False,
        host_mpi=None,
        gpu_may_be_absent=False,
        max_jobs=1000,
        kinds=kinds,
    )
    return _checked(site)


def _dpgen_setup(resources: Mapping[str, Any]) -> tuple[str, ...]:
    lines = ["module purge"] if resources.get("module_purge") else []
    lines += [f"module unload {name}" for name in resources.get("module_unload_list", ())]
    lines += [f"module load {name}" for name in resources.get("module_list", ())]
    lines += [f"source {name}" for name in resources.get("source_list", ())]
    return (*lines, *resources.get("prepend_script", ()))
