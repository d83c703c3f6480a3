"""Where each kind of stage is: its file, by the kind's name, in one of the rooms here."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

ROOMS = {
    "aimd": "data",
    "cost": "",
    "dataset": "data",
    "kernel": "potentials",
    "md": "motion",
    "melt": "motion",
    "observe": "observations",
    "observe_pairs": "observations",
    "paired": "motion",
    "parity": "potentials",
    "potential": "potentials",
    "probe": "",
    "quench": "motion",
    "reweight": "observations",
    "train": "potentials",
    "train_hdnnp": "potentials",
}


def stage_module(kind: str) -> ModuleType:
    """The module that runs a kind of stage: it has `CODE_VERSION` and `run(workspace)`."""
    return import_module(".".join(filter(None, ("jobs.stages", ROOMS[kind], kind))))
