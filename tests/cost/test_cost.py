"""The cost stage on real engines, what it records, its plan within a budget, GPU command lines, the page."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.machine import machine, machine_type
from jobs.base.silica import Configuration, read_data, write_data
from jobs.campaign.build import build_campaign
from jobs.cli.speed.cost import measure
from jobs.cost.bench import Bench, near_cubic
from jobs.cost.plan import (
    DEFAULT_ENGINES,
    Plan,
    cost_stage,
    deposit,
    describe,
    full_plan,
    summary,
    tier_plan,
)
from jobs.cost.points import Point
from jobs.cost.record import (
    CLASSICAL,
    DEPOSITED,
    KEYS,
    core_seconds,
    deposited_costs,
    judging_record,
    read_cost,
)
from jobs.cost.tune import potential_stage, tune
from jobs.engines.lammps.potential import builtin_potential, read_potential, write_potential
from jobs.engines.lammps.program import lammps_command, visible_gpus
from jobs.engines.lammps.timing import Layout, time_launch, timed_script
from jobs.reference.potentials import MODELS, potential_sha256
from jobs.stages import cost
from jobs.store.machine_settings import Tuning
from jobs.store.store import Recipe, Store
from jobs.store.workspace import Workspace
from suite.report.cost_page import read_anchors, write_cost_page
from tests.engines.test_cp2k import MOLECULE
from tests.engines.test_cp2k import SETTINGS as CP2K_SETTINGS
from tests.engines.test_espresso import INSTALLED as ESPRESSO
from tests.engines.test_espresso import SETTINGS as ESPRESSO_SETTINGS
from tests.helpers.synthetic_evidence import cost_point, write_cost

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {
    "points": [], "launches": 2, "timestep_fs": 1.0, "temperature_K": 3000.0, "density_g_cm3": 2.2,
    "aimd": {}, "budget_minutes": None, "not_measured": [],
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Launches of a few steps."""
    monkeypatch.setattr("jobs.cost.points.ATOM_STEPS", {"deepmd": 960, "bks": 960, "tersoff": 4800})
    monkeypatch.setattr("jobs.cost.bench.MELT_STEPS", 800)


def measured(tmp_path, points, **changes):
    given = PARAMETERS | {"points": points} | changes
    directory = tmp_path / "work"
    directory.mkdir(exist_ok=True)
    cost.run(Workspace(given, 0, {}, directory, cores=1))
    return json.loads((directory / "cost.json").read_text())


# The stage ----------------------------------------------------------------------------------------


@pytest.mark.engine
def test_classical_points_are_measured_checked_and_resumed(tmp_path, quick):
    points = [{"engine": "tersoff", "setting": "tuned", "n_atoms": n} for n in (24, 96)]
    points.append({"engine": "tersoff", "setting": "dumps", "n_atoms": 96})
    record = measured(tmp_path, points)
    small, large, _ = record["points"]
    for point in record["points"]:
        assert len(point["us_per_step_atom"]) == 2
        assert point["ci_low"] <= point["median"] <= point["ci_high"]
        assert point["checks"]["dangerous_builds"] == 0
        assert all(abs(kelvin - 3000) < 1500 for kelvin in point["checks"]["temperature_K"])
        assert point["provenance"]["cpu"]
        assert point["failed"] == []
    assert large["steps"] == 50
    assert core_seconds(large)[0] == pytest.approx(large["us_per_step_atom"][0] * 96e-6)
    assert small["n_atoms"] == 24
    assert (tmp_path / "work" / "checkpoints" / "kept-0.bin").stat().st_size > 0, "dumps were on"
    launches = tmp_path / "work" / "checkpoints" / "launches"
    before = {path.name: path.stat().st_mtime_ns for path in launches.glob("*.json")}
    (launches / "tersoff-tuned-96-1.json").unlink()
    measured(tmp_path, points)
    after = {path.name: path.stat().st_mtime_ns for path in launches.glob("*.json")}
    assert [name for name in before if before[name] != after[name]] == ["tersoff-tuned-96-1.json"]


