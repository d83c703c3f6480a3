"""MD that starts from frames of deposited AIMD: the start is kept, and planted faults are what they say."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.silica import MASSES_AMU
from jobs.base.trajectory import open_trajectory
from jobs.base.units import BOLTZMANN_EV_K, EV_PER_AMU_A2_FS2
from jobs.campaign.build import build_campaign
from jobs.campaign.parts.pairs import FAULTY_RUNS, PAIRED_LABELS
from jobs.reference.paper import shared_noise
from jobs.reference.sets import DEPOSIT, list_sets, read_run, read_set
from jobs.stages.motion import paired
from jobs.stages.observations import observe_pairs
from jobs.store.todo import in_order
from jobs.store.workspace import Workspace

SET, RUN, FRAME = "pbe-96-md-nnp-3000K-nve", "nnp-906-3000K", 40


def parameters(**changes):
    return {
        "reference": {"set": SET, "run": RUN, "sha256": read_set(SET).sha256},
        "first_frame": FRAME,
        "steps": 24,
        "timestep_fs": 2.0,
        "temperature_K": 3000.0,
        "thermostatted": False,
        "damping_fs": None,
        "potential": "bks",
        **changes,
    }


def run(directory, **changes):
    directory.mkdir()
    workspace = Workspace(parameters(**changes), seed=1, inputs={}, directory=directory)
    paired.run(workspace)
    assert workspace.facts["kernel"] is None, "BKS has none; of an NNP the manifest says it"
    return open_trajectory(directory)


def start():
    return read_run(read_set(SET), RUN).select(slice(FRAME, FRAME + 1))


@pytest.mark.engine
def test_it_goes_on_from_the_frame(tmp_path):
    trajectory = run(tmp_path / "md")
    frame = start()
    moved = trajectory.positions(0, 1)[0] - frame.positions[0]
    edges = trajectory.cell
    np.testing.assert_allclose(moved - edges * np.round(moved / edges), 0, atol=1e-9)
    np.testing.assert_allclose(trajectory.velocities(0, 1)[0], frame.velocities[0], atol=1e-12)
    assert trajectory.n_frames == 25
    assert trajectory.time_between_frames_fs == 2.0
    assert trajectory.facts["aimd_run"] == f"{SET}/{RUN}"
    # Newton without a thermostat: energy stands still beside what is exchanged.
    total = trajectory.thermo(0)["total_eV"]
    kinetic = trajectory.thermo(0)["temperature_K"] * 1.5 * 95 * BOLTZMANN_EV_K
    assert np.std(total) < 0.05 * np.std(kinetic)


def first_accelerations(trajectory):
    """From velocity Verlet's first step: r(dt) = r + v dt + a dt^2 / 2."""
    step = trajectory.time_between_frames_fs
    positions, velocities = trajectory.positions(0, 2), trajectory.velocities(0, 1)[0]
    return 2 * (positions[1] - positions[0] - velocities * step) / step**2


@pytest.mark.engine
def test_faults_of_runs_are_what_they_say(tmp_path):
    honest = run(tmp_path / "honest")
    oxygen = honest.types == 1
    faulty = {fault: run(tmp_path / fault, fault=fault) for fault in FAULTY_RUNS}
    a = first_accelerations(honest)
    np.testing.assert_allclose(first_accelerations(faulty["soft"]), 0.9 * a, atol=1e-6)
    heavy = first_accelerations(faulty["mass"])
    np.testing.assert_allclose(heavy[oxygen], a[oxygen] * 15.999 / 18, atol=1e-6)
    np.testing.assert_allclose(heavy[~oxygen], a[~oxygen], atol=1e-6)
    scaled = faulty["hot"].velocities(0, 1) / honest.velocities(0, 1)
    np.testing.assert_allclose(scaled**2, 1.1, rtol=1e-6)
    assert faulty["time-step"].time_between_frames_fs == 6.0
    assert faulty["time-step"].n_frames == 9
    assert np.prod(honest.cell) / np.prod(faulty["density"].cell) == pytest.approx(1.02)


