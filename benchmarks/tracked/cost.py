"""us/step/atom out of a record: the one in SUITE_COST_RECORD (a night's), else results/cost/cost.json.

asv measures nothing here; it stores the launches as samples and compares them.
"""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZES = [96, 216, 648, 1296, 2592, 5832, 12288]
AIMD_SIZES = [24, 48, 96, 192]


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
        name += "-native" if point.get("kernel") == "native" else ""
        key = (name, point["n_atoms"], point["precision"] or "float64")
        if key == (engine, n_atoms, precision) and point["us_per_step_atom"]:
            return point["us_per_step_atom"]
    raise NotImplementedError("not in this record")


class Cost:
    param_names = ["engine", "N", "precision"]  # noqa: RUF012 - asv reads it
    params = [["deepmd"], SIZES, ["float32", "float64"]]  # noqa: RUF012

    def setup(self, engine, n_atoms, precision):
        self.samples = samples_of(engine, n_atoms, precision)

    def track_us_per_step_atom(self, engine, n_atoms, precision):
        return {"samples": self.samples, "number": 1}

    track_us_per_step_atom.unit = "us/step/atom"
    track_us_per_step_atom.version = "1"


# asv starts a process for every combination, so those that cannot be are not among the parameters.
class PlainCost(Cost):
    params = [["deepmd-plain"], [96, 216, 2592], ["float64"]]  # noqa: RUF012


class NativeCost(Cost):
    params = [["deepmd-native"], SIZES, ["float32"]]  # noqa: RUF012


class ClassicalCost(Cost):
    params = [["bks", "tersoff"], SIZES, ["float64"]]  # noqa: RUF012


class FirstPrinciplesCost(Cost):
    params = [["cp2k", "espresso"], AIMD_SIZES, ["float64"]]  # noqa: RUF012


def training_samples():
    """Of the same record; asv skips what says here that it is not there."""
    path = Path(os.environ.get("SUITE_COST_RECORD", ROOT / "results" / "cost" / "cost.json"))
    series = json.loads(path.read_text()).get("series", {}) if path.is_file() else {}
    if "training" not in series:
        raise NotImplementedError("not in this record")
    return series["training"]


def track_training_step():
    """Milliseconds of a training step."""
    return {"samples": training_samples(), "number": 1}


track_training_step.setup = training_samples
track_training_step.unit = "ms/step"
track_training_step.version = "1"