@pytest.mark.engine
def test_a_cell_too_small_is_a_failed_point_and_the_others_are_kept(tmp_path, quick):
    points = [{"engine": "bks", "setting": "tuned", "n_atoms": n} for n in (24, 96)]
    record = measured(tmp_path, points, launches=1)
    failed, kept = record["points"]
    assert failed["median"] is None
    assert "expected at least the cut-off of 10.00 A" in failed["failed"][0]
    assert kept["median"] > 0
    assert any("bks (tuned) of 24 atoms" in one["what"] for one in record["not_measured"])


@pytest.mark.engine
def test_nothing_that_works_is_an_error(tmp_path, quick):
    with pytest.raises(EngineError, match="cost: no launch succeeded; the first said: cell"):
        measured(tmp_path, [{"engine": "bks", "setting": "tuned", "n_atoms": 24}], launches=1)


@pytest.mark.engine
def test_a_point_that_the_budget_did_not_reach_says_so(tmp_path, quick):
    """The first-principles run, kept from before, took longer than the whole budget."""
    launches = tmp_path / "work" / "checkpoints" / "launches"
    launches.mkdir(parents=True)
    kept = cost_point("cp2k", 24, core_us=[30.0, 31.0], setting="aimd") | {"seconds": 100.0}
    (launches / "cp2k-24.json").write_text(json.dumps(kept))
    (tmp_path / "work" / "checkpoints" / "cp2k-24.data").touch()
    points = [{"engine": "tersoff", "setting": "tuned", "n_atoms": 24}]
    record = measured(tmp_path, points, aimd={"cp2k": {"sizes": [24]}}, budget_minutes=1)
    assert record["points"][1]["failed"] == ["the budget was spent before its first launch"]
    assert "the budget was spent before its first launch" in summary(record)


@pytest.mark.engine
def test_again_measures_what_a_killed_measurement_had_kept(tmp_path):
    store = Store(tmp_path / "store")
    store.prepare()
    plan = Plan([Point("tersoff", "tuned", 24)], launches=1)
    potential = potential_stage(None)
    store.part(potential.name).mkdir()
    store.finish(Recipe.of(potential), Workspace({}, 0, {}, store.part(potential.name)), wall_seconds=1.0)
    stage = cost_stage(plan, potential, label="cost", cores=1, machine_type=machine()["type"])
    launches = store.part(stage.name) / "checkpoints" / "launches"
    launches.mkdir(parents=True)
    kept = {"us_per_step_atom": 12345.0, "core_us_per_step_atom": 12345.0, "steps": 1, "seconds": 1.0}
    kept |= {"temperature_K": 3000.0, "conserved_drift_meV_atom": 0.0, "dangerous_builds": 0}
    (launches / "tersoff-tuned-24-0.json").write_text(json.dumps(kept))
    path = measure(store, plan, potential=None, cores=1, results=tmp_path / "results", again=True)
    (point,) = read_cost(path)["points"]
    assert point["median"] < 12345


@pytest.mark.engine
def test_two_runs_side_by_side_and_a_planted_slowdown(tmp_path, quick):
    workspace = Workspace(PARAMETERS, 0, {}, tmp_path, cores=1)
    start = Bench(workspace).liquid("tersoff", 96)
    potential = builtin_potential("tersoff")
    common = {"steps": 400, "timestep_fs": 0.5, "temperature_K": 3000.0, "seed": 1}
    one = time_launch(potential, start, Layout(), name="one", **common)
    two = time_launch(potential, start, Layout(replicas=2), name="two", dump_every=100, **common)
    kept = [(start.parent / f"kept-{number}.bin").stat().st_size for number in (0, 1)]
    assert kept[0] == kept[1] > 0, "a trajectory of each"
    assert one.steps == two.steps == 400
    slow = time_launch(potential, start, Layout(), name="slow", planted_slowdown=3.0, **common)
    assert slow.steps == 1200
    assert slow.core_us_per_step_atom > 1.5 * one.core_us_per_step_atom
    with pytest.raises(EngineError, match="found a mean temperature of"):
        time_launch(
            potential, start, Layout(), name="cold", **common | {"temperature_K": 300.0, "steps": 1000}
        )


