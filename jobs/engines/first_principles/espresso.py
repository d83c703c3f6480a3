"""Quantum ESPRESSO (pw.x): decks, single points, molecular dynamics that resumes, and its output.

Written for and tried with 6.7. Pseudopotential files are named in the settings and lie in the folder
`ESPRESSO_PSEUDO`, or where Debian's quantum-espresso-data has them. `ESPRESSO_COMMAND` may name the command.

pw.x integrates NVE with Verlet and holds the centre of mass at rest. A run is a chain of such pieces, each
from the positions and velocities of the last whole state of the piece before, whose forces it computes again.
That is how a killed run goes on (what is lost is the step it was at), and how the thermostat acts: pw.x 6.7
turns given velocities into NaN with its own `svr`, so CSVR rescales them between pieces of a fifth of its
time constant (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7). Both the pieces and
the rescaling keep the canonical distribution, so their chain does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import EngineError, SuiteError
from jobs.base.frames import UNCONVERGED
from jobs.base.silica import MASSES_AMU, SPECIES, Configuration
from jobs.base.units import (
    ATOMIC_TIME_FS,
    BOHR_ANGSTROM,
    EV_PER_AMU_A2_FS2,
    RYDBERG_EV,
    RYDBERG_PER_BOHR_EV_ANGSTROM,
)
from jobs.engines.first_principles.deck import fill_deck, rows
from jobs.engines.first_principles.types import (
    FUNCTIONAL,
    Dynamics,
    Label,
    Run,
    check_thermostat,
    command,
    draw_velocities,
    kinetic_temperatures_K,
    read_fields,
)
from jobs.engines.process import LogCounter, run_program, thread_environment

RYDBERG_TIME_FS = 2 * ATOMIC_TIME_FS

THERMOSTATS = ("csvr",)
DECK = "run.in"
DECKS = {DECK: ".in"}
DEBIAN_PSEUDO = Path("/usr/share/espresso/pseudo")
# What the header of a pseudopotential calls PBE, by age.
_PBE = ("PBE", "SLA PW PBE PBE", "SLA PW PBX PBC")

_NUMBER = r"\s+(-?\d+\.\d+)"
_VERSION = re.compile(r"Program PWSCF v\.(\S+)")
_ENERGY = re.compile(rf"^!?\s+total energy\s+={_NUMBER} Ry", re.MULTILINE)
# Told to go on with an SCF that fails, pw.x 6.7 says "has been achieved" of it too: only the numbers tell.
_OUTCOME = re.compile(r"convergence (?:has been|NOT) achieved (?:in|after)\s+(\d+) iterations")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_TARGET = re.compile(r"scf convergence threshold =\s+(\S+)")
_FORCE = re.compile(rf"^\s+atom\s+\d+ type\s+\d+\s+force ={_NUMBER * 3}", re.MULTILINE)
_FORCES_TITLE = "Forces acting on atoms"
_POSITIONS = "ATOMIC_POSITIONS (angstrom)"
_TIME = re.compile(r"total cpu time spent up to now is\s+(\d+\.\d+) secs")
_CONSERVED = re.compile(rf"Ekin \+ Etot \(const\)\s+={_NUMBER} Ry")
_END = "JOB DONE"
_FAILURE = re.compile(r"Error in routine (.+?):?\s*\n\s*(\S.*)")
# Of the thermostat's time constant, into which a run is cut.
_PIECES = 5


@dataclass(frozen=True)
class Settings:
    """How well the electrons are solved: PBE, plane waves, fixed occupations, Gamma.

    `ecutwfc_Ry` and `ecutrho_Ry` cut off wave functions and density; `conv_thr_Ry` is the SCF's target,
    reached in at most `electron_maxstep` steps. `pseudopotentials` maps Si and O to UPF files.
    """

    ecutwfc_Ry: float
    ecutrho_Ry: float
    conv_thr_Ry: float
    electron_maxstep: int
    mixing_beta: float
    pseudopotentials: Mapping[str, str]

    @property
    def basis(self) -> str:
        """The level of theory beside the functional: total energies of two of them have different zeros."""
        files = "+".join(self.pseudopotentials[species] for species in SPECIES)
        return f"plane waves {self.ecutwfc_Ry:g} Ry {files}"


@dataclass(frozen=True)
class _Step:
    """One evaluation: forces (N, 3) eV/A; of MD also the next positions (N, 3) A and Ekin + Etot, eV.

    `seconds` are those of the program since its start.
    """

    energy_eV: float
    forces: NDArray[np.float64]
    converged: bool
    scf_steps: int
    next_positions: NDArray[np.float64] | None
    conserved_eV: float
    seconds: float


def read_settings(values: Mapping[str, Any]) -> Settings:
    """See `Engine`."""
    settings = read_fields("Quantum ESPRESSO", Settings, values)
    files = settings.pseudopotentials
    if not isinstance(files, Mapping) or set(files) != set(SPECIES):
        raise SuiteError(
            f"Quantum ESPRESSO settings: found pseudopotentials {files!r}, expected a file for each of "
            f"{' and '.join(SPECIES)}"
        )
    return settings


def _pseudo_folder() -> Path:
    return Path(os.environ.get("ESPRESSO_PSEUDO") or DEBIAN_PSEUDO)


def check(settings: Settings, thermostat: str | None) -> None:
    """See `Engine`; also that the pseudopotentials are there and are PBE's."""
    check_thermostat("Quantum ESPRESSO", thermostat, THERMOSTATS)
    _command(1)
    for name in settings.pseudopotentials.values():
        path = _pseudo_folder() / name
        if not path.is_file():
            raise SuiteError(
                f"{path}: found no such file, expected a pseudopotential; name its folder in ESPRESSO_PSEUDO"
            )
        said = re.search(r'Functional:(.*)|functional="(.*?)"', path.read_text(errors="replace"))
        functional = " ".join(" ".join(text for text in said.groups() if text).split()) if said else "none"
        if functional not in _PBE:
            raise SuiteError(f"{path}: found functional {functional}, expected {FUNCTIONAL}")


