from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import suite.claims  # noqa: F401 - fills REGISTRY
from suite.judging.checks import load_claims
from suite.judging.evaluate import REGISTRY, evaluate
from suite.judging.evidence import Evidence
from suite.judging.faults import FAULTS, report_faults
from suite.judging.verdict import Verdict
from tests.helpers.synthetic_evidence import replicas, with_motion, write_heldout, write_training


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Evidence:
    """What the laptop tier has today: both potentials and BKS, no AIMD as a reference."""
    root: Path = tmp_path_factory.mktemp("products")
    bks = {"shift": 0.02, "turn": 6.0, "stiffness": 0.85}
    products = {
        "train-96": [write_training(root / "t96")],
        "train-216": [write_training(root / "t216")],
        "parity-96": [write_heldout(root / "p96", error=0.25, seed=1)],
        "parity-216": [write_heldout(root / "p216", error=0.25, seed=2)],
        "parity-96-bks": [write_heldout(root / "pbks", error=1.3, seed=3)],
        "liquid-96-nvt": replicas(root, "nvt", 4, seed=10),
        "liquid-96-nve": replicas(root, "nve", 4, seed=20),
        "liquid-96-bks": replicas(root, "bks", 4, seed=30, **bks),
        "liquid-216-nvt": replicas(root, "nvt216", 2, seed=40, n_atoms=216),
        "liquid-216-bks": replicas(root, "bks216", 2, seed=50, n_atoms=216, **bks),
        "fault-stretch": replicas(root, "stretched", 2, seed=80, n_atoms=216, shift=0.02 * 1.637),
        "fault-hot": replicas(root, "hot", 2, seed=60, temperature_K=3300.0),
        "fault-thermostat": replicas(root, "rescaled", 2, seed=70, fluctuation=0.3),
    }
    return Evidence(with_motion(products), tier="laptop")


def test_nothing_fails_on_honest_evidence(laptop):
    results = [
        evaluate(REGISTRY[check.claim], check, laptop) for check in load_claims() if check.claim != "fault"
    ]
    assert not [(r.id, r.reason) for r in results if r.verdict in (Verdict.FAIL, Verdict.ERROR)]
    assert sum(r.verdict is Verdict.PASS for r in results) > 40


@pytest.mark.parametrize(
    ("name", "catcher"),
    [
        ("soft-silicon", "parity/96/force-scale-Si"),
        ("stretch", "precondition/si-o-bond/liquid-216-nvt"),
        ("bks-for-network", "parity/96/bks-ratio"),
        ("thermostat", "precondition/kinetic-energy/liquid-96-nvt"),
        ("hot", "precondition/temperature/liquid-96-nvt"),
    ],
)
def test_each_fault_is_caught_by_the_claim_that_is_about_it(laptop, name, catcher):
    report = next(report for report in report_faults(laptop) if report.fault == name)
    assert catcher in report.caught_by
    assert set(report.caught_by) <= set(report.verdicts)
    assert Verdict.ERROR not in report.verdicts.values()
    assert report.as_json()["verdicts"][catcher] == "FAIL"


def test_a_fault_leaves_other_claims_alone(laptop):
    report = next(report for report in report_faults(laptop) if report.fault == "soft-silicon")
    assert "parity/96/force-scale-O" not in report.caught_by
    allowed = ("parity", "rdf-96", "badf-96", "iterate", "glass-216", "n2p2-same/held-out")
    assert [check for check in report.verdicts if not check.startswith(allowed)] == []


def test_the_claim_about_faults_passes(laptop):
    checks = [check for check in load_claims() if check.claim == "fault"]
    assert {check["fault"] for check in checks} == {fault.name for fault in FAULTS}
    found = {check["fault"]: evaluate(REGISTRY["fault"], check, laptop) for check in checks}
    planted = {"soft-silicon", "stretch", "bks-for-network", "thermostat", "hot"}
    assert {fault for fault, result in found.items() if result.verdict is Verdict.PASS} == planted
    assert {result.verdict for fault, result in found.items() if fault not in planted} == {Verdict.NOT_TESTED}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "thermostat",
            "caught by the paper's claims: none; supplementary checks: none; "
            "preconditions: precondition/kinetic-energy/liquid-96-nvt",
        ),
        (
            "soft-silicon",
            "caught by the paper's claims: none; "
            "supplementary checks: parity/96/force-scale-Si, parity/216/force-scale-Si; preconditions: none",
        ),
    ],
)
def test_a_fault_says_whether_claims_of_the_paper_see_it(laptop, name, reason):
    check = next(check for check in load_claims() if check.id == f"fault/{name}")
    assert evaluate(REGISTRY["fault"], check, laptop).reason == reason


def test_a_potential_of_which_nothing_holds_can_catch_nothing(laptop, tmp_path):
    """Its numbers fail with and without the fault: that says nothing about the claims."""
    bad = write_heldout(tmp_path / "bad")
    arrays = dict(np.load(bad / "heldout.npz"))
    arrays["forces_predicted"] *= 0.5
    np.savez(bad / "heldout.npz", **arrays)
    evidence = Evidence({"parity-96": [bad]}, tier="laptop")
    report = next(report for report in report_faults(evidence) if report.fault == "soft-silicon")
    assert report.reason == "nothing that this fault moves passes without it"
    check = next(a for a in load_claims() if a.claim == "fault" and a["fault"] == "soft-silicon")
    assert evaluate(REGISTRY["fault"], check, evidence).verdict is Verdict.NOT_TESTED


def test_bks_in_the_networks_place_is_not_compared_with_the_network(laptop):
    report = next(report for report in report_faults(laptop) if report.fault == "bks-for-network")
    compared = [check for check in report.verdicts if check.startswith("vaf-nve-nvt")]
    assert {report.verdicts[check] for check in compared} <= {Verdict.NOT_TESTED}


def test_faults_are_judged_once_for_all_claims(laptop, monkeypatch):
    evidence = Evidence(laptop.products, tier="laptop")
    planted = []
    counted = [
        replace(fault, view=lambda found, fault=fault: planted.append(fault.name) or fault.view(found))
        for fault in FAULTS
    ]
    monkeypatch.setattr("suite.judging.faults.FAULTS", counted)
    for check in load_claims():
        if check.claim == "fault":
            evaluate(REGISTRY["fault"], check, evidence)
    report_faults(evidence)
    assert sorted(planted) == sorted(fault.name for fault in FAULTS)


def test_a_fault_that_cannot_be_planted_says_why():
    reports = {report.fault: report for report in report_faults(Evidence({}, tier="laptop"))}
    assert all(report.reason and not report.caught_by for report in reports.values())
    assert reports["soft-silicon"].reason == "no held-out forces to scale"
    assert reports["angle"].reason == "no angles to shift"
    assert reports["bks-for-network"].reason == "this tier has no BKS to put in the NNP's place"
    assert reports["hot"].reason == "this tier has no fault-hot"


def test_a_fault_whose_run_waits_or_broke_leaves_the_others_their_report(laptop):
    hot = next(check for check in load_claims() if check.claim == "fault" and check["fault"] == "hot")
    products = {label: paths for label, paths in laptop.products.items() if label != "fault-hot"}
    for state, verdict in (("pending", Verdict.PENDING), ("broken", Verdict.ERROR)):
        evidence = Evidence(products, tier="laptop", **{state: {"fault-hot": "job 17"}})
        reports = {report.fault: report for report in report_faults(evidence)}
        assert reports["hot"].reason == "job 17"
        assert reports["stretch"].caught_by
        assert evaluate(REGISTRY["fault"], hot, evidence).verdict is verdict