def test_heat_is_what_rescaling_gave():
    """Velocities of free flight, rescaled by known factors: the heat comes back."""
    rng = np.random.default_rng(1)
    factors = 1 + 0.02 * rng.normal(size=30)
    velocities = 0.01 * rng.normal(size=(96, 3))
    types = np.repeat(np.array([0, 1], np.int8), [32, 64])
    velocities -= (velocities * MASSES_AMU[types][:, None]).sum(axis=0) / MASSES_AMU[types].sum()
    course = velocities * np.sqrt(np.cumprod([1.0, *factors]))[:, None, None]
    frames = replace(
        start(),
        types=types,
        velocities=course,
        energies_eV=np.full(31, -1000.0),
        positions=np.zeros((31, 96, 3)),
    )
    before, rise = paired.heat(frames)
    np.testing.assert_allclose(rise / before, factors - 1, rtol=1e-9)
    masses = MASSES_AMU[types]
    kelvin = (
        (course[:-1] ** 2 * masses[:, None]).sum(axis=(1, 2)) * EV_PER_AMU_A2_FS2 / (285 * BOLTZMANN_EV_K)
    )
    np.testing.assert_allclose(before, kelvin, rtol=1e-9)


def test_without_a_thermostat_there_is_hardly_any_heat():
    def scatter(name, one):
        return np.std(paired.heat(read_run(read_set(name), one))[1][40:])

    ripple = scatter(SET, RUN)
    assert ripple < 0.1 * scatter("pbe-96-md-nnp-3000K", "nnp-907-3000K")


def test_runs_that_share_a_noise_are_the_listed_ones():
    """The heat of their thermostats is the same, step by step; of any two others it is not."""
    heats = {}
    for deposited in list_sets():
        if (
            deposited.kind == "trajectory"
            and deposited.use == "judge"
            and deposited.facts["thermostat"] != "none"
        ):
            for one in deposited.runs:
                heats[f"{deposited.name}/{one.id}"] = paired.heat(read_run(deposited, one.id))[1]
    for first, second in combinations(heats, 2):
        draws = {shared_noise().get(name, name) for name in (first, second)}
        steps = min(len(heats[first]), len(heats[second]))
        alike = np.corrcoef(heats[first][:steps], heats[second][:steps])[0, 1]
        assert alike > 0.95 if len(draws) == 1 else abs(alike) < 0.4, (first, second)


@pytest.mark.engine
@pytest.mark.parametrize("damping_fs", [None, 100.0])
def test_the_thermostats_heat_is_replayed(tmp_path, damping_fs):
    name, one = "pbe-96-md-nnp-3000K", "nnp-907-3000K"
    reference = {"set": name, "run": one, "sha256": read_set(name).sha256}
    trajectory = run(
        tmp_path / "md", reference=reference, thermostatted=True, damping_fs=damping_fs, steps=60
    )
    thermo = trajectory.thermo(0)
    given = np.diff(thermo["total_eV"]) / (1.5 * 95 * BOLTZMANN_EV_K)
    now = thermo["temperature_K"][1:] - given
    before, rise = (part[FRAME : FRAME + 60] for part in paired.heat(read_run(read_set(name), one)))
    back = 2.0 / damping_fs if damping_fs else 0.0
    np.testing.assert_allclose(given, rise + back * (before - now), atol=25)  # K; the heat scatters by 50
    assert np.corrcoef(given, rise + back * (before - now))[0, 1] > 0.97


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_frame": 400}, "found 161 frames, expected 400 to 424"),
        ({"reference": {"set": SET, "run": RUN, "sha256": "0"}}, "found another set.yml than was planned"),
        ({"fault": "cold"}, "fault: found 'cold'"),
        ({"reference": {"set": SET, "run": "x", "sha256": read_set(SET).sha256}}, "found no run x"),
    ],
)
def test_refusals(tmp_path, changes, message):
    with pytest.raises(SuiteError, match=message) as caught:
        run(tmp_path / "md", **changes)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def campaign():
    return build_campaign("laptop", start_from="potentials")


