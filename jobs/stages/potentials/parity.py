"""Held-out frames through LAMMPS `rerun`; a symmetry-function potential needs no LAMMPS."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.base.frames import TILT_ANGSTROM, Frames, tilts_angstrom
from jobs.base.silica import Configuration, write_data
from jobs.engines.deepmd.program import Prediction, read_system
from jobs.engines.hdnnp.evaluation import predict
from jobs.engines.hdnnp.n2p2_files import FOLDER
from jobs.engines.lammps.potential import (
    POTENTIAL_FILE,
    Potential,
    box_commands,
    interaction_commands,
    potential_of,
)
from jobs.engines.lammps.program import own_lammps, run_lammps
from jobs.stages.potentials.train import TRAIN_FILE, heldout_errors, heldout_systems
from jobs.store.workspace import Workspace

CODE_VERSION = 2


def run(workspace: Workspace) -> None:
    """Make `heldout.npz` (references and predictions, frame by frame) and `parity.json` (errors).

    `parity.json` says how an NNP of this campaign was trained: `train_frames`, `steps`, `precision`,
    `seed` (null for other potentials).

    Parameters: `potential` (a built-in name) unless there is an input `potential`. Input: dataset.

    A potential that was not trained on these energies has a zero of its own: its mean offset per atom is
    taken off `energy_predicted_eV` and stated as `energy_offset_removed_eV_atom`; else that is 0.

    Raises:
        SuiteError: a cell is not orthorhombic.
        EngineError: LAMMPS refused.
    """
    dataset = workspace.inputs["dataset"]
    about = json.loads((dataset / "dataset.json").read_text())
    potential = potential_of(workspace)
    listed = heldout_systems(about)
    systems = [dataset / path for _, path in listed]
    frames = [_orthorhombic(path) for path in systems]
    if potential.family == "hdnnp":
        predictions = predict(workspace.inputs["potential"] / FOLDER, frames)
    else:
        predictions = rerun(potential, frames, directory=workspace.checkpoints)
    if potential.own:
        workspace.record(lammps=own_lammps(workspace.checkpoints))

    offset = 0.0
    if not _trained(workspace):
        errors = [
            (p.energies - f.energies_eV) / len(f.types) for p, f in zip(predictions, frames, strict=True)
        ]
        offset = float(np.concatenate(errors).mean())
    predictions = [
        Prediction(p.energies - offset * len(f.types), p.forces)
        for p, f in zip(predictions, frames, strict=True)
    ]
    _save(
        workspace.directory / "heldout.npz",
        temperatures_K=[t for t, _ in listed],
        melts=[_melts(path) for path in systems],
        frames=frames,
        predictions=predictions,
    )
    result = {
        "potential": potential.name,
        "family": potential.family,
        **_training(workspace),
        "energy_offset_removed_eV_atom": offset,
        "heldout": heldout_errors([t for t, _ in listed], systems, predictions),
    }
    write_json(workspace.directory / "parity.json", result, indent=1)


def _trained(workspace: Workspace) -> bool:
    """Whether the potential says that it learnt from this project's frames."""
    if "potential" not in workspace.inputs:
        return False
    content = json.loads((workspace.inputs["potential"] / POTENTIAL_FILE).read_text())
    return content["training"] is not None


def _training(workspace: Workspace) -> dict[str, Any]:
    """How the potential was trained, where its product is a training's."""
    path = workspace.inputs["potential"] / TRAIN_FILE if "potential" in workspace.inputs else None
    found = json.loads(path.read_text()) if path is not None and path.is_file() else {}
    return {key: found.get(key) for key in ("train_frames", "steps", "precision", "seed")}


def _melts(system: Path) -> list[str]:
    """The melt of each frame: frames of one melt, of whatever run or set, are not independent."""
    with (system / "frames.csv").open(newline="") as stream:
        return [row["melt"] for row in csv.DictReader(stream)]


