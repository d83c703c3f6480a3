"""A verdict that cannot fail is a defect: every planted fault must be caught."""

from __future__ import annotations

from suite.claims import Atom, Judge, claim
from suite.evidence import Evidence
from suite.faults import report_faults
from suite.statistics import Estimate
from suite.verdict import PRECONDITION


@claim("fault")
def test_fault_is_caught(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """How many atoms tell the faulty evidence from the true one."""
    found = next(report for report in report_faults(evidence) if report.fault == atom["fault"])
    if found.missing is not None:
        raise found.missing
    preconditions = [atom_id for atom_id in found.caught_by if atom_id.startswith(f"{PRECONDITION}/")]
    claims = [atom_id for atom_id in found.caught_by if atom_id not in preconditions]
    judge(
        Estimate.exact(len(found.caught_by), n_eff=len(found.verdicts)),
        f"caught by preconditions: {', '.join(preconditions) or 'none'}; "
        f"by claims of the paper: {', '.join(claims) or 'none'}",
    )