def _command(cores: int) -> list[str]:
    return command("ESPRESSO_COMMAND", ("pw.x",), cores=cores, name="Quantum ESPRESSO")


def write_deck(
    settings: Settings, start: Configuration, *, dynamics: Dynamics | None, steps: tuple[int, int] = (0, 0)
) -> str:
    """The pw.x input of a single point (`dynamics` None) or of the states from the first to the last step.

    A run needs the velocities of its start.
    """
    symbols = [SPECIES[index] for index in start.types]
    velocities: list[tuple[str, str]] = []
    if dynamics is not None:
        assert start.velocities is not None
        in_units = rows(start.velocities * RYDBERG_TIME_FS / BOHR_ANGSTROM)
        velocities = list(zip(symbols, in_units, strict=True))
    return fill_deck(
        "espresso.in.j2",
        settings=settings,
        states=None if dynamics is None else steps[1] - steps[0] + 1,
        timestep=None if dynamics is None else f"{dynamics.timestep_fs / RYDBERG_TIME_FS:.12g}",
        cell=rows(start.cell),
        atoms=list(zip(symbols, rows(start.positions), strict=True)),
        velocities=velocities,
        kinds=[
            (species, mass, settings.pseudopotentials[species])
            for species, mass in zip(SPECIES, MASSES_AMU, strict=True)
            if species in symbols
        ],
    )


def _run(directory: Path, log: Path, *, threads: int, watch: Callable[[], None] | None = None) -> float:
    # With a command of the user's, the cores are its ranks.
    environment = thread_environment(1 if os.environ.get("ESPRESSO_COMMAND") else threads)
    environment["ESPRESSO_PSEUDO"] = str(_pseudo_folder())
    # Otherwise the log of a killed run ends some steps early.
    environment["GFORTRAN_UNBUFFERED_PRECONNECTED"] = "y"
    command_line = [*_command(threads), "-in", DECK]
    try:
        return run_program(command_line, directory=directory, log=log, environment=environment, watch=watch)
    except EngineError:
        # The end of its log is MPI's; the reason stands in a box before it.
        said = _FAILURE.search(log.read_text(errors="replace"))
        if said is None:
            raise
        raise EngineError(f"pw.x: {said.group(1)}: {said.group(2).strip()} (log: {log})") from None


def version(directory: Path) -> str:
    """See `Engine`; e.g. `6.7MaX`."""
    for log in _logs(directory).values():
        if match := _VERSION.search(log.read_text(errors="replace")):
            return match.group(1)
    raise SuiteError(f"{directory}: found no 'Program PWSCF' in a log, expected pw.x output")


def wave_function(directory: Path) -> None:
    """See `Engine`; pw.x starts each run from atomic wave functions."""


def _logs(directory: Path) -> dict[int, Path]:
    """Logs of all attempts by the step that they began at; a single point has one, of step 0."""
    return {int(path.stem.removeprefix("run-")): path for path in sorted(directory.glob("run-*.out"))}


def _log(directory: Path, first_step: int) -> Path:
    return directory / f"run-{first_step:08d}.out"


