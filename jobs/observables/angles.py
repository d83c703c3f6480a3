"""Partial bond angle distributions: the angle at B between its neighbours A and C."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .neighbours import Neighbours

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TRIPLETS = ("Si-Si-Si", "Si-Si-O", "O-Si-O", "Si-O-Si", "Si-O-O", "O-O-O")
_INDEX = {"Si": 0, "O": 1}


def _pair_name(first: str, second: str) -> str:
    """A pair as the cut-offs name it: silicon first."""
    return "-".join(sorted((first, second), key=_INDEX.__getitem__))


def _unit_vectors(neighbours: Neighbours, cutoffs: Mapping[str, float], end: str, centre: str) -> tuple:
    """Unit vectors (C, K, 3) from each `centre` atom to its `end` neighbours, and how many are real (C,)."""
    chosen = (
        (neighbours.types[neighbours.centre] == _INDEX[centre])
        & (neighbours.types[neighbours.neighbour] == _INDEX[end])
        & (neighbours.distance < cutoffs[_pair_name(end, centre)])
    )
    atoms = np.flatnonzero(neighbours.types == _INDEX[centre])
    row = np.searchsorted(atoms, neighbours.centre[chosen])
    number = np.bincount(row, minlength=len(atoms))
    first = np.cumsum(number) - number
    column = np.arange(len(row)) - first[row]
    units = np.zeros((len(atoms), max(1, number.max(initial=0)), 3))
    units[row, column] = neighbours.vector[chosen] / neighbours.distance[chosen, None]
    return units, number


def angle_counts(
    neighbours: Neighbours, cutoffs_angstrom: Mapping[str, float], *, bin_degree: float
) -> Integers:
    """Count angles.

    Args:
        neighbours: found with a cut-off that reaches the longest of `cutoffs_angstrom`.
        cutoffs_angstrom: by pair, "Si-Si", "Si-O" and "O-O"; both legs of an angle obey their own.
        bin_degree: width of a bin; 180 must be a whole number of them.

    Returns:
        (6, m) number of angles, one row per entry of `TRIPLETS` (the middle one is the centre), bins
        from 0 to 180 degrees.

    Raises:
        ValueError: 180 degrees are no whole number of bins.
    """
    n_bins = round(180 / bin_degree)
    if not np.isclose(n_bins * bin_degree, 180, rtol=1e-9):
        raise ValueError(f"bins of {bin_degree} degrees, expected a whole number of them in 180 degrees")
    counts = np.zeros((len(TRIPLETS), n_bins), np.int64)
    legs = {
        (end, centre): _unit_vectors(neighbours, cutoffs_angstrom, end, centre)
        for centre in _INDEX
        for end in _INDEX
    }
    for row, triplet in enumerate(TRIPLETS):
        left, centre, right = triplet.split("-")
        a, n_a = legs[left, centre]
        c, n_c = legs[right, centre]
        real = (np.arange(a.shape[1]) < n_a[:, None])[:, :, None] & (np.arange(c.shape[1]) < n_c[:, None])[
            :, None
        ]
        if left == right:
            real &= np.triu(np.ones(real.shape[1:], bool), k=1)
        cosine = np.matmul(a, c.transpose(0, 2, 1))[real]
        degrees = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        counts[row] = np.bincount(
            np.minimum((degrees / bin_degree).astype(np.intp), n_bins - 1), minlength=n_bins
        )
    return counts


def angle_density(counts: Integers, *, bin_degree: float) -> Floats:
    """Normalise counts (..., m) to a density per degree with unit area; rows without any angle become nan."""
    total = counts.sum(-1, keepdims=True).astype(float)
    total[total == 0] = np.nan
    return counts / (total * bin_degree)
