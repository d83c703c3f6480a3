"""Apptainer: what is in an image, how it is run, built, tested and signed; one line when it cannot be.

An image is run so that an MPI launcher outside still reaches its ranks inside, which rules out
`--containall` and `--cleanenv`: ranks find each other through variables (PMI_RANK, PMI_FD, SLURM_*) that the
launcher sets after the command line was written, and through the machine's /dev/shm and process ids. What
must not come in is kept out one by one: HOME is not mounted, and what would make Python or the loader take
code from outside is unset.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.engines.process import run_program, thread_environment

# `--sharens` and `--no-eval` are in it.
MINIMUM_VERSION = (1, 3)
# Half the time of the default 9, for one per cent more: measured on libtensorflow_cc.
_SQUASHFS = "-comp gzip -Xcompression-level 6"
_NOT_INSIDE = ("PYTHONPATH", "PYTHONHOME", "LD_PRELOAD")
_PROGRESS = re.compile(r"^(INFO: |\+ )")


def program() -> str:
    """Path of `apptainer`.

    Raises:
        EngineError: it is not installed.
    """
    found = shutil.which("apptainer")
    if found is None:
        raise EngineError("apptainer: not found on PATH; load your site's module, or see docs/containers.md")
    return found


@cache
def version() -> str:
    """The installed version, e.g. `1.4.5`.

    Raises:
        EngineError: it is not installed, or older than `MINIMUM_VERSION`.
    """
    text = _output([program(), "version"], what="apptainer version").strip()
    numbers = tuple(int(word) for word in re.findall(r"\d+", text)[:2])
    if numbers < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise EngineError(f"apptainer: found version {text}, expected {wanted} or newer")
    return text


def require_image(image: Path) -> None:
    """Nothing, if there is an image.

    Raises:
        SuiteError: no such file, or not a SIF.
    """
    try:
        with image.open("rb") as stream:
            head = stream.read(64)
    except OSError:
        raise SuiteError(f"{image}: no such image; `python -m jobs images build` makes it") from None
    if b"SIF_MAGIC" not in head:
        raise SuiteError(f"{image}: found another kind of file, expected an Apptainer image (SIF)")


def exec_prefix(
    image: Path,
    *,
    binds: Sequence[tuple[Path, Path, bool]],
    gpu: bool,
    share_namespaces: bool,
    environment: Mapping[str, str],
) -> list[str]:
    """The words before a command that make it run inside an image.

    Args:
        image: the SIF.
        binds: (folder outside, folder inside, writable).
        gpu: bring in the driver's libraries (`--nv`; it says nothing where there is no GPU).
        share_namespaces: ranks of one node share namespaces (`--sharens`): MPI of an ordinary user needs it
            where each rank is an `apptainer exec` of its own.
        environment: variables set inside, as they are, over those of the image. Of the variables outside
            PYTHONPATH, PYTHONHOME, LD_PRELOAD and (by apptainer) LD_LIBRARY_PATH do not come in.
    """
    words = ["env"]
    for name in _NOT_INSIDE:
        words += ["-u", name]
    words += [f"APPTAINERENV_{name}={value}" for name, value in environment.items()]
    words += ["apptainer", "exec", "--no-home", "--no-eval"]
    if gpu:
        words.append("--nv")
    if share_namespaces:
        words.append("--sharens")
    for outside, inside, writable in binds:
        words += ["--mount", _mount(outside, inside, writable=writable)]
    return [*words, str(image)]


def _mount(outside: Path, inside: Path, *, writable: bool) -> str:
    """The CSV of `--mount`, unlike `--bind` safe for paths with commas and colons."""
    fields = ["type=bind", f"src={outside}", f"dst={inside}", *([] if writable else ["ro"])]
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(fields)
    return row.getvalue()


def digest(image: Path, *, anew: bool = False) -> str:
    """SHA-256 of an image, hex.

    Images are gigabytes, so the sum is kept in the user's cache with path, size and modification time, and
    taken from there unless `anew`.

    Raises:
        SuiteError: no such image.
    """
    require_image(image)
    state = image.stat()
    key = f"{image.resolve()} {state.st_size} {state.st_mtime_ns}"
    store = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "silica-nnp-suite/images.json"
    known = _read_cache(store)
    if anew or key not in known:
        with image.open("rb") as stream:
            known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        _write_cache(store, known)
    return known[key]


def _read_cache(store: Path) -> dict[str, str]:
    try:
        return dict(json.loads(store.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or one cut short: the sum is only taken again
        return {}


def _write_cache(store: Path, known: Mapping[str, str]) -> None:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        write_json(store, known, indent=1)
    except (OSError, SuiteError):  # a compute node may not write HOME; the next call takes the sum again
        return


def labels(image: Path) -> dict[str, str]:
    """The labels of an image.

    Raises:
        EngineError: apptainer is missing or cannot read the image.
        SuiteError: no such image.
    """
    require_image(image)
    text = _output([program(), "inspect", "--json", "--labels", str(image)], what=f"{image}: inspect")
    content: dict[str, Any] = json.loads(text)
    return dict(content["data"]["attributes"].get("labels") or {})


def is_signed(image: Path) -> bool:
    """Whether an image carries a signature (not whether it is a good one: that is `verify`).

    Raises:
        EngineError: apptainer is missing or cannot read the image.
        SuiteError: no such image.
    """
    require_image(image)
    return "Signature" in _output([program(), "sif", "list", str(image)], what=f"{image}: sif list")


def sign(image: Path, *, key: Path | None) -> None:
    """Sign with a PEM private key, or with the first secret key of Apptainer's keyring (asks its password).

    Raises:
        EngineError: no such key, or apptainer refused.
        SuiteError: no such image.
    """
    require_image(image)
    chosen = [] if key is None else ["--key", str(key)]
    # stdin is the person's: the keyring's password is asked for there.
    result = subprocess.run([program(), "sign", *chosen, str(image)], stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise EngineError(f"{image}: not signed: {_last_line(result.stderr)}")


def verify(image: Path, *, key: Path | None) -> None:
    """Nothing, if an image's signature is good, by a PEM public key or by the local keyring; no network.

    Raises:
        EngineError: not signed, another key, or changed since it was signed.
        SuiteError: no such image.
    """
    require_image(image)
    chosen = ["--local"] if key is None else ["--key", str(key)]
    _output([program(), "verify", *chosen, str(image)], what=f"{image}: not verified")


def build(
    definition: Path,
    image: Path,
    *,
    directory: Path,
    log: Path,
    binds: Sequence[tuple[Path, Path]],
    environment: Mapping[str, str],
    watch: Callable[[str], None] | None = None,
) -> float:
    """Build an image and return the wall seconds; a failed build leaves nothing under its name.

    Args:
        definition: the .def file.
        image: the SIF to make.
        directory: where the definition's relative paths start.
        log: everything apptainer and the definition's scripts print.
        binds: (folder outside, existing folder inside) for %post.
        environment: variables for %setup, which runs on this machine.
        watch: told about once a second what is being done.

    Raises:
        EngineError: apptainer is missing or too old, or the build failed.
    """
    version()
    part = image.with_name(f".{image.name}.part")
    command = [program(), "build", "--force", "--mksquashfs-args", _SQUASHFS]
    for outside, inside in binds:
        command += ["--bind", f"{outside}:{inside}:ro"]
    command += [str(part.resolve()), str(definition.resolve())]
    try:
        seconds = _watched(command, directory, log, {**os.environ, **environment}, watch, what=image.name)
        part.replace(image)
    finally:
        part.unlink(missing_ok=True)
    return seconds


def run_test(image: Path, *, log: Path, gpu: bool) -> list[str]:
    """Run an image's %test and return what it printed.

    Raises:
        EngineError: apptainer is missing, or the test failed.
        SuiteError: no such image.
    """
    require_image(image)
    command = [program(), "test", "--no-home", *(["--nv"] if gpu else []), str(image)]
    _watched(command, Path.cwd(), log, thread_environment(1), None, what=f"{image.name}: test")
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("INFO:", "WARNING:"))]


def _watched(
    command: Sequence[str],
    directory: Path,
    log: Path,
    environment: Mapping[str, str],
    watch: Callable[[str], None] | None,
    *,
    what: str,
) -> float:
    def report() -> None:
        if watch is not None:
            watch(_last_line(log.read_text(errors="replace"), pattern=_PROGRESS))

    try:
        return run_program(command, directory=directory, log=log, environment=environment, watch=report)
    except EngineError as error:
        raise EngineError(f"{what}: {error}") from None


def _last_line(text: str, *, pattern: re.Pattern[str] | None = None) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if pattern.match(line)] if pattern is not None else lines
    return kept[-1] if kept else "nothing was printed"


def _output(command: Sequence[str], *, what: str) -> str:
    result = subprocess.run(list(command), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise EngineError(f"{what}: {_last_line(result.stderr)}")
    return result.stdout
