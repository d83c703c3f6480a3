"""The Apptainer images of `containers/`: build, test, list, check, lock, sign, verify.

An image is made from its definition, the scripts of `containers/parts` and the wheels of its lock file, and
nothing else is taken from an index; `<name>.json` beside it records what it was made from and its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.paths import ROOT
from jobs.engines import apptainer
from jobs.engines.process import run_program

CONTAINERS = ROOT / "containers"
WHEELS = "wheels"
# Which of the project's extras each image holds besides the suite's own dependencies.
EXTRAS = {"lammps-mpi": ("cpu",), "cp2k": (), "deepmd-cuda": ("gpu",)}
# Judging and submitting happen outside.
OUTSIDE = ("dpdispatcher", "pytest")
# Debian 12: its Python, and the newest C library that a wheel may ask for.
PYTHON = (3, 11)
_GLIBC_MINOR = 36
_OLDER_PLATFORMS = "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


# Locks --------------------------------------------------------------------------------------------


def requirements(name: str) -> list[str]:
    """What an image must hold, as the project's pyproject.toml says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        line for line in project["dependencies"] if re.split(r"[^\w.-]", line)[0].lower() not in OUTSIDE
    ]
    for extra in EXTRAS[name]:
        wanted += project["optional-dependencies"][extra]
    return wanted


def lock_path(name: str) -> Path:
    """The lock file of an image."""
    return CONTAINERS / "locks" / f"{name}.txt"


def read_lock(path: Path) -> dict[str, tuple[str, str]]:
    """Distribution -> (version, SHA-256 of its wheel).

    Raises:
        SuiteError: a line that is not `name==version --hash=sha256:...`.
    """
    pins = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        found = _PIN.fullmatch(line.strip())
        if found is None:
            raise SuiteError(
                f"{path}, line {number}: found {line!r}, expected NAME==VERSION --hash=sha256:..."
            )
        pins[found[1]] = (found[2], found[3])
    return pins


def read_lock_of(name: str) -> dict[str, tuple[str, str]]:
    """`read_lock` of an image."""
    return read_lock(lock_path(name))


def lock(name: str) -> None:
    """Choose an image's wheels anew, of the index that pip is set up with, and write its lock file.

    The images agree with each other: what another lock already names keeps its version.

    Raises:
        SuiteError: another Python than the images', or pip found no solution.
    """
    if sys.version_info[:2] != PYTHON:
        raise SuiteError(
            f"images lock: found Python {sys.version_info.major}.{sys.version_info.minor}, expected "
            f"{PYTHON[0]}.{PYTHON[1]}, the images' own: it decides which dependencies apply"
        )
    handle, log = tempfile.mkstemp(prefix=f"lock-{name}.", suffix=".log")
    os.close(handle)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        agreed = Path(scratch, "constraints.txt")
        first = next(iter(EXTRAS))
        others = read_lock_of(first) if name != first else {}
        agreed.write_text("".join(f"{other}=={version}\n" for other, (version, _) in others.items()))
        command = ["install", "--dry-run", "--ignore-installed", "--report", str(report)]
        _pip([*command, "--constraint", str(agreed), *requirements(name)], log=Path(log), what=name)
        os.unlink(log)  # who is told of it finds it
        chosen = json.loads(report.read_text())["install"]
    lines = []
    for entry in chosen:
        source = entry["download_info"]
        if urlsplit(source["url"]).scheme == "file":
            raise SuiteError(f"images lock: found {source['url']}, expected a wheel of an index")
        metadata = entry["metadata"]
        sha256 = source["archive_info"]["hashes"]["sha256"]
        lines.append(f"{metadata['name']}=={metadata['version']} --hash=sha256:{sha256}\n")
    path = lock_path(name)
    path.write_text("".join(sorted(lines, key=str.lower)))
    print(f"{path}: {len(lines)} wheels")