def test_each_judging_run_starts_its_pairs_where_its_equilibrium_begins(campaign):
    judging = [
        (deposited, one)
        for deposited in list_sets()
        if deposited.kind == "trajectory" and deposited.use == "judge" and deposited.n_atoms == 96
        for one in deposited.runs
    ]
    assert len(judging) == 10
    for who in ("nnp", "other", "bks"):
        stages = campaign.runs[f"paired-96-{who}"]
        for (deposited, one), stage in zip(judging, sorted(stages, key=in_set_order(judging)), strict=True):
            given = stage.parameters
            assert given["reference"]["run"] == one.id
            assert given["first_frame"] == one.unequilibrated_frames
            assert given["first_frame"] + given["steps"] == one.frames - 1
            assert given["timestep_fs"] == deposited.facts["timestep_fs"]
            assert given["thermostatted"] == (deposited.facts["thermostat"] != "none")


def in_set_order(judging):
    places = {one.id: place for place, (_, one) in enumerate(judging)}
    return lambda stage: places[stage.parameters["reference"]["run"]]


def test_both_sides_are_observed_alike(campaign):
    aimd = dict(campaign.labels["paired-96-aimd"][0].parameters)
    network = dict(campaign.labels["paired-96-nnp"][0].parameters)
    del aimd["references"]
    assert aimd == network


def test_faults_are_planted_in_the_paired_runs_of_deepmd_96(campaign):
    by = {label: in_order(campaign.labels[label]) for label in PAIRED_LABELS if label.startswith("paired-96")}
    for fault in FAULTY_RUNS:
        runs = [stage for stage in by[f"paired-96-{fault}"] if stage.kind == "paired"]
        assert [stage.parameters["fault"] for stage in runs] == [fault] * 10
        assert {stage.inputs["potential"].parameters["name"] for stage in runs} == {"DeePMD-96"}
    stretched = campaign.labels["paired-96-stretch"][0]
    assert {stage.parameters["reference"]["run"] for stage in stretched.inputs.values()} == {
        stage.parameters["reference"]["run"] for stage in campaign.runs["paired-96-nnp"]
    }


def test_aimd_of_216_atoms_is_paired():
    """From network states only: no start gate stands before a paired comparison."""
    planned = build_campaign("laptop", start_from="potentials")
    names = {
        who: {stage.inputs["potential"].parameters["name"] for stage in planned.runs[f"paired-216-{who}"]}
        for who in ("nnp", "other")
    }
    assert names == {"nnp": {"DeePMD-216"}, "other": {"DeePMD-96"}}
    references = planned.labels["paired-216-aimd"][0].parameters["references"]
    assert len(references) == len(read_set("pbe-216-md-nnp-3000K").runs)
    assert "paired-216-bks" in planned.labels


def test_deposited_aimd_has_what_a_pair_starts_from():
    for deposited in list_sets():
        if deposited.kind == "trajectory" and deposited.use == "judge":
            for one in deposited.runs:
                assert read_run(deposited, one.id).velocities is not None, (deposited.name, one.id)


def test_observed_one_by_one_as_observe_does(tmp_path):
    reference = {"set": SET, "run": RUN, "sha256": read_set(SET).sha256}
    shared = dict(build_campaign("laptop", start_from="potentials").labels["paired-96-nnp"][0].parameters)
    given = {**shared, "references": [{"reference": reference, "skip_frames": FRAME}]}
    observe_pairs.run(Workspace(given, seed=0, inputs={}, directory=tmp_path))
    folder = tmp_path / "run-001"
    facts = json.loads((folder / "observe.json").read_text())
    assert facts["aimd_run"] == f"{SET}/{RUN}"
    assert facts["frames"] == 120
    # The oracle: g(r) integrates to the number of O around Si that the coordination counts.
    with np.load(folder / "observables.npz") as arrays:
        r, g = arrays["rdf_r"], arrays["rdf_Si-O"].mean(axis=0)
        shares = arrays["coordination_SiO"].mean(axis=0)
    volume = np.prod(np.diag(read_run(read_set(SET), RUN).cells[0]))
    inside = r < 2.4
    shells = 4 / 3 * np.pi * ((r + 0.01) ** 3 - (r - 0.01) ** 3)
    counted = float((g * shells)[inside].sum() * 64 / volume)
    assert counted == pytest.approx(shares @ np.arange(len(shares)), abs=0.02)
    assert DEPOSIT.is_dir()
