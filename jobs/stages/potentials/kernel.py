"""The native kernel compared with DeePMD-kit: does MD run on the potential that was trained?

Both compute the same configurations: held-out frames of the coldest, the middle and the hottest temperature
(at N = 96 in a cell below twice the cut-off), the middle one compressed and shaken, and eight copies of it.
The standard is the model as it was trained, uncompressed, with its neural networks in float64.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.base.machine import NATIVE_KERNEL, native_kernel
from jobs.base.silica import Configuration, replicate
from jobs.engines.deepmd.precision import in_precision
from jobs.engines.deepmd.program import read_system
from jobs.engines.lammps.kernel import MODEL_FILE, native_potential
from jobs.engines.lammps.potential import Potential, read_potential
from jobs.engines.lammps.program import Evaluation, evaluate_all
from jobs.stages.potentials.train import heldout_systems
from jobs.store.workspace import Workspace

CODE_VERSION = 1

KERNEL_FILE = "kernel.json"
# Of the cell's edges, 9 % of the volume: neighbours closer and more than any liquid of the paper has.
COMPRESSION = 0.97
DISPLACEMENT_ANGSTROM = 0.1
LARGE = (2, 2, 2)


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
    workspace.software[NATIVE_KERNEL] = native_kernel()
    yardstick = _in_float64(potential, product, scratch)
    configurations = _configurations(workspace.inputs["dataset"], seed=workspace.seed)

    def by(chosen: Potential, name: str) -> list[Evaluation]:
        return evaluate_all([(one, chosen) for one in configurations.values()], directory=scratch, name=name)

    found = by(native, "native")
    workspace.progress(0.3, "DeePMD-kit in float64")
    expected = by(yardstick, "deepmd")
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


def _differences(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """How far two results lie apart."""
    forces, n_atoms = a.forces - b.forces, len(a.forces)
    return {
        "force_rms_eV_A": float(np.sqrt(np.mean(forces**2))),
        "force_max_eV_A": float(np.abs(forces).max()),
        "energy_meV_atom": 1000 * abs(a.energy - b.energy) / n_atoms,
        "virial_rms_meV_atom": float(1000 * np.sqrt(np.mean((a.virial_eV - b.virial_eV) ** 2)) / n_atoms),
    }
