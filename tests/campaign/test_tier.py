"""Tier files: the ones that come with the suite are read, and what is wrong in one's own is one line."""

from pathlib import Path

import pytest
import yaml

from jobs.base.errors import SuiteError
from jobs.base.schema import Keys
from jobs.campaign import sections
from jobs.campaign.build import build_campaign
from jobs.campaign.tier import TIERS, Tier, read_tier
from jobs.running import site_files

GONE = object()


def sections_of(module):
    """The sections of a file that a module describes."""
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Keys)]
    return [one for one in found if one.__module__ == module.__name__]


def refused(path: Path) -> str:
    with pytest.raises(SuiteError) as caught:
        build_campaign(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: "), message
    return message.removeprefix(f"{path}: ")


def edited(folder: Path, tier: str, place: str, value: object) -> Path:
    """A copy of a tier with one value changed; `place` is its keys with `/` between them."""
    content = yaml.safe_load((TIERS / f"{tier}.yml").read_text())
    *sections, key = place.split("/")
    section = content
    for name in sections:
        section = section[name]
    if value is GONE:
        del section[key]
    else:
        section[key] = value
    path = folder / "own.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


TINY = Path(__file__).parents[1] / "helpers" / "tiny.yml"


@pytest.mark.parametrize("path", [*sorted(TIERS.glob("*.yml")), TINY])
def test_every_tier_that_comes_with_the_suite_can_be_read(path):
    assert read_tier(str(path)).name == path.stem


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("name", "../up", "name: found '../up', expected a name for a folder"),
        ("start_from", "moon", "start_from: found 'moon', expected one of trajectories, potentials, frames"),
        ("density_g_cm3", "dense", "density_g_cm3: found 'dense', expected a positive number"),
        ("density_g_cm3", float("nan"), "density_g_cm3: found nan, expected a positive number"),
        ("density_g_cm3", GONE, "found no density_g_cm3, expected name, start_from, density_g_cm3, seeds"),
        ("seeds", [], "seeds: found [], expected a list of different positive integers"),
        ("seeds", 3, "seeds: found 3, expected a list of different positive integers"),
        ("seeds", [1, 1], "seeds: found [1, 1], expected a list of different positive integers"),
        ("seeds", [[1]], "seeds: found [[1]], expected a list of different positive integers"),
        ("speed", 9, "found speed, expected only name, start_from, density_g_cm3, seeds, deposit, frames"),
        ("frames/deepmd-216", GONE, "frames: found no deepmd-216, expected deepmd-96, deepmd-216"),
        ("frames/deepmd-96/pbe-96-aimd-3000K", 0, "frames.deepmd-96.pbe-96-aimd-3000K: found 0, expected a"),
        ("frames", None, "frames: found nothing, expected keys with values"),
        ("training/precision", "float16", "training.precision: found 'float16', expected one of float32, fl"),
        ("training/steps", GONE, "training: found no steps, expected precision, steps, start_lr, stop_lr"),
        ("training/steps", "many", "training.steps: found 'many', expected a positive integer"),
        ("training/steps", True, "training.steps: found True, expected a positive integer"),
        ("training/start_lr", "1e-3", "found '1e-3', expected a positive number, as 2 or 1.0e-3"),
        ("training/loss", 1, "training: found loss, expected only precision, steps"),
        ("melt/duration_ps", GONE, "melt: found no duration_ps, expected duration_ps, configurations"),
        ("melt/configurations", 0, "melt.configurations: found 0, expected a positive integer"),
        ("cost", 3, "cost: found 3, expected keys with values"),
        ("cost/sizes/bks", [97], "cost.sizes.bks: found [97], expected a list of multiples of 24"),
        ("cost/sizes/lj", [96], "cost.sizes: found lj, expected only deepmd, hdnnp, bks, tersoff"),
        ("runs/vdos-2592", ["x" * 99], "runs.vdos-2592: found ['xxx"),
        ("runs/start-96/replicas", "four", "runs.start-96.replicas: found 'four', expected a positiv"),
        ("runs/start-96/timestep_fs", GONE, "runs.start-96: found no timestep_fs, expected schedule,"),
        ("runs/start-96/schedule", [3000], "runs.start-96.schedule: found [3000], expected a list of"),
        ("runs/start-96/schedule", GONE, "runs.start-96: found none of again, quench, schedule, expe"),
        ("runs/start-96/schedule", [[3000, 15]], "found a segment of 15 steps, expected a positive "),
        ("runs/liquid-96-nve/schedule", [[3000, 100]], "runs.liquid-96-nve.schedule: found one segment, exp"),
        ("runs/start-96/dump_every", 0, "runs.start-96.dump_every: found 0, expected a positive integer"),
        ("runs/start-96/ensemble", "npt", "runs.start-96.ensemble: found 'npt', expected one of nvt, nve"),
        ("runs/start-96/thermostat", "foo", "runs.start-96.thermostat: found 'foo', expected one of"),
        ("runs/start-96/potential", "bsk", "runs.start-96.potential: found 'bsk', expected one of bk"),
        ("runs/start-96/atoms", 97, "runs.start-96.atoms: found 97, expected a multiple of 3"),
        ("runs/start-96/replica", 3, "runs.start-96: found replica, expected only schedule, timestep"),
        ("runs/start-96/share_melts", "yes", "runs.start-96.share_melts: found 'yes', expected true or fal"),
        ("runs/vdos-2592/replicate", [3, 3], "runs.vdos-2592.replicate: found [3, 3], expected three"),
        ("runs/vdos-2592/observables/blocks", 0, "runs.vdos-2592.observables.blocks: found 0, expect"),
        ("runs/vdos-96/observables/skip_fraction", False, "skip_fraction: found False, expected a nu"),
        ("runs/vdos-96/observables/skip_fraction", 1, "skip_fraction: found 1, expected a number"),
        ("runs/fault-stretch/replicas", 2, "runs.fault-stretch: found replicas, expected only again,"),
        ("deposit", "nowhere", "found no such folder, expected a deposit"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_tier_is_one_line(tmp_path, place, value, expected):
    assert expected in refused(edited(tmp_path, "laptop", place, value))


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("learning_curve/shares", [1.5], "learning_curve.shares: found [1.5], expected a list of num"),
        ("learning_curve/sizes", [3], "learning_curve: found sizes, expected only seeds, shares, precisions"),
        ("aimd/engine", "abinit", "aimd.engine: found 'abinit', expected one of cp2k, espresso, vasp"),
        ("aimd/settings/cutoff_Ry", "high", "aimd.settings: CP2K settings: found cutoff_Ry 'high', expected"),
        ("aimd/deepmd-96/mode", "short", "aimd.deepmd-96: found mode, expected only"),
        ("aimd/deepmd-96/density_g_cm3", 0, "density_g_cm3: found 0, expected a positive number, as"),
        ("aimd/deepmd-216/starts/lava", 3000, "aimd.deepmd-216.starts: found lava, expected runs abo"),
        ("aimd/deepmd-216/starts/glass-216", 300, "starts: found glass-216, expected runs above the"),
        ("runs/glass-96/timestep_fs", 1.0, "runs.glass-96: found timestep_fs, expected only quench, poten"),
        ("runs/glass-96/quench/to_K", GONE, "runs.glass-96.quench: found no to_K, expected rate_K_pe"),
        ("runs/glass-96/quench/to_K", 3000, "runs.glass-96.quench.from_K: found 3000.0 K to 3000 K, expect"),
        ("runs/glass-96/quench/anneal_steps", 150, "quench.anneal_steps: found a segment of 150 steps, expe"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_tier_from_first_principles_is_one_line(tmp_path, place, value, expected):
    assert expected in refused(edited(tmp_path, "paper", place, value))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "own.yml"
    path.write_text((TIERS / "smoke.yml").read_text() + "name: other\n")
    assert "found name twice" in refused(path)


def test_numbers_stay_what_the_file_says(tmp_path):
    """They are hashed: 2 and 2.0 are two names of a stage."""
    for value in (2, 2.0):
        content = read_tier(str(edited(tmp_path, "smoke", "density_g_cm3", value)))
        assert type(content.density_g_cm3) is type(value)
        assert type(content.training.steps) is int
    content = read_tier(str(edited(tmp_path, "laptop", "runs/vdos-96/observables/skip_fraction", 0)))
    assert type(content.runs["vdos-96"].observables.model_dump()["skip_fraction"]) is int


@pytest.mark.parametrize("model", [Tier, *sections_of(sections), *sections_of(site_files)])
def test_every_key_is_explained(model):
    assert model.__doc__
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: Z\xfcrich\n", "found no text (UTF-8), expected YAML"),
        (b"name: [\n", "not readable ("),
        (b"name: 2026-13-45\n", "not readable (month must be in 1..12)"),
        (b"- name\n", "found ['name'], expected keys with values"),
        (b"", "found nothing, expected keys with values"),
        (b"3: x\n", "found 3 as a name, expected text"),
    ],
)
def test_a_file_that_is_no_tier_is_one_line(tmp_path, content, expected):
    path = tmp_path / "own.yml"
    path.write_bytes(content)
    assert expected in refused(path)


def test_more_starts_than_a_run_keeps_frames_are_refused_before_it_runs(tmp_path):
    tier = edited(tmp_path, "paper", "aimd/deepmd-216/configurations", 500)
    with pytest.raises(SuiteError, match="configurations: found 500, expected at most 100, the frames"):
        build_campaign(str(tier), start_from="nothing")


@pytest.mark.parametrize("follows", ["again", "start"])
def test_what_follows_a_run_of_hdnnp_is_not_made_with_a_potential_of_ones_own(tmp_path, follows):
    """It names the same reason as that run, and is no wrong start."""
    content = yaml.safe_load((TIERS / "laptop.yml").read_text())
    run = content["runs"]["liquid-96-hdnnp"]
    content["runs"]["after"] = {"again": "liquid-96-hdnnp"} if follows == "again" else {
        **run, "start": "liquid-96-hdnnp",
    }  # fmt: skip
    (tmp_path / "own.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    (tmp_path / "own.lmp").write_text("pair_style zero 5.0\npair_coeff * *\n")
    tier = str(tmp_path / "own.yml")
    assert "after" in build_campaign(tier).labels
    judged = build_campaign(tier, start_from="potentials", potential=tmp_path / "own.lmp")
    assert "after" not in judged.labels
    assert judged.unavailable["after"] == judged.unavailable["liquid-96-hdnnp"]
