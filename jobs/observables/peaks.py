"""A peak of a curve: where and how high, to a fraction of a bin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMOOTHING = np.array([1, 4, 6, 4, 1]) / 16


def highest_peak(
    x: Floats, y: Floats, *, window: tuple[float, float], half_width: float
) -> tuple[float, float]:
    """Position and height of the highest maximum of y(x) within a window.

    The maximum of the lightly smoothed curve, then the vertex of a parabola through the raw points
    within `half_width` of it (a parabola averages over bins; the bare maximum jumps from bin to bin).
    A curve that only rises or falls across the window gives the window's edge, which no band around a
    real peak contains.

    Args:
        x: (n,) ascending, equally spaced.
        y: (n,) one curve, finite.
        window: first and last x that may hold the maximum.
        half_width: in units of x.

    Raises:
        ValueError: the curve has no counts in the window.
    """
    inside = np.flatnonzero((x >= window[0]) & (x <= window[1]))
    smooth = np.convolve(np.pad(y, 2, mode="edge"), _SMOOTHING, mode="valid")
    if len(inside) == 0 or smooth[inside].max() <= 0:
        raise ValueError(f"no counts between {window[0]} and {window[1]}")
    top = int(inside[np.argmax(smooth[inside])])
    if top in (inside[0], inside[-1]):
        return float(x[top]), float(y[top])
    near = np.abs(x - x[top]) <= half_width + 1e-9
    curvature, slope, offset = np.polyfit(x[near] - x[top], y[near], 2)
    if curvature >= 0:
        return float(x[top]), float(y[top])
    shift = float(np.clip(-slope / (2 * curvature), -half_width, half_width))
    return float(x[top]) + shift, float(offset + slope * shift + curvature * shift**2)
