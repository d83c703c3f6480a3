"""Configurations drawn with one energy function made to speak for another.

Frames sampled at temperature T with energies E0 stand for the ensemble of energies E1 with weights

    w_i ~ exp(-(E1_i - E0_i) / kT),

exact for every one-time quantity, as long as the two ensembles overlap (Zwanzig 1954). How far they do
is the effective fraction of the frames, (sum w)^2 / (n sum w^2) (Kish): 1 for E1 = E0 + constant. If the
difference is normally distributed with standard deviation s under the sampler, its expectation is
exp(-(s / kT)^2): 0.1 at s = 1.5 kT. At 3000 K (kT = 0.259 eV) a potential whose energy misses the
reference by 20 meV/atom has s = 1.9 eV = 7.4 kT at 96 atoms and an expected fraction of 1e-24, which n
frames show as one to three of them carrying all weight. 0.1 needs 4.1 meV/atom at 96 atoms.

Where they hardly overlap. Expanded in cumulants, the mean of A in the ensemble of E1 is

    <A> - <dA dE>/kT + <dA dE dE>/(2 (kT)^2) - ...

with dE the difference's deviation from its mean. If dE is a sum over places that do not know of each other,
and A a mean over these places, each term but <A> is the same for any number of places: what others add to dE
says nothing about this one. So a large system has <A>, and any share f of the first order may come from it:

    (<A> - f <dA dE>/kT of the large) + (the mean by weights, less <A> - f <dA dE>/kT, of the small).

The small system is one where the weights overlap. A frame says as much of the first order whatever its size
(its s grows as the root of the number of places, the scatter of A falls as that), so f is the large system's
share of all frames. Weights 1 - dE/kT have the effective fraction 1/(1 + (s / kT)^2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def boltzmann_weights(difference_eV: Floats, *, thermal_eV: float) -> Floats:
    """Weights (n,), summing to 1, of frames whose energy is `difference_eV` (n,) above the sampler's.

    `thermal_eV` is the sampler's kT. A constant in the difference has no effect, so the two energies need no
    common zero.
    """
    exponent = -np.asarray(difference_eV, float) / thermal_eV
    weights = np.exp(exponent - exponent.max())
    return weights / weights.sum()


def effective_fraction(weights: Floats) -> float:
    """Kish's effective sample size over the number of frames: 1 for equal weights, 1/n for a single one."""
    return float(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))


def weighted_ratio_blocks(
    weights: Floats, numerator: Floats, denominator: Floats, units: NDArray[np.int64]
) -> Floats:
    """A weighted ratio as blocks whose plain mean is the ratio and whose spread is its error.

    The ratio is R = sum w N / sum w D (a weighted mean where D is 1). Block u holds
    R + n_u sum_{i in u} w_i (N_i - R D_i) / sum w D with n_u the number of units: the influence of unit u,
    linear in N, so that everything that works on plain blocks (means, jackknife, distances) works on these.
    The standard error of their mean is the delta-method error of a self-normalised weighted mean.

    Args:
        weights: (n,) frames.
        numerator: (n, m) of each frame.
        denominator: (n,) of each frame.
        units: (n,) which unit each frame belongs to, 0 to u - 1; frames of one unit are not independent.

    Returns:
        (u, m) blocks.
    """
    total = float(weights @ denominator)
    ratio = (weights @ numerator) / total
    influence = weights[:, None] * (numerator - ratio * denominator[:, None]) / total
    return ratio + _by_unit(influence, units)


def first_order_weights(difference_eV: Floats, *, thermal_eV: float, share: float = 1.0) -> Floats:
    """Weights (n,), summing to 1, that make a mean over frames the first order of the other ensemble's.

    With a `share`, only that part of the way to it; with 0 they are equal. Other arguments as of
    `boltzmann_weights`. Of frames more than kT above the mean difference they are negative.
    """
    difference = np.asarray(difference_eV, float)
    return (1 - share * (difference - difference.mean()) / thermal_eV) / len(difference)


def first_order_blocks(
    weights: Floats, numerator: Floats, denominator: Floats, units: NDArray[np.int64]
) -> Floats:
    """As `weighted_ratio_blocks`, for `first_order_weights`.

    These weights hold the mean of all differences, so the influence of a frame differs: with r = N - R D and
    n w = 1 - d it is (dr (1 - d) + <dr d>) / (n sum w D).
    """
    n = len(weights)
    total = float(weights @ denominator)
    ratio = (weights @ numerator) / total
    rest = numerator - ratio * denominator[:, None]
    rest -= rest.mean(axis=0)
    deviation = 1 - n * weights
    influence = (rest * (1 - deviation)[:, None] + deviation @ rest / n) / (n * total)
    return ratio + _by_unit(influence, units)


def in_units(blocks: Floats, count: int) -> Floats:
    """Blocks (u, m) as fewer ones, (count, m), with the same mean and the same variance of it."""
    mean = blocks.mean(axis=0)
    groups = np.array_split(blocks - mean, count)
    return mean + count / len(blocks) * np.array([group.sum(axis=0) for group in groups])


def _by_unit(influence: Floats, units: NDArray[np.int64]) -> Floats:
    """Influences of frames, (n, m), as those of their units, (u, m), times the number of units."""
    n_units = int(units.max()) + 1
    sums = np.zeros((n_units, influence.shape[1]))
    np.add.at(sums, units, influence)
    return n_units * sums
