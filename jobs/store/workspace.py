"""What a running stage sees: its parameters, its inputs' products and the folder it works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.base.files import write_json
from jobs.store.machine_settings import Tuning

CHECKPOINTS = "checkpoints"
PROGRESS_FILE = "progress.json"
# A line that a stage prints with this prefix is shown while the run goes on.
NOTE = "note: "


@dataclass
class Workspace:
    """The working folder of one stage.

    Everything left in `directory` when `run` returns is a product, except `checkpoints/`: there a stage
    keeps what it resumes from, and that folder is deleted when the stage is done. A stage that was killed
    finds its folder as it left it.
    """

    parameters: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, Path]
    directory: Path
    cores: int = 1
    ranks: int | None = None
    """MPI ranks, where its job fixes them: the scheduler starts them, or there is one for each GPU."""
    wanted_kernel: str | None = None
    """What runs an NNP's MD, `native` or `deepmd`, where the tier demands one."""
    tuning: Tuning | None = None
    """How MD uses this kind of node, if that was measured."""
    facts: dict[str, Any] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    """Versions of what this stage ran, beside the installed packages; the manifest has both."""

    @property
    def checkpoints(self) -> Path:
        """Folder for restart files and scratch; removed when the stage is whole."""
        path = self.directory / CHECKPOINTS
        path.mkdir(parents=True, exist_ok=True)
        return path

    def record(self, **facts: Any) -> None:
        """Keep facts (versions, commands, timings; JSON values) for the manifest."""
        self.facts.update(facts)

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell the progress display how far this stage is (0 to 1)."""
        write_json(self.checkpoints / PROGRESS_FILE, {"fraction": round(fraction, 4), "text": text})
