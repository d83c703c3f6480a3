"""Cost against the number of atoms: fits with bootstrap intervals over launches.

Times are samples, one per launch (of AIMD: one per step); a point is `{N: samples}`. Every interval is a 95%
percentile bootstrap: launches are drawn anew within each size, and the fit is made again. A single launch has
no interval (NaN), nor has what is fitted through it. Fits weigh relative errors, because times span decades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Samples = Mapping[int, Sequence[float]]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """`{"value", "ci_low", "ci_high"}`."""
        return {"value": self.value, "ci_low": self.low, "ci_high": self.high}


def median_interval(samples: Sequence[float]) -> Interval:
    """Median of launches with its interval; a single launch has none (NaN).

    Raises:
        ValueError: no sample.
    """
    values = np.asarray(samples, dtype=float)
    if values.size == 0:
        raise ValueError("no sample")
    return _interval(float(np.median(values)), _drawn_medians(values, np.random.default_rng(0)))


def _interval(value: float, drawn: Array) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class Line:
    """t = a + b N: `a` is what a step costs whatever its size, `b` what an atom adds (units of the times)."""

    a: Interval
    b: Interval

    def atoms_within(self, seconds: float) -> float:
        """The number of atoms whose step costs so much (none: 0)."""
        return max(0.0, (seconds - self.a.value) / self.b.value)


@dataclass(frozen=True)
class Power:
    """t = c N^p; `draws` (RESAMPLES, 2) are ln c and p of the bootstrap, which keeps them together."""

    c: Interval
    p: Interval
    draws: Array

    def at(self, n_atoms: float) -> Interval:
        """The fitted time with its interval, which widens away from the sizes measured."""
        drawn = np.exp(self.draws[:, 0] + self.draws[:, 1] * math.log(n_atoms))
        return _interval(self.c.value * n_atoms**self.p.value, drawn)

    def ratio(self, n_atoms: float, samples: Sequence[float]) -> Interval:
        """The fitted time over the median of samples, the launches of both drawn anew."""
        fitted = self.c.value * n_atoms**self.p.value
        drawn = np.exp(self.draws[:, 0] + self.draws[:, 1] * math.log(n_atoms))
        return _interval(
            fitted / float(np.median(samples)), drawn / _drawn_medians(samples, np.random.default_rng(1))
        )

    def atoms_within(self, seconds: float) -> Interval:
        """The number of atoms whose step costs so much."""
        drawn = np.exp((math.log(seconds) - self.draws[:, 0]) / self.draws[:, 1])
        return _interval((seconds / self.c.value) ** (1 / self.p.value), drawn)


def fit_line(points: Samples) -> Line:
    """Least squares of relative errors.

    Raises:
        ValueError: fewer than three sizes, which a line would fit by itself.
    """
    sizes, medians = _medians(points, at_least=3)
    weighted = np.stack([1 / medians, sizes / medians], axis=-1)
    ones = np.ones(sizes.size)
    known = np.isfinite(medians).all(axis=1)
    fits = np.full((len(medians), 2), math.nan)
    fits[known] = [np.linalg.lstsq(rows, ones, rcond=None)[0] for rows in weighted[known]]
    return Line(*(_interval(float(fits[0, i]), fits[1:, i]) for i in (0, 1)))


def fit_power(points: Samples) -> Power:
    """Least squares in logarithms.

    Raises:
        ValueError: fewer than two sizes.
    """
    sizes, medians = _medians(points, at_least=2)
    x, y = np.log(sizes), np.log(medians)
    slope = (y @ (x - x.mean())) / ((x - x.mean()) @ (x - x.mean()))
    fits = np.stack([y.mean(axis=1) - slope * x.mean(), slope], axis=1)
    c = _interval(math.exp(fits[0, 0]), np.exp(fits[1:, 0]))
    return Power(c, _interval(float(fits[0, 1]), fits[1:, 1]), fits[1:])


def _medians(points: Samples, *, at_least: int) -> tuple[Array, Array]:
    """Sizes (S,) and medians (1 + RESAMPLES, S): of the samples first, then of those drawn anew."""
    if len(points) < at_least:
        raise ValueError(f"{len(points)} sizes are too few for this fit, it needs {at_least}")
    rng = np.random.default_rng(0)
    sizes = sorted(points)
    columns = []
    for size in sizes:
        values = np.asarray(points[size], dtype=float)
        columns.append(np.concatenate([[np.median(values)], _drawn_medians(values, rng)]))
    return np.array(sizes, dtype=float), np.array(columns).T


def ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Median of the first over median of the second, launches of each drawn anew."""
    drawn = _drawn_medians(first, np.random.default_rng(0)) / _drawn_medians(second, np.random.default_rng(1))
    return _interval(float(np.median(first) / np.median(second)), drawn)


def _drawn_medians(samples: Sequence[float] | Array, rng: np.random.Generator) -> Array:
    values = np.asarray(samples, dtype=float)
    if values.size == 1:
        return np.full(RESAMPLES, math.nan)
    return np.asarray(np.median(rng.choice(values, (RESAMPLES, values.size)), axis=1))
