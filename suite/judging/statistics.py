"""Error bars for correlated data: what an independent unit is, how many there are, how sure the value is.

Samples come as *groups*: one array per independent replica (or source run), whose first axis runs over
consecutive blocks (or frames). Two ways to get independent units from them:

- `REPLICA_UNITS` or more groups: the groups are the units. Nothing is assumed about time within one.
- fewer: the blocks are the units, and the statistical inefficiency of their influence on the result,
  measured about the mean of all groups, says how many of them count. Groups that disagree persistently
  look like one long correlation, so that effect is in the interval too, as far as two or three can show it.
  Where systems that are alike are compared, a set with too few groups takes the scatter between groups from
  a set that has enough, its *scatter donor*: blocks of one short run do not show what is frozen in the run.

The error of any function of samples is its jackknife over units, set by set; a set that enters a result
twice (an AIMD reference in two distances) is thinned in both places at once, so what is shared is shared.
A percentile bootstrap is not used: with two to eight units its intervals are far too narrow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from suite.judging.reasons import NotTested

Array: TypeAlias = np.ndarray
Groups: TypeAlias = Sequence[Array]

REPLICA_UNITS = 4
MOST_STRETCHES = 200  # of a group, left out one by one where groups are too few to be
INEFFICIENCY_PLACES = 24  # along a curve; their mean is what the whole curve uses
CONFIDENCE = 0.95
MOST_TIMES = 100  # the data; whoever would need more is told that the value sits on the edge


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval.

    `standard_error` 0 with `ci_low == ci_high == value` is a number without sampling error (a count, an
    audit). `n_eff` is the number of independent units behind the interval, `degrees_of_freedom` those of
    its t distribution (infinite for exact numbers). `remark` is what a reader of the
    verdict must also know. `limit` says what else than too few data makes the interval wide.
    `square` is the square's estimate where this is its signed root, which has no t distribution itself.
    `plain` is that of the plain root where its upper end is the one that counts. `repeated` gives the
    estimate of so many times the same data, where the interval is no t interval.
    """

    value: float
    standard_error: float
    n_eff: float
    ci_low: float
    ci_high: float
    degrees_of_freedom: float = math.inf
    remark: str = ""
    limit: str = ""
    square: Estimate | None = None
    plain: Estimate | None = None
    repeated: Callable[[int], Estimate] | None = None

    @classmethod
    def exact(cls, value: float, *, n_eff: float = 1) -> Estimate:
        """A number that was counted, not sampled."""
        return cls(float(value), 0.0, n_eff, float(value), float(value))

    @classmethod
    def from_error(cls, value: float, *, standard_error: float, degrees_of_freedom: float) -> Estimate:
        """A t interval around `value`."""
        half = student(degrees_of_freedom) * standard_error
        return cls(
            float(value),
            float(standard_error),
            degrees_of_freedom + 1,
            float(value - half),
            float(value + half),
            float(degrees_of_freedom),
        )

    def with_remark(self, remark: str) -> Estimate:
        """The same number with a remark in plain words for the reader of the verdict."""
        return replace(self, remark=remark)

    def root(self) -> Estimate:
        """The estimate of the signed root of what is a square here: both ends are rooted."""
        low, high = signed_root(self.ci_low), signed_root(self.ci_high)
        half = self.ci_high - self.ci_low
        error = self.standard_error * (high - low) / half if half > 0 else 0.0
        return replace(
            self,
            value=signed_root(self.value),
            standard_error=error,
            ci_low=low,
            ci_high=high,
            square=self,
        )

    def from_edge(self, edge: float) -> tuple[float, Estimate]:
        """How far an edge lies above the value, and in which estimate: one with a t distribution."""
        if self.square is None:
            return edge - self.value, self
        if self.plain is not None and edge > self.value and self.plain.ci_high >= self.ci_high:
            return self.plain.from_edge(edge)
        return self.square.from_edge(math.copysign(edge**2, edge))


def signed_root(square: float) -> float:
    """Root that keeps the sign: an unbiased square may be negative."""
    return math.copysign(math.sqrt(abs(square)), square)