def _save(
    path: Path,
    *,
    temperatures_K: Sequence[float],
    melts: Sequence[Sequence[str]],
    frames: Sequence[Frames],
    predictions: Sequence[Prediction],
) -> None:
    counts = [len(one) for one in frames]
    atoms = np.repeat([len(one.types) for one in frames], counts)
    np.savez_compressed(
        path,
        temperature_K=np.repeat(temperatures_K, counts),
        melt=np.concatenate([np.array(names) for names in melts]),
        n_atoms=atoms,
        energy_reference_eV=np.concatenate([one.energies_eV for one in frames]),
        energy_predicted_eV=np.concatenate([one.energies for one in predictions]),
        forces_reference=np.concatenate([one.forces.reshape(-1, 3) for one in frames]),
        forces_predicted=np.concatenate([one.forces.reshape(-1, 3) for one in predictions]),
        species=np.concatenate([np.tile(one.types, len(one)) for one in frames]),
        frame=np.repeat(np.arange(len(atoms)), atoms),
    )


def _orthorhombic(system: Path) -> Frames:
    """The frames of a system, none of which is tilted."""
    frames = read_system(system)
    tilted = tilts_angstrom(frames.cells) > TILT_ANGSTROM
    if tilted.any():
        raise SuiteError(
            f"{system}: frame {tilted.argmax() + 1}: found a tilted cell, expected an orthorhombic one"
        )
    return frames


def rerun(potential: Potential, systems: Sequence[Frames], *, directory: Path) -> list[Prediction]:
    """Energies and forces of `potential` on the frames (orthorhombic) of each system, by LAMMPS `rerun`.

    One `lmp` process for all frames with the same types; every frame gets its own box.

    Raises:
        EngineError: LAMMPS refused, or gave other than one result per frame.
    """
    groups: dict[bytes, list[tuple[int, int]]] = {}
    for s, system in enumerate(systems):
        # LAMMPS takes the types of all frames from the first.
        groups.setdefault(system.types.tobytes(), []).extend((s, f) for f in range(len(system)))
    energies = [np.empty_like(system.energies_eV) for system in systems]
    forces = [np.empty_like(system.forces) for system in systems]
    for number, members in enumerate(groups.values()):
        configurations = [
            Configuration(systems[s].types, systems[s].positions[f], systems[s].cells[f]) for s, f in members
        ]
        found = _rerun_group(potential, configurations, directory=directory, name=f"rerun-{number}")
        for (s, f), energy, force in zip(members, *found, strict=True):
            energies[s][f] = energy
            forces[s][f] = force
    return [Prediction(e, f) for e, f in zip(energies, forces, strict=True)]


def _rerun_group(
    potential: Potential, configurations: Sequence[Configuration], *, directory: Path, name: str
) -> tuple[np.ndarray, np.ndarray]:
    dump = directory / f"{name}.dump"
    with dump.open("w") as stream:
        for step, one in enumerate(configurations):
            stream.write(_dump_text(step, one))
    write_data(directory / f"{name}.data", configurations[0])
    script = f"""{box_commands(potential)}
boundary p p p
read_data {name}.data
{interaction_commands(potential)}
thermo 1
thermo_style custom step pe
thermo_modify format float %.15g
dump out all custom 1 {name}.out id fx fy fz
dump_modify out sort id format float %.12g
rerun {name}.dump dump x y z box yes
"""
    log = run_lammps(script, directory=directory, name=name, own=potential.own)
    energies = log.thermo[-1]["PotEng"]
    forces = _read_forces(directory / f"{name}.out", atoms=configurations[0].n_atoms)
    if not len(energies) == len(forces) == len(configurations):
        raise EngineError(
            f"lmp rerun: found {len(energies)} energies and {len(forces)} force frames, expected "
            f"{len(configurations)} (log: {log.path})"
        )
    return energies, forces


def _dump_text(step: int, one: Configuration) -> str:
    bounds = "".join(f"0 {edge:.12f}\n" for edge in one.edges)
    wrapped = one.positions % one.edges
    atoms = "".join(
        f"{i} {species + 1} {x:.12f} {y:.12f} {z:.12f}\n"
        for i, (species, (x, y, z)) in enumerate(zip(one.types, wrapped, strict=True), start=1)
    )
    return (
        f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{one.n_atoms}\n"
        f"ITEM: BOX BOUNDS pp pp pp\n{bounds}ITEM: ATOMS id type x y z\n{atoms}"
    )


def _read_forces(path: Path, *, atoms: int) -> np.ndarray:
    """(F, N, 3) forces of a text dump `id fx fy fz` sorted by id."""
    frames = []
    with path.open() as stream:
        while block := list(islice(stream, atoms + 9)):
            frames.append(np.array([line.split()[1:] for line in block[9:]], dtype=float))
    return np.array(frames)
