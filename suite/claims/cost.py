"""What a step costs by AIMD and by the NNP, and how the NNP's cost grows with N."""

from __future__ import annotations

import math

import numpy as np

from jobs.cost.record import FS_PER_NS, SECONDS_PER_DAY
from suite.judging.checks import Check
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence
from suite.judging.reasons import NotTested
from suite.judging.statistics import Estimate, estimate, mean_of


@claim("cost-ratio")
def cost_ratio(check: Check, evidence: Evidence) -> Estimate:
    """Decades between AIMD and the NNP, per simulated time on equal cores."""
    size = check["size"]
    aimd, nnp = evidence.core_seconds_per_fs("aimd"), evidence.core_seconds_per_fs("nnp")
    if size not in aimd or size not in nnp:
        raise NotTested(f"{size} atoms were not timed by both AIMD and the NNP")
    return estimate(
        lambda s: math.log10(float(mean_of(s["aimd"])) / float(mean_of(s["nnp"]))),
        {"aimd": [aimd[size]], "nnp": [nnp[size]]},
    )


@claim("cost-scaling")
def cost_scaling(check: Check, evidence: Evidence) -> Estimate:
    """Exponent of cost with N, and the price of a nanosecond of thousands of atoms."""
    timed = evidence.core_seconds_per_fs("nnp")
    if check.measure == "nanosecond":
        size = max(timed)
        if size < 1000:
            raise NotTested(f"the largest system timed has {size} atoms, the claim is about thousands")
        days = [timed[size] * FS_PER_NS / SECONDS_PER_DAY]
        return estimate(lambda s: float(mean_of(s["repeats"])), {"repeats": days})
    if len(timed) < 3:
        raise NotTested(f"{len(timed)} sizes were timed: an exponent needs at least three")
    sizes = np.log(sorted(timed))
    costs = np.log([timed[size].mean() for size in sorted(timed)])
    (slope, _), covariance = np.polyfit(sizes, costs, 1, cov="unscaled")
    residual = costs - np.polyval(np.polyfit(sizes, costs, 1), sizes)
    freedom = len(sizes) - 2
    error = math.sqrt(covariance[0, 0] * float(residual @ residual) / freedom)
    return Estimate.from_error(slope, standard_error=error, degrees_of_freedom=freedom)
