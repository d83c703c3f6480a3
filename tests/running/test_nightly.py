"""The alarm of the nightly measurement: on synthetic series, and on nights that were really measured."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.regression import compare_night
from tests.helpers.synthetic_evidence import cost_point, write_cost

ROOT = Path(__file__).resolve().parents[2]
NIGHT = ROOT / "benchmarks" / "night.py"


def night(rng, *, level=1.0, between=0.01, within=0.02, launches=8):
    """Launches of a night: a state of the machine, and noise of each."""
    return level * np.exp(between * rng.normal() + within * rng.normal(size=launches))


@pytest.mark.parametrize("between", [0.0, 0.01, 0.02])
def test_false_alarms_are_rarer_than_promised(between):
    rng = np.random.default_rng(1)
    alarms = total = 0
    for _ in range(60):
        nights = [night(rng, between=between) for _ in range(8)]
        for k in range(1, 8):
            alarms += compare_night(nights[k], nights[:k]).regressed
            total += 1
    assert alarms <= 0.01 * total


def test_a_noisy_machine_raises_few_false_alarms_and_says_what_it_cannot_see():
    rng = np.random.default_rng(2)
    found = [
        compare_night(
            night(rng, between=0.06, within=0.1), [night(rng, between=0.06, within=0.1) for _ in range(7)]
        )
        for _ in range(150)
    ]
    assert np.mean([one.regressed for one in found]) <= 0.02
    assert np.median([one.detectable for one in found]) > 0.2


@pytest.mark.parametrize(
    ("slowdown", "least", "most"), [(1.2, 0.97, 1.0), (1.05, 0.0, 0.03), (1.0, 0.0, 0.01)]
)
def test_power_after_five_nights(slowdown, least, most):
    rng = np.random.default_rng(3)
    found = [
        compare_night(night(rng, level=slowdown), [night(rng) for _ in range(5)], series=6).regressed
        for _ in range(150)
    ]
    assert least <= np.mean(found) <= most


def test_a_slow_change_of_five_per_cent_is_not_more_than_five_per_cent():
    steady = [[1.0, 1.0001, 0.9999]] * 10
    assert not compare_night([1.049, 1.05, 1.051], steady).regressed
    assert compare_night([1.3, 1.3, 1.31], steady).regressed
    assert compare_night([0.7, 0.7, 0.71], steady).change == pytest.approx(-0.3, abs=1e-3)


@pytest.mark.parametrize("wrong", [([1.0], [[1.0, 1.0]]), ([1.0, 1.0], []), ([1.0, -1.0], [[1.0, 1.0]])])
def test_too_little_is_refused(wrong):
    with pytest.raises(ValueError, match="expected an earlier night"):
        compare_night(*wrong)


def test_a_tolerated_slowdown_is_as_likely_more_as_less_and_chances_are_what_they_say():
    """Nights that scatter as a quiet node's do, slower by exactly what is tolerated: p is uniform."""
    rng = np.random.default_rng(4)
    chances = np.array(
        [
            compare_night(
                night(rng, between=0.018, level=1.05), [night(rng, between=0.018) for _ in range(4)]
            ).p
            for _ in range(600)
        ]
    )
    for share in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(chances < share) == pytest.approx(share, abs=4 * math.sqrt(share / 600))


def test_the_numbers_of_a_night_belong_together():
    rng = np.random.default_rng(5)
    earlier = [night(rng) for _ in range(5)]
    usual = math.exp(np.mean([math.log(np.median(launches)) for launches in earlier]))

    def tonight(level, **how):
        return compare_night([usual * level] * 8, earlier, **how)

    same = tonight(1.0, series=6)
    assert (same.change, same.nights) == (pytest.approx(0), 5)
    assert (1 + same.low) * (1 + same.high) == pytest.approx(1)
    assert tonight(1.05).p == pytest.approx(0.5)
    assert tonight(1.2, threshold=0.2).p == pytest.approx(0.5)
    assert tonight(1.05 * (1 + same.high)).p == pytest.approx(0.025)  # the end of a 95 % interval
    edge = tonight(1 + same.detectable, series=6)
    assert edge.p == pytest.approx(0.01 / 6)
    assert tonight(1.001 * (1 + same.detectable), series=6).regressed
    assert not tonight(0.999 * (1 + same.detectable), series=6).regressed


def test_only_the_last_fortnight_counts():
    steady = [[1.0, 1.0001, 0.9999]] * 14
    found = compare_night([1.0, 1.0], [[2.0, 2.0]] * 3 + steady)
    assert (found.change, found.nights) == (pytest.approx(0), 14)


def test_medians_that_agree_by_chance_do_not_make_launches_precise():
    """The median of 51 launches that scatter by 20 % is good to 1.25 x 20 % / sqrt(51) = 3.5 %."""
    rng = np.random.default_rng(6)
    launches = [night(rng, within=0.2, launches=51) for _ in range(6)]
    launches[3] = night(rng, within=0.2, launches=801)  # one night that is better known does not help
    alike = [one / np.median(one) for one in launches]
    found = compare_night(alike[0], alike[1:])
    student = 2.228  # of ten degrees of freedom
    assert math.log1p(found.high) == pytest.approx(student * 0.0351 * math.sqrt(1 + 1 / 5), rel=0.05)


# What a night is compared with, and what asv reads -------------------------------------------------


