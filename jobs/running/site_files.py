"""Site files: those that come with the suite, one of your own, or a DP-GEN machine file, as a `Site`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.paths import ROOT
from jobs.base.schema import COUNT, FLAG, POSITIVE, TEXT, WHOLE, Table, list_of, one_of, or_null, read_keys
from jobs.running import untried
from jobs.running.dpgen import read_machine_file
from jobs.running.site import BATCH_TYPES, TEXT_OR_NUMBER, Request, Site

LAUNCHERS = ("mpirun", "srun")


_KINDS = sorted(path.stem for path in (ROOT / "jobs" / "stages").glob("[!_]*.py"))


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
    site = checked(read_machine_file(path) if path.suffix == ".json" else _from_yaml(path))
    return replace(site, notes=(*site.notes, *untried.notes(site.batch_type, site.host_mpi)))


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