@pytest.mark.engine
@pytest.mark.skipif(not Path("/usr/bin/cp2k.psmp").exists(), reason="CP2K is not installed")
def test_cp2k_steps_after_the_first_are_samples(tmp_path, quick):
    """CP2K itself, on a molecule in a small box in place of a liquid (making one needs the network)."""
    about = {"sizes": [3], "steps": 3, "timestep_fs": 0.5, "settings": CP2K_SETTINGS}
    workspace = Workspace(PARAMETERS | {"aimd": {"cp2k": about}}, 0, {}, tmp_path, cores=1)
    molecule = Configuration(MOLECULE.types, MOLECULE.positions, MOLECULE.cell)
    write_data(workspace.checkpoints / "cp2k-3.data", molecule)
    point = Bench(workspace).first_principles("cp2k", 3)
    assert point["failed"] == []
    assert point["samples_are"] == "steps"
    assert len(point["us_per_step_atom"]) == 3, "of four steps, the first is not timed"
    assert all(us > 1e3 for us in point["us_per_step_atom"])


@pytest.mark.engine
@pytest.mark.skipif(not ESPRESSO, reason="Quantum ESPRESSO is not installed")
def test_espresso_is_measured_like_cp2k_without_a_conserved_quantity(tmp_path, quick):
    about = {"sizes": [3], "steps": 2, "timestep_fs": 0.5, "settings": ESPRESSO_SETTINGS}
    workspace = Workspace(PARAMETERS | {"aimd": {"espresso": about}}, 0, {}, tmp_path, cores=1)
    molecule = Configuration(MOLECULE.types, MOLECULE.positions, MOLECULE.cell)
    write_data(workspace.checkpoints / "espresso-3.data", molecule)
    point = Bench(workspace).first_principles("espresso", 3)
    assert point["failed"] == []
    assert len(point["us_per_step_atom"]) == 2
    assert all(us > 1e3 for us in point["us_per_step_atom"])
    assert point["checks"]["conserved_drift_meV_atom"] is None


def test_a_program_that_is_not_installed_was_not_measured(tmp_path, monkeypatch):
    """It is no failed measurement: those are ERROR."""
    monkeypatch.setenv("ESPRESSO_COMMAND", "no-such-program")
    about = {"sizes": [24], "steps": 2, "timestep_fs": 0.5, "settings": ESPRESSO_SETTINGS}
    workspace = Workspace(PARAMETERS | {"points": [], "aimd": {"espresso": about}}, 0, {}, tmp_path, cores=1)
    copies = np.arange(24)[:, None] * 3.0 * np.eye(3)[0]
    write_data(
        workspace.checkpoints / "espresso-24.data",
        Configuration(np.arange(24) % 3 % 2, copies, np.diag([72.0, 9.0, 9.0])),
    )
    cost.run(workspace)
    record = json.loads((tmp_path / "cost.json").read_text())
    assert record["points"] == []
    assert [one["what"] for one in record["not_measured"]] == ["espresso of 24 atoms"]
    assert "found no no-such-program (of ESPRESSO_COMMAND)" in record["not_measured"][0]["why"]


def test_unknown_engine_and_odd_size_are_refused(tmp_path):
    with pytest.raises(
        SuiteError, match="cost: found engine 'lj', expected one of deepmd, hdnnp, bks, tersoff"
    ):
        measured(tmp_path, [{"engine": "lj", "setting": "tuned", "n_atoms": 96}])
    with pytest.raises(SuiteError, match="cost: found 100 atoms, expected a multiple of 24"):
        Bench(Workspace(PARAMETERS, 0, {}, tmp_path / "work")).liquid("bks", 100)
    with pytest.raises(SuiteError, match="cost: found no potential"):
        measured(tmp_path, [{"engine": "deepmd", "setting": "tuned", "n_atoms": 96}])


@pytest.mark.parametrize(
    ("copies", "expected"), [(27, (3, 3, 3)), (3, (1, 1, 3)), (128, (4, 4, 8)), (1, (1, 1, 1))]
)
def test_copies_are_as_cubic_as_they_get(copies, expected):
    assert near_cubic(copies) == expected


# Layouts and GPUs ---------------------------------------------------------------------------------


def layout_of(point, *, cores, tuning=None, tmp_path):
    return Bench(Workspace(PARAMETERS, 0, {}, tmp_path, cores=cores, tuning=tuning)).layout(point)


