"""Train a deep potential on a dataset; frozen, compressed, checked, judged on held-out frames."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.engines.deepmd import curve
from jobs.engines.deepmd import program as deepmd
from jobs.engines.lammps.kernel import MODEL_FILE
from jobs.engines.lammps.potential import write_potential
from jobs.store.workspace import Workspace

CODE_VERSION = 1

COMPRESSED_FILE = "compressed.pb"
TRAIN_FILE = "train.json"
# float32 models measured 1.3e-4. Above this limit the table does not follow the nets at all, and the model is
# useless. Below it the precondition compressed-against-full decides what is tolerable.
COMPRESSION_GATE_EV_A = 0.05


def run(workspace: Workspace) -> None:
    """Make `model.pb`, `compressed.pb`, `potential.json`, `input.json`, `lcurve.csv` and `train.json`.

    Parameters: name, loss, steps, precision, start_lr, stop_lr, decay_steps, batch_size,
    checkpoint_every, axis_neuron, type_one_side. Input: dataset. Every seed comes from the stage's.

    `train.json` gives errors of the frozen model on the held-out frames, per temperature and for "all":
    energies per atom as they are, with no offset removed (`energy_bias_meV_atom` is their mean error);
    forces per component, both species together and each.

    Raises:
        SuiteError: sel is too small for the data, or compressed and full forces disagree.
        EngineError: `dp` is missing or failed.
    """
    parameters = workspace.parameters
    dataset = workspace.inputs["dataset"]
    about = json.loads((dataset / "dataset.json").read_text())
    check_sel(about, dataset / "dataset.json")
    folder = workspace.checkpoints / "training"
    folder.mkdir(exist_ok=True)
    # Through a link, so that neither input.json nor the model holds a path of this machine.
    link = folder / "data"
    link.unlink(missing_ok=True)
    link.symlink_to(dataset.resolve())
    heldout = heldout_systems(about)
    steps = parameters["steps"]
    configuration = deepmd.train_input(
        train_systems=[f"data/{path}" for path in about["train_systems"]],
        heldout_systems=[f"data/{path}" for _, path in heldout],
        sel=about["sel"],
        loss=parameters["loss"],
        steps=steps,
        precision=parameters["precision"],
        start_lr=parameters["start_lr"],
        stop_lr=parameters["stop_lr"],
        decay_steps=parameters["decay_steps"],
        batch_size=parameters["batch_size"],
        checkpoint_every=parameters["checkpoint_every"],
        axis_neuron=parameters["axis_neuron"],
        type_one_side=parameters["type_one_side"],
        seed=workspace.seed,
    )
    resumed_from = deepmd.train(
        configuration,
        directory=folder,
        threads=workspace.cores,
        watch=lambda step: workspace.progress(0.95 * step / steps, f"step {step} of {steps}"),
    )
    model, compressed = workspace.directory / MODEL_FILE, workspace.directory / COMPRESSED_FILE
    workspace.progress(0.95, "freeze and compress")
    deepmd.freeze(directory=folder, out=model)
    deepmd.compress(model, compressed, directory=folder, training_script=folder / deepmd.INPUT_FILE)

    workspace.progress(0.98, "held-out frames")
    systems = [dataset / path for _, path in heldout]
    full, tabulated = deepmd.evaluate([model, compressed], systems, directory=folder, threads=workspace.cores)
    difference = check_compressed(compressed, full, tabulated)
    learned = curve.read_curve(folder / curve.CURVE_FILE)
    curve.write_curve(learned, workspace.directory / "lcurve.csv")
    speed = curve.steps_per_second(
        folder / deepmd.LOG_FILE, steps_between=configuration["training"]["disp_freq"]
    )
    result = {
        "name": parameters["name"],
        "steps": steps,
        "steps_per_second": speed,
        "seconds": steps / speed,
        "threads": workspace.cores,
        "precision": parameters["precision"],
        "sel": about["sel"],
        "seed": workspace.seed,
        "train_frames": about["frames"]["train"],
        "heldout": heldout_errors([t for t, _ in heldout], systems, full),
        "compressed_vs_full_force_rms_eV_A": difference,
    }
    write_json(workspace.directory / TRAIN_FILE, result, indent=1)
    os.replace(folder / deepmd.INPUT_FILE, workspace.directory / "input.json")
    write_potential(
        workspace.directory,
        name=parameters["name"],
        family="deepmd",
        commands=[f"pair_style deepmd {{directory}}/{COMPRESSED_FILE}", "pair_coeff * * Si O"],
        charges=None,
        cutoff_angstrom=deepmd.CUTOFF_ANGSTROM,
        training=training_record(about),
    )
    workspace.record(resumed_from_step=resumed_from, steps_per_second=speed)


def check_sel(about: Mapping[str, Any], path: Path) -> None:
    """Refuse a sel below the number of neighbours in the data: DeePMD-kit would drop the farthest silently.

    Raises:
        SuiteError: sel is too small.
    """
    if any(s < most for s, most in zip(about["sel"], about["neighbour_max"], strict=True)):
        raise SuiteError(
            f"{path}: found sel {about['sel']} (Si, O), expected at least {about['neighbour_max']}, the most "
            f"neighbours within {deepmd.CUTOFF_ANGSTROM} A in the data"
        )


def training_record(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a potential says of the data that it learned from, out of `dataset.json`."""
    return {
        key: about[key]
        for key in (
            "sets",
            "frames",
            "temperatures_K",
            "lowest_temperature_K",
            "volumes_A3",
            "min_distance_angstrom",
        )
    }


