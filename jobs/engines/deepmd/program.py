"""DeePMD-kit (TensorFlow): input for the paper's network, training that resumes, and what it leaves.

The network is Sec. II B of Balyakin et al., PRE 102, 052125 (2020): an "angle filter" {10, 20, 40} and a
"radial filter" {5, 10, 20} within 6.0 A (smooth from 4.5 A) and a fitting network {40, 20, 10}. DeePMD-kit 1
called that pair `se_ar`; version 3 writes it as a `hybrid` of `se_e2_a` and `se_e2_r`.

Run as a program (`python -m jobs.engines.deepmd.program REQUEST.json`) it evaluates frozen models on frames:
TensorFlow is imported in a process of its own, whose chatter goes to a log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import write_json
from jobs.base.frames import Frames
from jobs.base.paths import ROOT
from jobs.base.silica import SPECIES
from jobs.engines.deepmd.curve import CURVE_FILE, CURVE_FRAMES, curve_rows, truncate_curve
from jobs.engines.process import executable, run_program, thread_environment

CUTOFF_ANGSTROM = 6.0
SMOOTH_FROM_ANGSTROM = 4.5
ANGULAR_NEURONS = (10, 20, 40)
RADIAL_NEURONS = (5, 10, 20)
FITTING_NEURONS = (40, 20, 10)

INPUT_FILE = "input.json"
# A table that moves forces by more than this (rms) is a broken one; a good one moves them by 1e-4.
COMPRESSION_FORCE_LIMIT_EV_A = 5e-3
LOG_FILE = "train.log"
# Compression replaces the embedding nets by fifth-order polynomials in s(r): a fine table up to the s of the
# shortest training distance, a ten times coarser one up to EXTRAPOLATE times that s, so down to about a
# fifth of the shortest distance. Beyond it the result would be silently wrong; no atoms get there.
TABLE_STEP = 0.01
TABLE_EXTRAPOLATE = 5


def read_system(path: Path) -> Frames:
    """Read a DeePMD npy system (`type.raw`, `type_map.raw`, `set.*/*.npy`).

    Raises:
        SuiteError: a file is missing, or the type map is not Si, O.
    """
    sets = sorted(path.glob("set.*"))
    if not sets:
        raise SuiteError(f"{path}: found no set.*, expected a DeePMD npy system")
    try:
        type_map = tuple((path / "type_map.raw").read_text().split())
        types = np.loadtxt(path / "type.raw", dtype=int, ndmin=1)
        arrays = {
            name: np.concatenate([np.load(one / f"{name}.npy") for one in sets]).astype(float)
            for name in ("coord", "box", "energy", "force")
        }
    except (FileNotFoundError, ValueError) as error:
        raise SuiteError(f"{path}: found {error}, expected a DeePMD npy system") from None
    if type_map != SPECIES:
        raise SuiteError(f"{path}/type_map.raw: found {' '.join(type_map)}, expected {' '.join(SPECIES)}")
    count, atoms = len(arrays["coord"]), len(types)
    return Frames(
        types=types,
        positions=arrays["coord"].reshape(count, atoms, 3),
        cells=arrays["box"].reshape(count, 3, 3),
        energies_eV=arrays["energy"].reshape(count),
        forces=arrays["force"].reshape(count, atoms, 3),
    )


def train_input(
    *,
    train_systems: Sequence[str],
    heldout_systems: Sequence[str],
    sel: Sequence[int],
    loss: Mapping[str, float],
    steps: int,
    precision: str,
    start_lr: float,
    stop_lr: float,
    decay_steps: int,
    batch_size: int,
    checkpoint_every: int,
    axis_neuron: int,
    type_one_side: bool,
    seed: int,
) -> dict[str, Any]:
    """The DeePMD-kit 3.2 input of the paper's network.

    The learning rate falls from `start_lr` to `stop_lr` in equal factors, one every `decay_steps`. Every
    checkpoint comes with a row of the learning curve. Descriptor, fitting net and batch order get seeds of
    their own, all drawn from `seed`.

    Args:
        train_systems: npy systems, relative to the folder that training runs in.
        heldout_systems: the same, for the learning curve only.
        sel: largest number of Si and O neighbours within the cut-off.
        loss: `start_pref_*` and `limit_pref_*` for e, f and v.
        steps: optimiser steps.
        precision: `float32` or `float64`.
        start_lr: learning rate at the first step.
        stop_lr: learning rate at the last step.
        decay_steps: steps between two reductions.
        batch_size: frames per step.
        checkpoint_every: steps between checkpoints, and between rows of the learning curve.
        axis_neuron: columns of the embedding matrix used as axes.
        type_one_side: false as in DeePMD-kit 1: one net for each (centre, neighbour) pair.
        seed: the stage's seed.
    """
    seeds = [int(word % (2**31 - 1)) for word in np.random.SeedSequence(seed).generate_state(4)]
    common = {
        "rcut": CUTOFF_ANGSTROM,
        "rcut_smth": SMOOTH_FROM_ANGSTROM,
        "sel": list(sel),
        "resnet_dt": False,
        "type_one_side": type_one_side,
        "precision": precision,
    }
    angular = {
        "type": "se_e2_a",
        "neuron": list(ANGULAR_NEURONS),
        "axis_neuron": axis_neuron,
        "seed": seeds[0],
        **common,
    }
    radial = {"type": "se_e2_r", "neuron": list(RADIAL_NEURONS), "seed": seeds[1], **common}
    fitting = {
        "neuron": list(FITTING_NEURONS),
        "resnet_dt": True,
        "precision": precision,
        "seed": seeds[2],
    }
    return {
        "model": {
            "type_map": list(SPECIES),
            "descriptor": {"type": "hybrid", "list": [angular, radial]},
            "fitting_net": fitting,
        },
        "learning_rate": {
            "type": "exp",
            "start_lr": start_lr,
            "stop_lr": stop_lr,
            "decay_steps": decay_steps,
        },
        "loss": {"type": "ener", **loss},
        "training": {
            "training_data": {"systems": list(train_systems), "batch_size": batch_size},
            "validation_data": {
                "systems": list(heldout_systems),
                "batch_size": 1,
                "numb_btch": CURVE_FRAMES,
            },
            "numb_steps": steps,
            "seed": seeds[3],
            "disp_file": CURVE_FILE,
            "disp_freq": checkpoint_every,
            "save_freq": checkpoint_every,
            "disp_training": True,
            "time_training": True,
        },
    }


def latest_checkpoint(directory: Path) -> tuple[int, Path] | None:
    """Step and prefix of the newest complete checkpoint, or None.

    TensorFlow writes `.meta` last, so a checkpoint that has it is whole. The `model.ckpt.*` links and the
    `checkpoint` file are not trusted: a kill can leave them half changed.
    """
    found: list[tuple[int, Path]] = []
    for meta in directory.glob("model.ckpt-*.meta"):
        prefix = meta.with_suffix("")
        parts = [prefix.with_name(prefix.name + suffix) for suffix in (".index", ".data-00000-of-00001")]
        if all(part.is_file() for part in parts):
            found.append((int(prefix.name.rpartition("-")[2]), prefix))
    return max(found, default=None)


def train(
    configuration: Mapping[str, Any],
    *,
    directory: Path,
    threads: int,
    watch: Callable[[int], None] | None = None,
) -> int | None:
    """Train to the last step, going on from the newest checkpoint in `directory` if there is one.

    Learning-curve rows later than that checkpoint are dropped first, so that every step is there once. A
    resumed run draws its batches from another seed; otherwise it would see the first batches again.
    Neighbour statistics are skipped: the dataset stage has counted, and the train stage compared with sel.

    Args:
        configuration: what `train_input` returned.
        directory: where training runs; the systems' paths are relative to it.
        threads: TensorFlow operations at a time, one thread each: the hybrid's two descriptors run side
            by side, while two threads inside an operation of 96 atoms cost more than they save.
        watch: called about once a second with the last step in the learning curve.

    Returns:
        The step it went on from, or None for a fresh start.

    Raises:
        EngineError: `dp` is missing or failed.
    """
    checkpoint = latest_checkpoint(directory)
    steps = configuration["training"]["numb_steps"]
    write_json(directory / INPUT_FILE, configuration, indent=1)
    if checkpoint is not None and checkpoint[0] >= steps:
        return checkpoint[0]
    curve = directory / CURVE_FILE
    command = [executable("dp"), "--tf", "train", INPUT_FILE, "--skip-neighbor-stat"]
    if checkpoint is not None:
        step, prefix = checkpoint
        training = configuration["training"]
        resumed = {**configuration, "training": {**training, "seed": (training["seed"] + step) % (2**31 - 1)}}
        write_json(directory / "resume.json", resumed, indent=1)
        command = [executable("dp"), "--tf", "train", "resume.json", "--skip-neighbor-stat"]
        command += ["--restart", prefix.name]
        truncate_curve(curve, before=step)

    def report() -> None:
        if watch is not None and curve.exists():
            rows = curve_rows(curve)
            if rows:
                watch(int(rows[-1][0]))

    run_program(
        command,
        directory=directory,
        log=directory / LOG_FILE,
        environment=thread_environment(1) | {"DP_INTER_OP_PARALLELISM_THREADS": str(threads)},
        watch=report,
        append=checkpoint is not None,
    )
    last = latest_checkpoint(directory)
    if last is None or last[0] < steps:
        reached = 0 if last is None else last[0]
        raise EngineError(
            f"dp train: found step {reached}, expected step {steps} (log: {directory / LOG_FILE})"
        )
    return None if checkpoint is None else checkpoint[0]


def freeze(*, directory: Path, out: Path) -> None:
    """Freeze the newest checkpoint of a training folder into `out` (.pb).

    Raises:
        EngineError: `dp` is missing or failed.
    """
    frozen = directory / "frozen.pb"
    run_program(
        [executable("dp"), "--tf", "freeze", "-c", ".", "-o", frozen.name],
        directory=directory,
        log=directory / "freeze.log",
        environment=thread_environment(1),
    )
    os.replace(frozen, out)


def compress(model: Path, out: Path, *, directory: Path, training_script: Path | None = None) -> None:
    """Tabulate the embedding nets of a frozen model into `out` (.pb).

    The table starts from the shortest distance in the training data. A model trained without neighbour
    statistics does not hold it; `training_script` (its input file, whose data paths must be valid from
    `directory`) lets DeePMD-kit measure it.

    There is no overflow check to turn on: `dp compress -f` of version 3.2 stores a frequency that none of
    its operators read, and values beyond the table are silent. The range is made wide instead
    (`TABLE_EXTRAPOLATE`), and callers compare forces with the full model.

    Args:
        model: frozen model.
        out: compressed model.
        directory: scratch folder.
        training_script: input file of the training.

    Raises:
        EngineError: `dp` is missing, or the model cannot be compressed.
    """
    compressed = directory / "compressed.tmp.pb"
    # The compressed model remembers the name it was given; a link keeps this machine's paths out of it.
    link = directory / "full.pb"
    link.unlink(missing_ok=True)
    link.symlink_to(model.resolve())
    command = [executable("dp"), "--tf", "compress", "-i", link.name, "-o", compressed.name]
    command += ["-s", str(TABLE_STEP), "-e", str(TABLE_EXTRAPOLATE)]
    if training_script is not None:
        command += ["-t", str(training_script.resolve())]
    run_program(
        command, directory=directory, log=directory / "compress.log", environment=thread_environment(1)
    )
    os.replace(compressed, out)


@dataclass(frozen=True)
class Prediction:
    """What a model says of a system's frames: `energies` (F,) eV and `forces` (F, N, 3) eV/A."""

    energies: np.ndarray
    forces: np.ndarray


