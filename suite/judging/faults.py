"""Planted faults: the same claims on evidence that is wrong in a known way.

A check that cannot fail proves nothing. A check catches a fault if it passes on the true evidence and fails
on the faulty evidence. Where it is INCONCLUSIVE on the true evidence, a FAIL may be chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from suite.judging.checks import Check, load_claims
from suite.judging.evaluate import REGISTRY, evaluate, honest_result
from suite.judging.evidence import Array, Evidence, Observation
from suite.judging.reasons import NotTested, Pending
from suite.judging.verdict import FAULT, Verdict

SOFTER = 0.9
TURN_DEG = 5.0


@dataclass(frozen=True)
class Fault:
    """A known error: `view` makes the faulty evidence and names the products that it changed."""

    name: str
    what: str
    view: Callable[[Evidence], tuple[Evidence, frozenset[str]]]


@dataclass(frozen=True)
class FaultReport:
    """Which checks caught a fault; `verdicts` are those on the faulty evidence, by check id.

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
            "verdicts": {check: str(verdict) for check, verdict in self.verdicts.items()},
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
        "motion-96-nvt": "motion-96-bks",
    }
    there = {label: source for label, source in swaps.items() if label in evidence and source in evidence}
    if not there:
        raise NotTested("this tier has no BKS to put in the NNP's place")
    # There is no run of BKS without a thermostat; the NNP's own run would be compared with BKS.
    faulty = evidence.with_fault(replaced=there, without=["liquid-96-nve"])
    return faulty, frozenset(there)


def _run_in_place(source: str) -> Callable[[Evidence], tuple[Evidence, frozenset[str]]]:
    """A faulty run put in the place of the honest one of its size."""

    def view(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
        n_atoms = evidence.observables(source)[0].facts["n_atoms"]
        label = f"liquid-{n_atoms}-nvt"
        evidence.directories(label)  # there must be an honest run to replace
        return evidence.with_fault(replaced={label: source}), frozenset({label})

    return view


def _paired(source: str) -> Callable[[Evidence], tuple[Evidence, frozenset[str]]]:
    """Faulty MD, or honest MD observed wrongly, on the NNP's side of the pairs."""

    def view(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
        label = "paired-96-nnp"
        evidence.directories(label)
        return evidence.with_fault(replaced={label: source}), frozenset({label})

    return view


def _turned(run: Observation) -> Array:
    """Si-O-Si angles that are too large, by a shift of their distribution."""
    density = np.atleast_2d(run["badf_Si-O-Si"])
    x = np.asarray(run["angle_deg"])
    return np.array([np.interp(x - TURN_DEG, x, row) for row in density])


def _turn(evidence: Evidence) -> tuple[Evidence, frozenset[str]]:
    labels = frozenset({"liquid-96-nvt", "liquid-216-nvt", "paired-96-nnp"} & set(evidence.products))
    if not labels:
        raise NotTested("no angles to shift")
    planted = {label: {"badf_Si-O-Si": _turned} for label in labels}
    return evidence.with_fault(planted=planted), labels


FAULTS = (
    Fault("soft-silicon", "the forces on silicon are 10% too small", _soft_silicon),
    Fault("stretch", "every distance is 2% too long", _run_in_place("fault-stretch")),
    Fault("bks-for-network", "BKS stands in the NNP's place", _bks_for_network),
    Fault(
        "thermostat",
        "velocities are rescaled in place of a Nose-Hoover thermostat",
        _run_in_place("fault-thermostat"),
    ),
    Fault("hot", "the liquid declared 3000 K is 10% hotter", _run_in_place("fault-hot")),
    Fault("paired-hot", "MD from AIMD's frames is 10% hotter than it says", _paired("paired-96-hot")),
    Fault("paired-soft", "all forces are 10% too small, from AIMD's frames on", _paired("paired-96-soft")),
    Fault("mass", "oxygen has the mass of its heavy isotope", _paired("paired-96-mass")),
    Fault("time-step", "the time step is three times AIMD's, 6 fs", _paired("paired-96-time-step")),
    Fault("density", "the box is 2% too dense", _paired("paired-96-density")),
    Fault("angle", f"Si-O-Si is {TURN_DEG:g} degrees too large", _turn),
    Fault("cut-off", "neighbours of silicon are counted to 1.75 A only", _paired("paired-96-cut-off")),
    Fault("overfitted", "the NNP was trained on a single frame", _paired("paired-96-overfitted")),
    Fault("paired-stretch", "every distance of the paired runs is 2% too long", _paired("paired-96-stretch")),
    Fault("paired-bks", "BKS stands in the NNP's place in the pairs", _paired("paired-96-bks")),
)


def report_fault(fault: Fault, evidence: Evidence) -> FaultReport:
    """Judge every check that the fault can reach, with and without it."""
    try:
        faulty, touched = fault.view(evidence)
    except (NotTested, Pending, SuiteError) as missing:
        return FaultReport(fault.name, fault.what, missing=missing)
    reached = [check for check in _checks_a_fault_may_reach() if touched & set(check.needs)]
    results = {check.id: evaluate(REGISTRY[check.claim], check, faulty) for check in reached}
    verdicts = {check_id: result.verdict for check_id, result in results.items()}
    failing = [check for check in reached if verdicts[check.id].outside]
    caught = [check.id for check in failing if honest_result(evidence, check).verdict is Verdict.PASS]

    def could_catch(check: Check) -> bool:
        honest = honest_result(evidence, check)
        return honest.verdict is Verdict.PASS and honest.value != results[check.id].value

    if not caught and not any(map(could_catch, reached)):
        nothing = NotTested("nothing that this fault moves passes without it")
        return FaultReport(fault.name, fault.what, verdicts=verdicts, missing=nothing)
    return FaultReport(fault.name, fault.what, tuple(caught), verdicts)


def report_faults(evidence: Evidence) -> tuple[FaultReport, ...]:
    """Every planted fault over one body of evidence (claims and the report both ask)."""
    return evidence.once("faults", lambda: tuple(report_fault(fault, evidence) for fault in FAULTS))


def _checks_a_fault_may_reach() -> list[Check]:
    return [check for check in load_claims() if check.category != FAULT and not check.same_as]
