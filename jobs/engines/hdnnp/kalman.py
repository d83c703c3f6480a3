"""The multistream extended Kalman filter that n2p2 trains with.

Singraber, Morawietz, Behler and Dellago, J. Chem. Theory Comput. 15, 3075 (2019). With the covariance P of
the weights, derivatives H (weights by observations) of what is predicted and noise 1/eta of the observations,

    X = P H,  A = H^T X + 1/eta,  K = X A^-1,  w += K (observed - predicted),  P -= K X^T,  P += q
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, cholesky, solve_triangular

from jobs.engines.hdnnp.network import Array


@dataclass(frozen=True)
class Schedule:
    """Noises of the filter over a whole training; each goes geometrically from its first to its last value.

    Attributes:
        epsilon: the covariance begins as 1/epsilon times the unit matrix.
        eta: one over the observations' noise, first and last.
        q: the weights' noise, first and last.
    """

    epsilon: float
    eta: tuple[float, float]
    q: tuple[float, float]

    def eta_at(self, share: float) -> float:
        """`eta` after a share (0 to 1) of the training."""
        return self.eta[0] * (self.eta[1] / self.eta[0]) ** share

    def q_at(self, share: float) -> float:
        """`q` after a share of the training."""
        return self.q[0] * (self.q[1] / self.q[0]) ** share


def first_covariance(n_weights: int, schedule: Schedule) -> Array:
    """The covariance that a training begins with; only its lower triangle is used."""
    return np.asfortranarray(np.eye(n_weights) / schedule.epsilon)


def update(
    weights: Array, covariance: Array, derivatives: Array, residuals: Array, *, eta: float, q: float
) -> None:
    """One step of the filter; changes `weights` (n,) and `covariance` (n, n, Fortran order) in place.

    Args:
        weights: the state.
        covariance: of the state; its lower triangle.
        derivatives: (n, m) of the predictions by the weights.
        residuals: (m,) observed less predicted.
        eta: one over the variance of the observations' noise.
        q: added to the diagonal of the covariance.
    """
    spread = blas.dsymm(1.0, covariance, derivatives, lower=1)
    innovation = derivatives.T @ spread
    innovation[np.diag_indices_from(innovation)] += 1 / eta
    root = cholesky(innovation, lower=True)
    # X A^-1 X^T is Y Y^T with Y = X L^-T, and the step is Y (L^-1 r).
    half = solve_triangular(root, spread.T, lower=True)
    weights += half.T @ solve_triangular(root, residuals, lower=True)
    updated = blas.dsyrk(-1.0, half, beta=1.0, c=covariance, trans=1, lower=1, overwrite_c=1)
    if updated is not covariance:
        covariance[...] = updated
    covariance[np.diag_indices_from(covariance)] += q
