"""Which atoms lie within a cut-off of which, for many frames at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Below this the table of all distances is faster than a tree.
_DENSE_ATOMS = 300
_DENSE_PAIRS = 1 << 18
_MARGIN = 1 + 1e-9


@dataclass(frozen=True)
class Neighbours:
    """Ordered pairs (centre, neighbour), sorted by centre.

    `centre` and `neighbour` (P,) number atoms through all frames (frame * N + atom); `vector` (P, 3)
    points from the centre to the neighbour's nearest image, in A; `distance` (P,) in A; `types`
    (F * N,) repeats the species of every frame.
    """

    centre: Integers
    neighbour: Integers
    vector: Floats
    distance: Floats
    types: Integers


def find_neighbours(
    positions: Floats, types: Integers, cell: Floats, *, cutoff_angstrom: float
) -> Neighbours:
    """All ordered pairs closer than the cut-off.

    Args:
        positions: (F, N, 3) in A, wrapped or not.
        types: (N,) species.
        cell: (3,) edges in A.
        cutoff_angstrom: at most half the shortest edge, so that the nearest image is the only one.

    Raises:
        ValueError: the cut-off is longer than half the shortest edge.
    """
    cell = np.asarray(cell, float)
    if cutoff_angstrom > np.min(cell) / 2:
        raise ValueError(f"cut-off {cutoff_angstrom} A is longer than half the box edge {np.min(cell):.3f} A")
    n_frames, n_atoms = positions.shape[:2]
    positions = np.asarray(positions, float)
    find = _dense if n_atoms <= _DENSE_ATOMS else _tree
    centre, neighbour = find(positions, cell, cutoff_angstrom)
    flat = positions.reshape(-1, 3)
    vector = flat[neighbour] - flat[centre]
    vector -= cell * np.rint(vector / cell)
    distance = np.sqrt(np.einsum("px,px->p", vector, vector))
    if n_atoms > _DENSE_ATOMS:
        near = distance < cutoff_angstrom
        centre, neighbour, vector, distance = centre[near], neighbour[near], vector[near], distance[near]
    return Neighbours(centre, neighbour, vector, distance, np.tile(np.asarray(types), n_frames))


def _dense(positions: Floats, cell: Floats, cutoff: float) -> tuple[Integers, Integers]:
    n_frames, n_atoms = positions.shape[:2]
    batch = max(1, _DENSE_PAIRS // n_atoms**2)
    centres, neighbours = [], []
    for start in range(0, n_frames, batch):
        part = positions[start : start + batch]
        squares = np.zeros((len(part), n_atoms, n_atoms))
        for axis in range(3):
            x = part[:, :, axis]
            delta = x[:, :, None] - x[:, None, :]
            delta -= cell[axis] * np.rint(delta / cell[axis])
            squares += delta * delta
        diagonal = np.arange(n_atoms)
        squares[:, diagonal, diagonal] = np.inf
        flat = np.flatnonzero(squares < cutoff * cutoff)
        centre, neighbour = np.divmod(flat, n_atoms)
        centres.append(centre + start * n_atoms)
        neighbours.append(neighbour + (centre // n_atoms + start) * n_atoms)
    return np.concatenate(centres), np.concatenate(neighbours)


def _tree(positions: Floats, cell: Floats, cutoff: float) -> tuple[Integers, Integers]:
    from scipy.spatial import cKDTree

    n_atoms = positions.shape[1]
    centres, neighbours = [], []
    for frame, points in enumerate(positions):
        wrapped = np.mod(points, cell)
        wrapped[wrapped >= cell] = 0.0  # -1e-17, rounded: the tree takes [0, edge)
        # The tree rounds otherwise than the caller, who decides: look a little farther.
        pairs = cKDTree(wrapped, boxsize=cell).query_pairs(cutoff * _MARGIN, output_type="ndarray")
        both = np.concatenate([pairs, pairs[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")] + frame * n_atoms
        centres.append(both[:, 0])
        neighbours.append(both[:, 1])
    return np.concatenate(centres), np.concatenate(neighbours)
