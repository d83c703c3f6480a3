"""What a step of LAMMPS molecular dynamics costs: one launch, timed by LAMMPS itself and checked.

A launch is one sample: its own processes, start-up and warm-up `run` are outside the timed `run`, and what
it simulated is looked at before its time counts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.trajectory import DUMP_COLUMNS
from jobs.base.units import FS_PER_PS
from jobs.engines.lammps.potential import Potential, box_commands, interaction_commands
from jobs.engines.lammps.program import DAMPING_FS, run_lammps
from jobs.store.machine_settings import SKIN_ANGSTROM

LAMMPS_SKIN_ANGSTROM = 2.0  # what LAMMPS takes in metal units if nothing is said
WARM_UP_STEPS = 5
# A mean over few steps scatters by sqrt(2/3N) of its value; beyond this and four of those: another state.
TEMPERATURE_TOLERANCE = 0.1
# The conserved energy fluctuates by 1 meV/atom and may wander; a run that left its state moves it far more.
CONSERVED_FLUCTUATION_MEV_ATOM = 3.0
CONSERVED_LIMIT_MEV_ATOM_PS = 10.0


@dataclass(frozen=True)
class Layout:
    """How the machine is used: `replicas` runs side by side, each of `ranks` x `threads`, on `gpus` in all.

    `gpus` 0 hides any GPU there may be.
    """

    replicas: int = 1
    ranks: int = 1
    threads: int = 1
    gpus: int = 0
    skin_angstrom: float = SKIN_ANGSTROM

    @property
    def cores(self) -> int:
        """Cores that it takes."""
        return self.replicas * self.ranks * self.threads

    def check(self, cores: int) -> None:
        """Refuse more than there is.

        Raises:
            SuiteError: ranks x threads exceed the cores.
        """
        if self.cores > cores:
            raise SuiteError(
                f"layout: found {self.replicas} x {self.ranks} ranks x {self.threads} threads, "
                f"expected at most {cores} cores"
            )

    @property
    def text(self) -> str:
        """For people, e.g. `2 runs of 1 rank x 1 thread, skin 1 A`."""
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return (
            f"{self.replicas} run{'s' * (self.replicas > 1)} of {self.ranks} rank{'s' * (self.ranks > 1)} x "
            f"{self.threads} thread{'s' * (self.threads > 1)}{gpus}, skin {self.skin_angstrom:g} A"
        )


@dataclass(frozen=True)
class Launch:
    """One sample.

    `us_per_step_atom` is wall time of the whole layout (of its slowest run) per step and atom of all its
    runs; `core_us_per_step_atom` the processor time that its processes used, over all cores.
    """

    us_per_step_atom: float
    core_us_per_step_atom: float
    steps: int
    temperature_K: float
    conserved_drift_meV_atom: float
    dangerous_builds: int

    def as_json(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


def timed_script(
    potential: Potential,
    *,
    start: str,
    skin_angstrom: float,
    timestep_fs: float,
    temperature_K: float,
    seed: int,
    warm_up_steps: int,
    steps: int,
    dump_every: int | None = None,
    dump_file: str = "kept.bin",
) -> str:
    """NVT from fresh velocities: a warm-up `run`, then the one whose loop time counts."""
    dump = "" if dump_every is None else (
        f"dump kept all custom {dump_every} {dump_file} {DUMP_COLUMNS}\ndump_modify kept sort id\n"
    )  # fmt: skip
    return f"""{box_commands(potential)}
