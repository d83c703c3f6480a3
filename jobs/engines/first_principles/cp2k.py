"""CP2K (Quickstep): decks, single points, and molecular dynamics that resumes (read by `cp2k_output.py`).

Written for and tried with CP2K 2023.1. What CP2K prints is Hartree, bohr and atomic units of time,
except the positions of its trajectories (A); what this module returns is eV, A, fs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, NotInstalled, SuiteError
from jobs.base.files import write_whole
from jobs.base.silica import MASSES_AMU, SPECIES, Configuration
from jobs.base.units import ATOMIC_TIME_FS, BOHR_ANGSTROM
from jobs.engines.first_principles.cp2k_output import (
    DIAGONALIZATION_CONVERGED,
    ENERGIES,
    GAP,
    LOG,
    TRAJECTORY,
    read_blocks,
    read_energies,
    read_run,
    read_single_point,
    whole_lines,
)
from jobs.engines.first_principles.deck import fill_deck, rows
from jobs.engines.first_principles.types import Dynamics, Label, Run, check_thermostat, read_fields
from jobs.engines.process import executable, run_program, thread_environment

VALENCE_ELECTRONS = {"Si": 4, "O": 6}  # of the GTH-PBE pseudopotentials
THERMOSTATS = ("csvr", "nose-hoover")
DECKS = {"run.inp": ".inp"}
DECK = "run.inp"
METHODS = ("GPW", "GAPW", "GAPW_XC")
_PROGRAMS = ("cp2k.psmp", "cp2k.popt", "cp2k")
_RESTARTS = ("run-1.restart", "run-1.restart.bak-1")
_GUESSES = ("run-RESTART.wfn", "run-RESTART.wfn.bak-1")
# From this cut-off on, the SCF starts from a wave function converged on a coarse grid, where a step takes a
# third of the time (96 atoms, 150 against 400 Ry), by diagonalization, which needs half the steps of the
# orbital transformation (12 against 29). Without a gap it fails, and the transformation goes on from there.
_FINE_RY = 350
_COARSE: dict[str, Any] = {"method": "GPW", "cutoff_Ry": 150, "rel_cutoff_Ry": 20, "eps_default": 1e-6}
_DIAGONALIZED: dict[str, Any] = {"eps_scf": 1e-4, "max_scf": 20}  # of the density
_TRANSFORMED: dict[str, Any] = {"eps_scf": 5e-5}  # of the gradient
_COARSE_FOLDER = "coarse"
# ENERGY_GAP of the transformation's preconditioner: from atomic densities, and from a wave function that is
# almost right. On frames without a gap 0.2 needs 10 steps from there where 0.05 needs 19 to 40, and a label
# takes 0.6 of the time; from atomic densities 0.2 needs 40 steps where 0.05 needs 25.
_GAP_FROM_ATOMS_HARTREE, _GAP_FROM_GUESS_HARTREE = 0.05, 0.2


@dataclass(frozen=True)
class Settings:
    """How well the electrons are solved: PBE, GTH pseudopotentials, orbital transformation (DIIS).

    `cutoff_Ry` and `rel_cutoff_Ry` are of the density's grids, `eps_default` the precision of Quickstep,
    `eps_scf` the SCF's target; `max_scf` inner steps are made between preconditioners, at most
    `outer_max_scf` + 1 times. `basis` is a name in BASIS_MOLOPT. `method` GAPW and GAPW_XC
    integrate exchange and correlation near the nuclei on atomic grids: the regular grid alone (GPW) cannot
    resolve the density of oxygen's core region, so that forces depend on where atoms lie between grid
    points (measured: docs/notes/first-principles-measured.md).
    """

    basis: str
    cutoff_Ry: float
    rel_cutoff_Ry: float
    eps_default: float
    eps_scf: float
    max_scf: int
    outer_max_scf: int
    method: str = "GPW"


def read_settings(values: Mapping[str, Any]) -> Settings:
    """See `Engine`."""
    settings = read_fields("CP2K", Settings, values)
    if settings.method not in METHODS:
        raise SuiteError(f"CP2K settings: found method {settings.method!r}, expected {' or '.join(METHODS)}")
    return settings


def check(settings: Settings, thermostat: str | None) -> None:
    """See `Engine`."""
    check_thermostat("CP2K", thermostat, THERMOSTATS)
    find_cp2k()


def find_cp2k() -> str:
    """Path of CP2K.

    Raises:
        NotInstalled: it is not there.
    """
    for name in _PROGRAMS:
        try:
            return executable(name)
        except NotInstalled:
            continue
    raise NotInstalled(
        f"CP2K: found none of {', '.join(_PROGRAMS)} on PATH, expected CP2K; see docs/first-principles.md"
    )


def write_deck(
    settings: Settings,
    start: Configuration,
    *,
    dynamics: Dynamics | None,
    restart_file: str | None = None,
    restart_step: int = 0,
    guess_file: str | None = None,
    forces: bool = True,
    diagonalize: bool = False,
    gap: bool = False,
) -> str:
    """The CP2K input of a single point (`dynamics` None; without `forces` the energy only) or of a run.

    The SCF is by orbital transformation, or by `diagonalize`; `gap` has the gap printed after it. The
    diagonalization knows the lowest empty orbital already (8 s of 60 less, 96 atoms).

    With `restart_file` CP2K goes on from the state of step `restart_step`, and positions and velocities
    of the deck are only placeholders; `guess_file` holds the wave function to start the SCF from.
    """
    velocities = None
    if start.velocities is not None:
        velocities = rows(start.velocities * ATOMIC_TIME_FS / BOHR_ANGSTROM)
    symbols = [SPECIES[index] for index in start.types]
    return fill_deck(
        "cp2k.inp.j2",
        settings=settings,
        md=dynamics,
        run_type="MD" if dynamics is not None else "ENERGY_FORCE" if forces else "ENERGY",
        restart_file=restart_file,
        restart_step=restart_step,
        guess_file=guess_file,
        # A resumed run has the state of its noise in the restart file.
        noise=None if dynamics is None or restart_file else csvr_noise(dynamics.seed),
        diagonalize=diagonalize,
        energy_gap_hartree=_GAP_FROM_GUESS_HARTREE
        if guess_file and not dynamics
        else _GAP_FROM_ATOMS_HARTREE,
        gap=gap,
        occupied=sum(VALENCE_ELECTRONS[symbol] for symbol in symbols) // 2,
        cell=list(zip("ABC", rows(start.cell), strict=True)),
        atoms=list(zip(symbols, rows(start.positions), strict=True)),
        velocities=velocities,
        kinds=[
            (species, mass, VALENCE_ELECTRONS[species])
            for species, mass in zip(SPECIES, MASSES_AMU, strict=True)
            if species in symbols
        ],
    )


def csvr_noise(seed: int) -> str:
    """The state of CSVR's random numbers, as CP2K writes and reads it (A40,I2,3L2,ES25.16,18F20.1).

    CP2K starts them alike whatever GLOBAL's SEED says: without this, runs from different states have one
    temperature history (measured with 2023.1; five trajectories of 0.3 ps rose together by 300 K).
    """
    # L'Ecuyer's generator: two times three integers below its moduli; current, sub-stream and stream start.
    state = np.random.default_rng(seed).integers(1, 4294944443, size=6)
    numbers = "".join(f"{value:20.1f}" for value in np.tile(state, 3))
    return f"{'Wiener process for Thermostat # 1':<40}{1:2d} F T F{0.0:25.16E}{numbers}"


def _run(
    directory: Path, *, threads: int, watch: Callable[[], None] | None = None, append: bool = False
) -> float:
    environment = thread_environment(threads)
    # They force kernels of another processor than the one this runs on.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(name, None)
    # Otherwise the log of a killed run ends some steps before its trajectory.
    environment["GFORTRAN_UNBUFFERED_PRECONNECTED"] = "y"
    return run_program(
        [find_cp2k(), "-i", DECK],
        directory=directory,
        log=directory / LOG,
        environment=environment,
        watch=watch,
        append=append,
    )


def version(directory: Path) -> str:
    """The version that the log of a run names, e.g. `2023.1`.

    Raises:
        SuiteError: the log names none.
    """
    with (directory / LOG).open(errors="replace") as handle:
        for line in handle:
            if match := re.search(r"CP2K version (\S+)", line):
                return match.group(1)
    raise SuiteError(f"{directory / LOG}: found no 'CP2K version', expected a CP2K log")


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

    An SCF that did not converge is returned as such, never dropped here. The gap is known where the
    settings are fine enough for a first guess on a coarse grid; it is that one's.

    Raises:
        EngineError: CP2K is missing, failed, or left no energy or forces.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (LOG, "forces.dat"):
        (directory / name).unlink(missing_ok=True)
    guess_file, gap_eV, seconds = None, None, 0.0
    if settings.cutoff_Ry >= _FINE_RY:
        guess_file, gap_eV, seconds = _coarse_guess(settings, start, directory, threads=threads, watch=watch)
    (directory / DECK).write_text(write_deck(settings, start, dynamics=None, guess_file=guess_file))
    seconds += _run(directory, threads=threads, watch=watch)
    return read_single_point(directory, n_atoms=len(start.types), seconds=seconds, gap_eV=gap_eV)


def _coarse_guess(
    settings: Settings,
    start: Configuration,
    directory: Path,
    *,
    threads: int,
    watch: Callable[[], None] | None,
) -> tuple[str | None, float | None, float]:
    """A wave function file of a coarse grid and the gap in eV there; seconds it took."""
    coarse = replace(settings, **_COARSE)

    def solve(**options: Any) -> tuple[str | None, float, str]:
        return _solve_coarse(start, directory, threads=threads, watch=watch, gap=True, **options)

    shutil.rmtree(directory / _COARSE_FOLDER, ignore_errors=True)
    name, seconds, log = solve(settings=replace(coarse, **_DIAGONALIZED), diagonalize=True)
    if DIAGONALIZATION_CONVERGED not in log:
        name, more_seconds, log = solve(settings=replace(coarse, **_TRANSFORMED), guess_file=name)
        seconds += more_seconds
    gaps = GAP.findall(log)
    return None if name is None else f"{_COARSE_FOLDER}/{name}", float(gaps[-1]) if gaps else None, seconds


def _transformed_guess(
    settings: Settings, start: Configuration, directory: Path, *, threads: int, watch: Callable[[], None]
) -> str | None:
    """A wave function file of a coarse grid for a run's first SCF, by the transformation alone.

    The preconditioner of a run is cheap, and does not get there from atomic densities where there is no gap.
    """
    shutil.rmtree(directory / _COARSE_FOLDER, ignore_errors=True)
    coarse = replace(settings, **_COARSE, **_TRANSFORMED)
    name, _, _ = _solve_coarse(start, directory, threads=threads, watch=watch, settings=coarse)
    return None if name is None else f"{_COARSE_FOLDER}/{name}"


def _solve_coarse(
    start: Configuration,
    directory: Path,
    *,
    threads: int,
    watch: Callable[[], None] | None,
    **options: Any,
) -> tuple[str | None, float, str]:
    """An SCF in the coarse folder: its wave function file there, seconds and log; `options` of the deck."""
    folder = directory / _COARSE_FOLDER
    folder.mkdir(exist_ok=True)
    (folder / DECK).write_text(write_deck(start=start, dynamics=None, forces=False, **options))
    seconds = _run(folder, threads=threads, watch=watch)
    return _best_guess(folder), seconds, (folder / LOG).read_text(errors="replace")


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

    `guess` is a wave function file for the first SCF; `watch` is told about once a second how many
    steps are done.

    Of a finished run the files are only read. Whole steps that no restart file goes on from are kept
    beside `directory`, in a folder whose name ends in `.aside-<number>`.

    Raises:
        EngineError: CP2K is missing, failed, or its files do not hold all steps.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def report() -> None:
        if watch is not None:
            watch(_steps_done(directory / ENERGIES))

    if (last := _last_step(directory, n_atoms=len(start.types))) < dynamics.steps:
        done = _prepare_restart(directory, last, n_atoms=len(start.types))
        if done is None:
            _empty(directory, keep=last > 0)
        restart_file, step = done if done is not None else (None, 0)
        if done is not None:
            guess_file = _best_guess(directory)
        elif guess is not None:
            guess_file = str(guess)
        else:
            guess_file = _transformed_guess(settings, start, directory, threads=threads, watch=report)
        deck = write_deck(
            settings,
            start,
            dynamics=dynamics,
            restart_file=restart_file,
            restart_step=step,
            guess_file=guess_file,
        )
        (directory / DECK).write_text(deck)
        _run(directory, threads=threads, watch=report, append=done is not None)
    run = read_run(directory, n_atoms=len(start.types))
    if not np.array_equal(run.steps, np.arange(dynamics.steps + 1)):
        raise EngineError(
            f"{directory}: found {len(run.steps)} steps up to {run.steps.max(initial=0)},"
            f" expected 0 to {dynamics.steps} (log: {directory / LOG})"
        )
    return run


def wave_function(directory: Path) -> Path | None:
    """The wave function file that a finished run left, for the next one's first guess."""
    name = _best_guess(directory)
    return None if name is None else directory / name