@pytest.fixture(scope="module")
def night_module():
    specification = importlib.util.spec_from_file_location("night_script", NIGHT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def recorded(samples, *, flags=(), accepted=False, planted=1.0, canary=(10.0, 10.1), **about):
    machine = {"cpu": "c", "cores": 2, "gpus": [], "driver": None, "image": None, "software": {"lammps": "1"}}
    return {
        "series": {"bks-tuned-216": samples, "canary": list(canary)}, "flags": list(flags),
        "accepted": accepted, "planted_slowdown": planted, "commit": "a" * 40, "machine": machine | about,
    }  # fmt: skip


def test_regressed_and_planted_nights_are_no_baseline_and_accepting_starts_anew(night_module):
    nights = [
        recorded([1.0, 1.01]),
        recorded([1.3, 1.3], flags=["slower"]),
        recorded([2.0, 2.0], planted=2.0),
    ]
    assert night_module.baseline(nights) == nights[:1]
    accepted = recorded([1.3, 1.3], flags=["slower"], accepted=True)
    assert night_module.baseline([*nights, accepted, nights[0]]) == [accepted, nights[0]]


def test_a_slow_machine_slows_the_canary_too(night_module):
    earlier = [recorded([1.0, 1.01, 0.99]) for _ in range(6)]
    tonight = recorded([1.3, 1.31, 1.29], canary=(13.0, 13.1))
    comparisons, flags = night_module.compare(tonight, earlier)
    assert comparisons["bks-tuned-216"]["regressed"]
    assert [line.split(":")[0] for line in flags] == ["bks-tuned-216", "canary"]
    _, flags = night_module.compare(recorded([1.0, 1.01, 0.99], canary=(13.0, 13.1)), earlier)
    assert flags == [], "the canary alone is no regression of ours"


@pytest.mark.parametrize(("slowdown", "least", "most"), [(1.2, 0.9, 1.0), (1.0, 0.0, 0.02)])
def test_all_md_together_shows_what_no_point_shows_on_a_noisy_machine(night_module, slowdown, least, most):
    rng = np.random.default_rng(4)

    def noisy_night(level=1.0):
        one = recorded([1.0, 1.0])
        one["series"] |= {
            f"{engine}-tuned-{size}": list(night(rng, level=level, between=0.0, within=0.12))
            for engine in ("deepmd", "bks", "tersoff") for size in (216, 2592)
        }  # fmt: skip
        return one

    alone, together = [], []
    for _ in range(60):
        comparisons, _ = night_module.compare(noisy_night(slowdown), [noisy_night() for _ in range(6)])
        together.append(comparisons[night_module.MD]["regressed"])
        alone.append(comparisons["bks-tuned-2592"]["regressed"])
    assert least <= np.mean(together) <= most
    assert np.mean(alone) < 0.5


def test_drift_of_hardware_driver_and_software_is_named(night_module):
    before, after = recorded([1.0, 1.0]), recorded([1.0, 1.0], driver="570", software={"lammps": "2"})
    assert night_module.changes(before, before) == []
    assert night_module.changes(before, after) == ["driver None -> 570", "lammps 1 -> 2"]


def test_asv_times_the_report(monkeypatch):
    from benchmarks.tracked import suite_speed

    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    assert min(suite_speed.track_report()["samples"]) > 0


def test_asv_reads_samples_and_skips_what_was_not_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from tracked.cost import Cost

    points = [cost_point("bks", 216, core_us=[10.0, 12.0], precision=None)]
    path = write_cost(tmp_path / "cost", points) / "cost.json"
    monkeypatch.setenv("SUITE_COST_RECORD", str(path))
    benchmark = Cost()
    benchmark.setup("bks", 216, "float64")
    assert benchmark.track_us_per_step_atom("bks", 216, "float64") == {"samples": [5.0, 6.0], "number": 1}
    with pytest.raises(NotImplementedError, match="not in this record"):
        benchmark.setup("cp2k", 96, "float64")


def test_a_night_without_git_is_refused_before_it_measures(tmp_path):
    command = [
        sys.executable,
        NIGHT,
        "--nights",
        tmp_path / "nights",
        "--store",
        tmp_path / "store",
        "--no-asv",
    ]
    found = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert found.returncode == 2
    assert (
        found.stderr.strip()
        == "error: git: found none on PATH, expected it: each night is a commit of its record"
    )
    assert not list(tmp_path.iterdir())


def test_batch_script_is_bash():
    subprocess.run(["bash", "-n", ROOT / "jobs" / "running" / "sites" / "nightly.sbatch"], check=True)
    assert "--time=00:20:00" in (ROOT / "jobs" / "running" / "sites" / "nightly.sbatch").read_text()


@pytest.mark.engine
def test_measured_nights(tmp_path):
    """Two unchanged nights and one in which every step does 3 steps' work, Tersoff only, seconds each."""

    def measure(*options):
        command = [
            sys.executable,
            NIGHT,
            "--nights",
            tmp_path / "nights",
            "--engines",
            "tersoff",
            "--launches",
            "4",
        ]
        command += ["--cores", "1", "--quick", "--no-asv", "--store", tmp_path / "store", *options]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)

    for _ in range(2):
        found = measure()
        assert found.returncode == 0, found.stdout + found.stderr
    slow = measure("--plant-slowdown", "3")
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert "REGRESSION tersoff" in slow.stdout
    records = sorted((tmp_path / "nights" / "records").glob("*.json"))
    assert len(records) == 3
    last = json.loads(records[-1].read_text())
    assert last["flags"]
    assert last["commit"]
    log = subprocess.run(["git", "log", "--oneline"], cwd=tmp_path / "nights", capture_output=True, text=True)
    assert len(log.stdout.splitlines()) == 3, "a commit for every night"
    # A known regression does not become the new normal: an unchanged night after it is not flagged.
    assert measure().returncode == 0