def _pip(words: Sequence[str], *, log: Path, what: str, watch: Callable[[], None] | None = None) -> None:
    # Only wheels of an index count: what lies about on this machine has other hashes elsewhere.
    environment = {key: value for key, value in os.environ.items() if key != "PIP_FIND_LINKS"}
    try:
        run_program(
            [sys.executable, "-m", "pip", *words, "--only-binary=:all:"],
            directory=ROOT,
            log=log,
            environment=environment,
            watch=watch,
        )
    except SuiteError:
        told = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise SuiteError(f"{what}: pip: {told[-1] if told else 'failed'} (log: {log})") from None


def _fetch_wheels(name: str, wheels: Path, watch: Callable[[str], None]) -> None:
    """Download what is not there yet of a lock file; pip checks every hash, also of what is there."""
    wheels.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR, 4, -1)]
    words = ["download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(wheels.resolve())]
    words += ["--python-version", f"{PYTHON[0]}.{PYTHON[1]}", "--implementation", "cp"]
    for platform in (*platforms, *_OLDER_PLATFORMS):
        words += ["--platform", platform]
    words += ["--requirement", str(lock_path(name))]

    def report() -> None:
        size = sum(file.stat().st_size for file in wheels.glob("*.whl"))
        watch(f"wheels, {size / 1e6:.0f} MB so far")

    _pip(words, log=wheels / f"{name}.log", what=name, watch=report)


# Build --------------------------------------------------------------------------------------------


def mirror_of_this_machine() -> str:
    """The first Debian mirror of this machine's apt sources.

    Raises:
        SuiteError: there is none.
    """
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in sources:
        text = path.read_text() if path.is_file() else ""
        found = re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian/?)(?:\s|$)", text, re.M)
        if found:
            return str(found[0])
    raise SuiteError("images build: found no Debian mirror in /etc/apt, expected one there or --mirror URL")


def definition_path(name: str) -> Path:
    """The definition of an image."""
    return CONTAINERS / f"{name}.def"


def definition_hash(name: str) -> str:
    """SHA-256 over a definition and every file of this repository that it names, the lock aside."""
    text = definition_path(name).read_text()
    named = set(re.findall(r"\b(?:containers/parts|reference|jobs)/[\w./-]+", text))
    total = hashlib.sha256(text.encode())
    for path in sorted(file for name in named for file in _files(ROOT / name)):
        total.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    """A file, or the sources in a folder and in those below it."""
    if path.is_file():
        return [path]
    return [file for suffix in ("py", "h", "cpp") for file in path.rglob(f"*.{suffix}")]


def lock_hash(name: str) -> str:
    """SHA-256 of a lock file's pins, in whatever order they stand."""
    return hashlib.sha256(json.dumps(sorted(read_lock_of(name).items())).encode()).hexdigest()


def build(name: str, folder: Path, *, mirror: str) -> None:
    """Make NAME.sif and NAME.json in a folder, showing what is being done.

    Raises:
        SuiteError: a program is missing, a wheel is not what the lock says, or the build or its test failed.
    """
    apptainer.version()
    if shutil.which("mmdebstrap") is None:
        raise SuiteError("mmdebstrap: not found on PATH, expected Debian's package of that name")
    folder.mkdir(parents=True, exist_ok=True)
    image, log = folder / f"{name}.sif", folder / f"{name}.log"
    # Both before the work: the files may be edited while it goes on.
    made_from = {"definition_sha256": definition_hash(name), "lock_sha256": lock_hash(name)}
    show = _Progress(name)
    _fetch_wheels(name, folder / WHEELS, show)
    seconds = apptainer.build(
        definition_path(name),
        image,
        directory=ROOT,
        log=log,
        binds=[((folder / WHEELS).resolve(), Path("/mnt"))],
        environment={"MIRROR": mirror},
        watch=show,
    )
    show("taking its digest")
    write_record(
        image,
        **made_from,
        versions=_versions(image),
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        build_seconds=round(seconds),
        apptainer=apptainer.version(),
    )
    show.end(f"{image}: {image.stat().st_size / 1e6:.0f} MB in {seconds:.0f} s")


