"""Pairs of atoms within a cut-off in a periodic cell, however narrow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jobs.base.silica import perpendicular_widths


def periodic_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], *, cutoff: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Every ordered pair of an atom and a neighbour image, an atom's own images too.

    All pairs of atoms are looked at: meant for frames of up to a few hundred atoms.

    Args:
        positions: (N, 3), wrapped or not.
        cell: (3, 3), rows are the cell vectors.
        cutoff: distances below it count.

    Returns:
        Centre and neighbour (P,) as indices of atoms, sorted by centre and then neighbour, and the vectors
        (P, 3) from the one to the other; lengths in the units given.
    """
    fractional = positions @ np.linalg.inv(cell)
    delta = fractional[None, :] - fractional[:, None]
    whole = np.rint(delta)
    nearest = (delta - whole) @ cell
    # Along a face's normal |delta| <= 1/2 of a width: image n reaches in only if |n| <= cutoff / width + 1/2.
    reach = [math.floor(cutoff / width + 0.5) for width in perpendicular_widths(cell)]
    centres, others, vectors = [], [], []
    for image in np.ndindex(*(2 * n + 1 for n in reach)):
        shift = (np.array(image) - reach) @ cell
        vector = nearest + shift
        squared = np.einsum("ijk,ijk->ij", vector, vector)
        if not shift.any():
            np.fill_diagonal(squared, np.inf)
        i, j = np.nonzero(squared < cutoff**2)
        centres.append(i)
        others.append(j)
        vectors.append(vector[i, j])
    centre, other, vector = np.concatenate(centres), np.concatenate(others), np.concatenate(vectors)
    order = np.lexsort((other, centre))
    return centre[order], other[order], vector[order]
