"""Mean-squared displacement at chosen lags from a stream; its slope; diffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Lags per doubling of time, and how many consecutive ones a doubling holds.
_PER_OCTAVE = 8


def remove_drift(series: Floats, masses: Floats) -> Floats:
    """Subtract the centre of mass (or its velocity) of every frame: (F, N, 3), masses (N,) in any unit."""
    centre = np.einsum("fnx,n->fx", series, masses / masses.sum())
    return series - centre[:, None, :]


def unwrap(positions: Floats, cell: Floats) -> Floats:
    """Undo wrapping: (F, N, 3) in A, frames between which no atom moved half an edge of `cell` (3,) in A."""
    jumps = np.rint(np.diff(positions, axis=0) / cell)
    unwrapped = np.array(positions, float)
    unwrapped[1:] -= np.cumsum(jumps, axis=0) * cell
    return unwrapped


def logarithmic_lags(longest: int) -> Integers:
    """Every lag to 16 frames, then eight per doubling, none longer than `longest` (1 or more)."""
    lags = list(range(1, 2 * _PER_OCTAVE + 1))
    while lags[-1] < longest:
        lags.extend(2 * lag for lag in lags[-_PER_OCTAVE:])
    return np.array([lag for lag in lags if lag <= longest], np.int64)


def displacement_blocks(
    read: Callable[[int, int, int], Floats],
    *,
    n_frames: int,
    lags: Integers,
    species: list[Integers],
    blocks: int,
    chunk_frames: int,
) -> Floats:
    """MSD at chosen lags from a stream, each lag's origins cut into equal consecutive blocks.

    Lags beyond 16 frames use every second, fourth, ... frame as an origin, never farther apart than an
    eighth of the lag, so memory and reading do not grow with the longest lag. Blocks of lags longer
    than a block share frames: they are then not independent.

    Args:
        read: `read(start, stop, stride)` gives positions (f, N, 3) in A of every `stride`-th frame,
            unwrapped and without drift.
        n_frames: frames in all.
        lags: from `logarithmic_lags`, below `n_frames - blocks`.
        species: atom indices of each species.
        blocks: number of blocks.
        chunk_frames: frames held at once, more than 16.

    Returns:
        (S, blocks, L) in A2.
    """
    level = np.maximum(0, np.ceil(np.log2(lags / (2 * _PER_OCTAVE)) - 1e-12)).astype(int)
    sums = np.zeros((len(species), blocks, len(lags)))
    counts = np.zeros((blocks, len(lags)), np.int64)
    overlap = 2 * _PER_OCTAVE
    for doubling in range(level.max() + 1):
        stride = 1 << doubling
        n_here = -(-n_frames // stride)
        chosen = np.flatnonzero(level == doubling)
        for start in range(0, n_here, chunk_frames - overlap):
            stop = min(start + chunk_frames, n_here)
            held = read(start * stride, min(stop * stride, n_frames), stride)
            parts = [np.ascontiguousarray(held[:, atoms]) for atoms in species]
            for index in chosen:
                step = int(lags[index]) // stride
                n_origins = n_here - step
                last = min(start + chunk_frames - overlap, stop - step)
                if last <= start:
                    continue
                block = np.arange(start, last) * blocks // n_origins
                edges = np.flatnonzero(np.diff(block, prepend=-1))
                counts[:, index] += np.bincount(block, minlength=blocks)
                for row, part in enumerate(parts):
                    moved = part[step : step + last - start] - part[: last - start]
                    squares = np.einsum("fnx,fnx->f", moved, moved)
                    sums[row, block[edges], index] += np.add.reduceat(squares, edges)
    atoms_of = np.array([len(atoms) for atoms in species], float)
    return sums / (counts * atoms_of[:, None, None])


@dataclass(frozen=True)
class Diffusion:
    """Log slope over a range of times and diffusion coefficient (cm2/s), each with its standard error.

    The coefficient is None where motion there is not diffusive.
    """

    coefficient_cm2_s: float | None
    coefficient_se: float | None
    slope: float
    slope_se: float


def diffusion(times_fs: Floats, msd: Floats, *, from_fs: float, tolerance: float = 0.1) -> Diffusion:
    """Diffusion coefficient from the times beyond `from_fs`, if motion there is diffusive.

    No coefficient may be quoted where the log slope's 95% interval does not lie within `tolerance` of 1.

    Args:
        times_fs: (l,) ascending.
        msd: (b, l) in A2 from independent replicas (or blocks that are independent at these lags).
        from_fs: start of the fitted range.
        tolerance: how far the log slope may be from 1.

    Raises:
        ValueError: fewer than two replicas or three times.
    """
    chosen = times_fs >= from_fs
    if len(msd) < 2 or chosen.sum() < 3:
        raise ValueError(
            f"{len(msd)} replicas and {chosen.sum()} times beyond {from_fs} fs, expected 2 and 3"
        )
    from scipy.special import stdtrit  # scipy.stats takes a second to import, in every observe stage

    times, curves = times_fs[chosen], msd[:, chosen]
    slopes = np.polyfit(np.log(times), np.log(curves).T, 1)[0]
    # 1 A2/fs is 0.1 cm2/s.
    coefficients = np.polyfit(times, curves.T, 1)[0] / 6 * 0.1
    slope, slope_se = _mean_and_error(slopes)
    if abs(slope - 1) + stdtrit(len(msd) - 1, 0.975) * slope_se > tolerance:
        return Diffusion(None, None, slope, slope_se)
    coefficient, coefficient_se = _mean_and_error(coefficients)
    return Diffusion(coefficient, coefficient_se, slope, slope_se)


def _mean_and_error(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
