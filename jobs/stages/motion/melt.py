"""The paper's start: SiO2 on a random cubic lattice, melted and annealed by Tersoff at zero pressure."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.silica import (
    Configuration,
    check_cell_width,
    lattice_start,
    minimum_image,
    read_data,
    write_data,
)
from jobs.base.units import FS_PER_PS
from jobs.engines.lammps.potential import builtin_potential, interaction_commands
from jobs.engines.lammps.program import run_lammps
from jobs.store.workspace import Workspace

CODE_VERSION = 1

# Only the lattice is made at this density; the barostat finds the melt's own.
LATTICE_DENSITY_G_CM3 = 2.20
THERMOSTAT_PS = 0.1
BAROSTAT_PS = 1.0
# Between the first Si-O peak and the second shell.
BOND_ANGSTROM = 2.2
# Of the Si-O bonds of one configuration, at most this share (by atom ids) is found in another.
SHARED_BONDS_AT_MOST = 0.25
SAMPLES_PER_PS = 20


def run(workspace: Workspace) -> None:
    """Write `config-0.data` ..., `thermo.csv` and `melt.json`.

    Every configuration has its own random lattice, velocities and anneal of `duration_ps`. The paper's
    "substantially different" ones cannot come from one anneal of that length: at 5000 K and N = 96 Tersoff
    keeps 71 % of its Si-O bonds over 12 ps (measured here). Seconds long, so a killed melt starts anew.

    Raises:
        SuiteError: configurations that are not clearly different, or a bad number of atoms.
        EngineError: LAMMPS failed.
    """
    import pandas as pd

    given = workspace.parameters
    count, timestep_fs, temperature_K = given["configurations"], given["timestep_fs"], given["temperature_K"]
    steps = round(given["duration_ps"] * FS_PER_PS / timestep_fs)
    potential = builtin_potential("tersoff")
    folder = workspace.checkpoints
    seeds = np.random.SeedSequence(workspace.seed).generate_state(count) % 900_000_000 + 1
    lines = []
    for index, seed in enumerate(seeds):
        start = lattice_start(given["n_atoms"], density_g_cm3=LATTICE_DENSITY_G_CM3, seed=int(seed))
        check_cell_width(start.cell, potential.cutoff_angstrom)
        write_data(folder / f"lattice-{index}.data", start)
        lines += [
            "clear",
            "units metal",
            "atom_style charge",
            "boundary p p p",
            f"read_data lattice-{index}.data",
            interaction_commands(potential),
            f"velocity all create {temperature_K} {seed} mom yes dist gaussian",
            f"timestep {timestep_fs / FS_PER_PS}",
            f"fix melt all npt temp {temperature_K} {temperature_K} {THERMOSTAT_PS} iso 0 0 {BAROSTAT_PS}",
            f"thermo {round(FS_PER_PS / SAMPLES_PER_PS / timestep_fs)}",
            "thermo_style custom step temp pe density press vol",
            "thermo_modify format float %.10g flush yes",
            f"run {steps}",
            f"write_data ../config-{index}.data nocoeff",
        ]
    log = run_lammps("\n".join(lines), directory=folder, name="melt")
    tables = [
        pd.DataFrame(
            {
                "configuration": index,
                "step": table["Step"].astype(int),
                "time_ps": table["Step"] * timestep_fs / FS_PER_PS,
                "temperature_K": table["Temp"],
                "potential_eV": table["PotEng"],
                "density_g_cm3": table["Density"],
                "pressure_bar": table["Press"],
                "volume_A3": table["Volume"],
            }
        )
        for index, table in enumerate(log.thermo)
    ]
    thermo = pd.concat(tables, ignore_index=True)
    thermo.to_csv(workspace.directory / "thermo.csv", index=False, float_format="%.10g")
    configurations = [read_data(workspace.directory / f"config-{index}.data") for index in range(count)]
    shared = {
        pair: shared_bonds(*(configurations[i] for i in pair)) for pair in combinations(range(count), 2)
    }
    for (a, b), share in shared.items():
        if share > SHARED_BONDS_AT_MOST:
            raise SuiteError(
                f"config-{a}.data and config-{b}.data: found {share:.0%} of the Si-O bonds shared, "
                f"expected at most {SHARED_BONDS_AT_MOST:.0%}"
            )
    # Means over the second half, where the lattice is forgotten; the configurations are independent.
    late = thermo[thermo["time_ps"] >= given["duration_ps"] / 2].groupby("configuration")
    densities = late["density_g_cm3"].mean().to_numpy()
    facts = {
        "potential": potential.name,
        "n_atoms": given["n_atoms"],
        "temperature_K": temperature_K,
        "mean_temperature_K": float(late["temperature_K"].mean().mean()),
        "density_mean_g_cm3": float(densities.mean()),
        "density_se_g_cm3": float(densities.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
        "duration_ps": given["duration_ps"],
        "configuration_densities_g_cm3": [configuration.density_g_cm3 for configuration in configurations],
        "shared_bonds_max": max(shared.values(), default=0.0),
        "timestep_fs": timestep_fs,
        "seed": workspace.seed,
        "loop_seconds": sum(loop.seconds for loop in log.loops),
    }
    write_json(workspace.directory / "melt.json", facts, indent=1)


def shared_bonds(one: Configuration, other: Configuration) -> float:
    """Share of the Si-O bonds (closer than 2.2 A, the n-th Si to the m-th O) of one state in another."""
    bonds = _bonded(one)
    return float((bonds & _bonded(other)).sum() / max(1, bonds.sum()))


def _bonded(configuration: Configuration) -> np.ndarray:
    """Which Si (rows) and O (columns) are bonded, in the order of their indices."""
    silicon = configuration.positions[configuration.types == 0]
    oxygen = configuration.positions[configuration.types == 1]
    separation = minimum_image(silicon[:, None, :] - oxygen[None, :, :], configuration.edges)
    return np.asarray((separation**2).sum(axis=-1) < BOND_ANGSTROM**2)
