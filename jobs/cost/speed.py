"""How fast this kind of machine runs an NNP's MD: measured once in a second or two, then remembered.

Estimates of a campaign's cost use it. The kernel that will run is the one measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.machine import node_type, usable_gpus
from jobs.base.silica import cristobalite, write_data
from jobs.engines.lammps.kernel import DEEPMD, NATIVE, SLOWER, native_potential
from jobs.engines.lammps.native.build import (
    NativeUnavailableError,
    cache_folder,
    plugin_name,
    processor_level,
    why_unavailable,
)
from jobs.engines.lammps.potential import Potential
from jobs.engines.lammps.timing import Layout, time_launch
from jobs.reference.potentials import deposited_model

T = TypeVar("T")
# Core-seconds per atom and step where nothing was measured: docs/notes/fast-md-measured.md, cost-measured.md.
TYPICAL = {NATIVE: 5.0e-6, DEEPMD: 1.6e-4}
N_REPEATS, STEPS = 2, 1000  # 192 atoms
TEMPERATURE_K = 300.0


@cache
def kernel_here() -> str:
    """The kernel that runs an NNP's MD on this machine if none is demanded."""
    return NATIVE if why_unavailable() is None and not usable_gpus() else DEEPMD


def core_seconds_per_atom_step(kernel: str) -> float:
    """What an NNP's MD costs here by a kernel: as measured, or a typical value."""
    if kernel == DEEPMD:
        return TYPICAL[DEEPMD]
    try:
        return float(json.loads(_file().read_text())["core_us_per_step_atom"]) * 1e-6
    except (OSError, ValueError, KeyError, TypeError, SuiteError):
        return TYPICAL[NATIVE]


def speed_is_known() -> bool:
    """Whether the speed need not be measured: it was already, or the native kernel does not run here."""
    return kernel_here() == DEEPMD or _file().is_file()


def measure_speed() -> str:
    """Measure the native kernel with the deposited DeePMD-96, unless it was measured before.

    Other work on the machine hardly matters: processor time counts. Returns a line that says what runs an
    NNP's MD here, how fast, and why not faster.
    """
    if usable_gpus():
        return "MD of NNPs: DeePMD-kit on the GPU"
    try:
        model, _ = deposited_model("deepmd-96")
        if not (path := _file()).is_file():
            speed = _measured(model)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, {"core_us_per_step_atom": speed})
            except OSError:
                pass  # measured again next time
        else:
            speed = 1e6 * core_seconds_per_atom_step(NATIVE)
        return f"MD of NNPs: native kernel, {speed:.1f} core-us per step and atom on this kind of machine"
    except NativeUnavailableError as error:
        return f"MD of NNPs: DeePMD-kit, {SLOWER} slower than the native kernel: {error}"


def planned_with_speed(planned: T, plan: Callable[[], T]) -> T:
    """Print what runs an NNP's MD here; return the plan, made anew if the speed had to be measured first.

    A plan's estimates use the speed, and a wrong plan must fail before anything is compiled or printed.
    """
    known = speed_is_known()
    print(f"\n{measure_speed()}", file=sys.stderr, flush=True)
    return planned if known else plan()


def _measured(model: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        given = Potential("speed", DEEPMD, (), None, 6.0)
        potential = native_potential(given, model, scratch=Path(folder))
        start = Path(folder) / "start.data"
        # Half of the kinetic energy that it begins with becomes potential energy of a crystal.
        write_data(start, cristobalite(N_REPEATS, displacement_angstrom=0.05, seed=1))
        launch = time_launch(
            potential,
            start,
            Layout(),
            steps=STEPS,
            timestep_fs=1.0,
            temperature_K=TEMPERATURE_K,
            seed=1,
            name="speed",
        )
        return launch.core_us_per_step_atom


def _file() -> Path:
    """Where the answer for this kind of machine and this version of the kernel is."""
    return cache_folder() / f"speed-{node_type()}-{_plugin_here()}.json"


@cache
def _plugin_here() -> str:
    """Name of the native kernel for this processor; a plan asks for it once for each of its MD stages."""
    return Path(plugin_name(processor_level())).stem
