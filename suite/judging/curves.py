"""Curves of several runs on one grid, and distances between sets of them with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from suite.judging.distances import rooted, shares
from suite.judging.evidence import Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import REPLICA_UNITS, Array, Estimate, Groups, estimate

Distance = Callable[[Groups, Groups], float]
Difference = Callable[["Curves", "Curves"], Estimate]


class Square(Protocol):
    """A squared distance of two sets of curves: unbiased, or plain (`biased`)."""

    def __call__(self, first: Groups, second: Groups, *, biased: bool = False) -> float:
        """The square."""


Reader = Callable[[Sequence[Observation]], "Curves"]


@dataclass(frozen=True)
class Curves:
    """Curves of several replicas on one grid: x (points,), groups of shape (blocks, points)."""

    x: Array
    groups: list[Array]

    def between_fs(self, low_fs: float, high_fs: float) -> Curves:
        """The part within [low, high] of curves over time.

        Raises:
            NotTested: the grid ends before `high_fs`, or has fewer than two points there.
        """
        inside = (self.x >= low_fs - 1e-9) & (self.x <= high_fs + 1e-9)
        if np.count_nonzero(inside) < 2 or self.x[-1] < 0.9 * high_fs:
            known = f"from {self.x[0]:.4g} to {self.x[-1]:.4g} fs"
            raise NotTested(f"the curve is known {known}, not from {low_fs:g} to {high_fs:g} fs")
        return Curves(self.x[inside], [group[:, inside] for group in self.groups])

    @property
    def shares(self) -> Curves:
        """Cumulative distributions of these densities, each block's from 0 to 1."""
        return Curves(self.x, shares(self.groups))


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
    """The curves on the points of the coarsest of their grids, as far as all of them reach.

    AIMD of a user may have another time between frames; the finer grid must then contain the coarser one.

    Raises:
        NotTested: no point of a curve is known, or a finer grid lacks points of the coarsest.
    """
    if not all(len(part.x) for part in curves):
        raise NotTested("no point of a curve is known")
    if all(np.array_equal(part.x, curves[0].x) for part in curves[1:]):
        return list(curves)
    end = min(part.x[-1] for part in curves) * (1 + 1e-9)
    points = min((part.x[part.x <= end] for part in curves), key=len)
    found = []
    for part in curves:
        places = np.abs(part.x[:, None] - points).argmin(axis=0)
        if not np.allclose(part.x[places], points, rtol=1e-6, atol=1e-6):
            raise NotTested(
                f"grids: found {part.x[:3]} beside {points[:3]}, expected the coarser's points in the finer"
            )
        found.append(Curves(points, [group[:, places] for group in part.groups]))
    return found


def difference(distance: Distance, first: Curves, second: Curves) -> Estimate:
    """A distance between two independent sets of curves of systems that are alike, with its interval."""
    return estimate(
        lambda samples: distance(samples["first"], samples["second"]),
        {"first": first.groups, "second": second.groups},
        scatter_donors=("first", "second"),
    )


def root_of(square: Square, first: Curves, second: Curves) -> Estimate:
    """Root of a squared distance between two independent sets of curves of systems that are alike."""
    plain = difference(lambda a, b: math.sqrt(square(a, b, biased=True)), first, second)
    return rooted(difference(square, first, second), _of_the_smaller(plain, first.groups, second.groups))


def _of_the_smaller(found: Estimate, *sets: Groups) -> Estimate:
    """An estimate with the degrees of freedom of the smallest set that has enough replicas.

    Scatter enters a square twice: with those of both sets, distances on the edge of their band passed in 5 to
    7 % of simulated campaigns in place of 2.5 %.
    """
    enough = [len(groups) - 1 for groups in sets if len(groups) >= REPLICA_UNITS]
    return Estimate.from_error(
        found.value,
        standard_error=found.standard_error,
        degrees_of_freedom=min([found.degrees_of_freedom, *enough]),
    )


def farther(square: Square, *, far: Groups, near: Groups, reference: Groups) -> Estimate:
    """How much farther `far` is from the reference than `near` is; three sets of curves, of systems alike.

    The signed root of the difference of the squared distances.
    """
    return estimate(
        lambda s: square(s["far"], s["reference"]) - square(s["near"], s["reference"]),
        {"far": far, "near": near, "reference": reference},
        scatter_donors=("far", "near"),
    ).root()


def beyond_a_third(
    square: Square, first: Groups, second: Groups, *, far: Groups, reference: Groups
) -> Estimate:
    """Whether two sets of curves are farther apart than a third of what `far` is from the reference.

    The signed root of the difference of the squared distances: at most 0 is "almost the same". All systems
    are alike; the reference may be one of the two sets. The upper end counts noise as distance, as `rooted`.
    """
    own = reference is second
    samples = {"first": first, "second": second, "far": far} | ({} if own else {"reference": reference})

    def excess(s: Mapping[str, Groups], *, biased: bool = False) -> float:
        apart = square(s["first"], s["second"], biased=biased)
        return apart - square(s["far"], s["second" if own else "reference"]) / 9

    def found(biased: bool) -> Estimate:
        return estimate(lambda s: excess(s, biased=biased), samples, scatter_donors=("first", "second"))

    plain = _of_the_smaller(found(biased=True), first, second)
    return rooted(found(biased=False), plain.root())
