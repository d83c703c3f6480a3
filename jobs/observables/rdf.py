"""Partial radial distribution functions of an orthorhombic periodic box, to half its shortest edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PAIRS = ("Si-Si", "Si-O", "O-O")
_SPECIES = ((0, 0), (0, 1), (1, 1))
# One work array of 32-bit floats stays inside a level-2 cache; larger tiles were slower.
_TILE = 1 << 15


def bin_centres(cell: Floats, *, bin_angstrom: float) -> Floats:
    """Centres (A) of the whole bins that fit below half the shortest edge of `cell` (3,) in A."""
    n_bins = int(np.floor(np.min(cell) / 2 / bin_angstrom + 1e-9))
    centres: Floats = np.asarray((np.arange(n_bins) + 0.5) * bin_angstrom)
    return centres


def pair_counts(positions: Floats, types: Integers, cell: Floats, *, bin_angstrom: float) -> Integers:
    """Count ordered pairs by distance.

    Distances come from fractional coordinates kept as 32-bit integers (one box edge is 2**32), whose
    difference wraps to the nearest image by itself; the distance carries a relative error of 1e-7.

    Args:
        positions: (F, N, 3) in A, wrapped or not.
        types: (N,) 0 for Si, 1 for O.
        cell: (3,) edges in A.
        bin_angstrom: width of a bin.

    Returns:
        (3, n) ordered pairs (i, j), i != j, of Si-Si, Si-O and O-O summed over frames; Si-O pairs are
        counted once, from Si. n is the length of `bin_centres`.
    """
    cell = np.asarray(cell, float)
    n_bins = len(bin_centres(cell, bin_angstrom=bin_angstrom))
    # Fractions to 64 then 32 bits: the second cast keeps the lowest 32 bits, which is the wrap.
    fractions = np.rint(np.asarray(positions, float) * (2.0**32 / cell)).astype(np.int64).astype(np.int32)
    by_species = [np.ascontiguousarray(np.moveaxis(fractions[:, types == s], 2, 0)) for s in (0, 1)]
    ratios = (cell / cell[0]).astype(np.float32)
    scale = np.float32(cell[0] / 2.0**32 / bin_angstrom)
    # A pair lies at most half a space diagonal apart.
    n_all = int(np.linalg.norm(cell) / 2 / bin_angstrom) + 2

    def tile(a: NDArray[np.int32], b: NDArray[np.int32]) -> Integers:
        shape = (a.shape[1], a.shape[2], b.shape[2])
        whole = np.empty(shape, np.int32)
        squares = np.empty(shape, np.float32)
        total = np.empty(shape, np.float32)
        for axis in range(3):
            into = squares if axis else total
            np.subtract(a[axis][:, :, None], b[axis][:, None, :], out=whole)
            np.multiply(whole, ratios[axis], out=into, dtype=np.float32, casting="unsafe")
            np.multiply(into, into, out=into)
            if axis:
                np.add(total, squares, out=total)
        np.sqrt(total, out=total)
        np.multiply(total, scale, out=total)
        return np.bincount(total.astype(np.intp).ravel(), minlength=n_all)

    counts = np.zeros((3, n_all), np.int64)
    for row, (first, second) in enumerate(_SPECIES):
        a, b = by_species[first], by_species[second]
        n_a, n_b = a.shape[2], b.shape[2]
        if n_a == 0 or n_b == 0:
            continue
        atoms = min(n_a, max(1, _TILE // n_b))
        frames = max(1, _TILE // (atoms * n_b))
        for f in range(0, a.shape[1], frames):
            for i in range(0, n_a, atoms):
                here = a[:, f : f + frames, i : i + atoms]
                if first != second:
                    counts[row] += tile(here, b[:, f : f + frames])
                    continue
                diagonal = tile(here, here)
                diagonal[0] -= here.shape[1] * here.shape[2]
                counts[row] += diagonal
                if i + atoms < n_a:
                    counts[row] += 2 * tile(here, b[:, f : f + frames, i + atoms :])
    return counts[:, :n_bins]


def partial_rdf(
    counts: Integers, *, n_si: int, n_o: int, n_frames: int, cell: Floats, bin_angstrom: float
) -> Floats:
    """Normalise `pair_counts` to g(r) (3, n): 1 for an ideal gas at every N (ordered pairs N_a (N_b - d_ab)).

    A species that is absent, or a like pair of a single atom, gives nan.
    """
    edges = np.arange(counts.shape[1] + 1) * bin_angstrom
    shells = 4 / 3 * np.pi * np.diff(edges**3) / np.prod(cell)
    pairs = np.array([n_si * (n_si - 1), n_si * n_o, n_o * (n_o - 1)], float)
    pairs[pairs == 0] = np.nan
    return counts / (n_frames * pairs[:, None] * shells)
