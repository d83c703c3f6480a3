"""Deposited trajectories: what thinning leaves, what stands in for what, and every refusal."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.base.trajectory import open_trajectory
from jobs.campaign import build as campaigns
from jobs.campaign import promote
from jobs.campaign.build import build_campaign
from jobs.campaign.promote import MAX_BYTES, deposit_trajectories
from jobs.campaign.tier import TIERS
from jobs.reference.trajectories import (
    PAIRED,
    QUANTA,
    RECORD,
    TRAJECTORIES,
    changed_trajectories,
    open_thin,
    thin_trajectories,
    write_thin,
)
from jobs.store.store import Store
from tests.base.test_trajectory import write_md
from tests.cli.test_starts import RUN, TINY, command
from tests.stages.test_observe import observed, product, vibrating  # noqa: F401 - fixtures


def thinned(source: Path, path: Path):
    write_thin(path, open_trajectory(source))
    return open_thin(path, sha256=file_sha256(path))


def test_every_value_is_rounded_by_itself(tmp_path):
    """Atoms that collide, cross the box many times and never stop: no error grows with time."""
    rng = np.random.default_rng(0)
    velocities = 0.02 * np.cumsum(rng.normal(size=(2000, 30, 3)), axis=0) / 30 + 0.01
    positions = 5 + np.cumsum(velocities, axis=0) * 2.0
    types, cell = np.arange(30) % 2, np.array([12.0, 13.0, 14.0])
    run = write_md(tmp_path / "md", positions, velocities, types, cell, timestep_fs=1.0, dump_every=2)
    kept = thinned(run, tmp_path / "thin.npz")
    assert kept.time_between_frames_fs == 4.0
    assert np.ptp(positions, axis=0).max() > 3 * cell.max()
    moved = np.abs(kept.positions(0, 1000) - positions[::2])
    assert moved.max() <= QUANTA["positions_A"] / 2 * 1.001
    assert np.abs(kept.velocities(0, 1000) - velocities[::2]).max() <= QUANTA["velocities_A_fs"] / 2 * 1.001
    np.testing.assert_array_equal(kept.types, types)
    np.testing.assert_array_equal(kept.cell, cell)
    # The run's own table, from the frame on that is asked for.
    np.testing.assert_array_equal(kept.thermo(100)["step"], open_trajectory(run).thermo(200)["step"])
    assert kept.thermo(100)["step"][0] == 1000 + 400


def test_frames_far_apart_are_kept_without_their_integral(tmp_path):
    """Over picoseconds an atom's velocity says nothing of where it goes: no leap, and the same rounding."""
    rng = np.random.default_rng(1)
    positions = 5 + np.cumsum(rng.normal(scale=0.5, size=(60, 30, 3)), axis=0)
    velocities = rng.normal(scale=0.02, size=positions.shape)
    types, cell = np.arange(30) % 2, np.array([12.0, 13.0, 14.0])
    run = write_md(tmp_path / "md", positions, velocities, types, cell, timestep_fs=2.0, dump_every=1000)
    write_thin(tmp_path / "thin.npz", open_trajectory(run), spacing_fs=4000.0)
    kept = open_thin(tmp_path / "thin.npz", sha256=file_sha256(tmp_path / "thin.npz"))
    assert (kept.n_frames, kept.time_between_frames_fs) == (30, 4000.0)
    moved = np.abs(kept.positions(0, 30) - positions[::2])
    assert moved.max() <= QUANTA["positions_A"] / 2 * 1.001


def test_a_slow_dump_is_kept_frame_by_frame(tmp_path, vibrating):  # noqa: F811
    run = write_md(tmp_path / "md", *vibrating, timestep_fs=2.0, dump_every=5)
    kept = thinned(run, tmp_path / "thin.npz")
    assert (kept.n_frames, kept.time_between_frames_fs) == (210, 10.0)


