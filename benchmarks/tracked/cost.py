"""us/step/atom out of a record: the one in SUITE_COST_RECORD (a night's), else results/cost/cost.json.

asv measures nothing here; it stores the launches as samples and compares them.
"""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ["deepmd", "deepmd-plain", "bks", "tersoff", "cp2k", "espresso"]
SIZES = [24, 48, 96, 216, 648, 1296, 2592, 5832, 12288]
PRECISIONS = ["float32", "float64"]


def read_points():
    path = Path(os.environ.get("SUITE_COST_RECORD", ROOT / "results" / "cost" / "cost.json"))
    if not path.is_file():
        raise NotImplementedError(f"{path}: not found; python -m jobs cost makes one")
    content = json.loads(path.read_text())
    return content.get("cost", content)["points"]


def samples_of(engine, n_atoms, precision):
    for point in read_points():
        if point["setting"] not in ("tuned", "plain", "aimd"):
            continue
        name = point["engine"] + ("-plain" if point["setting"] == "plain" else "")
        key = (name, point["n_atoms"], point["precision"] or "float64")
        if key == (engine, n_atoms, precision) and point["us_per_step_atom"]:
            return point["us_per_step_atom"]
    raise NotImplementedError("not in this record")


class Cost:
    params = [ENGINES, SIZES, PRECISIONS]  # noqa: RUF012 - asv reads it
    param_names = ["engine", "N", "precision"]  # noqa: RUF012
    unit = "us/step/atom"
    version = "1"

    def setup(self, engine, n_atoms, precision):
        self.samples = samples_of(engine, n_atoms, precision)

    def track_us_per_step_atom(self, engine, n_atoms, precision):
        return {"samples": self.samples, "number": 1}

    track_us_per_step_atom.unit = unit
    track_us_per_step_atom.version = version


def track_training_step():
    """Milliseconds of a training step, from the same record."""
    path = Path(os.environ.get("SUITE_COST_RECORD", ROOT / "results" / "cost" / "cost.json"))
    series = json.loads(path.read_text()).get("series", {}) if path.is_file() else {}
    if "training" not in series:
        raise NotImplementedError("not in this record")
    return {"samples": series["training"], "number": 1}


track_training_step.unit = "ms/step"
track_training_step.version = "1"