def student(degrees_of_freedom: float) -> float:
    """Half width of the 95% interval in standard errors."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees_of_freedom))


def mean_of(groups: Groups) -> Array:
    """Mean over every block of every group, shape of one block."""
    return np.concatenate([np.asarray(group) for group in groups]).mean(axis=0)


def estimate(
    function: Callable[[Mapping[str, Groups]], float],
    samples: Mapping[str, Groups],
    *,
    scatter_donors: Collection[str] = (),
    counted: bool = False,
) -> Estimate:
    """Value and interval of a function of one or several independent sets of samples.

    `function` gets the mapping it is given here, with units left out. Errors of different sets add;
    degrees of freedom by Welch and Satterthwaite. A set with fewer than `REPLICA_UNITS` groups takes the
    scatter of one group from the one of the `scatter_donors` that has enough groups and scatters most. A
    donor must enter the function with as much weight as the other sets, or its scatter would be too small.
    With `counted` no scatter at all is an answer (no defect in any run), an exact number.

    Raises:
        NotTested: a set has a single unit, which gives no error bar; there is no scatter donor; the value
            was sampled and is the same whatever unit is left out: it does not resolve how far units differ.
    """
    value = float(function(samples))
    small = [name for name, groups in samples.items() if scatter_donors and len(groups) < REPLICA_UNITS]
    if small and set(scatter_donors) <= set(small):
        raise NotTested(f"no set has {REPLICA_UNITS} replicas: how far replicas lie apart is not known")
    known = {
        name: _jackknife(function, samples, name, [np.asarray(group) for group in groups])
        for name, groups in samples.items()
        if name not in small
    }
    # The donor's estimate is used once more: this adds variance, and no degrees of freedom.
    if small:
        donor = max(set(scatter_donors) & set(known), key=lambda name: len(samples[name]) * known[name][0])
        variance, freedom = known[donor]
        given = sum(len(samples[donor]) * variance / len(samples[name]) for name in small)
        known[donor] = variance + given, freedom
    variances, freedoms = zip(*known.values(), strict=True)
    total = sum(variances)
    if total == 0:
        if not counted:
            raise NotTested("the value is the same whatever run or block is left out: its error is not known")
        return Estimate.exact(value, n_eff=min(freedoms) + 1)
    spread = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return Estimate.from_error(value, standard_error=math.sqrt(total), degrees_of_freedom=total**2 / spread)


def estimate_mean(groups: Groups, *, counted: bool = False) -> Estimate:
    """Mean of scalars, groups of shape (blocks,); `counted` as for `estimate`."""
    return estimate(lambda samples: float(mean_of(samples["all"])), {"all": groups}, counted=counted)


def difference_of_shares(first: Sequence[bool], second: Sequence[bool]) -> Estimate:
    """Share of the first that is true less that of the second, each an independent run.

    The interval is Newcombe's (Stat. Med. 17, 873 (1998), method 10), from Wilson's interval of each share:
    0 of a few runs does not prove a share of 0.

    Raises:
        NotTested: fewer than two of either.
    """
    if (fewest := min(len(first), len(second))) < 2:
        raise NotTested(f"{fewest} runs: two of either kind are needed")
    z = student(math.inf)
    (p, low_p, high_p), (q, low_q, high_q) = (_wilson(sum(runs), len(runs), z) for runs in (first, second))
    low = p - q - math.hypot(p - low_p, high_q - q)
    high = p - q + math.hypot(high_p - p, q - low_q)
    return Estimate(
        p - q,
        (high - low) / (2 * z),
        fewest,
        low,
        high,
        repeated=lambda times: difference_of_shares([*first] * times, [*second] * times),
    )


def _wilson(count: int, n: int, z: float) -> tuple[float, float, float]:
    """A share and the ends of Wilson's score interval."""
    share = count / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, centre - half, centre + half


def mean_interval(groups: Groups) -> tuple[Array, Array]:
    """Mean of curves and its pointwise 95% half width, groups of shape (blocks, points).

    Point by point the interval of `estimate_mean`, in closed form; but blocks of too few groups count as
    many as their inefficiency leaves on average along the curve, where one point's is too noisy to draw.

    Raises:
        NotTested: one block of one replica, which carries no error bar.
    """
    lengths = np.array([len(group) for group in groups])
    mean = mean_of(groups)
    if lengths.sum() < 2:
        raise NotTested("one block of one replica has no error bar")
    if len(groups) < REPLICA_UNITS:
        variance, freedom = _variance_of_mean(groups)
    else:
        squares = np.array([(np.mean(group, axis=0) - mean) ** 2 for group in groups])
        weights = lengths / (lengths.sum() - lengths)  # unequal runs weigh by their length
        variance, freedom = weights @ squares / len(groups), len(groups) - 1
    return mean, student(freedom) * np.sqrt(variance)


def _jackknife(
    function: Callable[[Mapping[str, Groups]], float],
    samples: Mapping[str, Groups],
    name: str,
    groups: list[Array],
) -> tuple[float, float]:
    """Variance that one set contributes, and its degrees of freedom; 0 if every value is the same."""
    value = float(function(samples))
    total = sum(len(group) for group in groups)
    if total < 2:
        raise NotTested(f"{name}: one block of one replica has no error bar")

    def without(kept: list[Array]) -> float:
        return float(function({**samples, name: [group for group in kept if len(group)]}))

    if len(groups) >= REPLICA_UNITS:
        left_out = np.array([without(groups[:i] + groups[i + 1 :]) for i in range(len(groups))])
        if _all_are(value, left_out):
            return 0.0, len(groups) - 1.0
        ratios = np.array([total / len(group) for group in groups])  # unequal runs weigh by their length
        centre = len(groups) * value - float(np.sum((1 - 1 / ratios) * left_out))
        pseudo = ratios * value - (ratios - 1) * left_out
        return float(np.mean((pseudo - centre) ** 2 / (ratios - 1))), len(groups) - 1.0

    # Stretches of blocks where there are many: each costs one evaluation with all the data.
    stretches = [np.array_split(np.arange(len(group)), min(len(group), MOST_STRETCHES)) for group in groups]
    total = sum(map(len, stretches))
    thinned = [
        np.array(
            [
                without([*groups[:i], np.delete(group, stretch, axis=0), *groups[i + 1 :]])
                for stretch in stretches[i]
            ]
        )
        for i, group in enumerate(groups)
    ]
    if _all_are(value, np.concatenate(thinned)):
        return 0.0, total - 1.0
    return _variance_of_mean([-(total - 1) * values for values in thinned])