def test_layouts_follow_tuning_and_never_exceed_the_cores(tmp_path):
    tuned = Point("deepmd", "tuned", 96, "float32", compressed=True)
    assert layout_of(tuned, cores=8, tmp_path=tmp_path) == Layout(replicas=8)
    found = layout_of(tuned, cores=8, tuning=Tuning(2, 1.5), tmp_path=tmp_path)
    assert found == Layout(replicas=4, threads=2, skin_angstrom=1.5)
    classical = layout_of(Point("bks", "tuned", 96), cores=8, tuning=Tuning(2, 1.5), tmp_path=tmp_path)
    assert classical == Layout(replicas=8, skin_angstrom=1.5)
    plain = layout_of(Point("deepmd", "plain", 96, "float64"), cores=2, tmp_path=tmp_path)
    assert plain == Layout(threads=2, skin_angstrom=2.0)
    with pytest.raises(SuiteError, match="found 1 x 4 ranks x 1 threads, expected at most 2 cores"):
        layout_of(Point("deepmd", "strong", 96, ranks=4), cores=2, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("n_atoms", "replicas", "ranks"),
    [(96, 64, 1), (648, 32, 2), (2592, 8, 8), (5832, 4, 16), (48_000, 1, 64)],
)
def test_runs_side_by_side_fill_a_node(tmp_path, n_atoms, replicas, ranks):
    """96 atoms on 64 ranks would cost 64 cores for the work of one."""
    point = Point("deepmd", "tuned", n_atoms, "float32", compressed=True)
    assert layout_of(point, cores=64, tmp_path=tmp_path) == Layout(replicas, ranks)
    strong = Point("deepmd", "strong", n_atoms, "float32", compressed=True, ranks=64)
    assert layout_of(strong, cores=64, tmp_path=tmp_path) == Layout(ranks=64)


