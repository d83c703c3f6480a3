"""The other kind of network in campaigns and claims: labels, starts that are shared, and what breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import suite.claims  # noqa: F401 - fills REGISTRY
from jobs.base.errors import SuiteError
from jobs.campaign.build import build_campaign
from jobs.campaign.tier import TIERS, read_tier
from jobs.engines.hdnnp.n2p2_files import write_network
from suite.judging.evidence import Evidence
from suite.judging.reasons import NotTested
from suite.judging.statistics import difference_of_shares
from suite.judging.verdict import Verdict
from tests.helpers.hdnnp_tools import random_network
from tests.helpers.judging import judged
from tests.helpers.synthetic_evidence import replicas, write_heldout

# -- campaigns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["laptop", "overnight"])
def test_it_learns_from_what_deepmd_96_learns_from(tier: str) -> None:
    campaign = build_campaign(tier)
    (dataset,) = {stage.inputs["dataset"].name for stage in campaign.labels["train-hdnnp-96"]}
    assert {dataset} == {stage.inputs["dataset"].name for stage in campaign.labels["train-96"]}
    seeds = [stage.seed for stage in campaign.labels["train-hdnnp-96"]]
    assert seeds == read_tier(tier).hdnnp.seeds
    for judged_by, trained in zip(
        campaign.labels["parity-hdnnp-96"], campaign.labels["train-hdnnp-96"], strict=True
    ):
        assert judged_by.inputs["potential"].name == trained.name
        assert judged_by.inputs["dataset"].name == dataset


@pytest.mark.parametrize("tier", ["laptop", "overnight", "paper"])
@pytest.mark.parametrize("kelvin", [5000, 4000, 3000])
def test_both_kinds_start_from_the_same_states_of_neither(tier: str, kelvin: int) -> None:
    runs = build_campaign(tier).runs
    label = f"stability-hdnnp@{kelvin}"
    if tier == "laptop" and kelvin < 5000:
        assert label not in runs
        return
    for ours, theirs in zip(runs[f"stability-deepmd@{kelvin}"], runs[label], strict=True):
        assert ours.inputs["start"].name == theirs.inputs["start"].name
        assert theirs.inputs["start"].parameters["potential"] == "bks"
        assert (ours.parameters, ours.seed) == (theirs.parameters, theirs.seed)
        steps = theirs.parameters["schedule"][-1]
        assert (steps["temperature_K"], steps["steps"]) == (kelvin, 20000)
        assert theirs.parameters["timestep_fs"] == 1.0


@pytest.mark.parametrize("tier", ["laptop", "overnight", "paper"])
def test_liquids_are_paired(tier: str) -> None:
    runs = build_campaign(tier).runs
    assert 4 <= len(runs["liquid-96-hdnnp"]) <= len(runs["liquid-96-nvt"])
    for ours, theirs in zip(runs["liquid-96-nvt"], runs["liquid-96-hdnnp"], strict=False):
        assert ours.inputs["start"].name == theirs.inputs["start"].name
        assert ours.parameters == theirs.parameters


def test_a_tier_that_runs_it_must_train_it(tmp_path: Path) -> None:
    tier = yaml.safe_load((TIERS / "laptop.yml").read_text())
    del tier["hdnnp"]
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(tier, sort_keys=False))
    with pytest.raises(SuiteError, match=r"runs\.liquid-96-hdnnp: found hdnnp-96, expected a section hdnnp"):
        build_campaign(str(path))


def test_a_potential_of_ones_own_takes_the_place_of_both_kinds(tmp_path: Path) -> None:
    """A folder of n2p2's files as `--potential`: known by its files, wherever it lies."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_network(random_network(), tmp_path / folder, comment="a test's")
    campaigns = [build_campaign("laptop", potential=tmp_path / folder) for folder in ("one", "two")]
    one, two = (campaign.runs["liquid-96-nvt"][0].inputs["potential"] for campaign in campaigns)
    assert (one.kind, one.parameters["family"]) == ("potential", "hdnnp")
    assert one.parameters["sha256"] == two.parameters["sha256"]
    assert "judged in place" in campaigns[0].unavailable["liquid-96-hdnnp"]
    (tmp_path / "two/weights.008.data").write_text("1.0\n")
    changed = build_campaign("laptop", potential=tmp_path / "two").runs["liquid-96-nvt"][0]
    assert changed.inputs["potential"].parameters["sha256"] != one.parameters["sha256"]
    with pytest.raises(SuiteError, match=r"nothing: not found, expected .* a folder with n2p2's input\.nn"):
        build_campaign("laptop", potential=tmp_path / "nothing")


# -- claims -----------------------------------------------------------------------------------------


def runs(root: Path, name: str, broken: int, whole: int, *, warnings: float = 0.0) -> list[Path]:
    """Observations of which some have fused atoms: g(r) begins at 0.5 A."""
    found = replicas(root, name, broken + whole, seed=len(name), extrapolation_warnings_per_step=warnings)
    for path in found[:broken]:
        with np.load(path / "observables.npz") as content:
            arrays = dict(content)
        arrays["rdf_O-O"][:, np.searchsorted(arrays["rdf_r"], 0.5)] = 0.1
        np.savez(path / "observables.npz", **arrays)
    return found