def _versions(image: Path) -> dict[str, str]:
    found = apptainer.labels(image).items()
    return {key.removeprefix("engine."): value for key, value in found if key.startswith("engine.")}


def write_record(image: Path, **content: Any) -> None:
    """Write NAME.json beside an image, its digest taken anew."""
    record = {"digest": apptainer.digest(image, anew=True), "bytes": image.stat().st_size, **content}
    path = image.with_suffix(".json")
    write_json(path, record, indent=1)


def read_record(image: Path) -> dict[str, Any]:
    """What NAME.json says of an image.

    Raises:
        SuiteError: it is missing or is no record.
    """
    path = image.with_suffix(".json")
    try:
        record = dict(json.loads(path.read_text()))
        record["digest"]
    except OSError:
        raise SuiteError(f"{path}: not found, expected the record of {image.name}; build it again") from None
    except (ValueError, KeyError, TypeError):
        raise SuiteError(f"{path}: found no digest, expected the record of {image.name}") from None
    return record


def checked_digest(image: Path, *, anew: bool = False) -> str:
    """The digest of an image that is to be used, taken `anew` or as it was last found.

    Raises:
        SuiteError: it is missing, has no record, or is not the one that was recorded.
    """
    found, recorded = apptainer.digest(image, anew=anew), read_record(image)["digest"]
    if found != recorded:
        raise SuiteError(
            f"{image}: found digest {found[:12]}, expected {recorded[:12]} of {image.stem}.json; "
            "build it again, or copy both files"
        )
    return found


class _Progress:
    """One line that is written over on a terminal; a line for each change elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self.started, self.last = name, time.monotonic(), ""

    def __call__(self, doing: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        line = f"{self.name}  {minutes:2d}:{seconds:02d}  {doing}"[:100]
        if sys.stdout.isatty():
            print(f"\r{line:<100}", end="", flush=True)
        elif doing.split(",")[0] != self.last:
            print(line, flush=True)
        self.last = doing.split(",")[0]

    def end(self, line: str) -> None:
        print(f"\r{line:<100}" if sys.stdout.isatty() else line, flush=True)


# Test, list, check, sign --------------------------------------------------------------------------


def test(name: str, folder: Path, *, gpu: bool) -> None:
    """Run an image's own test and print what it says.

    Raises:
        SuiteError: no such image, or its test failed.
    """
    log = folder / f"{name}.test.log"
    for line in apptainer.run_test(folder / f"{name}.sif", log=log, gpu=gpu):
        print(f"{name}: {line}")


def check(name: str, folder: Path) -> list[str]:
    """One line for everything that is wrong with an image; its digest is taken anew."""
    image = folder / f"{name}.sif"
    try:
        checked_digest(image, anew=True)
    except SuiteError as error:
        return [str(error)]
    record = read_record(image)
    today = {"definition_sha256": definition_hash(name), "lock_sha256": lock_hash(name)}
    changed = [key.removesuffix("_sha256") for key, value in today.items() if record.get(key) != value]
    return [f"{image}: STALE, its {' and '.join(changed)} changed since it was built"] if changed else []


def describe(name: str, folder: Path) -> dict[str, Any] | None:
    """What `list` shows of an image, or None if it is not there."""
    image = folder / f"{name}.sif"
    if not image.is_file():
        return None
    record = read_record(image)
    return {
        "name": name,
        "path": str(image),
        "bytes": image.stat().st_size,
        "digest": apptainer.digest(image),
        "versions": record["versions"],
        "built": record["built"],
        "signed": apptainer.is_signed(image),
    }


def sign(name: str, folder: Path, *, key: Path | None) -> None:
    """Sign an image and record its new digest.

    Raises:
        SuiteError: the image is not the recorded one, or apptainer refused.
    """
    image = folder / f"{name}.sif"
    record = read_record(image)
    checked_digest(image, anew=True)
    apptainer.sign(image, key=key)
    del record["digest"], record["bytes"]
    write_record(image, **record)
    print(f"{name}: signed, digest now {apptainer.digest(image)[:12]}")