def evaluate(
    models: Sequence[Path], systems: Sequence[Path], *, directory: Path, threads: int = 1
) -> list[list[Prediction]]:
    """Energies and forces of several frozen models on several npy systems: `[model][system]`.

    Args:
        models: frozen or compressed models.
        systems: DeePMD npy systems.
        directory: scratch folder; gets request, log and answer.
        threads: TensorFlow threads.

    Raises:
        EngineError: a model cannot be loaded.
    """
    request, answer = directory / "evaluate.json", directory / "evaluate.npz"
    content = {
        "models": [str(path.resolve()) for path in models],
        "systems": [str(path.resolve()) for path in systems],
        "answer": str(answer.resolve()),
    }
    request.write_text(json.dumps(content))
    environment = thread_environment(threads)
    root = str(ROOT)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    run_program(
        [sys.executable, "-m", "jobs.engines.deepmd.program", request.name],
        directory=directory,
        log=directory / "evaluate.log",
        environment=environment,
    )
    with np.load(answer) as arrays:
        return [
            [Prediction(arrays[f"energies-{m}-{s}"], arrays[f"forces-{m}-{s}"]) for s in range(len(systems))]
            for m in range(len(models))
        ]


def _answer(request: Path) -> None:
    from deepmd.infer import DeepPot

    content = json.loads(request.read_text())
    arrays: dict[str, Any] = {}
    systems = [read_system(Path(path)) for path in content["systems"]]
    for m, path in enumerate(content["models"]):
        model = DeepPot(path)
        index = [model.get_type_map().index(name) for name in SPECIES]
        for s, frames in enumerate(systems):
            types = np.array(index)[frames.types]
            energies, forces = model.eval(frames.positions, frames.cells.reshape(-1, 9), types)[:2]
            arrays[f"energies-{m}-{s}"] = np.asarray(energies, dtype=float).reshape(frames.energies_eV.shape)
            arrays[f"forces-{m}-{s}"] = np.asarray(forces, dtype=float).reshape(frames.forces.shape)
    np.savez(content["answer"], **arrays)


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