def test_what_is_observed_is_what_the_run_itself_gives(tmp_path, product):  # noqa: F811
    whole, about = observed(tmp_path, product, skip_frames=0)
    path = tmp_path / "thin.npz"
    write_thin(path, open_trajectory(product))
    given = {"file": str(path), "sha256": file_sha256(path), "skip_frames": 0}
    less, facts = observed(tmp_path, None, name="thin", **given)
    changed = {"frames", "block_frames", "dump_every", "time_between_frames_fs", "diffusion", "counts"}
    assert {k: v for k, v in facts.items() if k not in changed | {"skip_frames", "structure_stride"}} == {
        k: v for k, v in about.items() if k not in changed | {"skip_frames", "structure_stride"}
    }
    assert facts["frames"] * facts["time_between_frames_fs"] == pytest.approx(416)
    np.testing.assert_array_equal(less["coordination_SiO"], whole["coordination_SiO"])
    np.testing.assert_allclose(less["temperature_K"], whole["temperature_K"], rtol=1e-3)
    np.testing.assert_allclose(less["thermo_total_eV"].mean(), whole["thermo_total_eV"].mean())
    # Equal at the lags they share, but for the origins and the rounding.
    np.testing.assert_array_equal(less["vaf_time_fs"], whole["vaf_time_fs"][::2])
    np.testing.assert_allclose(less["vaf_O"], whole["vaf_O"][:, ::2], atol=0.02)
    shared, at, there = np.intersect1d(less["msd_time_fs"], whole["msd_time_fs"], return_indices=True)
    assert len(shared) > 5
    np.testing.assert_allclose(
        less["msd_Si"].mean(axis=0)[at], whole["msd_Si"].mean(axis=0)[there], atol=1e-3
    )


def test_a_leap_is_refused(tmp_path, vibrating):  # noqa: F811
    positions, velocities, types, cell = vibrating
    positions[100, 3] += 40.0
    run = write_md(tmp_path / "md", positions, velocities, types, cell)
    with pytest.raises(SuiteError, match=r"trajectory.lmpbin: found an atom that leaps \d+ quanta, expected"):
        write_thin(tmp_path / "thin.npz", open_trajectory(run))


TIER = {
    **TINY,
    "cost": {"launches": 1, "sizes": {"tersoff": [96]}},
    "runs": {
        "hot": {**RUN, "schedule": [[4000, 100]]},
        "liquid-96-bks": {
            **{key: value for key, value in RUN.items() if key not in ("atoms", "observe")},
            "start": "hot",
            "schedule": [[3000, 200]],
            "dump_every": 2,
            "observables": {"blocks": 2, "dynamics_max_fs": 50.0},
        },
        "again": {"again": "liquid-96-bks", "observables": {"blocks": 2, "stretch": 1.02}},
    },
}  # fmt: skip


@pytest.fixture
def tier(tmp_path):
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(TIER, sort_keys=False))
    return path


@pytest.mark.engine
def test_deposited_md_is_observed_in_place_of_new_md(tier, tmp_path, monkeypatch, capsys):
    store, root = tmp_path / "store", tmp_path / "trajectories"
    computed = build_campaign(str(tier))
    with pytest.raises(SuiteError, match=r"found none of the 2 runs of tier tiny, expected some: python -m"):
        deposit_trajectories(computed, Store(store), root=root)
    assert command("run", "--tier", tier, "--only", "liquid-96-bks", "--store", store) == 0
    assert deposit_trajectories(computed, Store(store), root=root) == root / "tiny"
    assert [path.name for path in root.iterdir()] == ["tiny"]
    assert list(changed_trajectories(root=root)) == []

    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=root))
    given = build_campaign(str(tier), start_from="trajectories")
    assert given.results_name == "tiny-trajectories"
    assert any(
        line.startswith("cost: timed on ") and line.endswith(", deposited") for line in given.deviations
    )
    assert any(line.startswith("MD is deposited, of 20") for line in given.deviations)
    fresh = tmp_path / "fresh"
    capsys.readouterr()
    only = ("--only", "liquid-96-bks", "--only", "again", "--only", "cost")
    assert command("run", "--tier", tier, "--start-from", "trajectories", *only, "--store", fresh) == 0
    records = given.labels["cost"]
    assert f"made {4 + len(records)} stages" in capsys.readouterr().out  # two runs, observed twice
    for stage in records:  # nothing is timed: the deposited records stand in
        kept = (fresh / stage.name / "cost.json").read_bytes()
        assert kept == Path(stage.parameters["file"]).read_bytes()
    for new, old in zip(given.labels["liquid-96-bks"], computed.labels["liquid-96-bks"], strict=True):
        with (
            np.load(fresh / new.name / "observables.npz") as less,
            np.load(store / old.name / "observables.npz") as whole,
        ):
            np.testing.assert_allclose(less["temperature_K"].mean(), whole["temperature_K"].mean(), rtol=0.02)
            np.testing.assert_array_equal(less["rdf_r"], whole["rdf_r"])
            assert np.abs(less["vaf_O"][:, 1] - whole["vaf_O"][:, 2]).max() < 0.03

    # A deposit stands in only for what a run would do now, its starts included; what was changed is refused.
    other = {**TIER, "runs": {**TIER["runs"], "hot": {**TIER["runs"]["hot"], "schedule": [[4000, 200]]}}}
    tier.write_text(yaml.safe_dump(other, sort_keys=False))
    unavailable = build_campaign(str(tier), start_from="trajectories").unavailable
    assert "of another protocol: liquid-96-bks-1.npz has schedule" in unavailable["liquid-96-bks"]
    assert unavailable["again"] == unavailable["liquid-96-bks"]
    more = {**TIER, "runs": {**TIER["runs"], "liquid-96-nve": TIER["runs"]["liquid-96-bks"]}}
    tier.write_text(yaml.safe_dump(more, sort_keys=False))
    unavailable = build_campaign(str(tier), start_from="trajectories").unavailable
    assert unavailable["liquid-96-nve"] == "no trajectory of liquid-96-nve #1 is deposited for tier tiny"
    # Nor is anything computed in its place.
    assert command("run", "--tier", tier, "--start-from", "trajectories", "--only", "liquid-96-nve") == 2
    assert "product liquid-96-nve: no trajectory of" in capsys.readouterr().err
    (root / "tiny" / "liquid-96-bks-2.npz").write_bytes(b"PK")
    assert len(list(changed_trajectories(root=root))) == 1
    assert command("run", "--tier", tier, "--start-from", "trajectories", "--store", tmp_path / "b") == 2
    assert "liquid-96-bks-2.npz: found sha256" in capsys.readouterr().err
    (root / "tiny" / "liquid-96-bks-2.npz").unlink()
    with pytest.raises(SuiteError, match=r"bks-2\.npz: not found, expected a deposited trajectory"):
        thin_trajectories("tiny", root=root)


