"""Paired claims on synthetic pairs with known answers, and on the deposited ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import suite.claims  # noqa: F401 - fills REGISTRY
from suite.claims.fig1_rdf import rdf_reference
from suite.judging.against_aimd import by_draw
from suite.judging.checks import load_claims
from suite.judging.evaluate import held_out_checks, too_short
from suite.judging.evidence import Evidence
from suite.judging.verdict import Verdict
from tests.helpers.judging import judged
from tests.helpers.synthetic_evidence import write_heldout, write_observation

PAIRS = 6
SHARED = ("pbe-96-md-nnp-3000K/nnp-903-3000K", "pbe-96-md-nnp-3000K/nnp-904-3000K")


def side(root, name, *, networks=0.05, noise=0.05, runs=PAIRS, **changes):
    """Runs whose bond networks (a shift of all peaks, the same on every side) differ by 0.05 A."""
    shift = changes.pop("shift", 0.0)
    return [
        write_observation(
            root / f"{name}-{i}",
            seed=1000 + i + 100 * sum(map(ord, name)),
            shift=shift + networks * np.sin(3.0 * i),
            noise=noise,
            aimd_run=f"set/run-{i}",
            **changes,
        )
        for i in range(runs)
    ]


def evidence(root: Path, *, nnp=None, other=None, bks=None):
    wrong = {"shift": 0.1, "turn": 8.0, "stiffness": 0.8}
    return Evidence(
        {
            "paired-96-aimd": side(root, "aimd"),
            "paired-96-nnp": side(root, "nnp", **(nnp or {})),
            "paired-96-other": side(root, "other", **(other or {})),
            "paired-96-bks": side(root, "bks", **(wrong if bks is None else bks)),
        },
        tier="laptop",
    )


NETWORK = (
    "rdf-paired/96/Si-O/first-peak-position",
    "rdf-paired/96/O-O/first-peak-height",
    "rdf-paired/96/Si-O/curve",
    "badf-paired/96/Si-O-Si/mean",
    "badf-paired/96/O-Si-O/curve",
    "vaf-paired/O",
    "vaf-paired/Si/first-zero",
    "vdos-nnp-aimd/O",
    "coordination-paired/96",
)
RANKED = ("rdf-bks-paired/96/O-O/farther", "badf-bks-paired/96/Si-O-Si/farther", "vaf-bks-paired/O/farther")


def test_a_network_that_is_right_passes_though_its_runs_differ(tmp_path):
    found = evidence(tmp_path)
    assert {check: judged(found, check).verdict for check in NETWORK} == dict.fromkeys(NETWORK, Verdict.PASS)
    for check in (*RANKED, "rdf-96-216-paired/96/Si-O", "iterate/liquid/vaf-O"):
        assert judged(found, check).verdict is Verdict.PASS, check
    assert {judged(found, check).comparison_kind for check in NETWORK} == {"paired"}


def test_what_the_runs_differ_by_leaves_the_difference(tmp_path):
    """Unpaired, the same runs do not know the O-O position to 0.02 A; paired they do."""
    found = judged(evidence(tmp_path), "rdf-paired/96/O-O/first-peak-position")
    assert found.ci_high - found.ci_low < 0.02


def test_a_bks_that_heats_up_is_said_to(tmp_path):
    checks = (*RANKED, "rdf-bks-paired/96/Si-O/same-qualitatively", "msd-paired/O/bks-farther")
    hot = evidence(tmp_path, bks={"shift": 0.1, "turn": 8.0, "stiffness": 0.8, "temperature_K": 3600.0})
    for check in (*checks, "rdf-96-216-paired/96/Si-O"):
        assert "K: part of its distance is heat" in judged(hot, check).reason, check
    assert re.search(r"BKS is at 3[56]\d\d K here, AIMD at (29|30)\d\d K", judged(hot, RANKED[0]).reason)
    even = evidence(tmp_path / "even")
    assert "heat" not in "".join(judged(even, check).reason for check in checks)


def test_a_network_that_is_wrong_fails(tmp_path):
    found = evidence(tmp_path, nnp={"shift": 0.06, "turn": 6.0, "stiffness": 0.7})
    failed = {check for check in NETWORK if judged(found, check).verdict is Verdict.FAIL}
    assert failed >= set(NETWORK) - {"rdf-paired/96/O-O/first-peak-height", "coordination-paired/96"}


def test_networks_that_differ_are_not_almost_the_same(tmp_path):
    found = evidence(tmp_path, other={"shift": 0.08, "stiffness": 0.75})
    assert judged(found, "rdf-96-216-paired/96/Si-O").verdict is Verdict.FAIL
    assert judged(found, "iterate/liquid/vaf-O").verdict is Verdict.FAIL


def test_one_potential_for_both_is_no_comparison(tmp_path):
    found = evidence(tmp_path)
    one = Evidence({**found.products, "paired-96-other": found.products["paired-96-nnp"]}, tier="laptop")
    assert "one potential stands for both" in judged(one, "rdf-96-216-paired/96/Si-O").reason


def test_a_side_without_its_partner_and_too_few_pairs_say_so(tmp_path):
    found = evidence(tmp_path)
    short = {**found.products, "paired-96-nnp": found.products["paired-96-nnp"][:-1]}
    reason = judged(Evidence(short, tier="laptop"), NETWORK[0]).reason
    assert reason == f"paired-96-nnp has no run that starts from set/run-{PAIRS - 1}"
    few = {label: paths[:3] for label, paths in found.products.items()}
    assert "3 pairs: an error bar needs at least 4" in judged(Evidence(few, tier="laptop"), NETWORK[0]).reason


def test_partners_are_found_by_their_aimd_run_not_by_place(tmp_path):
    found = evidence(tmp_path)
    turned = {**found.products, "paired-96-nnp": found.products["paired-96-nnp"][::-1]}
    for check in NETWORK[:2]:
        assert judged(Evidence(turned, tier="laptop"), check).value == judged(found, check).value


def test_runs_that_share_a_noise_are_one_unit_at_equilibrium(tmp_path):
    runs = [
        *(write_observation(tmp_path / name[-9:-6], seed=k, aimd_run=name) for k, name in enumerate(SHARED)),
        write_observation(tmp_path / "own", seed=5, aimd_run="set/own"),
        write_observation(tmp_path / "unnamed", seed=6),
    ]
    observations = Evidence({"a": runs}).observables("a")
    groups = [np.full((2, 3), float(k)) for k in range(4)]
    assert [len(group) for group in by_draw(groups, observations)] == [4, 2, 2]


def test_a_noise_that_runs_of_both_starts_share_is_one_unit_of_the_reference(tmp_path):
    def runs(start, names):
        return [
            write_observation(tmp_path / f"{start}-{seed}", seed=10 * len(start) + seed, aimd_run=name)
            for seed, name in enumerate(names)
        ]

    found = Evidence(
        {
            "liquid-96-nvt": [write_observation(tmp_path / "liquid", seed=99)],
            "reference-96-nnp": runs("nnp", [*SHARED, "set/1", "set/2", "set/3"]),
            "reference-96-bks": runs("bks", ["pbe-96-md-bks-3000K/bks-901-3000K", "set/4"]),
        }
    )
    aimd = rdf_reference(found, size=96, pair="Si-O", measure="first-peak-position", band=(-1.0, 1.0))
    assert [len(group) // 8 for group in aimd.groups] == [3, 1, 1, 1, 1], (
        "runs in each unit, of 8 blocks each"
    )


def test_a_short_training_is_not_the_papers_fault(tmp_path):
    """Where held-out forces are wrong, a FAIL against AIMD is the training's."""
    found = evidence(tmp_path, nnp={"shift": 0.06})
    check = "rdf-paired/96/Si-O/first-peak-position"

    def short(**heldout):
        products = dict(found.products)
        if heldout:
            products["parity-96"] = [write_heldout(tmp_path / "parity" / str(heldout), **heldout)]
        about = {"tier": "laptop", "short_training": {"96": "300 steps in place of our 1000000"}}
        return judged(Evidence(products, **about), check)

    assert judged(found, check).verdict is Verdict.FAIL
    assert short().verdict is Verdict.FAIL, "what nobody looked at excuses nothing"
    assert short(error=0.1).verdict is Verdict.FAIL, "nor does a training that was long enough"
    result = short(error=0.8)
    assert result.verdict is Verdict.TOO_SHORT
    assert "300 steps in place of our 1000000" in result.reason
    assert result.as_json()["class"] == "supplementary"
    assert json.dumps(result.as_json())