boundary p p p
read_data {start}
{interaction_commands(potential, skin_angstrom=skin_angstrom)}
velocity all create {temperature_K} {seed % 900_000_000 + 1} mom yes dist gaussian
timestep {timestep_fs / FS_PER_PS}
fix integrate all nvt temp {temperature_K} {temperature_K} {DAMPING_FS / FS_PER_PS}
thermo {max(1, steps // 20)}
thermo_style custom step temp etotal econserve
thermo_modify format float %.12g lost error
run {warm_up_steps}
{dump}run {steps}
"""


def time_launch(
    potential: Potential,
    start: Path,
    layout: Layout,
    *,
    steps: int,
    timestep_fs: float,
    temperature_K: float,
    seed: int,
    name: str,
    dump_every: int | None = None,
    planted_slowdown: float = 1.0,
) -> Launch:
    """Run one launch beside its start (a LAMMPS data file near equilibrium) and check it.

    `planted_slowdown` makes every step cost so many times a step's work, to prove that a slowdown is seen.

    Raises:
        EngineError: LAMMPS failed, or what it simulated is not what was asked for.
    """
    done = round(steps * planted_slowdown)

    def one(replica: int) -> Launch:
        script = timed_script(
            potential,
            start=start.name,
            skin_angstrom=layout.skin_angstrom,
            timestep_fs=timestep_fs,
            temperature_K=temperature_K,
            seed=seed + replica,
            warm_up_steps=max(WARM_UP_STEPS, done // 5),
            steps=done,
            dump_every=dump_every,
            dump_file=f"kept-{replica}.bin",
        )
        log = run_lammps(
            script,
            directory=start.parent,
            name=f"{name}-{replica}",
            ranks=layout.ranks,
            threads=layout.threads,
            gpus=layout.gpus,
            own=potential.own,
        )
        loop, table = log.loops[-1], log.thermo[-1]
        n_atoms, conserved = loop.atoms, table["Econserve"]
        launch = Launch(
            us_per_step_atom=1e6 * loop.seconds / steps / n_atoms,
            core_us_per_step_atom=1e6 * loop.core_seconds / steps / n_atoms,
            steps=loop.steps,
            temperature_K=float(table["Temp"].mean()),
            conserved_drift_meV_atom=float(np.ptp(conserved)) * 1000 / n_atoms,
            dangerous_builds=log.dangerous_builds,
        )
        _check(
            launch,
            n_atoms=n_atoms,
            temperature_K=temperature_K,
            duration_ps=done * timestep_fs / FS_PER_PS,
            log=log.path,
        )
        return launch

    with ThreadPoolExecutor(layout.replicas) as pool:
        runs = list(pool.map(one, range(layout.replicas)))
    return Launch(
        us_per_step_atom=max(run.us_per_step_atom for run in runs) / layout.replicas,
        core_us_per_step_atom=float(np.mean([run.core_us_per_step_atom for run in runs])),
        steps=runs[0].steps,
        temperature_K=float(np.mean([run.temperature_K for run in runs])),
        conserved_drift_meV_atom=max(run.conserved_drift_meV_atom for run in runs),
        dangerous_builds=sum(run.dangerous_builds for run in runs),
    )


def _check(launch: Launch, *, n_atoms: int, temperature_K: float, duration_ps: float, log: Path) -> None:
    """A time counts only for the simulation that was asked for.

    Raises:
        EngineError: another temperature, energy not conserved, or neighbours missed.
    """
    allowed = temperature_K * (TEMPERATURE_TOLERANCE + 4 * (2 / (3 * n_atoms)) ** 0.5)
    if not abs(launch.temperature_K - temperature_K) <= allowed:
        raise EngineError(
            f"lmp: found a mean temperature of {launch.temperature_K:.0f} K in the timed run, expected "
            f"{temperature_K:.0f} within {allowed:.0f} (log: {log})"
        )
    most = CONSERVED_FLUCTUATION_MEV_ATOM + CONSERVED_LIMIT_MEV_ATOM_PS * duration_ps
    if not launch.conserved_drift_meV_atom <= most:
        raise EngineError(
            f"lmp: the conserved energy moved by {launch.conserved_drift_meV_atom:.1f} meV/atom in the timed "
            f"run, expected at most {most:.1f} (log: {log})"
        )
    if launch.dangerous_builds:
        raise EngineError(
            f"lmp: found {launch.dangerous_builds} dangerous neighbour list builds, expected 0 (log: {log})"
        )
