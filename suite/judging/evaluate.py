"""How a check is judged: its claim's function gives an estimate, and the band decides."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from suite.judging.checks import Check, checks_of, load_claims, out_of_reach
from suite.judging.evidence import Evidence
from suite.judging.power_table import lacks_power
from suite.judging.reasons import NotTested, Pending
from suite.judging.statistics import Estimate
from suite.judging.verdict import PAPER, SUPPLEMENTARY, Result, Verdict, decide, p_value

Measure: TypeAlias = Callable[[Check, Evidence], Estimate]
REGISTRY: dict[str, Measure] = {}
"""What measures the checks of each claim; importing `suite.claims` fills it."""


def claim(claim_id: str) -> Callable[[Measure], Measure]:
    """Register a function of a check and the evidence as what measures the checks of a claim.

    Raises:
        SuiteError: `reference/claims.yml` has no such claim.
    """
    checks_of(claim_id)

    def register(function: Measure) -> Measure:
        REGISTRY[claim_id] = function
        return function

    return register


def honest_result(evidence: Evidence, check: Check) -> Result:
    """A check's result on the true evidence, kept: faults and short trainings ask for it again."""
    return evidence.once(("result", check.id), lambda: evaluate(REGISTRY[check.claim], check, evidence))


# What shows whether the training of an NNP was long enough: its forces on held-out frames.
HELD_OUT = {
    "96": "parity/96/force",
    "216": "parity/216/force",
    "hdnnp": "n2p2-same/held-out-forces",
}
# Which NNP moves the atoms of a product, where the product's name does not say it.
_MOVED_BY = {
    "liquid-96-hdnnp": "hdnnp",
    "stability-hdnnp": "hdnnp",
    "stability-deepmd": "96",
    "liquid-216-nvt-96": "96",
    "glass-96-equal-n": "96",
    "vdos-2592": "96",
    "vdos-96": "96",
    "msd-long": "96",
    "paired-96-other": "216",
    "paired-216-other": "96",
}
OF_BKS = "/same-qualitatively"  # ends the ids of checks whose number is of BKS and AIMD alone


def _networks(check: Check) -> set[str]:
    """The NNPs (keys of `HELD_OUT`) that a check's number comes from."""
    if check.claim == "inherited" or check.id.endswith(OF_BKS):  # of AIMD and BKS alone
        return set()
    found = set()
    for product in (label.partition("@")[0] for label in check.needs):
        own = re.fullmatch(r"(?:liquid|motion|glass|paired|parity)-(96|216)(?:-nvt|-nve|-nnp)?", product)
        if moved := _MOVED_BY.get(product, own[1] if own else None):
            found.add(moved)
    return found


def _trained(check: Check) -> str | None:
    """The NNP whose forces on held-out frames a check is, at all temperatures or at one."""
    return next((nnp for nnp, id in HELD_OUT.items() if f"{check.id}/".startswith(f"{id}/")), None)


def held_out_checks(check: Check) -> list[Check]:
    """The checks that show whether the trainings behind a check were long enough."""
    return [one for one in load_claims() if one.id in {HELD_OUT[of] for of in _networks(check)} - {check.id}]


def too_short(check: Check, evidence: Evidence) -> str:
    """Why a value outside the band is no FAIL: the tier's own training was short. Else nothing.

    Forces on held-out frames measure the training itself. For other checks a short training counts only where
    the forces of an NNP behind the check show it: they are outside their band.
    """
    if check.category not in (PAPER, SUPPLEMENTARY):
        return ""
    short = evidence.short_training
    if nnp := _trained(check):
        return f"this measures the training, which was short: {short[nnp]}" if nnp in short else ""
    for forces in held_out_checks(check):
        why = short.get(_trained(forces) or "")
        if why and (found := honest_result(evidence, forces)).verdict.outside:
            return f"the training was short ({why}), and {forces.id} shows it ({found.verdict})"
    return ""


def evaluate(function: Measure, check: Check, evidence: Evidence) -> Result:
    """Judge one check by what its claim's function measures.

    An exception becomes ERROR with its message, so that one broken claim does not hide the others.
    """
    tier = evidence.tier
    found: Estimate | None = None
    read = replace(evidence, borrowed=[])
    try:
        labels = {*evidence.products, *evidence.pending, *evidence.broken}
        if why := out_of_reach(check, tier, labels):
            raise NotTested(why)
        found = function(check, read)
        verdict, reason = decide(found, check.band)
        if verdict is Verdict.PASS and (why := lacks_power(check, tier)):
            verdict, reason = Verdict.INCONCLUSIVE, why
        elif verdict is Verdict.FAIL and (why := too_short(check, evidence)):
            verdict, reason = Verdict.TOO_SHORT, why
        reason = "; ".join(filter(None, (reason, found.remark)))
    except NotTested as missing:
        verdict, reason = Verdict.NOT_TESTED, str(missing)
    except Pending as waiting:
        verdict, reason = Verdict.PENDING, str(waiting)
    except Exception as error:
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {' '.join(str(error).split())}"
    if check.same_as:
        reason = "; ".join(filter(None, (f"same as {check.same_as}, counted there", reason)))
    numbers: dict[str, Any] = {}
    if found is not None:
        names = ("value", "standard_error", "ci_low", "ci_high", "n_eff")
        numbers = {name: getattr(found, name) for name in names}
        if verdict is not Verdict.ERROR:
            numbers["p"] = p_value(found, check.band)
    return Result(
        id=check.id,
        claim=check.claim,
        category=check.category,
        comparison_kind=check.comparison_kind,
        where=check.where,
        paper=check.paper,
        same_as=check.same_as,
        statement=check.statement,
        comparison=check.comparison,
        distance=check.distance,
        band_low=check.band[0],
        band_high=check.band[1],
        unit=check.unit,
        tier=tier,
        needs=check.needs,
        verdict=verdict,
        reason=reason,
        why_band=check.why_band,
        deviations=(*evidence.deviations, *read.borrowed),
        **numbers,
    )
