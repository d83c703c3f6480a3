"""The first job on any site: it checks what the campaign relies on, and fails in one line.

With one rank it looks at the image (or the environment): versions, the GPU that DeePMD-kit sees and the time
of a first matrix product on it, the driver against the CUDA runtime, scratch space. With more it starts
LAMMPS on all of them, which must find each other: ranks launched the wrong way each run alone, and succeed.
Product: `probe.json`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.base.machine import gpus, software_versions
from jobs.store.workspace import Workspace

CODE_VERSION = 1

# CUDA 12.x needs at least this driver (NVIDIA, CUDA Compatibility: minor version compatibility).
MINIMUM_DRIVER_OF_CUDA_12 = 525
_RANKS_SCRIPT = """units lj
lattice fcc 0.8442
region box block 0 6 0 6 0 6
create_box 1 box
create_atoms 1 box
mass 1 1.0
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
fix 1 all nve
run 10
"""
# A GPU newer than TensorFlow's binary code compiles that code when it is first used, which takes the first
# product long; CUDA_CACHE_PATH keeps the result. A driver too old for it fails here, before any stage.
_GPU_SCRIPT = """import json, time, tensorflow as tf
seen = {"gpus": [d.name for d in tf.config.list_physical_devices("GPU")],
        "cuda": tf.sysconfig.get_build_info().get("cuda_version")}
begun = time.monotonic()
try:
    with tf.device("GPU:0" if seen["gpus"] else "CPU:0"):
        numbers = tf.random.normal((512, 512))
        (numbers @ numbers).numpy()
    seen["first_product_s"] = round(time.monotonic() - begun, 2)
except Exception as error:
    seen["failed"] = " ".join(str(error).split())
print(json.dumps(seen))
"""


def run(workspace: Workspace) -> None:
    """Probe and write `probe.json`.

    Raises:
        SuiteError: scratch is not writable; a GPU was asked for and is not to be seen, or computes nothing.
        EngineError: the ranks ran apart, LAMMPS does not start.
    """
    given = workspace.parameters
    facts: dict[str, Any] = {
        "node": platform.node(),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "scratch": _scratch(),
    }
    if given["ranks"] > 1:
        from jobs.engines.lammps.program import run_lammps

        run_lammps(_RANKS_SCRIPT, directory=workspace.checkpoints, name="ranks", ranks=given["ranks"])
        facts["world_size"] = given["ranks"]
    else:
        facts["software"] = software_versions()
        facts["gpu"] = _gpu(asked=given["gpus"] > 0, may_be_absent=given["gpu_may_be_absent"])
    write_json(workspace.directory / "probe.json", facts, indent=1)
    workspace.record(**facts)


def _scratch() -> dict[str, Any]:
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise SuiteError(
            f"{folder}: scratch is not writable ({error.strerror}); set TMPDIR in the site file's environment"
        ) from None
    return {"folder": str(folder), "free_gb": round(shutil.disk_usage(folder).free / 1e9, 1)}


def _gpu(*, asked: bool, may_be_absent: bool) -> str | dict[str, Any]:
    """What DeePMD-kit would run on, in words where it is no GPU."""
    if not asked:
        return "none asked for"
    driver = next((driver for _, driver in gpus()), "")
    if cache := os.environ.get("CUDA_CACHE_PATH"):
        Path(cache).mkdir(parents=True, exist_ok=True)
    seen: dict[str, Any] = {"gpus": [], "cuda": None}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _GPU_SCRIPT],
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        seen = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise EngineError(
            f"TensorFlow: does not start ({type(error).__name__}); no GPU can be probed"
        ) from None
    if not seen["gpus"]:
        why = (
            f"driver {driver}, CUDA {seen['cuda']} in TensorFlow" if driver else "nvidia-smi finds no driver"
        )
        if not may_be_absent:
            raise SuiteError(f"gpu: found none that TensorFlow sees ({why}), expected the one asked for")
        return f"asked for, none to be seen ({why}): runs on the CPU"
    if driver and int(driver.split(".")[0]) < MINIMUM_DRIVER_OF_CUDA_12:
        raise SuiteError(
            f"gpu: found driver {driver}, expected {MINIMUM_DRIVER_OF_CUDA_12} or newer for CUDA 12"
        )
    if "failed" in seen:
        raise SuiteError(f"gpu: found {seen['failed']} with driver {driver}, expected a product of matrices")
    return {"driver": driver, **seen}