@pytest.mark.parametrize(
    ("hdnnp", "deepmd", "verdict"),
    [
        ((4, 0), (0, 4), Verdict.PASS),
        ((6, 6), (0, 12), Verdict.PASS),
        ((0, 4), (0, 4), Verdict.INCONCLUSIVE),
        ((2, 10), (1, 11), Verdict.INCONCLUSIVE),
        ((0, 12), (8, 4), Verdict.FAIL),
    ],
)
def test_more_broken_runs_are_told_from_chance(
    tmp_path: Path, hdnnp: tuple[int, int], deepmd: tuple[int, int], verdict: Verdict
) -> None:
    products = {
        "stability-hdnnp@5000": runs(tmp_path, "hdnnp", *hdnnp),
        "stability-deepmd@5000": runs(tmp_path, "deepmd", *deepmd),
    }
    result = judged(Evidence(products, tier="laptop"), "n2p2-stability/broken-runs/5000")
    assert result.verdict == verdict
    assert result.value == pytest.approx(hdnnp[0] / sum(hdnnp) - deepmd[0] / sum(deepmd))


def test_warnings_are_counted_where_nothing_broke(tmp_path: Path) -> None:
    whole = runs(tmp_path, "whole", 0, 4, warnings=0.05)
    broken = runs(tmp_path, "broken", 2, 0, warnings=30.0)
    result = judged(
        Evidence({"stability-hdnnp@5000": whole + broken}, tier="laptop"), "n2p2-stability/out-of-range/5000"
    )
    assert (result.verdict, result.value) == (Verdict.PASS, pytest.approx(0.05))
    result = judged(
        Evidence({"stability-hdnnp@5000": broken + whole[:1]}, tier="laptop"),
        "n2p2-stability/out-of-range/5000",
    )
    assert result.verdict == Verdict.NOT_TESTED
    assert "in 2 of 3 runs atoms fused" in result.reason


@pytest.mark.parametrize(("error", "verdict"), [(0.2, Verdict.PASS), (0.5, Verdict.FAIL)])
def test_held_out_forces_are_nearly_as_good(tmp_path: Path, error: float, verdict: Verdict) -> None:
    products = {
        "parity-96": [write_heldout(tmp_path / "deepmd", error=0.25, seed=1)],
        "parity-hdnnp-96": [
            write_heldout(tmp_path / f"hdnnp-{n}", error=error, seed=2 + n) for n in range(2)
        ],
    }
    result = judged(Evidence(products, tier="laptop"), "n2p2-same/held-out-forces")
    assert result.verdict == verdict
    assert result.value == pytest.approx(error / 0.25, rel=0.05)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, Verdict.PASS), (0.15, Verdict.FAIL)])
def test_nearly_the_same_liquid(tmp_path: Path, shift: float, verdict: Verdict) -> None:
    products = {
        "liquid-96-nvt": replicas(tmp_path, "deepmd", 4, seed=1),
        "liquid-96-hdnnp": replicas(tmp_path, "hdnnp", 4, seed=11, shift=shift),
    }
    assert judged(Evidence(products, tier="laptop"), "n2p2-same/Si-O").verdict == verdict


def test_the_interval_of_a_difference_of_shares_covers() -> None:
    """Of two shares 0.3 apart, 95% intervals hold the truth in at least 92% of many trials of 10 runs."""
    random = np.random.default_rng(5)
    trials = [(random.random(10) < 0.4, random.random(10) < 0.1) for _ in range(2000)]
    found = [difference_of_shares(list(one), list(other)) for one, other in trials]
    assert 0.92 < np.mean([one.ci_low <= 0.3 <= one.ci_high for one in found]) < 0.995


def test_newcombes_own_example() -> None:
    """Stat. Med. 17, 873 (1998), Table II: 56/70 less 48/80, method 10: 0.0524 to 0.3339."""
    found = difference_of_shares([True] * 56 + [False] * 14, [True] * 48 + [False] * 32)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    with pytest.raises(NotTested, match="1 runs: two of either kind are needed"):
        difference_of_shares([True], [False, False])


@pytest.mark.parametrize(
    ("broken", "left", "verdict"),
    [(0, 12, Verdict.PASS), (1, 11, Verdict.PASS), (2, 10, Verdict.FAIL), (12, 12, Verdict.FAIL)],
)
def test_a_run_whose_atoms_fused_is_left_out_and_counted(
    tmp_path: Path, broken: int, left: int, verdict: Verdict
) -> None:
    products = {"liquid-96-nvt": runs(tmp_path, "liquid", broken, 12 - broken)}
    evidence = Evidence(products, tier="laptop")
    result = judged(evidence, "precondition/fused-atoms/liquid-96-nvt")
    assert result.value == pytest.approx(broken / 12)
    assert result.verdict == verdict
    kept = evidence.observables("liquid-96-nvt")
    assert len(kept) == left  # all, where none is whole
    assert len(evidence.every_run("liquid-96-nvt")) == 12
    assert evidence.replicas_of("liquid-96-nvt") == list(range(13 - left, 13))
    simulated = evidence.with_drawn({"liquid-96-nvt": kept})
    assert simulated.replicas_of("liquid-96-nvt") == list(range(13 - left, 13))
