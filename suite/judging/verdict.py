"""From a check's number to a verdict: the seven states, the decision rule, and the record of one result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from suite.judging.statistics import Estimate, more_data

Band: TypeAlias = tuple[float | None, float | None]
PAPER, SUPPLEMENTARY, PRECONDITION, FAULT = "paper", "supplementary", "precondition", "fault"
CLASSES = {
    PAPER: "the paper's claims",
    SUPPLEMENTARY: "supplementary checks",
    FAULT: "planted faults",
    PRECONDITION: "preconditions",
}
COMPARISONS = ("paired", "equilibrium", "alone")
"""With AIMD from the same frame on; with AIMD at equilibrium; with a number or with nothing computed."""


class Verdict(StrEnum):
    """State of a check."""

    PASS = "PASS"
    FAIL = "FAIL"
    TOO_SHORT = "TOO SHORT"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_TESTED = "NOT TESTED"
    PENDING = "PENDING"
    ERROR = "ERROR"

    @property
    def decided(self) -> bool:
        """Whether it says yes or no."""
        return self in (Verdict.PASS, Verdict.FAIL)

    @property
    def outside(self) -> bool:
        """Whether the whole interval lies outside the band, for whatever reason."""
        return self in (Verdict.FAIL, Verdict.TOO_SHORT)


@dataclass(frozen=True)
class Result:
    """The result of one check; the fields of `claims.json`.

    `p` is the chance, under the t distribution of the estimate, that the true value lies on the other
    side of the nearest edge of the band; `p_family` the same after Holm's correction over a whole run.
    `same_as` names the check whose verdict it shares: that one is counted, this one is not.
    `paper` is the sentence of the paper that it stands for, in our words, `where` its place.
    `doubts` are the ids of preconditions of its runs that fail.
    `category` is a key of `CLASSES` (`class` in the file), `comparison_kind` one of `COMPARISONS`.
    """

    id: str
    claim: str
    category: str
    comparison_kind: str
    where: str
    paper: str
    statement: str
    comparison: str
    distance: str
    band_low: float | None
    band_high: float | None
    unit: str
    tier: str
    needs: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    why_band: str = ""
    value: float | None = None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_eff: float | None = None
    p: float | None = None
    p_family: float | None = None
    deviations: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    same_as: str = ""
    doubts: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON values only; what is infinite or not a number becomes null."""

        def plain(value: Any) -> Any:
            if isinstance(value, float) and not math.isfinite(value):
                return None
            return list(value) if isinstance(value, tuple) else value

        content = {key: plain(value) for key, value in asdict(self).items()}
        return content | {"class": content.pop("category"), "verdict": str(self.verdict)}


def decide(estimate: Estimate, band: Band) -> tuple[Verdict, str]:
    """Verdict and its reason: PASS inside the band, FAIL outside, INCONCLUSIVE across an edge.

    Raises:
        ValueError: the estimate is not a number.
    """
    if any(math.isnan(number) for number in (estimate.value, estimate.ci_low, estimate.ci_high)):
        raise ValueError("the estimate is not a number")
    low = -math.inf if band[0] is None else band[0]
    high = math.inf if band[1] is None else band[1]
    if low <= estimate.ci_low and estimate.ci_high <= high:
        return Verdict.PASS, ""
    if estimate.ci_high < low or estimate.ci_low > high:
        return Verdict.FAIL, "the whole interval lies outside the band"
    why = estimate.limit or more_data(estimate, band)
    return Verdict.INCONCLUSIVE, f"the interval straddles the band: {why}"


def p_value(estimate: Estimate, band: Band) -> float:
    """One-sided chance that the true value lies beyond the band's edge nearest to the estimate."""
    return max(_beyond(estimate, edge) for edge in band if edge is not None)


def _beyond(estimate: Estimate, edge: float) -> float:
    from scipy.stats import t

    reach, found = estimate.from_edge(edge)
    if found.standard_error == 0:
        return 0.0
    outward = reach if edge >= estimate.value else -reach
    return float(t.sf(outward / found.standard_error, found.degrees_of_freedom))


def with_family(results: Sequence[Result]) -> list[Result]:
    """The results with `p_family` by Holm over all that have a p and count; verdicts stay as they are."""
    order = sorted(
        (i for i, result in enumerate(results) if result.p is not None and not result.same_as),
        key=lambda i: results[i].p or 0,
    )
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (results[i].p or 0.0)))
        adjusted[i] = largest
    return [replace(result, p_family=adjusted.get(i)) for i, result in enumerate(results)]


_UNMET = {
    Verdict.FAIL: "preconditions that fail:",
    Verdict.ERROR: "preconditions that broke:",
    Verdict.INCONCLUSIVE: "preconditions not known to hold:",
}


def _by_run(ids: Sequence[str]) -> str:
    """Preconditions listed by run: `liquid-96-nvt (stationary-energy, temperature), tables`."""
    runs: dict[str, list[str]] = {}
    for name in ids:
        what, _, run = name.removeprefix(f"{PRECONDITION}/").partition("/")
        runs.setdefault(run or what, []).extend([what] if run else [])
    return ", ".join(f"{run} ({', '.join(of)})" if of else run for run, of in runs.items())


def with_preconditions(
    results: Sequence[Result], behind: Callable[[tuple[str, ...]], Set[str]]
) -> list[Result]:
    """The results, with unmet preconditions of its runs named in the reason of each that says yes or no.

    `behind` gives some products' names with those of the products made on the way to them. Verdicts stay.
    """
    unmet = {
        verdict: [r for r in results if r.category == PRECONDITION and r.verdict is verdict]
        for verdict in _UNMET
    }

    def marked(result: Result) -> Result:
        says_yes_or_no = result.verdict.decided or result.verdict.outside
        if not says_yes_or_no or result.category not in (PAPER, SUPPLEMENTARY) or not any(unmet.values()):
            return result
        read = behind(result.needs)
        of_its_runs = {
            verdict: tuple(precondition.id for precondition in found if read >= set(precondition.needs))
            for verdict, found in unmet.items()
        }
        remarks = [f"{_UNMET[verdict]} {_by_run(ids)}" for verdict, ids in of_its_runs.items() if ids]
        reason = "; ".join(filter(None, (result.reason, *remarks)))
        return replace(result, reason=reason, doubts=of_its_runs[Verdict.FAIL])

    return [marked(result) for result in results]
