"""Cost of NNP molecular dynamics on this machine: the plain default against the suite's settings.

Arms run side by side in turns (A B A B ...), so that a busy machine slows them alike. The plain default is
one process of two threads on the float64, uncompressed model with LAMMPS' own neighbour settings; every
`--model` is run as several one-rank replicas, and as that many MPI ranks of one run. Costs are
us/step/atom of machine time (all cores in use), from LAMMPS' own loop times, and of core time, which a busy
machine disturbs less; a warm-up run goes first.

    python benchmarks/md_speed.py --plain model64.pb --model fast=compressed.pb --atoms 216
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.engines.lammps import (
    SKIN_ANGSTROM,
    Loop,
    Potential,
    builtin_potential,
    evaluate,
    interaction_commands,
    run_lammps,
)
from jobs.structures import lattice_start, read_data, write_data


@dataclass(frozen=True)
class Arm:
    """One way to spend the machine: `replicas` processes groups at once, each of `ranks` x `threads`."""

    label: str
    model: Path
    replicas: int
    ranks: int
    threads: int
    skin_angstrom: float


def deepmd(model: Path) -> Potential:
    """A DeePMD model file as a potential of cut-off 6 A."""
    commands = (f'pair_style deepmd "{model}"', "pair_coeff * * Si O")
    return Potential(model.stem, "deepmd", commands, None, 6.0)


def liquid(directory: Path, n_atoms: int, model: Path) -> Path:
    """A silica liquid near 3000 K at 2.20 g/cm3: a short Tersoff melt, then the model itself."""
    write_data(directory / "lattice.data", lattice_start(n_atoms, density_g_cm3=2.20, seed=1))
    for name, start, potential, steps, step_fs in (
        ("melt", "lattice.data", builtin_potential("tersoff"), 4000, 0.5),
        ("liquid", "melt.data", deepmd(model), 300, 1.0),
    ):
        script = f"""units metal
atom_style charge
read_data {start}
{interaction_commands(potential)}
velocity all create 3000 1 dist gaussian
timestep {step_fs / 1000}
fix integrate all nvt temp 3000 3000 0.05
thermo 1000
run {steps}
write_data {name}.data nocoeff
"""
        run_lammps(script, directory=directory, name=name)
    return directory / "liquid.data"


def cost(arm: Arm, directory: Path, start: Path, *, steps: int, turn: int) -> tuple[float, float]:
    """us/step/atom of the whole machine (from the slowest replica's loop), and of core time."""
    script = f"""units metal
atom_style charge
read_data {start}
{interaction_commands(deepmd(arm.model))}
neighbor {arm.skin_angstrom} bin
timestep 0.001
fix integrate all nvt temp 3000 3000 0.1
thermo 1000
run {max(5, steps // 10)}
run {steps}
"""

    def launch(replica: int) -> Loop:
        name = f"{arm.label.replace(' ', '-')}-{turn}-{replica}"
        log = run_lammps(script, directory=directory, name=name, ranks=arm.ranks, threads=arm.threads)
        return log.loops[-1]

    with ThreadPoolExecutor(arm.replicas) as pool:
        loops = list(pool.map(launch, range(arm.replicas)))
    per_step_atom = 1e6 / steps / sum(loop.atoms for loop in loops)
    return max(loop.seconds for loop in loops) * per_step_atom, sum(
        loop.core_seconds for loop in loops
    ) * per_step_atom


def main() -> None:
    """Measure, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", type=Path, required=True, help="float64 uncompressed model (.pb)")
    parser.add_argument("--model", action="append", required=True, metavar="LABEL=PATH")
    parser.add_argument("--atoms", type=int, default=216)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--skin", type=float, action="append", help=f"default {SKIN_ANGSTROM}")
    arguments = parser.parse_args()
    plain = arguments.plain.resolve()
    cores = arguments.cores
    arms = [Arm("plain", plain, 1, 1, cores, 2.0)]
    models = {label: Path(path).resolve() for label, path in (text.split("=", 1) for text in arguments.model)}
    for label, path in models.items():
        for skin in arguments.skin or [SKIN_ANGSTROM]:
            arms.append(Arm(f"{label} {cores} replicas skin {skin}", path, cores, 1, 1, skin))
        arms.append(Arm(f"{label} {cores} ranks", path, 1, cores, 1, SKIN_ANGSTROM))
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        start = liquid(directory, arguments.atoms, next(iter(models.values())))
        costs: dict[str, list[tuple[float, float]]] = {arm.label: [] for arm in arms}
        for turn in range(arguments.turns):
            for arm in arms:
                costs[arm.label].append(cost(arm, directory, start, steps=arguments.steps, turn=turn))
        configuration = read_data(start)
        reference = evaluate(configuration, deepmd(plain), directory=directory).forces
        results = []
        for arm in arms:
            forces = evaluate(configuration, deepmd(arm.model), directory=directory).forces
            machine_us, core_us = ([sample[i] for sample in costs[arm.label]] for i in (0, 1))
            plain_us, plain_core_us = ([sample[i] for sample in costs["plain"]] for i in (0, 1))
            results.append(
                {
                    "arm": arm.label,
                    "us_per_step_atom": statistics.median(machine_us),
                    "core_us_per_step_atom": statistics.median(core_us),
                    "samples": costs[arm.label],
                    "speed_up": statistics.median(a / b for a, b in zip(plain_us, machine_us, strict=True)),
                    "core_speed_up": statistics.median(
                        a / b for a, b in zip(plain_core_us, core_us, strict=True)
                    ),
                    "force_difference_rms_eV_A": float(np.sqrt(np.mean((forces - reference) ** 2))),
                }
            )
    for row in results:
        print(
            f"{row['arm']:26s} {row['us_per_step_atom']:7.1f} us/step/atom x{row['speed_up']:.2f}, "
            f"{row['core_us_per_step_atom']:7.1f} core-us x{row['core_speed_up']:.2f}, "
            f"force difference to plain {row['force_difference_rms_eV_A']:.1e} eV/A rms"
        )
    machine = {"processor": platform.processor() or platform.machine(), "cores": cores}
    print(json.dumps({"n_atoms": arguments.atoms, "machine": machine, "results": results}))


if __name__ == "__main__":
    main()