def test_points_of_different_ranks_lie_on_one_line(tmp_path):
    """A core-us an atom and step on 64 cores, by as many runs as fill them."""
    points = [
        cost_point("deepmd", n, core_us=[1.0, 1.0], cores=64, replicas=64 // ranks, ranks=ranks)
        for n, ranks in ((96, 1), (648, 2), (2592, 8), (48_000, 64))
    ]
    record = read_cost(write_cost(tmp_path / "cost", points) / "cost.json")
    power = next(fit for fit in record["fits"] if fit["form"] == "t = c N^p")
    assert power["p"]["value"] == pytest.approx(1.0)
    (day,) = record["nanosecond_a_day"]
    assert day["atoms"] == pytest.approx(64 * 86_400, abs=1)


@pytest.mark.parametrize(
    ("gpus", "cores", "ranks", "threads", "visible"),
    [(1, 8, 1, 8, "0"), (4, 16, 4, 4, "0,1,2,3"), (0, 2, 2, 1, "-1")],
)
def test_gpu_command_lines(tmp_path, monkeypatch, gpus, cores, ranks, threads, visible):
    """Written and tested as command lines; no run has had a GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    point = Point("deepmd", "tuned", 12288, "float32", compressed=True, gpus=gpus)
    layout = layout_of(point, cores=cores, tmp_path=tmp_path)
    assert (layout.ranks, layout.threads, layout.gpus) == (ranks, threads, gpus)
    command = lammps_command("in", ranks=layout.ranks)
    assert ("mpirun" in Path(command[0]).name) == (ranks > 1)
    assert command[-6:][1:] == ["-in", "in.in", "-log", "none", "-nocite"]
    assert visible_gpus(layout.gpus) == visible


def test_a_model_that_has_no_other_form_is_timed_as_md_runs_it(tmp_path, monkeypatch):
    product = tmp_path / "potential"
    product.mkdir()
    (product / "model.pb").write_bytes(b"no model that could be converted")
    commands = ["pair_style deepmd {directory}/model.pb", "pair_coeff * * Si O"]
    write_potential(
        product,
        name="own",
        family="deepmd",
        commands=commands,
        charges=None,
        cutoff_angstrom=6.0,
        training=None,
    )
    bench = Bench(Workspace(PARAMETERS, 0, {"potential": product}, tmp_path / "work", cores=1))
    left_out = []
    point = bench.as_it_can_be(Point("deepmd", "tuned", 96, "float32", compressed=True), left_out)
    assert (point.precision, point.compressed) == (None, None)
    assert bench.potential(point).commands == read_potential(product).commands
    assert left_out[0]["what"] == "deepmd-tuned-96 as deepmd-float32-compressed, timed as given"
    assert bench.compression_error(point) is None
    scripts = []

    def run_lammps(script, *, directory, **_):
        scripts.append(script)
        (directory / "liquid.tmp").touch()

    monkeypatch.setattr("jobs.cost.bench.run_lammps", run_lammps)
    bench._relax("deepmd", "start", "liquid", 3000.0, 100)
    assert bench.potential(point).commands[0] in scripts[0]


def test_gpus_that_a_scheduler_gave(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus(1) == "2"
    with pytest.raises(SuiteError, match="CUDA_VISIBLE_DEVICES: found 2,5, expected at least 3 GPUs"):
        visible_gpus(3)


def test_timed_run_follows_a_warm_up_of_its_own():
    script = timed_script(
        builtin_potential("bks"), start="s.data", skin_angstrom=1.0, timestep_fs=1.0, temperature_K=3000.0,
        seed=1, warm_up_steps=20, steps=100,
    )  # fmt: skip
    assert re.findall(r"^run (\d+)$", script, re.MULTILINE) == ["20", "100"]
    assert "neigh_modify every 1 delay 0 check yes" in script
    assert "dump" not in script


def test_machines_are_named_by_their_kind():
    about = {"cpu": "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "cores": 64, "gpus": ["NVIDIA A100"] * 4}
    assert machine_type(about) == "intel-xeon-gold-6338-64-cores-4-x-nvidia-a100"
    found = machine()
    assert found["type"] == machine_type(found)
    assert found["software"]["numpy"]


def test_nothing_is_measured_with_gpus_that_cannot_be_used(tmp_path, monkeypatch):
    """Times of cores would count as times of a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(SuiteError, match=r"gpus: found 0 that can be used .* expected 1"):
        measured(tmp_path, [{"engine": "deepmd", "setting": "tuned", "n_atoms": 96, "gpus": 1}])
    with pytest.raises(SuiteError, match=r"gpus: found 0 that can be used .* expected 2"):
        tune(Store(tmp_path / "store"), tmp_path / "model", minutes=1, cores=1, gpus=2)


# The plan -----------------------------------------------------------------------------------------


def test_full_plan_has_what_is_promised():
    plan = full_plan(
        engines=("deepmd", "bks", "tersoff", "cp2k"),
        sizes=(96, 216, 648, 1296, 2592, 5832, 12288),
        budget_minutes=60,
        cores=2,
    )
    of = {}
    for point in plan.points:
        of.setdefault((point.engine, point.setting, point.kernel), []).append(point.n_atoms)
    for program in (("deepmd", "deepmd"), ("deepmd", "native"), ("bks", None), ("tersoff", None)):
        assert of[program[0], "tuned", program[1]] == [96, 216, 648, 1296, 2592, 5832, 12288]
    assert of["deepmd", "plain", "deepmd"] == [96, 216, 2592]
    assert plan.launches >= 6
    assert plan.aimd["cp2k"]["sizes"][:3] == [24, 48, 96]
    assert plan.aimd["cp2k"]["steps"] >= 3
    assert plan.seconds(2) < 3600


def test_a_small_budget_leaves_out_the_dear_and_says_so():
    plan = full_plan(engines=("deepmd", "cp2k"), sizes=(96, 216, 12288), budget_minutes=5, cores=2)
    assert plan.seconds(2) <= 300
    assert Point("deepmd", "tuned", 96, "float32", compressed=True, kernel="deepmd") in plan.points
    assert any("cp2k of 96 atoms" in left["what"] for left in plan.not_measured)
    found = [
        re.fullmatch(r"takes about (\S+) min, (\S+) of the budget's 5 min are left", left["why"])
        for left in plan.not_measured
        if "atoms" in left["what"]
    ]
    assert all(one and 0 <= float(one[2]) <= float(one[1]) for one in found), describe(plan, 2)


def test_espresso_is_measured_only_on_request():
    common = {"sizes": (96,), "budget_minutes": 60, "cores": 2}
    assert list(full_plan(engines=DEFAULT_ENGINES, **common).aimd) == ["cp2k"]
    plan = full_plan(engines=("deepmd", "espresso"), **common)
    assert plan.aimd["espresso"]["sizes"][:2] == [24, 48]
    assert plan.aimd["espresso"]["settings"]["ecutwfc_Ry"] > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--engines", "lj"],
            "--engines: found lj, expected some of deepmd, hdnnp, bks, tersoff, cp2k, espresso",
        ),
        (["--sizes", "100"], "--sizes: found 100, expected multiples of 24"),
        (["--minutes", "0.1"], "--minutes: found 0.1 minutes, expected more"),
        (["--deposit", "--results", "nowhere"], "nowhere/cost.json: not found, expected a cost record"),
    ],
)
def test_wrong_input_is_one_line(options, expected):
    command = [sys.executable, "-m", "jobs", "cost", "--dry-run", *options]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 2
    assert expected in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_tier_measures_little_and_needs_no_knowledge_of_the_machine():
    about = build_campaign("laptop")
    (stage,) = about.labels["cost"]
    assert "machine_type" not in stage.parameters
    assert all(point["ranks"] is None for point in stage.parameters["points"])
    plan = tier_plan(about.about.cost.model_dump(exclude_none=True), precision="float32")
    assert {point.n_atoms for point in plan.points if point.engine == "deepmd"} >= {96, 216, 2592}
    assert build_campaign("smoke").unavailable["cost"] == "the smoke tier measures no cost"