def heldout_systems(about: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Temperature (K) and relative path of every held-out system, from the coldest."""
    systems = [(float(t), path) for t, paths in about["test_systems"].items() for path in paths]
    return sorted(systems)


def heldout_errors(
    temperatures_K: Sequence[float],
    systems: Sequence[Path],
    predictions: Sequence[deepmd.Prediction],
) -> dict[str, dict[str, float]]:
    """Errors per temperature and for "all", of predictions on npy systems.

    Energies in meV/atom as they are; forces in eV/A, root mean square over components.
    """
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]] = {}
    for temperature, path, prediction in zip(temperatures_K, systems, predictions, strict=True):
        frames = deepmd.read_system(path)
        energy = 1000 * (prediction.energies - frames.energies_eV) / len(frames.types)
        species = np.tile(frames.types, len(frames))
        part = (
            energy,
            (prediction.forces - frames.forces).reshape(-1, 3),
            frames.forces.reshape(-1, 3),
            species,
        )
        for key in (f"{temperature:g}", "all"):
            parts.setdefault(key, []).append(part)
    return {key: _errors(*map(np.concatenate, zip(*found, strict=True))) for key, found in parts.items()}


def _errors(
    energy: np.ndarray, force: np.ndarray, reference: np.ndarray, species: np.ndarray
) -> dict[str, float]:
    return {
        "frames": len(energy),
        "energy_rmse_meV_atom": _rms(energy),
        "energy_bias_meV_atom": float(energy.mean()),
        "force_rmse_eV_A": _rms(force),
        "force_rmse_Si_eV_A": _rms(force[species == 0]),
        "force_rmse_O_eV_A": _rms(force[species == 1]),
        "force_rms_reference_eV_A": _rms(reference),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def check_compressed(
    compressed: Path, full: Sequence[deepmd.Prediction], tabulated: Sequence[deepmd.Prediction]
) -> float:
    """Root mean square difference (eV/A) of the compressed model's forces from the full model's.

    Raises:
        SuiteError: it is above the gate, or not a number.
    """
    pairs = zip(full, tabulated, strict=True)
    difference = _rms(np.concatenate([(one.forces - other.forces).ravel() for one, other in pairs]))
    if not difference <= COMPRESSION_GATE_EV_A:
        raise SuiteError(
            f"{compressed}: found forces {difference:.2g} eV/A rms from the full model's on held-out frames, "
            f"expected at most {COMPRESSION_GATE_EV_A}"
        )
    return difference
