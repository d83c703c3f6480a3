"""Planted faults: the same claims over evidence that is wrong in a known way.

A verdict that cannot fail is a defect. A fault is caught by an atom that does not fail on the true
evidence and fails on the faulty one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from jobs.errors import SuiteError
from suite.claims import REGISTRY, Atom, Result, evaluate, load_claims
from suite.evidence import Array, Evidence, Observation
from suite.verdict import NotTested, Pending, Verdict

FAULT_CLAIM = "fault"
CLAIM_MODULES = (
    "preconditions",
    "parity",
    "fig1_rdf",
    "fig2_badf",
    "fig3_glass",
    "fig4_vaf",
    "fig5_msd",
    "cost",
    "method",
)
SOFTER = 0.9
HOLDS = (Verdict.PASS, Verdict.INCONCLUSIVE)  # an atom with these may catch a fault


@dataclass(frozen=True)
class Fault:
    """A known wrong: `view` makes the faulty evidence and names the labels that it touched."""

    name: str
    what: str
    view: Callable[[Evidence], tuple[Evidence, frozenset[str]]]


@dataclass(frozen=True)
class FaultReport:
    """Which atoms caught a fault; `verdicts` are those on the faulty evidence, by atom id.

    `missing` says why a fault could not be planted: not in this tier, pending, or broken.
    """

    fault: str
    what: str
    caught_by: tuple[str, ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    missing: NotTested | Pending | SuiteError | None = None

    @property
    def reason(self) -> str:
        """Why the fault could not be planted, or nothing."""
        return "" if self.missing is None else str(self.missing)

    def as_json(self) -> dict[str, Any]:
        """An entry of `faults` in claims.json."""
        return {
            "fault": self.fault,
            "what": self.what,
            "caught_by": list(self.caught_by),
            "verdicts": {atom: str(verdict) for atom, verdict in self.verdicts.items()},
            "reason": self.reason,
        }


def _softer_silicon(heldout: Observation) -> Array:
    scale = np.where(heldout["species"] == 0, SOFTER, 1.0)
    return np.asarray(heldout["forces_predicted"] * scale[:, None])


def _soft_silicon(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
    labels = frozenset({"parity-96", "parity-216"} & set(evidence.products))
    if not labels:
        raise NotTested("no held-out forces to scale")
    planted = {label: {"forces_predicted": _softer_silicon} for label in labels}
    return evidence.with_fault(planted=planted), labels


def _bks_for_network(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
    swaps = {
        "parity-96": "parity-96-bks",
        "parity-216": "parity-216-bks",
        "liquid-96-nvt": "liquid-96-bks",
        "liquid-216-nvt": "liquid-216-bks",
        "liquid-216-nvt-96": "liquid-216-bks",
    }
    there = {label: source for label, source in swaps.items() if label in evidence and source in evidence}
    if not there:
        raise NotTested("this tier has no BKS to put in the network's place")
    # Of what BKS does without a thermostat there is no run; the network's own would be compared with it.
    faulty = evidence.with_fault(replaced=there, without=["liquid-96-nve"])
    return faulty, frozenset(there)


def _run_in_place(source: str) -> Callable[[Evidence], tuple[Evidence, frozenset[str]]]:
    """A faulty run put in the place of the honest one of its size."""

    def view(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
        n_atoms = evidence.observables(source)[0].facts["n_atoms"]
        label = f"liquid-{n_atoms}-nvt"
        evidence.directories(label)  # there must be an honest run to stand in for
        return evidence.with_fault(replaced={label: source}), frozenset({label})

    return view


FAULTS = (
    Fault("soft-silicon", "the forces on silicon are 10% too small", _soft_silicon),
    Fault("stretch", "every distance is 2% too long", _run_in_place("fault-stretch")),
    Fault("bks-for-network", "BKS stands in the network's place", _bks_for_network),
    Fault(
        "thermostat",
        "velocities are rescaled in place of a Nose-Hoover thermostat",
        _run_in_place("fault-thermostat"),
    ),
    Fault("hot", "the liquid declared 3000 K is 10% hotter", _run_in_place("fault-hot")),
)


def report_fault(fault: Fault, evidence: Evidence) -> FaultReport:
    """Judge every atom that the fault can reach, with and without it."""
    try:
        faulty, touched = fault.view(evidence)
    except (NotTested, Pending, SuiteError) as missing:
        return FaultReport(fault.name, fault.what, missing=missing)
    reached = [atom for atom in _claim_atoms() if touched & set(atom.needs)]
    results = {atom.id: evaluate(REGISTRY[atom.claim], atom, faulty) for atom in reached}
    verdicts = {atom_id: result.verdict for atom_id, result in results.items()}
    failing = [atom for atom in reached if verdicts[atom.id] is Verdict.FAIL]
    caught = [atom.id for atom in failing if _honest(evidence, atom).verdict in HOLDS]

    def could_catch(atom: Atom) -> bool:
        honest = _honest(evidence, atom)
        return honest.verdict in HOLDS and honest.value != results[atom.id].value

    if not caught and not any(map(could_catch, reached)):
        nothing = NotTested("nothing that this fault moves holds without it")
        return FaultReport(fault.name, fault.what, verdicts=verdicts, missing=nothing)
    return FaultReport(fault.name, fault.what, tuple(caught), verdicts)


def report_faults(evidence: Evidence) -> tuple[FaultReport, ...]:
    """Every planted fault over one body of evidence (claims and the report both ask)."""
    return evidence.once("faults", lambda: tuple(report_fault(fault, evidence) for fault in FAULTS))


def _honest(evidence: Evidence, atom: Atom) -> Result:
    return evidence.once(("result", atom.id), lambda: evaluate(REGISTRY[atom.claim], atom, evidence))


def _claim_atoms() -> list[Atom]:
    for module in CLAIM_MODULES:
        import_module(f"suite.test_{module}")
    return [atom for atom in load_claims() if atom.claim != FAULT_CLAIM and not atom.same_as]
