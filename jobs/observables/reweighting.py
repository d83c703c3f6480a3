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
and A a mean over these places, each term is the same for any number of places: what others add to dE says
nothing about this one. That holds only nearly, so the largest term, <A>, is of the large system, and of the
small corrections a share f of the first order, with the rest of a small system whose weights overlap:

    (<A> - f <dA dE>/kT of the large) + (the mean by weights, less <A> - f <dA dE>/kT, of the small).

A melt says nearly as much of the first order whatever its size (s grows as the root of the number of places,
the scatter of A falls as that), so f is the large system's share of all melts. Weights 1 - f dE/kT have the
effective fraction 1/(1 + (f s / kT)^2).
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

    The ratio is R = sum w N / sum w D (a weighted mean where D is 1), and R_u the same without unit u. Block
    u of n_u holds R + (n_u - 1) (R - R_u), less what centres the blocks on R. These are jackknife
    pseudo-values: whatever works on plain blocks (means, jackknife, distances) works on them. The weights of
    R_u are normalised anew: without that, errors come out a fifth too small where one unit has a fifth.

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
    # R - R_u is the influence of unit u over what is left of the weight without it.
    left = 1 - np.bincount(units, weights * denominator) / total
    pseudo = (len(left) - 1) * _by_unit(influence, units) / left[:, None]
    return ratio + pseudo - pseudo.mean(axis=0)


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
    of_units = _by_unit(influence, units)
    return ratio + len(of_units) * of_units


def in_units(blocks: Floats, count: int) -> Floats:
    """Blocks (u, m) as fewer ones, (count, m), with the same mean and the same variance of it."""
    mean = blocks.mean(axis=0)
    groups = np.array_split(blocks - mean, count)
    return mean + count / len(blocks) * np.array([group.sum(axis=0) for group in groups])


def _by_unit(influence: Floats, units: NDArray[np.int64]) -> Floats:
    """Influences of frames, (n, m), summed over those of each unit, (u, m)."""
    sums = np.zeros((int(units.max()) + 1, influence.shape[1]))
    np.add.at(sums, units, influence)
    return sums
