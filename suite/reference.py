"""Curves of several runs on one grid, and the rule that the start of an AIMD run must not decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.errors import SuiteError
from suite.evidence import Evidence, Observation
from suite.statistics import Array, Estimate, Groups, estimate
from suite.verdict import Band, NotTested, Verdict, decide

SAMPLE_FRACTION = 0.1  # a reweighted reference with fewer effective samples decides nothing (DESIGN.md)
SEEDS = 4
# A trajectory that was cut too early is still on its way from its start's energy to its temperature. Of 120
# steps of 2 fs and 96 atoms the mean is good to 2 %; 10 % more is a fault that claims must catch.
TEMPERATURE_TOLERANCE = 0.05

Distance = Callable[[Groups, Groups], float]
Reader = Callable[[Sequence[Observation]], "Curves"]


@dataclass(frozen=True)
class Curves:
    """Curves of several replicas on one grid: x (points,), groups of shape (blocks, points)."""

    x: Array
    groups: list[Array]

    def between(self, low: float, high: float) -> Curves:
        """The part of the grid within [low, high].

        Raises:
            NotTested: the grid ends before `high`, or has fewer than two points there.
        """
        inside = (self.x >= low - 1e-9) & (self.x <= high + 1e-9)
        if np.count_nonzero(inside) < 2 or self.x[-1] < 0.9 * high:
            raise NotTested(
                f"the curve is known from {self.x[0]:.4g} to {self.x[-1]:.4g}, not from {low:g} to {high:g}"
            )
        return Curves(self.x[inside], [group[:, inside] for group in self.groups])


def read_curves(observations: Sequence[Observation], x_key: str, y_key: str) -> Curves:
    """One curve from each run, cut to what all of them cover."""
    parts = []
    for observation in observations:
        y = np.atleast_2d(observation[y_key])
        known = np.isfinite(y).all(axis=0)
        parts.append(Curves(observation[x_key][known], [y[:, known]]))
    cut = common(*parts)
    return Curves(cut[0].x, [part.groups[0] for part in cut])


def common(*curves: Curves) -> list[Curves]:
    """The curves on the points that all grids share, from their beginning.

    Raises:
        SuiteError: the grids differ where they overlap.
    """
    points = min(len(part.x) for part in curves)
    for part in curves:
        if not np.allclose(part.x[:points], curves[0].x[:points], rtol=1e-6, atol=1e-6):
            raise SuiteError(
                f"grids: found {part.x[:2]} beside {curves[0].x[:2]}, expected the same bins in both"
            )
    return [Curves(part.x[:points], [group[:, :points] for group in part.groups]) for part in curves]


def difference(distance: Distance, first: Curves, second: Curves) -> Estimate:
    """A distance between two independent sets of curves, with its interval."""
    return estimate(
        lambda samples: distance(samples["first"], samples["second"]),
        {"first": first.groups, "second": second.groups},
    )


def aimd_reference(
    evidence: Evidence,
    *,
    size: int,
    read: Reader,
    start_difference: Callable[[Curves, Curves], Estimate],
    band: Band,
    static: bool,
) -> Curves:
    """What AIMD says, if it may be asked.

    A static property may come from PBE single points reweighted to PBE (label `reference-reweighted`) with
    an effective sample fraction of at least 0.1. Otherwise AIMD started from NNP and from BKS configurations
    must both be there, at their temperature, and agree within `band` (the 95% interval of `start_difference`
    inside it): short AIMD keeps the network it was started from. Both are then the reference together.

    Raises:
        NotTested: no reference, one that is not at its temperature, or the start decides.
    """
    thin = ""
    if static and "reference-reweighted" in evidence:
        found = [
            observation
            for observation in evidence.observables("reference-reweighted")
            if observation.facts["n_atoms"] == size
        ]
        fraction = min((observation.facts["effective_fraction"] for observation in found), default=math.nan)
        if fraction >= SAMPLE_FRACTION:
            return read(found)
        if found:
            thin = (
                f"; the reweighted reference has an effective sample fraction of {fraction:.2g}, "
                f"needs {SAMPLE_FRACTION:g}"
            )
    starts = [f"reference-{size}-{start}" for start in ("nnp", "bks")]
    expected = {*evidence.pending, *evidence.broken}
    missing = [label for label in starts if label not in evidence and label not in expected]
    if missing:
        raise NotTested(
            f"no AIMD of {size} atoms that may judge ({' and '.join(missing)} not deposited): without both "
            f"starts the start would decide{thin}"
        )
    for label in starts:
        _require_temperature(label, evidence.observables(label))
    from_nnp, from_bks = common(*(read(evidence.observables(label)) for label in starts))
    apart = start_difference(from_nnp, from_bks)
    if decide(apart, band)[0] is not Verdict.PASS:
        raise NotTested(
            f"the start decides: AIMD from NNP and from BKS configurations are {apart.value:.3g} apart "
            f"({apart.ci_low:.3g} to {apart.ci_high:.3g}), not within the band{thin}"
        )
    return Curves(from_nnp.x, from_nnp.groups + from_bks.groups)


def _require_temperature(label: str, runs: Sequence[Observation]) -> None:
    found = float(
        np.mean([np.mean(run["temperature_K"]) for run in runs if "temperature_K" in run] or np.nan)
    )
    target = runs[0].facts["temperature_K"]
    # Without velocities (VASP's files) nobody can tell.
    if abs(found - target) > TEMPERATURE_TOLERANCE * target:
        raise NotTested(
            f"{label} ran at {found:.0f} K on average, not within {TEMPERATURE_TOLERANCE:.0%} of "
            f"{target:g} K: its start is not forgotten"
        )


def require_pbe_216(evidence: Evidence) -> None:
    """Refuse to compare 96 with 216 while DeePMD-216 has seen no 216-atom PBE data.

    Raises:
        NotTested: no 216-atom frame was held out with its training data, so none is in them.
    """
    sizes = {
        int(size) for heldout in evidence.heldout("parity-216") for size in np.unique(heldout["n_atoms"])
    }
    if 216 not in sizes:
        raise NotTested(
            "no 216-atom PBE set exists: DeePMD-216 was trained on frames of "
            f"{', '.join(str(size) for size in sorted(sizes))} atoms, with its own loss"
        )


def require_seeds(evidence: Evidence, *labels: str) -> None:
    """Refuse to rank potentials on fewer seeds than tell a difference from chance.

    Raises:
        NotTested: a label has fewer than four trainings.
    """
    for label in labels:
        seeds = len(evidence.train(label))
        if seeds < SEEDS:
            raise NotTested(f"{label} has {seeds} seed{'s' * (seeds > 1)}: a ranking needs at least {SEEDS}")
