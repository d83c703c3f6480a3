"""What a plan says of costs: of MD at a cluster, and of potentials whose speed nobody knows."""

import re
from importlib.util import find_spec

import pytest

from jobs.campaign.build import build_campaign
from jobs.cli import overview
from jobs.cost import speed
from jobs.cost.estimates import CORE_SECONDS_PER_ATOM_STEP, atom_steps, md_core_seconds, not_counted
from jobs.engines.lammps.kernel import DEEPMD, NATIVE
from jobs.reference.potentials import MODELS
from jobs.running.site_files import read_site
from jobs.store.store import Store
from jobs.store.todo import in_order

MD = ("md", "quench", "paired")
needs_dpdispatcher = pytest.mark.skipif(
    find_spec("dpdispatcher") is None, reason="needs dpdispatcher: pip install -e '.[hpc]'"
)


@pytest.fixture
def login_node(monkeypatch):
    """Without LAMMPS, after pip install -e '.[hpc]'."""
    monkeypatch.setattr(speed, "why_unavailable", lambda: "found no headers of LAMMPS")
    speed.kernel_here.cache_clear()
    yield
    speed.kernel_here.cache_clear()


def moved_by_nnp(campaign):
    found = [
        stage for stage in in_order(campaign.select()) if stage.kind in MD and "potential" in stage.inputs
    ]
    assert found
    return found


def test_a_plan_for_a_cluster_counts_on_its_images_kernel(login_node):
    here = moved_by_nnp(build_campaign("smoke"))
    there = moved_by_nnp(build_campaign("smoke", kernel_of=overview.kernel_at(read_site("example-cpu"))))
    deepmd = [stage for stage in there if stage.inputs["potential"].kind == "train"]
    for stage in deepmd:
        assert stage.core_seconds == md_core_seconds(stage, kernel=NATIVE) < md_core_seconds(stage)
    assert [stage.name for stage in here] == [stage.name for stage in there]
    assert sum(s.core_seconds for s in there) < sum(s.core_seconds for s in here)
    at_gpus = overview.kernel_at(read_site("example-gpu"))
    assert {at_gpus(stage) for stage in deepmd if stage.kind == "md"} == {DEEPMD}


@needs_dpdispatcher
def test_what_has_a_gpu_is_not_estimated(tmp_path, capsys):
    site = read_site("example-gpu")
    campaign = build_campaign("smoke", start_from="potentials", kernel_of=overview.kernel_at(site))
    overview.dry_run(campaign, campaign.select(["liquid-96-nvt"]), Store(tmp_path / "store"), site=site)
    said = capsys.readouterr().out
    assert re.search(r"^# \d+\. liquid-96-nvt #1: 1 node.*, 1 GPU\(s\), not estimated", said, re.MULTILINE)
    assert re.search(r"^# \d+\. melt of 96 atoms: 1 node.*, 0 GPU\(s\), about", said, re.MULTILINE)
    assert "none was timed" in said


def test_md_of_an_unknown_speed_is_not_counted(tmp_path, capsys):
    own = tmp_path / "gap.lammps"
    own.write_text("pair_style lj/cut 5.0\npair_coeff * * 0.01 2.0\n")
    campaign = build_campaign("smoke", start_from="potentials", potential=own)
    runs = moved_by_nnp(campaign)
    assert all(stage.core_seconds < 1 for stage in runs)
    overview.dry_run(campaign, campaign.select(), Store(tmp_path / "store"))
    said = capsys.readouterr().out
    assert re.search(r"^liquid-96-nvt #1  \[missing; 1 core\(s\), not estimated\]$", said, re.MULTILINE)
    asked = sum(map(atom_steps, runs)) / 1e6
    assert f"\nnot counted: {asked:.3g} million atom-steps of MD with gap; multiply by its core-s" in said
    liquid = next(stage for stage in runs if stage.label == "liquid-96-nvt #1")
    steps = sum(segment["steps"] for segment in liquid.parameters["schedule"])
    assert atom_steps(liquid) == 96 * steps


def test_n2p2s_potential_has_the_speed_of_hdnnp_96():
    campaign = build_campaign("smoke", start_from="potentials", potential=MODELS / "hdnnp-96")
    for stage in moved_by_nnp(campaign):
        own = atom_steps(stage) * CORE_SECONDS_PER_ATOM_STEP["hdnnp-96"]
        assert own < stage.core_seconds < own + 1
    assert not_counted(campaign.all_stages()) == []
