"""Training speed of the suite's settings against DeePMD-kit's plain default, side by side in one run.

    python benchmarks/train_speed.py DATASET [--steps 600] [--seeds 2] [--scratch DIRECTORY]

DATASET is a product of the dataset stage. Plain is float64 with OMP_NUM_THREADS=2 and nothing else set; the
suite trains in float32 with two operations at a time. Network, sel, batch, learning rates, batch order and
number of steps are the same. The launches alternate (plain, suite, suite, plain, ...), a seed to each pair,
and the ratio is taken pair by pair, so that a machine that gets busier midway favours neither. Equal accuracy
is a matter of the held-out force error after the same number of steps, compared with its spread between
seeds.

The laptop tier trains two potentials at once on two cores, one thread each, so its advantage for the whole
machine is larger than the ratio printed here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.engines.deepmd import program as deepmd
from jobs.engines.deepmd.curve import steps_per_second
from jobs.engines.process import THREAD_VARIABLES, executable, run_program
from jobs.stages.potentials.train import heldout_errors, heldout_systems

SETTINGS = {"plain": ("float64", 2), "suite": ("float32", 2)}
INTERVALS = 6


def main() -> None:
    """Train, print and leave the figures in `train_speed.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=None)
    arguments = parser.parse_args()
    scratch = arguments.scratch or Path(tempfile.mkdtemp(prefix="train-speed-"))
    about = json.loads((arguments.dataset / "dataset.json").read_text())
    rows = []
    for seed in range(arguments.seeds):
        order = ("plain", "suite") if seed % 2 == 0 else ("suite", "plain")
        row = {name: measure(name, arguments, about, scratch / f"{name}-{seed}", seed) for name in order}
        rows.append(row)
        for name, (precision, threads) in SETTINGS.items():
            speed, error = row[name]
            print(
                f"seed {seed}  {name} ({precision}, {threads} threads): {speed:6.2f} steps/s, held-out force "
                f"rmse after {arguments.steps} steps {error:.4f} eV/A",
                flush=True,
            )
    ratios = [row["suite"][0] / row["plain"][0] for row in rows]
    print(f"speed ratio: median {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    errors = {name: np.array([row[name][1] for row in rows]) for name in SETTINGS}
    difference = errors["suite"] - errors["plain"]
    print(
        f"held-out force rmse, suite - plain: {difference.mean():+.4f} eV/A; "
        f"spread between seeds {np.std(errors['plain'], ddof=min(1, len(rows) - 1)):.4f} eV/A"
    )
    result = {"steps": arguments.steps, "ratio": ratios, "runs": rows}
    (scratch / "train_speed.json").write_text(json.dumps(result, indent=1) + "\n")


def measure(
    name: str, arguments: argparse.Namespace, about: dict, directory: Path, seed: int
) -> tuple[float, float]:
    """Steps per second and held-out force rmse (eV/A) of one training."""
    precision, threads = SETTINGS[name]
    directory.mkdir(parents=True)
    (directory / "data").symlink_to(arguments.dataset.resolve())
    listed = heldout_systems(about)
    every = arguments.steps // INTERVALS
    ends = {"start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 100, "limit_pref_f": 100}
    configuration = deepmd.train_input(
        train_systems=[f"data/{path}" for path in about["train_systems"]],
        heldout_systems=[f"data/{path}" for _, path in listed],
        sel=about["sel"],
        loss={**ends, "start_pref_v": 0, "limit_pref_v": 0},
        steps=every * INTERVALS,
        precision=precision,
        start_lr=2e-3,
        stop_lr=1e-4,
        decay_steps=max(1, every // 10),
        batch_size=1,
        checkpoint_every=every,
        axis_neuron=4,
        type_one_side=False,
        seed=seed,
    )
    if name == "plain":
        train_plainly(configuration, directory)
    else:
        deepmd.train(configuration, directory=directory, threads=threads)
    speed = steps_per_second(directory / deepmd.LOG_FILE, steps_between=every)
    model = directory / "model.pb"
    deepmd.freeze(directory=directory, out=model)
    systems = [arguments.dataset / path for _, path in listed]
    (predictions,) = deepmd.evaluate([model], systems, directory=directory)
    errors = heldout_errors([t for t, _ in listed], systems, predictions)
    return speed, errors["all"]["force_rmse_eV_A"]


def train_plainly(configuration: dict, directory: Path) -> None:
    """`dp train` as a user starts it who sets OMP_NUM_THREADS and no more."""
    environment = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES and "_OP_" not in k}
    environment |= {"OMP_NUM_THREADS": str(SETTINGS["plain"][1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    (directory / deepmd.INPUT_FILE).write_text(json.dumps(configuration))
    run_program(
        [executable("dp"), "--tf", "train", deepmd.INPUT_FILE, "--skip-neighbor-stat"],
        directory=directory,
        log=directory / deepmd.LOG_FILE,
        environment=environment,
    )


if __name__ == "__main__":
    main()