def _read_steps(log: Path, n_atoms: int) -> Iterator[_Step]:
    """The whole evaluations of one log, in turn; what a kill cut off is left out.

    Raises:
        EngineError: an evaluation of another number of atoms.
    """
    text = log.read_text(errors="replace")
    target = _TARGET.search(text)
    # One piece for each evaluation: from its SCF to the next one's.
    titles = [match.start() for match in re.finditer(_FORCES_TITLE, text)]
    begin = 0
    for number, title in enumerate(titles):
        scf, rest = text[begin:title], text[title : titles[number + 1] if number + 1 < len(titles) else None]
        energies, outcomes = _ENERGY.findall(scf), _OUTCOME.findall(scf)
        accuracies = _ACCURACY.findall(scf)
        # Contributions that a more talkative pw.x lists after the total are not read.
        forces = np.array(_FORCE.findall(rest)[:n_atoms], dtype=np.float64)
        if "Total force" not in rest:
            return
        if not energies or not outcomes or not accuracies or target is None or len(forces) != n_atoms:
            raise EngineError(
                f"{log}: found {len(forces)} forces, {len(energies)} energies and {len(outcomes)} SCF "
                f"outcomes in evaluation {number + 1}, expected {n_atoms} forces and one of each"
            )
        conserved = _CONSERVED.search(rest)
        positions = None
        if conserved is not None:
            lines = rest.split(_POSITIONS, 1)[1].splitlines()[1 : n_atoms + 1]
            positions = np.array([line.split()[1:4] for line in lines], dtype=np.float64)
        yield _Step(
            energy_eV=float(energies[-1]) * RYDBERG_EV,
            forces=forces * RYDBERG_PER_BOHR_EV_ANGSTROM,
            converged=float(accuracies[-1]) <= float(target.group(1)),
            scf_steps=int(outcomes[-1]),
            next_positions=positions,
            conserved_eV=float(conserved.group(1)) * RYDBERG_EV if conserved else float("nan"),
            seconds=float((_TIME.findall(scf) or ["nan"])[-1]),
        )
        begin = title + rest.find("Total force")


# Single points ------------------------------------------------------------------------------------