def test_a_deposit_is_whole_or_not_there(tier, tmp_path, monkeypatch):
    """What was there stays where a new one is refused, and nothing half-written is left."""
    root, campaign = tmp_path / "trajectories", build_campaign(str(tier))
    runs = [stage.inputs["trajectory"] for stage in campaign.labels["liquid-96-bks"]]
    store = Store(tmp_path / "store")
    monkeypatch.setattr(Store, "is_done", lambda *_: True)
    monkeypatch.setattr(Store, "verify", lambda *_: None)
    monkeypatch.setattr(Store, "manifest", lambda *_: {"finished": "2026-11-26T00:00:00Z", "software": {}})
    monkeypatch.setattr(promote, "open_trajectory", lambda path: path)
    monkeypatch.setattr(promote, "write_thin", lambda path, _, **__: path.write_bytes(b"first"))
    deposit_trajectories(campaign, store, root=root)
    assert thin_trajectories("tiny", root=root)["liquid-96-bks #2"].stage == runs[1].name
    for write, message in (
        (
            lambda path, _, **__: path.write_bytes(b"0" * (MAX_BYTES + 1)),
            "tiny.part: found 130 MB .* expected at most 130",
        ),
        (lambda path, _, **__: open_trajectory(tmp_path / "none"), "md.json: not found"),
    ):
        monkeypatch.setattr(promote, "write_thin", write)
        with pytest.raises(SuiteError, match=message):
            deposit_trajectories(campaign, store, replace=True, root=root)
        assert [path.name for path in root.iterdir()] == ["tiny"]
        assert (root / "tiny" / "liquid-96-bks-1.npz").read_bytes() == b"first"
    monkeypatch.setattr(promote, "write_thin", lambda path, _, **__: path.write_bytes(b"second"))
    deposit_trajectories(campaign, store, replace=True, root=root)
    assert (root / "tiny" / "liquid-96-bks-1.npz").read_bytes() == b"second"
    assert [path.name for path in root.iterdir()] == ["tiny"]
    # Killed before what was there was gone, or between the two renames: the next deposit is whole again.
    for left in (["tiny", "tiny.old"], ["tiny.old"]):
        shutil.copytree(root / "tiny", root / "tiny.old")
        if "tiny" not in left:
            shutil.rmtree(root / "tiny")
        deposit_trajectories(campaign, store, replace=True, root=root)
        assert [path.name for path in root.iterdir()] == ["tiny"]
        assert (root / "tiny" / "liquid-96-bks-1.npz").read_bytes() == b"second"


