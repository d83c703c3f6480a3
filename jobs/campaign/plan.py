"""A campaign: a tier made concrete, with the stages of each product, or the reason that it has none."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.base.errors import SuiteError
from jobs.campaign.tier import Tier
from jobs.store.stage import Stage
from jobs.store.todo import in_order


@dataclass
class Campaign:
    """A tier made concrete. `labels` has the stages of each product by the product's name."""

    tier: str
    start_from: str
    about: Tier
    results_name: str
    """Folder of its results. Campaigns that judge different things have different folders."""
    labels: dict[str, list[Stage]] = field(default_factory=dict)
    runs: dict[str, list[Stage]] = field(default_factory=dict)
    """The stages of each run of the tier, and with `nothing` of `aimd-96` and `aimd-216`: what moves atoms.
    Runs that are not observed belong to no product."""
    unavailable: dict[str, str] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    short_training: dict[str, str] = field(default_factory=dict)
    """Of NNPs (`96`, `216`, `hdnnp`) whose training is shorter than the paper tier's, how much."""

    @property
    def potentials_given(self) -> bool:
        """Whether the deposited potentials are taken as they are: nothing is trained."""
        return self.start_from in ("potentials", "trajectories")

    def all_stages(self) -> list[Stage]:
        """Those of all products and of runs that nobody observes, and all that they need; inputs first."""
        return in_order(self.select([*self.labels, *self.runs]))

    def select(self, labels: list[str] | None = None) -> list[Stage]:
        """The stages of some products or runs, or of all products.

        Raises:
            SuiteError: a product that this tier does not have, with the reason where there is one.
        """
        if labels is None:
            labels = list(self.labels)
        known = self.runs | self.labels
        for label in labels:
            if reason := self.unavailable.get(label):
                raise SuiteError(f"product {label}: {reason}")
            if label not in known:
                raise SuiteError(
                    f"product {label}: not in tier {self.tier}, expected one of {', '.join(known)}"
                )
        return [stage for label in labels for stage in known[label]]