def _best_guess(directory: Path) -> str | None:
    # Killed while writing, CP2K leaves a short file, and the whole one beside it.
    sizes = {name: (directory / name).stat().st_size for name in _GUESSES if (directory / name).is_file()}
    whole = [name for name in sizes if sizes[name] == max(sizes.values()) > 0]
    return whole[0] if whole else None


def _steps_done(energies: Path) -> int:
    if not energies.is_file():
        return 0
    return max(0, sum(1 for line in energies.open() if not line.startswith("#")) - 1)


def _last_step(directory: Path, *, n_atoms: int) -> int:
    """The newest step that all files of an earlier attempt hold whole, -1 where there is none."""
    if not all((directory / name).is_file() for name in (*TRAJECTORY, ENERGIES, LOG)):
        return -1
    steps = [set(read_blocks(directory / name, n_atoms)) for name in TRAJECTORY]
    return min(max(found, default=-1) for found in (*steps, set(read_energies(directory / ENERGIES))))


def _prepare_restart(directory: Path, last: int, *, n_atoms: int) -> tuple[str, int] | None:
    """Cut the files of an earlier attempt back to the newest state up to step `last`.

    Returns the restart file and its step, or None if there is nothing to go on from.
    """
    for name in _RESTARTS:
        step = _restart_step(directory / name)
        if step is None or step > last:
            continue
        for file in TRAJECTORY:
            _keep(directory / file, whole_lines(directory / file)[: (step + 1) * (n_atoms + 2)])
        rows = whole_lines(directory / ENERGIES)
        _keep(
            directory / ENERGIES,
            [row for row in rows if row.lstrip().startswith("#") or int(row.split()[0]) <= step],
        )
        # CP2K overwrites the file it goes on from before the first new step is whole.
        state = f"resume-{step}.restart"
        (directory / state).write_bytes((directory / name).read_bytes())
        return state, step
    return None


def _keep(path: Path, lines: Sequence[str]) -> None:
    """Cut a file to these lines in one step, if it has more: a kill here must not lose days of a run."""
    text = "".join(lines)
    if path.stat().st_size != len(text.encode()):
        write_whole(path, text)


def _empty(directory: Path, *, keep: bool) -> None:
    """Empty a folder that cannot be gone on from; `keep` what is in it under another name."""
    if keep:
        others = len(list(directory.parent.glob(f"{directory.name}.aside-*")))
        directory.rename(directory.with_name(f"{directory.name}.aside-{others}"))
    else:
        shutil.rmtree(directory)
    directory.mkdir()


def _restart_step(path: Path) -> int | None:
    """The step of a restart file, or None if there is no whole one."""
    if not path.is_file():
        return None
    text = path.read_text(errors="replace")
    match = re.search(r"STEP_START_VAL\s+(\d+)", text)
    if match is None or not text.rstrip().endswith("&END FORCE_EVAL"):
        return None
    return int(match.group(1))
