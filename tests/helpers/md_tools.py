"""What the MD and quench tests share: a start, a process that can be killed, and a plain dump reader."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.silica import cristobalite, rescale, write_data

ROOT = Path(__file__).resolve().parents[2]


def crystal_product(folder: Path) -> Path:
    """A product folder with one configuration: a displaced crystal of 192 atoms."""
    folder.mkdir()
    crystal = cristobalite(2, displacement_angstrom=0.15, seed=2)
    write_data(folder / "config-0.data", rescale(crystal, 2.2))
    return folder


def read_dump(path: Path) -> tuple[list[int], np.ndarray]:
    """Steps, and values (frames, atoms, columns), of LAMMPS' binary custom format."""
    data = path.read_bytes()
    at, steps, frames = 0, [], []
    while at < len(data):
        (step,) = struct.unpack_from("<q", data, at)
        assert step < 0, "expected the format with a magic string"
        at += 8 - step + 4 + 4  # magic, endian, revision
        step, atoms, triclinic = struct.unpack_from("<qqi", data, at)
        at += 20 + 6 * 4 + 6 * 8 + (24 if triclinic else 0)
        (columns, units) = struct.unpack_from("<ii", data, at)
        at += 8 + units
        (has_time,) = struct.unpack_from("<b", data, at)
        at += 1 + (8 if has_time else 0)
        (names,) = struct.unpack_from("<i", data, at)
        at += 4 + names
        (chunks,) = struct.unpack_from("<i", data, at)
        at += 4
        values = []
        for _ in range(chunks):
            (count,) = struct.unpack_from("<i", data, at)
            values.append(np.frombuffer(data, "<f8", count, at + 4))
            at += 4 + 8 * count
        steps.append(step)
        frames.append(np.concatenate(values).reshape(atoms, columns))
    return steps, np.array(frames)


def start_stage(
    kind: str, parameters: dict[str, Any], *, directory: Path, inputs: dict[str, Path], seed: int = 5
) -> subprocess.Popen[bytes]:
    """Run a stage in a process of its own."""
    directory.mkdir(exist_ok=True)
    code = (
        "import json, sys; from pathlib import Path; from jobs.stages.kinds import stage_module\n"
        "from jobs.store.workspace import Workspace\n"
        "kind, given, seed, directory, inputs = json.loads(sys.argv[1])\n"
        "inputs = {role: Path(path) for role, path in inputs.items()}\n"
        "stage_module(kind).run(Workspace(given, seed, inputs, Path(directory)))\n"
    )
    paths = {role: str(path) for role, path in inputs.items()}
    arguments = json.dumps([kind, parameters, seed, str(directory), paths])
    return subprocess.Popen([sys.executable, "-c", code, arguments], cwd=ROOT)


def kill_after_checkpoint(process: subprocess.Popen[bytes], directory: Path, step: int) -> int:
    """SIGKILL once a restart at `step` or later is there; the step of the restart that was left."""
    deadline = time.monotonic() + 90

    def newest() -> int:
        found = [path.name[8:] for path in (directory / "checkpoints").glob("restart-*")]
        return max((int(name) for name in found if name.isdigit()), default=0)

    while newest() < step:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    return newest()
