"""The native kernel compared with DeePMD-kit: does MD run on the potential that was trained?

Both compute the same configurations: held-out frames of the coldest, the middle and the hottest temperature
(at N = 96 in a cell below twice the cut-off), the middle one compressed and shaken, and eight copies of it.
The standard is the model as it was trained, uncompressed, with its neural networks in float64.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.base.silica import Configuration, replicate, write_data
from jobs.base.units import EV_A3_PER_BAR
from jobs.engines.deepmd.precision import in_precision
from jobs.engines.deepmd.program import read_system
from jobs.engines.lammps.kernel import MODEL_FILE, native_potential
from jobs.engines.lammps.potential import Potential, interaction_commands, read_potential
from jobs.engines.lammps.program import run_lammps
from jobs.stages.potentials.train import heldout_systems
from jobs.store.workspace import Workspace

CODE_VERSION = 1

KERNEL_FILE = "kernel.json"
# Of the cell's edges, 9 % of the volume: neighbours closer and more than any liquid of the paper has.
COMPRESSION = 0.97
DISPLACEMENT_ANGSTROM = 0.1
LARGE = (2, 2, 2)


@dataclass(frozen=True)
class _Result:
    energy_eV: float
    forces: np.ndarray
    virial_eV: np.ndarray


def run(workspace: Workspace) -> None:
    """Compare both on every configuration and write `kernel.json`.

    Inputs: potential, dataset. `kernel.json` has `unavailable` (why MD does not run on the native kernel, or
    None) and, where it does, for each configuration and as the worst of all, how far both lie apart: force
    components (rms and largest, eV/A), energy (meV/atom) and virial (rms of its six components, meV/atom).

    Raises:
        EngineError: LAMMPS failed.
    """
    product, scratch = workspace.inputs["potential"], workspace.checkpoints
    potential = read_potential(product)
    try:
        native = native_potential(potential, product / MODEL_FILE, scratch=scratch)
    except (SuiteError, EngineError) as error:
        write_json(workspace.directory / KERNEL_FILE, {"unavailable": str(error)}, indent=1)
        return
    yardstick = _in_float64(potential, product, scratch)
    configurations = _configurations(workspace.inputs["dataset"], seed=workspace.seed)
    found = _evaluate(list(configurations.values()), native, directory=scratch, name="native")
    workspace.progress(0.3, "DeePMD-kit in float64")
    expected = _evaluate(list(configurations.values()), yardstick, directory=scratch, name="deepmd")
    rows = [
        {"configuration": what, "n_atoms": configuration.n_atoms, **_differences(a, b)}
        for (what, configuration), a, b in zip(configurations.items(), found, expected, strict=True)
    ]
    worst = {key: max(row[key] for row in rows) for key in _differences(found[0], expected[0])}
    write_json(
        workspace.directory / KERNEL_FILE,
        {"potential": potential.name, "unavailable": None, "worst": worst, "configurations": rows},
        indent=1,
    )


def _in_float64(potential: Potential, product: Path, scratch: Path) -> Potential:
    """The potential as trained, uncompressed, in float64."""
    model = scratch / "float64.pb"
    if not model.is_file():
        in_precision(product / MODEL_FILE, model, precision="float64", directory=scratch)
    return replace(potential, commands=(f'pair_style deepmd "{model.resolve()}"', "pair_coeff * * Si O"))


def _configurations(dataset: Path, *, seed: int) -> dict[str, Configuration]:
    """What is compared, by what it is."""
    about = json.loads((dataset / "dataset.json").read_text())
    listed = heldout_systems(about)
    chosen = {"coldest": listed[0], "liquid": listed[len(listed) // 2], "hottest": listed[-1]}
    found = {f"{what}, {kelvin:g} K": _first(dataset / path) for what, (kelvin, path) in chosen.items()}
    liquid = found[next(key for key in found if key.startswith("liquid"))]
    noise = np.random.default_rng(seed).normal(scale=DISPLACEMENT_ANGSTROM, size=liquid.positions.shape)
    found["compressed and shaken"] = replace(
        liquid, positions=(liquid.positions + noise) * COMPRESSION, cell=liquid.cell * COMPRESSION
    )
    large = replicate(liquid, LARGE)
    noise = np.random.default_rng(seed + 1).normal(scale=DISPLACEMENT_ANGSTROM, size=large.positions.shape)
    found["large"] = replace(large, positions=large.positions + noise)
    return found


def _first(system: Path) -> Configuration:
    """The first frame of a held-out system."""
    frames = read_system(system)
    return Configuration(frames.types, frames.positions[0], frames.cells[0])


def _evaluate(
    configurations: Sequence[Configuration], potential: Potential, *, directory: Path, name: str
) -> list[_Result]:
    """Energy, forces and virial of each, all in one run of LAMMPS: starting TensorFlow takes seconds."""
    parts = []
    for index, configuration in enumerate(configurations):
        write_data(directory / f"{name}-{index}.data", configuration)
        parts.append(f"""clear
units metal
atom_style charge
boundary p p p
read_data {name}-{index}.data
{interaction_commands(potential)}
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %.15g
dump forces all custom 1 {name}-{index}.forces fx fy fz
dump_modify forces sort id format float %.10g
run 0
""")
    log = run_lammps("".join(parts), directory=directory, name=name)
    results = []
    for index, table in enumerate(log.thermo):
        pressure_bar = np.array([table[f"P{axes}"][0] for axes in ("xx", "yy", "zz", "xy", "xz", "yz")])
        results.append(
            _Result(
                energy_eV=float(table["PotEng"][0]),
                forces=np.loadtxt(directory / f"{name}-{index}.forces", skiprows=9, ndmin=2),
                virial_eV=pressure_bar * EV_A3_PER_BAR * float(table["Volume"][0]),
            )
        )
    return results


def _differences(a: _Result, b: _Result) -> dict[str, Any]:
    """How far two results lie apart."""
    forces, n_atoms = a.forces - b.forces, len(a.forces)
    return {
        "force_rms_eV_A": float(np.sqrt(np.mean(forces**2))),
        "force_max_eV_A": float(np.abs(forces).max()),
        "energy_meV_atom": 1000 * abs(a.energy_eV - b.energy_eV) / n_atoms,
        "virial_rms_meV_atom": float(1000 * np.sqrt(np.mean((a.virial_eV - b.virial_eV) ** 2)) / n_atoms),
    }
