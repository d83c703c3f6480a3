"""The learning curve of a training: `lcurve.out` and the speed in its log."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jobs.base.errors import EngineError
from jobs.base.files import write_whole

CURVE_FILE = "lcurve.out"
# Held-out frames behind each row of the learning curve; they cost no more than a few per cent of the time
# and choose nothing: training never looks at the curve.
CURVE_FRAMES = 16
_CURVE_COLUMNS = {
    "step": "step",
    "rmse_e_val": "energy_rmse_heldout_eV_atom",
    "rmse_e_trn": "energy_rmse_train_eV_atom",
    "rmse_f_val": "force_rmse_heldout_eV_A",
    "rmse_f_trn": "force_rmse_train_eV_A",
    "lr": "learning_rate",
}


def curve_rows(path: Path) -> list[list[str]]:
    """Complete rows of an `lcurve.out`, words."""
    width = len(_curve_header(path))
    lines = path.read_text().split("\n")[:-1]  # a row without its newline was cut by a kill
    return [line.split() for line in lines if not line.startswith("#") and len(line.split()) == width]


def _curve_header(path: Path) -> list[str]:
    with path.open() as stream:
        for line in stream:
            if line.startswith("# step"):
                return line[1:].split()
    return []


def truncate_curve(path: Path, *, before: int) -> None:
    """Keep the rows of steps < `before`: DeePMD-kit writes the row of the step it restarts from itself."""
    if not path.exists():
        return
    header = _curve_header(path)
    kept = ["# " + " ".join(header)] if header else []
    kept += [" ".join(row) for row in curve_rows(path) if int(row[0]) < before]
    write_whole(path, "".join(line + "\n" for line in kept))


def read_curve(path: Path) -> dict[str, np.ndarray]:
    """The learning curve: column -> values, one row per step in rising order.

    Columns: step; energy_rmse_heldout_eV_atom, energy_rmse_train_eV_atom, force_rmse_heldout_eV_A,
    force_rmse_train_eV_A (per component, on the frames of that row only, so noisy); learning_rate.

    Raises:
        EngineError: the file has no rows, or its steps do not rise.
    """
    header = _curve_header(path) if path.exists() else []
    rows = curve_rows(path) if header else []
    if not rows:
        raise EngineError(f"{path}: found no rows, expected a learning curve")
    values = np.array(rows, dtype=float)
    if not (np.diff(values[:, 0]) > 0).all():
        raise EngineError(f"{path}: found steps that do not rise, expected each step once")
    return {name: values[:, header.index(column)] for column, name in _CURVE_COLUMNS.items()}


def write_curve(curve: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a learning curve as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(curve)
        for row in zip(*curve.values(), strict=True):
            writer.writerow([f"{value:g}" for value in row])


def steps_per_second(log: Path, *, steps_between: int) -> float:
    """Training speed from a `dp train` log: the median over the intervals between learning-curve rows.

    The time of a row's held-out frames is in it. The first interval of every launch is left out where
    there are others, for TensorFlow is still warming up then.

    Raises:
        EngineError: the log has no timing.
    """
    launches = re.split(r"start training at lr", log.read_text(errors="replace"))[1:]
    times = [
        [float(t) for t in re.findall(r"total wall time = ([\d.]+) s", launch) if float(t) > 0]
        for launch in launches
    ]
    warm = [time for launch in times for time in launch[1:]] or [t for launch in times for t in launch]
    if not warm:
        raise EngineError(f"{log}: found no 'total wall time', expected a timed training")
    return steps_between / float(np.median(warm))
