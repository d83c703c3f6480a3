"""The first peak of a radial distribution: where, how high, how wide, how many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMOOTHING_ANGSTROM = 0.05
# Local fits use the top of a peak, and the bottom of a valley, within these limits.
_TOP_SHARE = 0.75
_VALLEY_ANGSTROM = 0.25
_FEWEST = 5


@dataclass(frozen=True)
class Peak:
    """First peak of g(r).

    `position` and `minimum` (the valley behind it) in A, `height` and `depth` in units of g,
    `width` full width at half height in A, `area` the integral of 4 pi r2 g dr from 0 to `minimum`
    in A3 (times the partner's number density: the coordination number).
    """

    position: float
    height: float
    width: float
    area: float
    minimum: float
    depth: float


def _smooth(r: Floats, g: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(g, _SMOOTHING_ANGSTROM / (r[1] - r[0]), mode="nearest")


def _extremum(x: Floats, y: Floats, order: int, *, near: float, sign: int) -> tuple[float, float]:
    """Extremum (position, value) of a polynomial fitted to points, the one nearest to `near`."""
    centre, scale = near, max(np.ptp(x), 1e-12)
    fit = np.polynomial.Polynomial.fit((x - centre) / scale, y, min(order, len(x) - 1), domain=[-1, 1])
    roots = [z.real for z in np.atleast_1d(fit.deriv().roots()) if abs(z.imag) < 1e-9]
    inside = [z for z in roots if x[0] <= centre + scale * z <= x[-1] and sign * fit.deriv(2)(z) < 0]
    if not inside:
        best = int(np.argmax(sign * y))
        return float(x[best]), float(y[best])
    at = min(inside, key=abs)
    return float(centre + scale * at), float(fit(at))


def first_peak(r: Floats, g: Floats) -> Peak:
    """Find the first peak of g(r) whose smoothed height is at least half the highest.

    Position and height come from a cubic through ln g over the top quarter (asymmetric peaks, little
    noise), the valley from a parabola through g around the smoothed minimum between this peak and the
    next.

    Args:
        r: (n,) in A, equally spaced.
        g: (n,) one curve, finite.

    Raises:
        ValueError: there is no peak.
    """
    from scipy.signal import argrelmax

    smooth = _smooth(r, g)
    tops = argrelmax(smooth, mode="clip")[0]
    tops = tops[smooth[tops] >= 0.5 * smooth.max()]
    if len(tops) == 0 or smooth.max() <= 0:
        raise ValueError("the curve has no peak")
    top = int(tops[0])

    above = _run(g >= _TOP_SHARE * smooth[top], top, fewest=_FEWEST)
    above = above[g[above] > 0]
    position, log_height = _extremum(r[above], np.log(g[above]), 3, near=float(r[top]), sign=1)
    height = float(np.exp(log_height))

    # The valley ends where g has climbed back to 1, or at the end of the curve.
    behind = smooth[top:]
    below = np.flatnonzero(behind < 1.0) if smooth[top] > 1.0 else np.arange(len(behind))
    if len(below):
        climbed = np.flatnonzero(behind[below[0] :] >= 1.0)
        end = below[0] + climbed[0] if len(climbed) else len(behind)
    else:
        end = len(behind)
    bottom = top + int(np.argmin(behind[: max(end, 2)]))
    floor = np.flatnonzero(abs(r - r[bottom]) <= _VALLEY_ANGSTROM)
    floor = floor[floor > top]
    minimum, depth = _extremum(r[floor], g[floor], 2, near=float(r[bottom]), sign=-1)

    inside = r <= minimum
    step = r[1] - r[0]
    area = float(np.sum(4 * np.pi * r[inside] ** 2 * g[inside]) * step)
    return Peak(position, height, _width(r, g, top, height), area, minimum, depth)


def _run(mask: NDArray[np.bool_], start: int, *, fewest: int) -> NDArray[np.int64]:
    """Indices of the run of true values around `start`, widened to at least `fewest`."""
    left = right = start
    while left > 0 and mask[left - 1]:
        left -= 1
    while right < len(mask) - 1 and mask[right + 1]:
        right += 1
    while right - left + 1 < min(fewest, len(mask)):
        left, right = max(left - 1, 0), min(right + 1, len(mask) - 1)
    return np.arange(left, right + 1)


def _width(r: Floats, g: Floats, top: int, height: float) -> float:
    """Full width at half height, by linear interpolation on both sides; nan where a side never falls."""
    half = height / 2
    left = np.flatnonzero(g[: top + 1] < half)
    right = np.flatnonzero(g[top:] < half)
    if len(left) == 0 or len(right) == 0:
        return float("nan")
    i, j = int(left[-1]), top + int(right[0])
    low = r[i] + (half - g[i]) / (g[i + 1] - g[i]) * (r[i + 1] - r[i])
    high = r[j - 1] + (half - g[j - 1]) / (g[j] - g[j - 1]) * (r[j] - r[j - 1])
    return float(high - low)
