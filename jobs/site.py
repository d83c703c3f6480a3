"""A site: what a cluster is like, as a file a person edits (`jobs/sites/*.yml`, or a DP-GEN machine file).

Nothing here enters a stage's identity: a campaign may be begun on one site and ended on another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jobs.errors import SuiteError
from jobs.files import parse_yaml

SITES = Path(__file__).parent / "sites"
BATCH_TYPES = ("Slurm", "PBS", "Torque", "LSF", "SGE")
LAUNCHERS = ("mpirun", "srun")
# DP-GEN's three kinds of work, and ours.
_DPGEN = {
    "train": ("dataset", "potential", "train", "parity"),
    "model_devi": ("default", "melt", "md", "quench", "observe", "cost", "probe"),
    "fp": ("aimd",),
}


@dataclass(frozen=True)
class Request:
    """What a job of one kind of stage asks for.

    `cores` and `gpus` are per node and at least; a stage that needs more cores (MPI ranks) gets them, on as
    many nodes as that takes. `image` names a file of the site's images folder, null runs the engines of
    this Python's environment or of the loaded modules. `flags` are whole lines of the scheduler
    (`#SBATCH --account=...`), `setup` shell lines before the work (`module load apptainer`).
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
    import yaml

    given = Path(name)
    path = given if given.suffix in (".yml", ".yaml", ".json") else SITES / f"{name}.yml"
    if not path.is_file():
        raise SuiteError(f"site {name}: not found, expected one of {', '.join(known_sites())}, or a file")
    try:
        content = json.loads(path.read_text()) if path.suffix == ".json" else parse_yaml(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: not readable ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise SuiteError(f"{path}: found {type(content).__name__}, expected keys as in {SITES}/one-node.yml")
    return _from_dpgen(path, content) if path.suffix == ".json" else _from_yaml(path, content)


def _from_yaml(path: Path, content: dict[str, Any]) -> Site:
    mpi = content.get("mpi", {})
    _check_keys(
        path,
        content,
        needed=("name", "batch_type", "kinds"),
        allowed=("cores_per_node", "images", "binds", "mpi", "gpu_may_be_absent", "max_jobs"),
    )
    _check_keys(
        path, mpi, where="mpi: ", allowed=("launcher", "options", "share_namespaces", "host_libraries")
    )
    kinds = content["kinds"]
    if not isinstance(kinds, dict) or "default" not in kinds:
        raise SuiteError(
            f"{path}: kinds: found no default, expected one for stages that have none of their own"
        )
    default = _request(path, "default", kinds["default"], Request())
    site = Site(
        name=str(content["name"]),
        path=path,
        batch_type=content["batch_type"],
        cores_per_node=content.get("cores_per_node", 1),
        images=_folder(path, content.get("images")),
        binds=tuple(Path(folder) for folder in content.get("binds", ())),
        launcher=mpi.get("launcher", "mpirun"),
        launcher_options=tuple(mpi.get("options", ())),
        share_namespaces=bool(mpi.get("share_namespaces", False)),
        host_mpi=_folder(path, mpi.get("host_libraries")),
        gpu_may_be_absent=bool(content.get("gpu_may_be_absent", False)),
        max_jobs=content.get("max_jobs", 1000),
        kinds={kind: _request(path, kind, entry, default) for kind, entry in kinds.items()},
    )
    return _checked(site)


def _folder(path: Path, value: str | None) -> Path | None:
    """A folder as the site file means it: relative to where the suite is run."""
    return None if value is None else Path(value).expanduser().resolve()


def _request(path: Path, kind: str, entry: Any, default: Request) -> Request:
    names = [known.name for known in fields(Request)]
    if not isinstance(entry, dict):
        raise SuiteError(f"{path}: kinds: {kind}: found {entry!r}, expected some of {', '.join(names)}")
    _check_keys(path, entry, where=f"kinds: {kind}: ", allowed=names)
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    if "environment" in values:
        values["environment"] = {key: str(value) for key, value in values["environment"].items()}
    request = replace(default, **values)
    for name in ("cores", "gpus", "walltime_h", "memory_gb"):
        value = getattr(request, name)
        if value is None and name in ("walltime_h", "memory_gb"):
            continue
        if not isinstance(value, int | float) or value < 0 or (value == 0 and name != "gpus"):
            raise SuiteError(f"{path}: kinds: {kind}: found {name} {value!r}, expected a positive number")
    return request


def _check_keys(
    path: Path,
    found: Mapping[str, Any],
    *,
    needed: tuple[str, ...] = (),
    allowed: tuple[str, ...] | list[str] = (),
    where: str = "",
) -> None:
    if not isinstance(found, dict):
        raise SuiteError(f"{path}: {where}found {found!r}, expected keys with values")
    for key in needed:
        if key not in found:
            raise SuiteError(f"{path}: {where}found no {key}, expected it as in {SITES}/one-node.yml")
    for key in found:
        if key not in (*needed, *allowed):
            raise SuiteError(f"{path}: {where}found {key}, expected only {', '.join((*needed, *allowed))}")


def _checked(site: Site) -> Site:
    if site.batch_type not in BATCH_TYPES:
        raise SuiteError(
            f"{site.path}: found batch_type {site.batch_type}, expected one of {', '.join(BATCH_TYPES)}"
        )
    if site.launcher not in LAUNCHERS:
        raise SuiteError(
            f"{site.path}: mpi: found launcher {site.launcher}, expected one of {', '.join(LAUNCHERS)}"
        )
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


def _from_dpgen(path: Path, content: dict[str, Any]) -> Site:
    """A DP-GEN machine file: `train`, `model_devi` and `fp`, or one pair of `machine` and `resources`."""
    parts = {"model_devi": content} if "machine" in content else content
    kinds: dict[str, Request] = {}
    batch_type, cores_per_node = "", 1
    for part, names in _DPGEN.items():
        entry = parts.get(part)
        if entry is None:
            continue
        entry = entry[0] if isinstance(entry, list) else entry
        try:
            machine, resources = entry["machine"], entry["resources"]
            context = machine.get("context_type", "LazyLocalContext")
            batch_type = machine["batch_type"]
            batch_type = next(
                (known for known in BATCH_TYPES if known.lower() == batch_type.lower()), batch_type
            )
            request = Request(
                queue=resources.get("queue_name", ""),
                cores=resources.get("cpu_per_node", 1),
                gpus=resources.get("gpu_per_node", 0),
                walltime_h=None,
                flags=tuple(resources.get("custom_flags", ())),
                setup=_dpgen_setup(resources),
                environment={key: str(value) for key, value in resources.get("envs", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SuiteError(
                f"{path}: {part}: found no {error}, expected DP-GEN's machine and resources"
            ) from None
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