def single_point(
    settings: Settings,
    start: Configuration,
    *,
    directory: Path,
    threads: int,
    watch: Callable[[], None] | None = None,
) -> Label:
    """Energy and forces of one configuration, computed in `directory`.

    An SCF that did not converge is returned as such, never dropped here.

    Raises:
        EngineError: pw.x is missing, failed, or left no energy or forces.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / DECK).write_text(write_deck(settings, start, dynamics=None))
    log = _log(directory, 0)
    seconds = _run(directory, log, threads=threads, watch=watch)
    steps = list(_read_steps(log, len(start.types)))
    if len(steps) != 1 or _END not in log.read_text(errors="replace"):
        raise EngineError(f"{log}: found {len(steps)} evaluations or no end, expected one and '{_END}'")
    return Label(
        energy_eV=steps[0].energy_eV,
        forces=steps[0].forces,
        refusal=None if steps[0].converged else UNCONVERGED,
        scf_steps=steps[0].scf_steps,
        seconds=seconds,
    )


# Molecular dynamics -------------------------------------------------------------------------------


def run_dynamics(
    settings: Settings,
    start: Configuration,
    dynamics: Dynamics,
    *,
    directory: Path,
    threads: int,
    guess: Path | None = None,
    watch: Callable[[int], None] | None = None,
) -> Run:
    """A run in `directory`; what a killed attempt left there is gone on from, at most one step is lost.

    `watch` is told about once a second how many steps are done; `guess` is not used.

    Raises:
        EngineError: pw.x is missing, failed, or its output does not hold all steps.
    """
    check_thermostat("Quantum ESPRESSO", dynamics.thermostat, THERMOSTATS)
    directory.mkdir(parents=True, exist_ok=True)
    velocities = start.velocities
    if velocities is None:
        velocities = draw_velocities(start.types, dynamics.temperature_K, dynamics.seed)
    start = Configuration(start.types, start.positions, start.cell, velocities)
    piece = max(1, dynamics.steps)
    if dynamics.thermostat is not None:
        piece = max(1, round(dynamics.damping_fs / dynamics.timestep_fs / _PIECES))
    known: dict[Path, list[_Step]] = {}
    run, begun = _read(start, dynamics, directory=directory, known=known)
    while len(run.steps) <= dynamics.steps:
        first = max(0, len(run.steps) - 1)
        state = start
        if len(run.steps):
            state = Configuration(start.types, run.positions[-1], start.cell, run.velocities[-1])
        if first and first % piece == 0 and first not in begun:
            state = _thermostatted(state, dynamics, first, piece)
        last = min(dynamics.steps, (first // piece + 1) * piece)
        (directory / DECK).write_text(write_deck(settings, state, dynamics=dynamics, steps=(first, last)))
        log = _log(directory, first)

        made = LogCounter(log, _FORCES_TITLE)

        def report(first: int = first, made: LogCounter = made) -> None:
            if watch is not None:
                watch(first + made())

        _run(directory, log, threads=threads, watch=report)
        known.pop(log, None)
        run, begun = _read(start, dynamics, directory=directory, known=known)
        if len(run.steps) != last + 1:
            raise EngineError(f"{log}: found states up to {len(run.steps) - 1}, expected up to {last}")
    return run


def _thermostatted(state: Configuration, dynamics: Dynamics, step: int, steps: int) -> Configuration:
    """A state with the velocities that CSVR, acting for `steps` steps at once, gives it."""
    assert state.velocities is not None
    factor = csvr_factor(
        float(kinetic_temperatures_K(state.types, state.velocities[None])[0]) / dynamics.temperature_K,
        degrees_of_freedom=3 * len(state.types) - 3,
        times=steps * dynamics.timestep_fs / dynamics.damping_fs,
        rng=np.random.default_rng([dynamics.seed, step]),
    )
    return replace(state, velocities=state.velocities * factor)


def csvr_factor(
    temperature_ratio: float, *, degrees_of_freedom: int, times: float, rng: np.random.Generator
) -> float:
    """What CSVR multiplies velocities by after `times` of its time constant (Bussi 2007, eq. A7).

    `temperature_ratio` is the instantaneous temperature over the bath's.
    """
    keep = np.exp(-times)
    gain = (1 - keep) / (degrees_of_freedom * temperature_ratio)
    first, others = rng.normal(), rng.chisquare(degrees_of_freedom - 1)
    return float(np.sqrt(keep + gain * (first**2 + others) + 2 * first * np.sqrt(keep * gain)))


@dataclass
class _Trajectory:
    """States in the order of their steps, while they are read."""

    steps: list[_Step] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def _read(
    start: Configuration, dynamics: Dynamics, *, directory: Path, known: dict[Path, list[_Step]]
) -> tuple[Run, set[int]]:
    """All whole steps that the logs in `directory` hold, and the first steps of the pieces that have any.

    A piece replaces the state that it did again. `known` keeps what was read of each log.

    The velocity at a state is the one that pw.x moved on with (what it prints as kinetic energy):
    (next positions - positions) / dt - acceleration dt / 2.
    """
    read, begun = _Trajectory(), set()
    n_atoms = len(start.types)
    for first, log in _logs(directory).items():
        if log not in known:
            # The last evaluation of a killed attempt may lack the step that follows it.
            known[log] = [step for step in _read_steps(log, n_atoms) if step.next_positions is not None]
        attempt = known[log]
        if not attempt or first > len(read.steps):
            continue
        begun.add(first)
        del read.steps[first:], read.positions[first + 1 :], read.seconds[first:]
        if not read.positions:
            read.positions.append(start.positions)
        spent = 0.0
        for step in attempt:
            assert step.next_positions is not None
            read.steps.append(step)
            read.seconds.append(step.seconds - spent)
            spent = step.seconds
            read.positions.append(step.next_positions)
    count = len(read.steps)
    shape = (count, n_atoms, 3)
    forces = np.array([step.forces for step in read.steps]).reshape(shape)
    positions = np.array(read.positions).reshape(-1, n_atoms, 3)
    masses = np.asarray(MASSES_AMU)[start.types][:, None]
    accelerations = forces / masses / EV_PER_AMU_A2_FS2
    accelerations -= (masses * accelerations).sum(axis=1, keepdims=True) / masses.sum()
    velocities = np.diff(positions, axis=0).reshape(shape) / dynamics.timestep_fs
    velocities -= accelerations * dynamics.timestep_fs / 2
    conserved = np.array([step.conserved_eV for step in read.steps])
    run = Run(
        steps=np.arange(count),
        positions=positions[:count],
        velocities=velocities,
        forces=forces,
        energies_eV=np.array([step.energy_eV for step in read.steps]),
        # Between pieces the thermostat changes it.
        conserved_eV=conserved if dynamics.thermostat is None else np.full(count, np.nan),
        temperatures_K=kinetic_temperatures_K(start.types, velocities),
        converged=np.array([step.converged for step in read.steps], dtype=np.bool_),
        scf_steps=np.array([step.scf_steps for step in read.steps], dtype=np.int64),
        seconds=np.array(read.seconds),
    )
    return run, begun