def _all_are(value: float, found: Array) -> bool:
    return np.allclose(found, value, rtol=1e-12, atol=1e-12)  # but for rounding


def _variance_of_mean(groups: Groups) -> tuple[Any, float]:
    """Variance of the mean of correlated scalars or curves, pointwise, and its degrees of freedom.

    It does not see what is frozen over a whole replica (the bond network of a viscous liquid). So tiers give
    the runs that claims use at least `REPLICA_UNITS` replicas, which then are the units.
    """
    total = sum(len(group) for group in groups)
    squares = np.sum((np.concatenate(groups) - mean_of(groups)) ** 2, axis=0)
    flat = [np.reshape(group, (len(group), -1)) for group in groups]
    places = np.linspace(0, flat[0].shape[1] - 1, min(flat[0].shape[1], INEFFICIENCY_PLACES)).astype(int)
    spans = [inefficiency([group[:, place] for group in flat]) for place in places]
    effective = max(total / float(np.mean(spans)), 2.0)
    return squares / (total * (effective - 1)), effective - 1


def inefficiency(groups: Groups) -> float:
    """How many consecutive values count as one (at least 1), about the mean of all groups.

    The autocorrelation of short series is biased low by the subtraction of their own mean; that bias is
    put back to first order, and the sum ends where the correlation first vanishes.
    """
    mean = float(mean_of(groups))
    centred = [np.asarray(group) - mean for group in groups]
    total = sum(len(group) for group in groups)
    variance = sum(float(group @ group) for group in centred) / total
    if variance == 0:
        return 1.0
    result = 1.0
    for lag in range(1, max(len(group) for group in groups)):
        pairs = sum(max(len(group) - lag, 0) for group in groups)
        products = sum(float(group[lag:] @ group[:-lag]) for group in centred if len(group) > lag)
        correlation = products / (pairs * variance) + result / total
        if correlation <= 0:
            break
        result += 2 * correlation * pairs / total
    return min(result, float(total))


def equilibrated(series: Array) -> Array:
    """The equilibrated end of a long time series (pymbar's timeseries).

    Shape (n,) in, (n - start,) out.
    """
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # its advice on JAX is not for our users
    from pymbar.timeseries import detect_equilibration

    if np.ptp(series) == 0:
        return series
    start, _, _ = detect_equilibration(series, nskip=max(1, len(series) // 20))
    return series[start:]


def in_blocks(series: Array, *, blocks: int) -> Array:
    """A series (n, ...) cut into equal blocks (blocks, n // blocks, ...); what is left over goes first.

    Raises:
        NotTested: fewer than two values for each block.
    """
    length = len(series) // blocks
    if length < 2:
        raise NotTested(f"{len(series)} values are too few for {blocks} blocks")
    used = series[len(series) - blocks * length :]
    return used.reshape(blocks, length, *series.shape[1:])


def more_data(result: Estimate, band: tuple[float | None, float | None]) -> str:
    """How much more data would decide, if the value stayed, when the interval straddles.

    Errors of means shrink as the root of the data and have more degrees of freedom then.
    """
    edges = [edge for edge in band if edge is not None and result.ci_low <= edge <= result.ci_high]
    for times in range(2, MOST_TIMES + 1):
        if _decides(result, edges, times=times):
            return f"about {times} times the data would decide"
    return f"the value sits on the edge of its band: more than {MOST_TIMES} times the data would be needed"


def _decides(result: Estimate, edges: Sequence[float], *, times: int) -> bool:
    """Whether so many times the data leave none of these edges within the interval."""
    if result.repeated is not None:
        found = result.repeated(times)
        return not any(found.ci_low <= edge <= found.ci_high for edge in edges)
    plain = result.plain
    if plain is not None and result.square is not None:
        # More data take the noise out of the plain root, which then comes down to the unbiased value.
        square = plain.square and replace(plain.square, value=result.square.value)
        result = replace(result, plain=replace(plain, value=result.value, square=square))
    for edge in edges:
        reach, found = result.from_edge(edge)
        half = student(times * (found.degrees_of_freedom + 1) - 1) * found.standard_error / math.sqrt(times)
        if half > abs(reach) * (1 + 1e-9):
            return False
    return True