def test_a_tier_is_deposited_in_parts(tier, tmp_path, monkeypatch, capsys):
    """What another machine made stays, while the tier would make the same; what nobody made is named."""
    root, campaign = tmp_path / "trajectories", build_campaign(str(tier))
    first, second = (stage.inputs["trajectory"] for stage in campaign.labels["liquid-96-bks"])
    store, there = Store(tmp_path / "store"), {first.name}
    monkeypatch.setattr(Store, "is_done", lambda _, name: name in there)
    monkeypatch.setattr(Store, "verify", lambda *_: None)
    monkeypatch.setattr(Store, "manifest", lambda *_: {"finished": "2026-11-26T00:00:00Z", "software": {}})
    monkeypatch.setattr(promote, "open_trajectory", lambda path: path)
    monkeypatch.setattr(promote, "write_thin", lambda path, source, **_: path.write_text(source.name))
    deposit_trajectories(campaign, store, root=root)
    said = capsys.readouterr().out
    assert "1 runs made here, 0 as they were, 1 missing\nmissing: liquid-96-bks (1)" in said

    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=root))
    given = build_campaign(str(tier), start_from="trajectories")
    assert len(given.labels["liquid-96-bks"]) == 1
    assert "liquid-96-bks: 1 of 2 runs are deposited" in given.deviations

    there.add(second.name)  # on a machine where the first was made again, too
    deposit_trajectories(campaign, store, root=root)
    assert "1 runs made here, 1 as they were, 0 missing" in capsys.readouterr().out
    deposit_trajectories(campaign, store, replace=True, root=root)
    assert "2 runs made here, 0 as they were, 0 missing" in capsys.readouterr().out
    there.remove(first.name)
    deposit_trajectories(campaign, store, root=root)
    assert "0 runs made here, 2 as they were, 0 missing" in capsys.readouterr().out
    found = thin_trajectories("tiny", root=root)
    assert {label: thin.path.read_text() for label, thin in found.items()} == {
        "liquid-96-bks #1": first.name,
        "liquid-96-bks #2": second.name,
    }
    # Of a run that the tier would make otherwise now, nothing stays.
    changed = {**TIER, "runs": {**TIER["runs"], "hot": {**TIER["runs"]["hot"], "schedule": [[4000, 200]]}}}
    tier.write_text(yaml.safe_dump(changed, sort_keys=False))
    campaign = build_campaign(str(tier))
    there.clear()
    there.add(campaign.labels["liquid-96-bks"][0].inputs["trajectory"].name)
    deposit_trajectories(campaign, store, root=root)
    assert "1 runs made here, 0 as they were, 1 missing" in capsys.readouterr().out


def test_a_faster_quench_stands_in_for_a_slower_one_that_is_not_deposited(tmp_path, monkeypatch):
    root = tmp_path / "trajectories"
    computed = build_campaign("overnight", start_from="potentials")
    runs = [stage.inputs["trajectory"] for stage in computed.labels["glass-96@1e13"]]
    monkeypatch.setattr(Store, "is_done", lambda _, name: name in {run.name for run in runs})
    monkeypatch.setattr(Store, "verify", lambda *_: None)
    monkeypatch.setattr(Store, "manifest", lambda *_: {"finished": "2026-11-29T00:00:00Z", "software": {}})
    monkeypatch.setattr(promote, "open_trajectory", lambda path: path)
    monkeypatch.setattr(promote, "write_thin", lambda path, source, **_: path.write_text(source.name))
    deposit_trajectories(computed, Store(tmp_path / "store"), root=root)
    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=root))
    given = build_campaign("overnight", start_from="trajectories")
    for label in ("glass-96", "glass-96-equal-n"):
        assert given.labels[label] == given.labels["glass-96@1e13"]
        assert f"{label}: glass-96@1e13 stands in, no slower quench is deposited" in given.deviations
    assert given.unavailable["glass-216"] == "no trajectory of glass-216 #1 is deposited for tier overnight"


@pytest.mark.parametrize("text", ["version https://git-lfs", "trajectories: {a: {file: x}}", "a: [", "- 1"])
def test_a_broken_record_is_one_line(text, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / RECORD).write_text(text)
    with pytest.raises(SuiteError, match=r"tiny/trajectories.yml: found \w+ \(.*\), expected a record$"):
        thin_trajectories("tiny", root=tmp_path)


def test_options_that_contradict_each_other_are_refused(tmp_path, capsys):
    own = tmp_path / "own.lmp"
    own.write_text("pair_style zero 6.0\npair_coeff * *\n")
    assert command("run", "--start-from", "trajectories", "--potential", own, "--dry-run") == 2
    assert "expected --start-from potentials" in capsys.readouterr().err
    assert command("promote", "--trajectories", "--only", "deepmd-96", "--store", tmp_path) == 2
    assert (
        "--only is of potentials; trajectories are deposited as far as they are made"
        in capsys.readouterr().err
    )
    assert command("promote", "--trajectories", "--store", tmp_path) == 2
    assert "found a start from frames, expected --start-from potentials" in capsys.readouterr().err