def test_only_held_out_forces_measure_the_training_itself(tmp_path):
    """Energies that stay wrong where more steps change nothing are no short training's."""
    errors = {"good": 0.1, "bad": 0.8}
    products = {
        name: [write_heldout(tmp_path / name, error=error, per_atom=0.05)] for name, error in errors.items()
    }
    for name, force, energy in (("good", Verdict.PASS, Verdict.FAIL), ("bad", *2 * [Verdict.TOO_SHORT])):
        found = Evidence({"parity-96": products[name]}, tier="laptop", short_training={"96": "300 steps"})
        assert judged(found, "parity/96/force").verdict is force
        assert judged(found, "parity/96/energy").verdict is energy


def test_a_short_training_of_an_hdnnp_is_told_in_its_own_words(tmp_path):
    short = {"96": "300 steps", "hdnnp": "50 updates in place of our 10000"}
    (check,) = (one for one in load_claims() if one.id == "n2p2-same/held-out-forces")
    reason = too_short(check, Evidence({}, tier="laptop", short_training=short))
    assert reason == "this measures the training, which was short: 50 updates in place of our 10000"


@pytest.mark.parametrize(
    ("check", "forces"),
    [
        ("rdf-paired/96/Si-O/first-peak-position", ["parity/96/force"]),
        ("rdf-paired/216/Si-O/first-peak-position", ["parity/216/force"]),
        ("msd-reach/O/onset", ["parity/96/force"]),
        ("iterate/liquid/vaf-O", ["parity/96/force", "parity/216/force"]),
        ("n2p2-same/Si-O", ["parity/96/force", "n2p2-same/held-out-forces"]),
        ("n2p2-stability/broken-runs/3000", ["parity/96/force", "n2p2-same/held-out-forces"]),
        ("n2p2-stability/out-of-range/3000", ["n2p2-same/held-out-forces"]),
        ("rdf-bks/96/Si-O/same-qualitatively", []),
        ("vaf-bks-paired/O/same-qualitatively", []),
        ("vaf-bks/O/farther", ["parity/96/force"]),
        ("parity/96/force", []),
        ("parity/216/energy", ["parity/216/force"]),
        ("inherited/96/Si-O", []),
    ],
)
def test_a_training_is_blamed_only_for_what_its_network_moved(check, forces):
    found = next(one for one in load_claims() if one.id == check)
    assert [one.id for one in held_out_checks(found)] == forces
