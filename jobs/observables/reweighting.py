"""Configurations drawn with one energy function made to speak for another.

Frames sampled at temperature T with energies E0 stand for the ensemble of energies E1 with weights

    w_i ~ exp(-(E1_i - E0_i) / kT),

exact for every one-time quantity, as long as the two ensembles overlap (Zwanzig 1954). How far they do
is the effective fraction of the frames, (sum w)^2 / (n sum w^2) (Kish): 1 for E1 = E0 + constant. If the
difference is normally distributed with standard deviation s under the sampler, its expectation is
exp(-(s / kT)^2): 0.1 at s = 1.5 kT. At 3000 K (kT = 0.259 eV) a potential whose energy misses the
reference by 20 meV/atom has s = 1.9 eV = 7.4 kT at 96 atoms and an expected fraction of 1e-24, which n
frames show as one to three of them carrying all weight. 0.1 needs 4.1 meV/atom at 96 atoms.

What else could be done. Expanded in cumulants, the mean of A in the ensemble of E1 is

    <A> - <dA dE>/kT + <dA dE dE>/(2 (kT)^2) - ...

with dE the difference's deviation from its mean. The first order is exact where A and dE are jointly
normal, whatever s, as sums over many atoms nearly are; its standard error is at least
(s / kT) sd(A) / sqrt(n), 0.95 sd(A) for the figures above and n = 60, so it is worth having for means over
all atoms, whose sd is small (`first_order_mean`), and reported beside the reweighted value, not judged.
The second order has (s / kT)^2 times the error and none of the excuse, and no order makes a histogram's
bins normal: neither is computed. Staging (an ensemble between the two) would need PBE sampling, which is
what the AIMD runs are.
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
    n_units = int(units.max()) + 1
    blocks = np.zeros((n_units, numerator.shape[1]))
    np.add.at(blocks, units, influence)
    return ratio + n_units * blocks


def first_order_mean(values: Floats, difference_eV: Floats, *, thermal_eV: float) -> tuple[float, float]:
    """<A> - <dA dE> / kT and its standard error (jackknife over frames).

    Args:
        values: (n,) A of each frame, at least three.
        difference_eV: (n,) energy above the sampler's.
        thermal_eV: the sampler's kT.
    """
    a, e = np.asarray(values, float), np.asarray(difference_eV, float)
    n = len(a)

    def corrected(kept: NDArray[np.bool_]) -> float:
        covariance = np.cov(a[kept], e[kept])[0, 1]
        return float(a[kept].mean() - covariance / thermal_eV)

    left = np.array([corrected(np.arange(n) != i) for i in range(n)])
    error = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    return corrected(np.ones(n, bool)), error
