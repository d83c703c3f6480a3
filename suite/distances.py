"""Distances between curves that grow with the fault they must catch, and features of a curve.

Both distances are cross-fitted: what a difference is weighted with never comes from the samples the
difference itself is made of, so noise has mean zero in the result instead of adding to it, and two sets
drawn from the same distribution are zero apart on average (the estimate may be negative). Folds are
replicas, or stretches of one replica's blocks where there is only one.

Samples are groups (see `suite.statistics`): one array (blocks, points) per replica.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from jobs.observables.peaks import highest_peak
from suite.statistics import Array, Groups, mean_of
from suite.verdict import NotTested

FOLDS = 4
HALVINGS = 64


def _folds(groups: Groups) -> list[Array]:
    if len(groups) >= 2:
        return [np.asarray(group) for group in groups]
    blocks = np.asarray(groups[0])
    if len(blocks) < 2:
        raise NotTested("one block of one replica: noise cannot be told from a difference")
    return np.array_split(blocks, min(FOLDS, len(blocks)))


def _splits(groups: Groups) -> Iterator[tuple[Array, Array]]:
    """Each fold's mean with the mean of everything else."""
    folds = _folds(groups)
    for i, fold in enumerate(folds):
        yield fold.mean(axis=0), mean_of(folds[:i] + folds[i + 1 :])


def _halves(groups: Groups, *, seed: int) -> tuple[Array, Array]:
    """Cumulative distributions of random halves of the folds, and of the other halves: (2 HALVINGS, points).

    The seed is fixed, so that the same samples always give the same distance.
    """
    folds = _folds(groups)
    ordered = np.tile(np.arange(len(folds)) < len(folds) // 2, (HALVINGS, 1))
    chosen = np.random.default_rng(seed).permuted(ordered, axis=1)
    sums = np.stack([fold.sum(axis=0) for fold in folds])
    one, other = (_cumulative(half @ sums) for half in (chosen, ~chosen))
    return np.concatenate([one, other]), np.concatenate([other, one])


def _cumulative(density: Array) -> Array:
    total = density.sum(axis=-1, keepdims=True)
    if np.any(total <= 0):
        raise NotTested("a distribution without a single count")
    return np.cumsum(density, axis=-1) / total


def wasserstein(first: Groups, second: Groups, featureless: Array) -> float:
    """Wasserstein-1 distance of two densities on one uniform grid, in units of `second` to featureless.

    0: the same; 1: as far as a featureless distribution is. Unlike an overlap it does not saturate
    when peaks no longer meet. `featureless` has shape (points,): 1 for g(r), sin for angles.
    The sign of the difference of the cumulative distributions is taken from the other half of the folds,
    over many halvings. Taken from all folds but one it is much the same sign each time, so that the distance
    is nearly an absolute value, whose kink at zero the jackknife takes for noise.
    """
    scale = float(np.abs(_cumulative(mean_of(second)) - _cumulative(featureless)).sum())
    (one_a, rest_a), (one_b, rest_b) = _halves(first, seed=1), _halves(second, seed=2)
    return float(np.mean(np.sum(np.sign(rest_a - rest_b) * (one_a - one_b), axis=1))) / scale


def mean_square_difference(first: Groups, second: Groups) -> float:
    """Mean over the points of the squared difference of two curves, unbiased (it may be negative)."""
    splits_b = list(_splits(second))
    terms = [
        np.mean((one_a - one_b) * (rest_a - rest_b))
        for one_a, rest_a in _splits(first)
        for one_b, rest_b in splits_b
    ]
    return float(np.mean(terms))


def mean_square(groups: Groups) -> float:
    """Mean over the points of the square of a mean curve, unbiased (it may be negative)."""
    return float(np.mean([np.mean(one * rest) for one, rest in _splits(groups)]))


def signed_root(square: float) -> float:
    """Root that keeps the sign: an unbiased square may be negative."""
    return math.copysign(math.sqrt(abs(square)), square)


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