def test_the_deposit_stands_in_for_what_the_overnight_tier_observes():
    """Nothing is moved and nothing trained; only the potentials are made ready, for the held-out frames."""
    campaign = build_campaign("overnight", start_from="trajectories")
    computed = build_campaign("overnight", start_from="potentials")
    missing = set(computed.labels) - set(campaign.labels) - {"kernel-96", "kernel-216"}
    assert all("is deposited for tier overnight" in campaign.unavailable[label] for label in missing)
    liquids = {"liquid-96-nvt", "liquid-216-nvt", "liquid-216-nvt-96", "liquid-96-bks", "motion-96-nvt"}
    assert liquids <= set(campaign.labels)
    kinds = {stage.kind for stage in campaign.all_stages()}
    assert kinds == {"observe", "observe_pairs", "parity", "reweight", "potential", "dataset", "cost"}
    assert not any("than the deposited one" in line for line in campaign.deviations)
    planned = {run.label: run.name for runs in computed.runs.values() for run in runs}
    for label, thin in thin_trajectories("overnight").items():
        assert thin.stage == planned[label], "made by another recipe than today's"
    assert list(changed_trajectories()) == []


@pytest.mark.parametrize(
    ("run", "change", "said"),
    [
        ("liquid-216-nvt", {"potential": "deepmd-96"}, "potential DeePMD-216, the tier DeePMD-96"),
        ("melt-216", {"potential": "deepmd-96"}, "potential DeePMD-216, the tier DeePMD-96"),
        ("liquid-216-nvt-96", {"start": "melt-216"}, "potential DeePMD-96, the tier DeePMD-216"),
        ("start-216", {"timestep_fs": 2.0}, "timestep_fs 1.0, the tier 2.0"),
    ],
)
def test_another_network_or_another_start_is_another_protocol(run, change, said, tmp_path):
    overnight = yaml.safe_load((TIERS / "overnight.yml").read_text())
    overnight["runs"][run] |= change
    (tmp_path / "overnight.yml").write_text(yaml.safe_dump(overnight, sort_keys=False))
    campaign = build_campaign(str(tmp_path / "overnight.yml"), start_from="trajectories")
    label = "liquid-216-nvt-96" if run == "liquid-216-nvt-96" else "liquid-216-nvt"
    assert said in campaign.unavailable[label]
    assert "liquid-96-nvt" in campaign.labels


def test_md_of_an_earlier_network_is_a_deviation(tmp_path, monkeypatch):
    for name in ("overnight", PAIRED):
        shutil.copytree(TRAJECTORIES / name, tmp_path / name)
    record = tmp_path / "overnight" / RECORD
    content = yaml.safe_load(record.read_text())
    for step in content["trajectories"]["liquid-216-nvt #3"]["protocol"]:
        step.update({"model": "0" * 64} if "model" in step else {})
    record.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=tmp_path))
    campaign = build_campaign("overnight", start_from="trajectories")
    assert "deposited MD is by another DeePMD-216 than the deposited one" in campaign.deviations
    assert not any("another DeePMD-96" in line for line in campaign.deviations)
    assert "liquid-216-nvt" in campaign.labels


def test_pairs_of_an_earlier_network_are_a_deviation_too(tmp_path, monkeypatch):
    for name in ("overnight", PAIRED):
        shutil.copytree(TRAJECTORIES / name, tmp_path / name)
    record = tmp_path / PAIRED / RECORD
    content = yaml.safe_load(record.read_text())
    content["trajectories"]["paired-96-nnp #3"]["protocol"][0]["model"] = "0" * 64
    record.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=tmp_path))
    campaign = build_campaign("overnight", start_from="trajectories")
    assert "deposited MD is by another DeePMD-96 than the deposited one" in campaign.deviations
    assert "paired-96-nnp" in campaign.labels


def test_without_deposited_pairs_their_claims_say_so(tmp_path, monkeypatch):
    shutil.copytree(TRAJECTORIES / "overnight", tmp_path / "overnight")
    monkeypatch.setattr(campaigns, "thin_trajectories", partial(thin_trajectories, root=tmp_path))
    campaign = build_campaign("overnight", start_from="trajectories")
    assert campaign.unavailable["paired-96-nnp"].startswith("no trajectory of paired-96-nnp #1 is deposited")
