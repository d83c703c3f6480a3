"""Which frames train and which are held out: by melt, and none that no potential should learn."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.silica import SPECIES, perpendicular_widths
from jobs.observables.rdf import PAIRS

# A PBE force in liquid silica at 6000 K reaches 32 eV/A on these data (rms 2.5 to 4.1). Twice that is a
# collision, or an SCF that ended in a wrong state, and one such atom would weigh as much as the forces of
# four usual frames in the loss.
MAX_FORCE_EV_ANGSTROM = 60.0
# No two atoms of silica come this close: the shortest contact at 6000 K is 1.27 A (Si-O) here, and an O2
# bond of 1.21 A would need four standard deviations of its thermal motion. Fused atoms (BKS behind its
# barrier) are below.
MIN_DISTANCE_ANGSTROM = 0.8


def neighbour_counts(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    types: NDArray[np.integer],
    *,
    cutoff_angstrom: float,
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Neighbours of each atom by species, and the shortest distance of each pair of species.

    Every periodic image counts, an atom's own images too, so a cell narrower than twice the cutoff is
    right as well.

    Args:
        positions: (N, 3) A, wrapped or not.
        cell: (3, 3) A, rows are the cell vectors; any shape.
        types: (N,) indices into `SPECIES`.
        cutoff_angstrom: distances up to and including this count.

    Returns:
        Counts (N, 2) of Si and O neighbours, and by pair ("Si-Si", "Si-O", "O-O") the shortest distance in
        A between two atoms (images included); infinite for a pair that the cell does not hold.
    """
    widths = perpendicular_widths(cell)
    fractional = positions @ np.linalg.inv(cell)
    delta = fractional[None, :] - fractional[:, None]
    # Along the normal of a face, |delta| <= 1/2 of a width: image n can only reach into the cutoff if
    # |n| <= cutoff / width + 1/2.
    delta -= np.rint(delta)
    reach = [math.floor(cutoff_angstrom / width + 0.5) for width in widths]
    nearest = delta @ cell
    counts = np.zeros((len(types), len(SPECIES)), dtype=np.int64)
    is_species = np.stack([types == index for index in range(len(SPECIES))], axis=1).astype(np.float32)
    closest_squared = np.full(nearest.shape[:2], np.inf)
    squared_nearest = np.einsum("ijk,ijk->ij", nearest, nearest)
    limit = cutoff_angstrom**2
    for image in np.ndindex(*(2 * n + 1 for n in reach)):
        shift = (np.array(image) - reach) @ cell
        squared = squared_nearest + 2.0 * (nearest @ shift) + shift @ shift
        if not shift.any():
            np.fill_diagonal(squared, np.inf)
        np.minimum(closest_squared, squared, out=closest_squared)
        counts += np.rint((squared <= limit).astype(np.float32) @ is_species).astype(np.int64)
    closest = {}
    for pair in PAIRS:
        first, second = (np.flatnonzero(types == SPECIES.index(species)) for species in pair.split("-"))
        squared = closest_squared[np.ix_(first, second)].min(initial=math.inf)
        closest[pair] = math.sqrt(max(float(squared), 0.0))
    return counts, closest


def reason_to_refuse(
    energy_eV: float, forces: NDArray[np.float64], min_distance_angstrom: float
) -> str | None:
    """Why a labelled frame must not be used, or None: the deposit holds what a code gave, also outliers.

    Args:
        energy_eV: total energy.
        forces: (N, 3) eV/A.
        min_distance_angstrom: shortest distance of two atoms.
    """
    if not (np.isfinite(forces).all() and math.isfinite(energy_eV) and math.isfinite(min_distance_angstrom)):
        return "not finite"
    if min_distance_angstrom < MIN_DISTANCE_ANGSTROM:
        return f"atoms closer than {MIN_DISTANCE_ANGSTROM:g} A"
    if np.linalg.norm(forces, axis=1).max() > MAX_FORCE_EV_ANGSTROM:
        return f"force above {MAX_FORCE_EV_ANGSTROM:g} eV/A"
    return None


def split_melts(
    frames: Mapping[str, Mapping[float, int]], *, train_share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Whole melts to train and test, each temperature shared as nearly as possible.

    The imbalance of a split is the squared excess of training frames over their share, relative to a
    temperature's frames, summed over temperatures and for all frames together; plus a large penalty
    for each temperature that one side lacks although two melts have it, or that training lacks. From 20
    random starts, melts change side and pairs are exchanged until nothing lowers it; the seed picks one
    among the distinct ends that are at most 1.5 times as imbalanced as the best.

    Args:
        frames: for each melt, its number of frames by temperature in K.
        train_share: wanted share of training frames.
        seed: of the split.

    Returns:
        Names of training and of test melts, sorted; neither is empty.

    Raises:
        SuiteError: fewer than two melts.
    """
    melts = sorted(frames)
    if len(melts) < 2:
        raise SuiteError(f"dataset: found {len(melts)} melts, expected at least 2 to split by melt")
    temperatures = sorted({t for counts in frames.values() for t in counts})
    table = np.array([[frames[melt].get(t, 0) for t in temperatures] for melt in melts], dtype=float)
    table = np.column_stack([table, table.sum(axis=1)])  # the last column: all temperatures together
    total = table.sum(axis=0)
    shared = (table > 0).sum(axis=0) > 1

    def imbalance(got: NDArray[np.float64]) -> NDArray[np.float64]:
        missing = (got == 0).sum(axis=-1) + ((got == total) & shared).sum(axis=-1)
        return ((got - train_share * total) ** 2 / total).sum(axis=-1) + 1e3 * missing

    def settle(train: NDArray[np.bool_]) -> float:
        lowest = float(imbalance(table[train].sum(axis=0)))
        while True:
            got = table[train].sum(axis=0)
            here, there = np.flatnonzero(train), np.flatnonzero(~train)
            flips = imbalance(got + np.where(train, -1.0, 1.0)[:, None] * table)
            best, change = float(flips.min()), [int(flips.argmin())]
            exchanges = imbalance(got - table[here][:, None] + table[there][None, :])
            if exchanges.size and exchanges.min() < best:
                i, j = np.unravel_index(int(exchanges.argmin()), exchanges.shape)
                best, change = float(exchanges.min()), [int(here[i]), int(there[j])]
            if best >= lowest - 1e-9:
                return lowest
            train[change] ^= True
            lowest = best

    random = np.random.default_rng(seed)
    n_train = min(max(1, round(train_share * len(melts))), len(melts) - 1)
    ends: dict[tuple[bool, ...], float] = {}
    for _ in range(20):
        train = random.permutation(len(melts)) < n_train
        cost = settle(train)
        ends[tuple(train.tolist())] = cost
    good = sorted(end for end, cost in ends.items() if cost <= 1.5 * min(ends.values()))
    picked = good[int(random.integers(len(good)))]
    return (
        [melt for melt, trains in zip(melts, picked, strict=True) if trains],
        [melt for melt, trains in zip(melts, picked, strict=True) if not trains],
    )
