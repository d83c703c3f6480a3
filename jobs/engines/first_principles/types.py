"""What every first-principles program is asked for and gives back: starts, dynamics, labels, runs.

An *engine* is a module of this package with the functions of `Engine`: `cp2k`, `espresso` or `vasp`. All
compute PBE at the Gamma point without spin. Units: eV, A, fs, K.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import NotInstalled, SuiteError
from jobs.base.silica import MASSES_AMU, Configuration
from jobs.base.units import BOLTZMANN_EV_K, EV_PER_AMU_A2_FS2

FUNCTIONAL = "PBE"
THERMOSTATS = ("csvr", "nose-hoover")
SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class Dynamics:
    """A run of `steps` steps at one temperature; `thermostat` is one of `THERMOSTATS`, or None for NVE.

    `damping_fs` is the thermostat's time constant; `seed` draws velocities and CSVR's noise.
    """

    steps: int
    timestep_fs: float
    temperature_K: float
    thermostat: str | None
    damping_fs: float
    seed: int

    def __post_init__(self) -> None:
        if self.thermostat is not None and self.thermostat not in THERMOSTATS:
            raise SuiteError(
                f"thermostat: found {self.thermostat!r}, expected {' or '.join(THERMOSTATS)}, or null for NVE"
            )


@dataclass(frozen=True)
class Label:
    """A single point: `energy_eV` and `forces` (N, 3) in eV/A as the engine gives them.

    `refusal` says why they must not be used, if they must not; `gap_eV` is between
    the highest occupied and the lowest empty orbital, where the engine tells.
    """

    energy_eV: float
    forces: NDArray[np.float64]
    refusal: str | None
    scf_steps: int
    seconds: float
    gap_eV: float | None = None


@dataclass(frozen=True)
class Run:
    """F steps of a trajectory, unconverged ones among them.

    `steps` (F,) MD step numbers from 0 (the start itself); `positions` (F, N, 3) A, unwrapped;
    `velocities` A/fs; `forces` eV/A; `energies_eV` (F,) potential; `conserved_eV` (F,), NaN where the engine
    gives no conserved quantity; `temperatures_K` (F,) instantaneous; `converged` (F,); `scf_steps` (F,);
    `seconds` (F,).
    """

    steps: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    forces: NDArray[np.float64]
    energies_eV: NDArray[np.float64]
    conserved_eV: NDArray[np.float64]
    temperatures_K: NDArray[np.float64]
    converged: NDArray[np.bool_]
    scf_steps: NDArray[np.int64]
    seconds: NDArray[np.float64]


class Engine(Protocol):
    """What the aimd stage asks of a program; each module that `registry.ENGINES` names is one."""

    @property
    def DECKS(self) -> Mapping[str, str]:  # noqa: N802 - a constant of the module
        """Input files in a run's folder that may be published, and the ending that each is kept under."""

    @property
    def THERMOSTATS(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the module
        """Those of the suite's thermostats that the engine has, the preferred one first."""

    def read_settings(self, values: Mapping[str, Any]) -> Any:
        """The engine's settings object, with an attribute `basis`; SuiteError for wrong values."""

    def check(self, settings: Any, thermostat: str | None) -> None:
        """SuiteError in one line if the program, its data files or the thermostat are lacking."""

    def version(self, directory: Path) -> str:
        """The program's version, as the output in a run's folder names it."""

    def single_point(
        self,
        settings: Any,
        start: Configuration,
        *,
        directory: Path,
        threads: int,
        watch: Callable[[], None] | None = None,
    ) -> Label:
        """Energy and forces of one configuration; `watch` is called about once a second."""

    def run_dynamics(
        self,
        settings: Any,
        start: Configuration,
        dynamics: Dynamics,
        *,
        directory: Path,
        threads: int,
        guess: Path | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> Run:
        """A run that goes on from what a killed attempt left; a finished one is only read."""

    def wave_function(self, directory: Path) -> Path | None:
        """What a finished run left for the first SCF of the next one, if the engine uses it."""


def read_fields(program: str, kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Settings of a JSON object, as an instance of the dataclass `kind`.

    Raises:
        SuiteError: a name that is missing or unknown, or a number that is not one or not positive.
    """
    names = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    optional = {field.name for field in fields(kind) if field.default is not MISSING}  # type: ignore[arg-type]
    if not set(names) - optional <= set(values) <= set(names):
        raise SuiteError(f"{program} settings: found {sorted(values)}, expected {sorted(names)}")
    for name, value in values.items():
        # Not isinstance: true is an int to it. YAML reads 1e-9, without a point, as text.
        if names[name] == "int" and not (type(value) is int and value > 0):
            raise SuiteError(f"{program} settings: found {name} {value!r}, expected a positive integer")
        number = type(value) in (int, float) and math.isfinite(value) and value > 0
        if names[name] == "float" and not number:
            raise SuiteError(f"{program} settings: found {name} {value!r}, expected a positive number")
        if names[name] == "str" and not (isinstance(value, str) and value):
            raise SuiteError(f"{program} settings: found {name} {value!r}, expected text")
        texts = value.values() if isinstance(value, Mapping) else ()
        if not all(isinstance(text, str) and text for text in texts):
            raise SuiteError(f"{program} settings: found {name} {value!r}, expected texts by species")
    return kind(**values)


def check_thermostat(program: str, thermostat: str | None, supported: tuple[str, ...]) -> None:
    """Refuse a thermostat that a program does not have; None is NVE, which all have.

    Raises:
        SuiteError: as said.
    """
    if thermostat is not None and thermostat not in supported:
        raise SuiteError(
            f"{program}: found thermostat {thermostat}, expected {' or '.join(supported)} (or NVE): "
            "it has no other of this suite's"
        )


def command(variable: str, programs: tuple[str, ...], *, cores: int, name: str) -> list[str]:
    """The command line of a program: the user's, from an environment variable, or what is on PATH.

    In the user's command (`mpirun -np {cores} vasp_gam`), `{cores}` stands for the cores of the task.

    Raises:
        NotInstalled: the program is not there.
    """
    said = os.environ.get(variable)
    words = [word.replace("{cores}", str(cores)) for word in shlex.split(said)] if said else []
    for found in [words] if words else [[program] for program in programs]:
        if shutil.which(found[0]):
            return found
    tried = f"no {words[0]} (of {variable})" if words else f"none of {', '.join(programs)}"
    raise NotInstalled(
        f"{name}: found {tried} on PATH, expected {name}; name its command in {variable}, for example "
        f"'mpirun -np {{cores}} {programs[0]}'"
    )


def draw_velocities(types: NDArray[np.integer], temperature_K: float, seed: int) -> NDArray[np.float64]:
    """Maxwell-Boltzmann velocities (N, 3) in A/fs, at rest as a whole and at exactly this temperature."""
    masses = MASSES_AMU[types][:, None]
    spread = np.sqrt(BOLTZMANN_EV_K * temperature_K / EV_PER_AMU_A2_FS2 / masses)
    velocities = np.random.default_rng(seed).normal(size=(len(types), 3)) * spread
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    drawn = float(kinetic_temperatures_K(types, velocities[None])[0])
    return velocities * np.sqrt(temperature_K / drawn)


def kinetic_energies_eV(  # noqa: N802 - the unit
    types: NDArray[np.integer], velocities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Kinetic energy (F,) in eV of velocities (F, N, 3) in A/fs."""
    return 0.5 * EV_PER_AMU_A2_FS2 * np.einsum("i,fix,fix->f", MASSES_AMU[types], velocities, velocities)


def kinetic_temperatures_K(  # noqa: N802 - the unit
    types: NDArray[np.integer], velocities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Temperature (F,) in K of velocities (F, N, 3) in A/fs, of 3N - 3 degrees of freedom."""
    return 2 * kinetic_energies_eV(types, velocities) / (3 * len(types) - 3) / BOLTZMANN_EV_K