@pytest.mark.parametrize("given", ["hdnnp", "lammps"])
def test_a_potential_that_is_no_deepmd_model_is_timed_once_as_md_runs_it(tmp_path, given):
    file = MODELS / "hdnnp-96"
    if given == "lammps":
        file = tmp_path / "own.lammps"
        file.write_text("pair_style lj/cut 5.0\npair_coeff * * 0.01 2.0\n")
    (stage,) = build_campaign("laptop", start_from="potentials", potential=file).labels["cost"]
    points = [Point(**point) for point in stage.parameters["points"] if point["engine"] not in CLASSICAL]
    kernel = "native" if given == "hdnnp" else None
    assert points == [Point("deepmd", "tuned", size, kernel=kernel) for size in (96, 216, 2592)]
    assert list(stage.inputs) == ["potential"]

    product = tmp_path / "potential"
    shutil.copytree(MODELS / "hdnnp-96", product / "n2p2")
    own = replace(builtin_potential("bks"), name="own", family=given)
    bench = Bench(Workspace(PARAMETERS, 0, {"potential": product}, tmp_path / "work", cores=1))
    record = bench.point_record(points[0], own, [])
    assert [record[key] for key in ("engine", "kernel", "precision", "compressed")] == [
        given,
        kernel,
        None,
        None,
    ]
    assert record["model_sha256"] == (potential_sha256(file) if given == "hdnnp" else None)


# The record and the page --------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path):
    points = [
        cost_point(engine, n, core_us=[us * n**power * f for f in (0.98, 1.0, 1.02)], setting=setting)
        for engine, setting, us, power, sizes in (
            ("deepmd", "tuned", 120.0, 0.0, (96, 216, 648, 2592)),
            ("deepmd", "plain", 500.0, 0.0, (96, 2592)),
            ("bks", "tuned", 10.0, 0.0, (96, 216, 648)),
            ("cp2k", "aimd", 30.0, 1.6, (24, 48, 96)),
        )
        for n in sizes
    ]  # fmt: skip
    points.append(cost_point("deepmd", 5832, core_us=[], failed=["lmp: lost atoms"]))
    return read_cost(write_cost(tmp_path / "cost", points) / "cost.json")


