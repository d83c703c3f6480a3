"""Distances between curves that grow with the fault they must catch, and features of a curve.

Squares are cross-fitted: a difference is multiplied by one from other samples, so noise has mean zero in the
result instead of adding to it. Two sets drawn from the same distribution are zero apart on average (the
estimate may be negative). Folds are replicas, or stretches
of one replica's blocks where there is only one.

Samples are groups (see `suite.judging.statistics`): one array (blocks, points) per replica.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from jobs.observables.peaks import highest_peak
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, mean_of, student

FOLDS = 4


def _folds(groups: Groups) -> list[Array]:
    if len(groups) >= 2:
        return [np.asarray(group) for group in groups]
    blocks = np.asarray(groups[0])
    if len(blocks) < 2:
        raise NotTested("one block of one replica: noise cannot be told from a difference")
    return np.array_split(blocks, min(FOLDS, len(blocks)))


def _splits(groups: Groups) -> tuple[Array, Array]:
    """Each fold's mean, and the mean of everything else: (folds, points) each."""
    folds = _folds(groups)
    lengths = np.array([len(fold) for fold in folds])[:, None]
    blocks = np.concatenate(folds)
    means = np.add.reduceat(blocks, np.cumsum(lengths) - lengths[:, 0], axis=0) / lengths
    sums = lengths * means
    return means, (sums.sum(axis=0) - sums) / (lengths.sum() - lengths)


def shares(groups: Groups) -> list[Array]:
    """Cumulative distributions of densities on one uniform grid, each block's from 0 to 1.

    Raises:
        NotTested: a block without a single count.
    """
    found = []
    for group in groups:
        density = np.asarray(group, dtype=float)
        total = density.sum(axis=-1, keepdims=True)
        if np.any(total <= 0):
            raise NotTested("a distribution without a single count")
        found.append(np.cumsum(density, axis=-1) / total)
    return found


def cramer_von_mises(first: Groups, second: Groups, featureless: Array, *, biased: bool = False) -> float:
    """Squared Cramer-von Mises distance of two densities on one uniform grid.

    0: the same; 1: as far as `second` is from a featureless distribution. Unbiased (it may be negative): the
    difference of the cumulative distributions is squared as a product of independent samples' differences. A
    distance that is linear in it (Wasserstein's) must take its sign from somewhere, and noise in the sign
    attenuates it. Unlike an overlap it does not saturate when peaks no longer meet. `featureless` has shape
    (points,): 1 for g(r), sin for angles. `biased` is the plain square, to which noise adds.

    The sets are cumulative distributions already (`shares`), since intervals ask for it many times.
    """
    return mean_square_difference(first, second, biased=biased) / _scale(second, featureless)


def paired_cramer_von_mises(
    first: Groups, second: Groups, featureless: Array, *, biased: bool = False
) -> float:
    """The same of two sets whose groups belong together: the square is of their differences by group."""
    return mean_square(paired_differences(first, second), biased=biased) / _scale(second, featureless)


def _scale(second: Groups, featureless: Array) -> float:
    flat = shares([featureless[None, :]])[0][0]
    return float(np.mean((mean_of(second) - flat) ** 2))


def paired_differences(first: Groups, second: Groups) -> list[Array]:
    """Differences, run by run, of groups that belong together."""
    return [np.asarray(one) - np.asarray(other) for one, other in zip(first, second, strict=True)]


def mean_square_difference(first: Groups, second: Groups, *, biased: bool = False) -> float:
    """Mean over the points of the squared difference of two curves: unbiased (maybe negative), or plain."""
    if biased:
        return float(np.mean((mean_of(first) - mean_of(second)) ** 2))
    (one_a, rest_a), (one_b, rest_b) = _splits(first), _splits(second)
    # The mean of (one_a - one_b) (rest_a - rest_b) over all pairs of folds, multiplied out.
    own = (one_a * rest_a).mean(axis=0) + (one_b * rest_b).mean(axis=0)
    mixed = one_a.mean(axis=0) * rest_b.mean(axis=0) + one_b.mean(axis=0) * rest_a.mean(axis=0)
    return float(np.mean(own - mixed))


def mean_square(groups: Groups, *, biased: bool = False) -> float:
    """Mean over the points of the square of a mean curve, unbiased (it may be negative) or plain."""
    if biased:
        return float(np.mean(mean_of(groups) ** 2))
    one, rest = _splits(groups)
    return float(np.mean(one * rest))


def rooted(square: Estimate, norm: Estimate) -> Estimate:
    """The root of an unbiased square, whose upper end is that of the plain one's root (`norm`).

    Where two curves are hardly farther apart than noise, the error of the unbiased square shrinks with its
    value: a low one would say too surely that the distance is small. The plain root has the error of a
    distance, and is too large by the noise.
    """
    found = square.root()
    high = max(found.ci_high, norm.ci_high)
    error = (high - found.value) / student(found.degrees_of_freedom)
    return replace(found, ci_high=high, standard_error=max(found.standard_error, error), plain=norm)


def peak(x: Array, y: Array, *, window: tuple[float, float], half_width: float) -> tuple[float, float]:
    """Position and height of the highest maximum within a window (see `jobs.observables.peaks`).

    Raises:
        NotTested: the curve has no counts in the window.
    """
    try:
        return highest_peak(x, y, window=window, half_width=half_width)
    except ValueError as error:
        raise NotTested(str(error)) from None


def moments(x: Array, density: Array) -> tuple[float, float]:
    """Mean and standard deviation of a density on a uniform grid."""
    weights = density / density.sum()
    mean = float(weights @ x)
    return mean, float(math.sqrt(weights @ (x - mean) ** 2))


def percent_not_fourfold(groups: Groups) -> float:
    """Share of atoms that have not four neighbours; groups (blocks, coordinations) of numbers of atoms."""
    shares = mean_of(groups)
    return float(100 * (1 - shares[4] / shares.sum()))
