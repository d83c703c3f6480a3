"""Did something get slower since earlier nights, beyond noise? A prediction test on logarithms of times.

A night's figure is the logarithm of the median of its launches. It scatters from night to night with a
variance that has two parts, launches within a night and the state of the machine between nights, and both
are in the scatter of earlier nights' figures; so that scatter is what tonight is compared with, not the
launches of one night, which would call every warm day a regression. With few nights it is badly known:
it is shrunk towards that of a quiet node (`PRIOR_SPREAD`, which counts as `PRIOR_NIGHTS` nights), and is
never taken to be below what the launches of these nights themselves allow. Then

    t = (tonight - mean of the earlier ones - ln 1.05) / sqrt(variance (1 + 1/nights))

follows Student's t, and a slowdown is reported if it is above the one-sided quantile of
`FALSE_ALARMS` / (number of series): in a night with nothing wrong, at most one in a hundred is reported, and
less in truth, because nothing wrong means no slowdown rather than exactly 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD = 0.05
FALSE_ALARMS = 0.01
PRIOR_SPREAD = 0.02
PRIOR_NIGHTS = 6
HISTORY = 14
# Of the median of normal samples to that of their mean.
MEDIAN_ERROR = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class Change:
    """Tonight against earlier nights: `change` 0.2 is a fifth slower; `detectable` would just be reported."""

    change: float
    low: float
    high: float
    p: float
    detectable: float
    nights: int
    regressed: bool


def compare_night(
    tonight: Sequence[float],
    earlier: Sequence[Sequence[float]],
    *,
    series: int = 1,
    threshold: float = THRESHOLD,
) -> Change:
    """Launches of tonight against those of earlier nights (the last `HISTORY` of them count).

    Args:
        tonight: positive times, at least two.
        earlier: the same of each earlier night without a known regression, oldest first, at least one.
        series: how many series are looked at tonight, among which the false alarms are shared.
        threshold: the slowdown that is tolerated.

    Raises:
        ValueError: too few launches or nights, or a time that is not positive.
    """
    from scipy.stats import t as student

    nights = [np.asarray(samples, dtype=float) for samples in (*earlier[-HISTORY:], tonight)]
    if len(nights) < 2 or any(samples.size < 2 or not (samples > 0).all() for samples in nights):
        raise ValueError("expected an earlier night, and at least two positive times of each night")
    figures = np.array([math.log(np.median(samples)) for samples in nights])
    before, count = figures[:-1], len(figures) - 1
    freedom = PRIOR_NIGHTS + count - 1
    scatter = float(((before - before.mean()) ** 2).sum())
    variance = (PRIOR_NIGHTS * PRIOR_SPREAD**2 + scatter) / freedom
    logs = [np.log(samples) for samples in nights]
    within = sum(float(((log - log.mean()) ** 2).sum()) for log in logs) / sum(log.size - 1 for log in logs)
    fewest = min(log.size for log in logs)
    variance = max(variance, MEDIAN_ERROR**2 * within / fewest)
    error = math.sqrt(variance * (1 + 1 / count))
    difference = float(figures[-1] - before.mean())
    tolerated = math.log1p(threshold)
    p = float(student.sf((difference - tolerated) / error, freedom))
    critical = float(student.isf(FALSE_ALARMS / series, freedom))
    half = float(student.ppf(0.975, freedom)) * error
    return Change(
        change=math.expm1(difference),
        low=math.expm1(difference - half),
        high=math.expm1(difference + half),
        p=p,
        detectable=math.expm1(tolerated + critical * error),
        nights=count,
        regressed=p < FALSE_ALARMS / series,
    )
