"""Train a symmetry-function potential (n2p2's kind) on a dataset; judged on held-out frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.files import write_json
from jobs.base.frames import Frames
from jobs.base.silica import SPECIES
from jobs.base.units import BOHR_ANGSTROM
from jobs.engines.deepmd.program import read_system
from jobs.engines.hdnnp.evaluation import predict
from jobs.engines.hdnnp.kalman import Schedule
from jobs.engines.hdnnp.n2p2_files import FOLDER, write_network
from jobs.engines.hdnnp.network import function_set
from jobs.engines.hdnnp.training import Labelled, Settings, Trainer
from jobs.engines.lammps.potential import write_potential
from jobs.stages.potentials.train import TRAIN_FILE, heldout_errors, heldout_systems, training_record
from jobs.store.workspace import Workspace

CODE_VERSION = 1

CURVE_FILE = "lcurve.csv"
SYMBOLS = ("O", "Si")  # in the order of atomic numbers
COMMANDS = (f"pair_style hdnnp/native {{directory}}/{FOLDER}", "pair_coeff * * Si O")
# Each takes 0.15 MB beside its derivatives. Of more frames so many are drawn: 10 000 updates look at 120 000,
# most of them again and again, and DeePMD-96's learning curve ends at some hundred.
MOST_FRAMES = 5000
# Updates that one row of the learning curve is the mean of.
_ROW = 25


def run(workspace: Workspace) -> None:
    """Make `n2p2/` (input.nn, scaling.data, weights), `potential.json`, `lcurve.csv` and `train.json`.

    Parameters: name; functions (radial_eta_per_bohr2, angular_eta_per_bohr2, zeta, lambda); cutoff_angstrom;
    nodes; updates; frames_per_update; forces_per_update; energy_weight; epsilon, eta and q of the filter (the
    two with their first and last value); checkpoint_every. Input: dataset. Optional parameter: `all_frames`,
    which trains on the held-out frames too; nothing is held out then. The seed is the stage's. Of more than
    `MOST_FRAMES` frames so many are drawn.

    `train.json` is that of `jobs.stages.potentials.train`; steps are updates.

    Raises:
        SuiteError: a function has one value in all frames, or there are too few forces.
    """
    parameters, dataset = workspace.parameters, workspace.inputs["dataset"]
    about = json.loads((dataset / "dataset.json").read_text())
    settings = read_settings(parameters)
    heldout = heldout_systems(about)
    paths = [dataset / path for path in about["train_systems"]]
    if parameters.get("all_frames", False):
        paths += [dataset / path for _, path in heldout]
        heldout = []
    frames = [frame for path in paths for frame in labelled(read_system(path))]
    if len(frames) > MOST_FRAMES:
        random = np.random.default_rng([workspace.seed, 2])
        frames = [frames[k] for k in np.sort(random.choice(len(frames), MOST_FRAMES, replace=False))]
    names = parameters["functions"]
    functions = function_set(
        radial_eta=names["radial_eta_per_bohr2"],
        angular_eta=names["angular_eta_per_bohr2"],
        zeta=names["zeta"],
        sign=names["lambda"],
        cutoff=parameters["cutoff_angstrom"] / BOHR_ANGSTROM,
        symbols=SYMBOLS,
    )
    trainer = Trainer(
        dict.fromkeys(SYMBOLS, functions),
        frames,
        settings,
        seed=workspace.seed,
        watch=lambda share, text: workspace.progress(0.1 * share, text),
    )
    resumed_from = trainer.resume(workspace.checkpoints)
    count = settings.updates

    def watch(done: int) -> None:
        if done % _ROW == 0:
            workspace.progress(0.1 + 0.87 * done / count, f"update {done} of {count}")

    trainer.run(workspace.checkpoints, watch)

    folder = workspace.directory / FOLDER
    folder.mkdir(exist_ok=True)
    network = trainer.network()
    write_network(network, folder, comment=f"{parameters['name']}, seed {workspace.seed}")
    workspace.progress(0.98, "held-out frames")
    paths = [dataset / path for _, path in heldout]
    predictions = predict(folder, [read_system(path) for path in paths])
    result = {
        "name": parameters["name"],
        "steps": settings.updates,
        "precision": "float64",
        "threads": workspace.cores,
        "seed": workspace.seed,
        "train_frames": len(frames),
        "heldout": heldout_errors([t for t, _ in heldout], paths, predictions) if heldout else None,
    }
    write_json(workspace.directory / TRAIN_FILE, result, indent=1)
    _write_curve(workspace.directory / CURVE_FILE, trainer.errors)
    write_potential(
        workspace.directory,
        name=parameters["name"],
        family="hdnnp",
        commands=COMMANDS,
        charges=None,
        cutoff_angstrom=parameters["cutoff_angstrom"],
        training=training_record(about),
    )
    workspace.record(resumed_from_step=resumed_from)


def read_settings(parameters: Mapping[str, Any]) -> Settings:
    """How to train, from the stage's parameters."""
    first, second = parameters["nodes"]
    return Settings(
        nodes=(first, second),
        updates=parameters["updates"],
        frames_per_update=parameters["frames_per_update"],
        forces_per_update=parameters["forces_per_update"],
        energy_weight=parameters["energy_weight"],
        schedule=Schedule(parameters["epsilon"], tuple(parameters["eta"]), tuple(parameters["q"])),
        checkpoint_every=parameters["checkpoint_every"],
    )


def labelled(system: Frames) -> list[Labelled]:
    """The frames of a system for training."""
    elements = np.array([SYMBOLS.index(SPECIES[index]) for index in system.types])
    labels = zip(system.positions, system.cells, system.energies_eV, system.forces, strict=True)
    return [Labelled(x, cell, elements, float(energy), forces) for x, cell, energy, forces in labels]


def _write_curve(path: Path, errors: np.ndarray) -> None:
    """The learning curve as CSV: root mean squares over the frames and forces of `_ROW` updates each."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "energy_rmse_train_eV_atom", "force_rmse_train_eV_A"])
        for last in range(_ROW, len(errors) + 1, _ROW):
            energies, forces = np.sqrt(np.mean(errors[last - _ROW : last] ** 2, axis=0))
            writer.writerow([last, f"{energies:g}", f"{forces:g}"])
