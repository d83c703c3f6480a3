"""A verdict that cannot fail is a defect: every planted fault must be caught."""

from __future__ import annotations

from suite.claims import Atom, claim, load_claims
from suite.evidence import Evidence
from suite.faults import report_faults
from suite.statistics import Estimate
from suite.verdict import CLASSES, FAULT


@claim("fault")
def test_fault_is_caught(atom: Atom, evidence: Evidence) -> Estimate:
    """How many atoms tell the faulty evidence from the true one."""
    found = next(report for report in report_faults(evidence) if report.fault == atom["fault"])
    if found.missing is not None:
        raise found.missing
    category = {one.id: one.category for one in load_claims()}
    caught = {
        name: [atom_id for atom_id in found.caught_by if category[atom_id] == key]
        for key, name in CLASSES.items()
        if key != FAULT
    }
    said = "; ".join(f"{name}: {', '.join(ids) or 'none'}" for name, ids in caught.items())
    return (Estimate.exact(len(found.caught_by), n_eff=len(found.verdicts))).with_remark(f"caught by {said}")
