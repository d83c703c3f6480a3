"""Run an outside program: its own thread count, its log in a file, no orphan when we are killed."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs.base.errors import EngineError, NotInstalled

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "DP_INTRA_OP_PARALLELISM_THREADS",
)
# What a program's end by a signal is called: by the kernel, by shells and srun, and (of a kill) by mpirun.
_KILLED_CODES = (-signal.SIGKILL, 128 + signal.SIGKILL, signal.SIGKILL)
_STOPPED_CODES = (-signal.SIGTERM, 128 + signal.SIGTERM)
KILLED = "killed, perhaps for want of memory"
_PR_SET_PDEATHSIG = 1
_HARMLESS = ("Cannot find libcudart", "libcuda", "CUDA_ERROR_NO_DEVICE")


def thread_environment(threads: int) -> dict[str, str]:
    """The whole environment with every thread variable set to `threads` and CUDA chatter silenced.

    TF32 is off: on GPUs since Ampere TensorFlow would round the factors of float32 matrix products to 10 bits
    of mantissa, and the deposited NNPs are float32.
    """
    environment = dict(os.environ)
    environment.update({name: str(threads) for name in THREAD_VARIABLES})
    environment["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
    environment["NVIDIA_TF32_OVERRIDE"] = "0"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return environment


def executable(name: str) -> str:
    """Path of a program, looked for beside this Python first, then on PATH.

    Raises:
        NotInstalled: no such program.
    """
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"{name}: not found beside {sys.executable} nor on PATH; see README, Run it")
    return found


# Loaded here, since no library may be loaded between fork and exec of a process with threads.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (for `preexec_fn`)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class LogCounter:
    """How often a growing log has a text; each call reads only what is new."""

    def __init__(self, log: Path, text: str) -> None:
        self.log, self.text = log, text.encode()
        self.found, self.read_to, self.kept = 0, 0, b""

    def __call__(self) -> int:
        """The number so far; 0 without a log."""
        if self.log.is_file():
            with self.log.open("rb") as stream:
                stream.seek(self.read_to)
                new = self.kept + stream.read()
                self.read_to = stream.tell()
            self.found += new.count(self.text)
            # Half of the text may stand at the end; a whole one there would be counted twice.
            self.kept = new[-(len(self.text) - 1) :]
        return self.found


def log_tail(log: Path, lines: int = 5) -> str:
    """The last telling lines of a log, joined into one."""
    if not log.exists():
        return "no log was written"
    kept = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    kept = [line for line in kept if not any(noise in line for noise in _HARMLESS)]
    return " | ".join(kept[-lines:])


def run_program(
    arguments: Sequence[str],
    *,
    directory: Path,
    log: Path,
    environment: Mapping[str, str],
    watch: Callable[[], None] | None = None,
    append: bool = False,
) -> float:
    """Run a program to its end and return its wall seconds.

    stdout and stderr go to `log`; `watch` is called about once a second (progress). The program dies
    with this process.

    Raises:
        EngineError: exit code other than 0; the message carries the log's tail and its path.
        SystemExit: the program was told to stop (SIGTERM), as a scheduler does at the walltime. That is no
            failure of the stage; this process stops with it.
    """
    started = time.monotonic()
    with log.open("ab" if append else "wb") as stream:
        process = subprocess.Popen(
            list(arguments),
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=1.0)
                    break
                except subprocess.TimeoutExpired:
                    if watch is not None:
                        watch()
        except BaseException:
            process.kill()
            process.wait()
            raise
    program = Path(arguments[0]).name
    if code in _STOPPED_CODES:
        print(f"{program} was told to stop (log: {log})", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)
    if code != 0:
        killed = f" ({KILLED})" if code in _KILLED_CODES else ""
        raise EngineError(f"{program} ended with code {code}{killed}: {log_tail(log)} (log: {log})")
    return time.monotonic() - started
