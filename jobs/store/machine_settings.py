"""How MD uses this machine: what `python -m jobs tune` found, kept in the store, one file per kind of node.

Only resources are tuned: ranks, threads and the neighbour skin. They change no stage's identity and
no physics (a dangerous neighbour list build fails a run's precondition). Precision and compression are part
of what is computed, so the file recommends them and nothing takes them from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError

FOLDER = "tuning"
SKIN_ANGSTROM = 1.0


@dataclass(frozen=True)
class Tuning:
    """Threads of a rank when a run has several cores, and the skin; without a measurement, the defaults."""

    threads: int = 1
    skin_angstrom: float = SKIN_ANGSTROM

    def split(self, cores: int, kernel: str | None) -> tuple[int, int]:
        """Ranks and threads for a run by a kernel on so many cores; their product is `cores`.

        Only DeePMD-kit uses threads. With others, or where they do not divide the cores, some would be idle:
        then each core is a rank.
        """
        threads = self.threads if kernel == "deepmd" and cores % self.threads == 0 else 1
        return cores // threads, threads


def tuning_file(store: Path, machine_type: str) -> Path:
    """Where the answer for a kind of node is."""
    return store / FOLDER / f"{machine_type}.json"


def read_tuning(store: Path, machine_type: str) -> Tuning | None:
    """What was tuned for this kind of node, or None.

    Raises:
        SuiteError: the file is not one of `tune`.
    """
    path = tuning_file(store, machine_type)
    if not path.is_file():
        return None
    try:
        resources: dict[str, Any] = json.loads(path.read_text())["resources"]
        found = Tuning(int(resources["threads"]), float(resources["skin_angstrom"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SuiteError(
            f"{path}: found {type(error).__name__} {error}, expected what python -m jobs tune wrote"
        ) from None
    if found.threads < 1 or not 0 < found.skin_angstrom <= 4:
        raise SuiteError(
            f"{path}: found {found}, expected at least 1 thread and a skin between 0 and 4 A; "
            "run python -m jobs tune again"
        )
    return found
