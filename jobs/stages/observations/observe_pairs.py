"""Observe the runs of a paired comparison one by one, in one process: each is a fifth of a picosecond.

Each run's `observe.json` and `observables.npz` (see `jobs.stages.observations.observe`) go into a folder of
its own, numbered in the order of the inputs, of the deposited files, or of the AIMD runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.stages.observations import observe
from jobs.store.workspace import Workspace

CODE_VERSION = 100 + observe.CODE_VERSION  # what observe finds otherwise, this does too

FOLDER = "run-{:03d}"


def run(workspace: Workspace) -> None:
    """Write `run-001/` and so on.

    Raises:
        SuiteError: as `jobs.stages.observations.observe.run`; nothing to observe.
    """
    asked = list(_runs(workspace))
    for number, (parameters, inputs) in enumerate(asked, start=1):
        workspace.progress((number - 1) / len(asked), f"run {number} of {len(asked)}")
        scratch = workspace.checkpoints / FOLDER.format(number)
        observe.run(Workspace(parameters, workspace.seed, inputs, scratch, cores=workspace.cores))
        product = workspace.directory / scratch.name
        product.mkdir(exist_ok=True)
        for file in ("observables.npz", "observe.json"):
            os.replace(scratch / file, product / file)


def _runs(workspace: Workspace) -> Iterator[tuple[dict[str, Any], Mapping[str, Path]]]:
    """Parameters and inputs of `observe` for each run."""
    given = dict(workspace.parameters)
    references = given.pop("references", [])
    files, sums = given.pop("file", []), given.pop("sha256", [])
    for reference in references:
        shared = {key: value for key, value in given.items() if key != "skip_fraction"}
        yield {**shared, **reference}, {}
    for file, sha256 in zip(files, sums, strict=True):
        yield {**given, "file": file, "sha256": sha256}, {}
    for role in sorted(workspace.inputs):
        yield given, {"trajectory": workspace.inputs[role]}
