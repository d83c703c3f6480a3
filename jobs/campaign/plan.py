"""A tier made concrete: stages by label, and why a label has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobs.base.errors import SuiteError
from jobs.store.stage import Stage


@dataclass
class Campaign:
    """A tier made concrete: stages by label, and why a label has none."""

    tier: str
    start_from: str
    about: dict[str, Any]
    results_name: str
    """Folder of its results: runs that differ in what they judge do not overwrite each other's."""
    labels: dict[str, list[Stage]] = field(default_factory=dict)
    runs: dict[str, list[Stage]] = field(default_factory=dict)
    """The stages of each run of the tier, and with `nothing` of `aimd-96` and `aimd-216`: what moves atoms.
    Those of runs that nobody observes stand behind no label."""
    unavailable: dict[str, str] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    short_training: str = ""
    """How much shorter than the paper's the training of its networks is, or nothing."""

    @property
    def potentials_given(self) -> bool:
        """Whether the deposited potentials are taken as they are: nothing is trained."""
        return self.start_from in ("potentials", "trajectories")

    def select(self, labels: list[str] | None = None) -> list[Stage]:
        """The stages behind some labels or runs, or behind all labels.

        Raises:
            SuiteError: a label that this tier does not have, with the reason where there is one.
        """
        if labels is None:
            labels = list(self.labels)
        known = self.runs | self.labels
        for label in labels:
            if reason := self.unavailable.get(label):
                raise SuiteError(f"label {label}: {reason}")
            if label not in known:
                raise SuiteError(
                    f"label {label}: not in tier {self.tier}, expected one of {', '.join(known)}"
                )
        return [stage for label in labels for stage in known[label]]
