"""The learning curve: what is planned, and one that is really trained, on the smallest scale."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.campaign.build import build_campaign
from jobs.running import local
from jobs.store.store import Store
from jobs.store.todo import in_order
from suite.claims.method import small_data
from suite.judging.checks import load_claims
from suite.judging.evaluate import evaluate
from suite.judging.evidence import Evidence
from suite.judging.verdict import Verdict
from suite.report.accuracy_figures import learning_curve

TINY = Path(__file__).parents[1] / "helpers" / "tiny.yml"


def tier_file(folder: Path, **curve) -> str:
    content = yaml.safe_load(TINY.read_text())
    content["training"] |= {"steps": 120, "checkpoint_every": 50, "decay_steps": 10}
    content["learning_curve"] = {
        "seeds": [1], "shares": [0.5, 1], "precisions": ["float32"], "steps": [120]
    } | curve  # fmt: skip
    path = folder / "curve.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def test_points_share_their_held_out_frames_and_the_tiers_own_training():
    campaign = build_campaign("overnight")
    points = campaign.labels["learning-curve"]
    shares = Counter(
        point.inputs["potential"].inputs["dataset"].parameters["max_train_frames"] for point in points
    )
    assert shares == {0.25: 2, 0.5: 2, None: 2}
    assert len({point.inputs["dataset"].identity for point in points}) == 1
    own = {stage.identity for stage in campaign.labels["train-96"]}
    whole = {point.inputs["potential"].identity for point in points[-2:]}
    assert len(whole & own) == 2  # with all frames it is the tier's own training, made once
    draws = {stage.identity for stage in in_order(points) if stage.kind == "dataset"}
    assert len(draws) == 2 * 2 + 1  # each seed draws its own frames
    settings = [point.inputs["potential"] for point in campaign.labels["learning-curve-settings"]]
    kinds = Counter((stage.parameters["precision"], stage.parameters["steps"]) for stage in settings)
    assert kinds == dict.fromkeys(
        [("float32", 100000), ("float64", 25000), ("float32", 25000), ("float32", 50000)], 2
    )
    # However long, the learning rate passes through the same values.
    assert len({stage.parameters["steps"] / stage.parameters["decay_steps"] for stage in settings}) == 1


def test_a_tier_without_a_curve_says_so():
    assert (
        "the laptop tier trains no learning curve" in build_campaign("laptop").unavailable["learning-curve"]
    )
    given = build_campaign("overnight", start_from="potentials")
    assert "--start-from potentials" in given.unavailable["learning-curve"]


@pytest.mark.engine
def test_a_curve_that_is_really_trained(tmp_path):
    campaign = build_campaign(tier_file(tmp_path, steps=[60, 120], seeds=[1, 2]))
    store = Store(tmp_path / "store")
    labels = ["learning-curve", "learning-curve-settings"]
    local.run(campaign.select(labels), store).raise_for_failures()
    evidence = Evidence(
        {label: [store.path(stage.name) for stage in campaign.labels[label]] for label in labels},
        tier="overnight",
    )
    points = evidence.heldout("learning-curve")
    frames = sorted({point.facts["train_frames"] for point in points})
    assert len(frames) == 2
    assert frames[0] == round(frames[1] / 2)
    for point in points:
        assert (point.facts["precision"], point.facts["steps"]) == ("float32", 120)
        np.testing.assert_array_equal(point["energy_reference_eV"], points[0]["energy_reference_eV"])
    assert [point.facts["seed"] for point in points] == [1, 2, 1, 2]
    assert np.abs(points[0]["forces_predicted"] - points[2]["forces_predicted"]).max() > 1e-3
    # The claim is judged on these products as they are: the ratio of the errors of all seeds together.
    atom = next(atom for atom in load_claims() if atom.id == "small-data/last-doubling")
    atom = replace(atom, band=(None, 100.0))  # 120 steps are no training at its end
    result = evaluate(small_data, atom, evidence)
    assert result.verdict is Verdict.PASS, result.reason
    errors = {
        n: np.mean(
            [
                p.facts["heldout"]["all"]["force_rmse_eV_A"] ** 2
                for p in points
                if p.facts["train_frames"] == n
            ]
        )
        for n in frames
    }
    assert result.value == pytest.approx(np.sqrt(errors[frames[0]] / errors[frames[1]]), rel=1e-6)
    drawing = learning_curve(evidence)
    assert [panel.name for panel in drawing.panels] == [
        "learning-force",
        "learning-energy",
        "learning-settings",
    ]
    assert drawing.missing == ()
    training = store.path(campaign.labels["learning-curve"][0].inputs["potential"].name)
    assert json.loads((training / "train.json").read_text())["threads"] == 1
