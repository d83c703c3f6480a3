"""Planted faults: each must be caught, since a check that cannot fail proves nothing."""

from __future__ import annotations

from suite.judging.checks import Check, load_claims
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence
from suite.judging.faults import report_faults
from suite.judging.statistics import Estimate
from suite.judging.verdict import CLASSES, FAULT


@claim("fault")
def fault(check: Check, evidence: Evidence) -> Estimate:
    """How many checks tell the faulty evidence from the true one."""
    found = next(report for report in report_faults(evidence) if report.fault == check["fault"])
    if found.missing is not None:
        raise found.missing
    category = {one.id: one.category for one in load_claims()}
    caught = {
        name: [check_id for check_id in found.caught_by if category[check_id] == key]
        for key, name in CLASSES.items()
        if key != FAULT
    }
    said = "; ".join(f"{name}: {', '.join(ids) or 'none'}" for name, ids in caught.items())
    return Estimate.exact(len(found.caught_by), n_eff=len(found.verdicts)).with_remark(f"caught by {said}")