def test_fits_and_speed_ups_name_both_costs(record):
    by = {(fit["engine"], fit["setting"], fit["form"]): fit for fit in record["fits"]}
    assert by["cp2k", "aimd", "t = c N^p"]["p"]["value"] == pytest.approx(2.6)
    assert by["deepmd", "tuned", "t = a + b N"]["b_s_per_atom"]["value"] == pytest.approx(60e-6)
    aimd, *larger = [row for row in record["speed_ups"] if row["slow"]["engine"] == "cp2k"]
    assert aimd["n_atoms"] == 96
    assert aimd["extrapolated_from"] is None
    assert [row["n_atoms"] for row in larger] == [216, 648, 2592]
    for row in larger:
        assert row["extrapolated_from"] == [24, 48, 96]
        assert row["ratio"]["value"] == pytest.approx(30 * row["n_atoms"] ** 1.6 / 120)
        assert row["slow"]["cost"] == pytest.approx(30 * row["n_atoms"] ** 2.6 * 1e-6)
    assert aimd["ratio"]["value"] == pytest.approx(30 * 96**1.6 / 120)
    assert aimd["slow"]["cost"] == pytest.approx(30 * 96**2.6 * 1e-6)
    assert aimd["fast"]["cost"] == pytest.approx(120 * 96 * 1e-6)
    assert aimd["resource"] == "core-seconds per fs"
    (year,) = record["aimd_year"]
    atoms = year["atoms_of_a_core_year_per_ns"]["value"]
    assert 30e-6 * atoms**2.6 * 1e6 == pytest.approx(365.25 * 86400, rel=1e-6)
    (day,) = [row for row in record["nanosecond_a_day"] if row["engine"] == "deepmd"]
    assert day["atoms"] == pytest.approx(0.0864 / 60e-6, abs=1)
    assert record["not_measured"] == [{"what": "deepmd (tuned) of 5832 atoms", "why": "lmp: lost atoms"}]


def test_a_broken_record_is_one_line(tmp_path):
    path = tmp_path / "cost.json"
    for text, expected in (
        ("{", "expected a cost record"),
        ('{"points": [{"engine": "x"}]}', "KeyError 'setting'"),
    ):
        path.write_text(text)
        with pytest.raises(SuiteError, match=expected):
            read_cost(path)


def test_deposit_is_named_by_the_kind_of_machine(tmp_path, record):
    assert deposit(tmp_path / "cost" / "cost.json", tmp_path / "reference").name == "test-node.json"


def test_page_is_self_contained_and_marks_anchors(tmp_path, record):
    page = write_cost_page(record, tmp_path / "cost.html").read_text()
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert "lost atoms" in page, "failed points are shown"
    for anchor in read_anchors():
        assert anchor["source"] in page
    assert "other machines and other systems" in page
    assert page.count("<svg") >= 2
    night = {
        "date": "d",
        "commit": "c",
        "machine": "m",
        "changed": ["driver 1 -> 2"],
        "flags": ["bks-216: +20%"],
        "unit": "us/step/atom",
        "medians": {"bks-216": 12.345, "all MD together": 1234.5},
    }
    page = write_cost_page(record, tmp_path / "cost.html", nights=[night]).read_text()
    assert "driver 1 -&gt; 2" in page
    assert "bks-216: +20%" in page
    assert "<td>12.3</td><td>1230</td>" in page


def test_deposited_records_are_named_by_their_machine():
    for path, found in deposited_costs().items():
        assert path == DEPOSITED / f"{found['machine']['type']}.json"
        assert found["points"]


def test_of_deposited_records_the_one_with_aimd_and_the_nnp_at_most_sizes_is_judged(tmp_path):
    def record(name, *, aimd, nnp, native=()):
        points = [
            dict.fromkeys(KEYS)
            | {"engine": engine, "n_atoms": size, "us_per_step_atom": [1.0], "kernel": kernel}
            for engine, kernel, sizes in (
                ("cp2k", None, aimd),
                ("deepmd", "deepmd", nnp),
                ("deepmd", "native", native),
            )
            for size in sizes
        ]
        (tmp_path / name).write_text(json.dumps({"points": points}))

    assert judging_record(tmp_path) is None
    record("a.json", aimd=[24, 48, 96], nnp=[96, 216, 648, 2592], native=[24, 48])
    record("b.json", aimd=[96, 216], nnp=[96, 216])
    assert judging_record(tmp_path) == tmp_path / "b.json", "each of its ratios is of one machine"


def test_data_file_of_a_liquid_has_its_atoms(tmp_path):
    from jobs.base.silica import cristobalite, write_data

    workspace = Workspace(PARAMETERS, 0, {}, tmp_path)
    bench = Bench(workspace)
    write_data(workspace.checkpoints / "bks-216.data", cristobalite(1, displacement_angstrom=0.1, seed=1))
    assert read_data(bench.liquid("bks", 648)).n_atoms == 72, "three copies of what stands for 216 atoms"
