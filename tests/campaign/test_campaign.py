"""Tiers turned into stages: the paper tier is the paper's protocol, read from reference/paper.yml."""

import re

import pytest
import yaml

from jobs.base.errors import SuiteError
from jobs.campaign.build import _Builder, build_campaign
from jobs.campaign.parts.pairs import PAIRED_LABELS
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import NNPS
from jobs.campaign.tier import TIERS, read_tier
from jobs.reference.paper import read_paper
from jobs.reference.potentials import deposited_model
from jobs.reference.sets import list_sets, read_set
from jobs.reference.trajectories import thin_trajectories
from jobs.store.stage import Stage
from jobs.store.todo import in_order
from suite.judging.checks import load_claims

NAMES = ("smoke", "laptop", "overnight", "paper")


@pytest.fixture(scope="module")
def paper():
    return build_campaign("paper")


def stated(section):
    return {name: entry.value for name, entry in read_paper().protocol[section].items()}


def behind(campaign, label, kind):
    return [stage for stage in in_order(campaign.labels[label]) if stage.kind == kind]


@pytest.mark.parametrize("start", ["nothing", "frames", "potentials"])
def test_asking_for_a_potential_changes_no_campaign(start):
    about = read_tier("paper")
    campaign = Campaign("paper", start, about, "paper")
    builder = _Builder(campaign, None, lambda md: None)
    for label in ("start-216", "sampler@5000", "sampler@4000", "sampler@3000"):
        builder._run(label, about.runs[label])
    before = (dict(campaign.labels), dict(campaign.runs), dict(campaign.unavailable))
    assert builder.potentials.of("deepmd-216")
    assert builder.potentials.dataset("deepmd-96").kind == "dataset"
    assert (campaign.labels, campaign.runs, campaign.unavailable) == before


def test_first_set_is_the_papers(paper):
    wanted = stated("II.A first set")
    runs = behind(paper, "train-96", "aimd")
    assert len(runs) == stated("II.A initial melt")["configurations"]
    for run in runs:
        given = run.parameters
        assert given["temperatures_K"] == wanted["temperatures"]
        assert given["relaxation_steps"] == wanted["relaxation_steps"]
        assert given["collection_steps"] * given["timestep_fs"] == wanted["collection_time"] * 1000
        assert given["timestep_fs"] == wanted["timestep"]
        assert given["thermostat"] == "nose-hoover"
        assert run.inputs["start"].kind == "melt"
        assert run.inputs["start"].parameters["n_atoms"] == wanted["atoms"]
        assert given["density_g_cm3"] is None  # the melt's own volume, at zero pressure


@pytest.mark.parametrize(
    ("engine", "thermostat", "deviates"),
    [("cp2k", "nose-hoover", True), ("espresso", "csvr", True), ("vasp", "nose-hoover", False)],
)
def test_engine_is_one_word(paper, engine, thermostat, deviates):
    chosen = build_campaign("paper", engine=engine)
    runs = behind(chosen, "train-216", "aimd")
    assert {run.parameters["engine"] for run in runs} == {engine}
    assert {run.parameters["thermostat"] for run in runs} == {thermostat}
    assert any("in place of VASP" in line for line in chosen.deviations) == deviates
    # Named or not, the tier's own engine is the same campaign.
    same = {s.name for s in in_order(chosen.select())} == {s.name for s in in_order(paper.select())}
    assert same == (engine == "cp2k")


def test_melt_is_the_papers(paper):
    wanted = stated("II.A initial melt")
    (melt,) = behind(paper, "train-96", "melt")
    assert melt.parameters["temperature_K"] == wanted["temperature"]
    assert melt.parameters["duration_ps"] == wanted["duration"]
    assert melt.parameters["configurations"] == wanted["configurations"]


def test_second_set_is_drawn_from_the_first_potential(paper):
    wanted = stated("II.A second set")
    runs = [run for run in behind(paper, "train-216", "aimd") if run.parameters["mode"] == "short"]
    assert [run.parameters["temperature_K"] for run in runs] == wanted["sampler_temperatures"]
    for run in runs:
        sampler = run.inputs["start"]
        assert len(run.parameters["frames"]) == wanted["configurations_per_temperature"]
        assert run.parameters["steps"] == wanted["steps_per_configuration"]
        assert run.parameters["timestep_fs"] == wanted["timestep"]
        assert sampler.parameters["n_atoms"] == wanted["atoms"]
        assert sampler.parameters["density_g_cm3"] == wanted["density"]
        assert sampler.parameters["schedule"][-1]["steps"] == wanted["sampler_steps"]
        assert sampler.inputs["potential"].label.startswith("train DeePMD-96")


@pytest.mark.parametrize("name", ["96", "216"])
def test_network_is_trained_as_in_the_paper(paper, name):
    wanted = stated(f"II.B loss of DeePMD-{name}")
    for stage in paper.labels[f"train-{name}"]:
        loss = stage.parameters["loss"]
        assert loss["start_pref_e"] == wanted["energy_start"]
        assert loss["limit_pref_e"] == wanted["energy_limit"]
        assert loss["start_pref_f"] == wanted["force_start"]
        assert loss["limit_pref_f"] == wanted["force_limit"]
        assert loss["start_pref_v"] == loss["limit_pref_v"] == 0
        assert stage.parameters["decay_steps"] == stated("II.B network")["decay_steps"]
        assert stage.parameters["precision"] == "float64"
    assert len(paper.labels[f"train-{name}"]) >= 4


@pytest.mark.parametrize(("label", "atoms"), [("glass-96", "96"), ("glass-216", "216")])
def test_glass_is_quenched_as_in_the_paper(paper, label, atoms):
    wanted = stated("II.C glass")
    quenches = [observed.inputs["trajectory"] for observed in paper.labels[label]]
    assert len(quenches) >= 5
    for quench in quenches:
        given = quench.parameters
        assert given["n_atoms"] == wanted[f"atoms_of_DeePMD-{atoms}"]
        assert given["rate_K_per_s"] == wanted["cooling_rate"]
        assert (given["from_K"], given["to_K"]) == (wanted["from_temperature"], wanted["to_temperature"])
        assert given["switch_K"] == wanted["timestep_change"]
        assert given["timestep_above_fs"] == wanted["timestep_above"]
        assert given["timestep_below_fs"] == wanted["timestep_below"]
        assert given["anneal_steps"] == wanted["anneal_steps"]
        assert given["damping_fs"] == wanted["damping"]


@pytest.mark.parametrize(("label", "size"), [("liquid-96-nvt", "96"), ("liquid-216-nvt", "216")])
def test_liquid_runs_as_long_as_in_the_paper(paper, label, size):
    wanted = stated("II.C liquid")
    run = paper.labels[label][0].inputs["trajectory"].parameters
    assert run["schedule"][-1] == {"temperature_K": 3000.0, "steps": wanted[f"steps_of_DeePMD-{size}"]}
    assert run["timestep_fs"] == wanted["timestep"]
    assert run["damping_fs"] == wanted["damping"]


@pytest.mark.parametrize("tier", NAMES)
def test_identities_are_unique_and_repeatable(tier):
    first, second = (in_order(build_campaign(tier).select()) for _ in range(2))
    assert [stage.identity for stage in first] == [stage.identity for stage in second]
    assert len({stage.identity for stage in first}) == len(first)


@pytest.mark.parametrize("deposit", ["overnight", "paired"])
def test_identities_are_promises(deposit):
    """What was deposited under a name still has it, wherever a run of the same protocol is planned today."""
    runs = {
        stage.label: stage
        for of in build_campaign("overnight", start_from="potentials").runs.values()
        for stage in of
    }
    same = {
        label: thin
        for label, thin in thin_trajectories(deposit).items()
        if label in runs and thin.other_protocol(runs[label]) is None
    }
    models = {name: deposited_model(name)[1]["sha256"] for name in (*NNPS, "overfitted-96")}
    for label, thin in same.items():
        if set(thin.models.values()) <= set(models.values()):
            assert runs[label].name == thin.stage, label


def test_every_label_a_claim_needs_is_known():
    """A typing error in claims.yml or a tier would turn a claim into NOT TESTED for good."""
    not_yet = {"cost", *PAIRED_LABELS}
    everywhere = set().union(*(build_campaign(name).labels for name in NAMES)) | not_yet
    for atom in load_claims():
        for label in atom.needs:
            assert label in everywhere or label.startswith("reference-"), f"{atom.id} needs {label}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("start", "start-97", "run liquid-96-bks starts from start-97, expected melt or a run above"),
        ("replicas", 99, "run liquid-96-bks has 99 replicas, expected at most the"),
        (
            "start",
            "melt",
            "run liquid-96-bks: found no atoms, expected their number for a start from the melt",
        ),
    ],
)
def test_runs_that_do_not_fit_together_are_one_line(tmp_path, key, value, expected):

    content = yaml.safe_load((TIERS / "smoke.yml").read_text())
    content["runs"]["liquid-96-bks"][key] = value
    tier = tmp_path / "own.yml"
    tier.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(SuiteError) as caught:
        build_campaign(str(tier))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_melts_are_shared_only_where_a_run_says_so(tmp_path):

    path, content = tmp_path / "own.yml", yaml.safe_load((TIERS / "reference.yml").read_text())
    first = content["runs"]["bks-a"]
    melts = content["melt"]["configurations"]
    assert first["replicas"] == 3 * melts

    def plan(**changes):
        content["runs"]["bks-a"] = first | changes
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return build_campaign(str(path)).runs["bks-a"]

    runs = plan()
    assert runs[melts].parameters["configuration"] == runs[0].parameters["configuration"]
    assert runs[melts].seed != runs[0].seed
    with pytest.raises(SuiteError, match=f"expected at most the {melts} of melt: .*; with share_melts: true"):
        plan(share_melts=False)


def test_own_potential_is_known_by_its_files_not_by_their_place(tmp_path):
    identities = []
    for number, (folder, parameters) in enumerate([("a", "1.0"), ("b", "1.0"), ("c", "2.0")]):
        place = tmp_path / folder
        place.mkdir()
        (place / "own.lmp").write_text("pair_style tersoff\npair_coeff * * own.tersoff Si O\n")
        (place / "own.tersoff").write_text(parameters)
        planned = build_campaign("smoke", potential=place / "own.lmp")
        identities.append(behind(planned, "liquid-96-nvt", "potential")[0].identity)
        assert re.fullmatch("smoke-own-[0-9a-f]{6}", planned.results_name)
        assert not any("training" in line or "float32" in line for line in planned.deviations)
        assert "train-96" in planned.unavailable, number
    assert identities[0] == identities[1] != identities[2]


def test_results_of_different_runs_have_different_folders(tmp_path):
    names = {build_campaign("laptop", start_from=start).results_name for start in (None, "potentials")}
    names |= {build_campaign("paper", engine=engine).results_name for engine in (None, "cp2k", "espresso")}
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "graph.pb").write_text(version)
        planned = build_campaign("laptop", potential=tmp_path / version / "graph.pb")
        names.add(re.sub("[0-9a-f]{6}$", version, planned.results_name))
        assert planned.results_name not in names
    assert names == {
        *("laptop", "laptop-potentials", "paper", "paper-espresso"),
        *("laptop-graph-v1", "laptop-graph-v2"),
    }


def test_another_level_of_theory_of_the_reference_is_a_deviation():
    judges = {s.level for s in list_sets() if s.use == "judge" and s.kind == "trajectory"}
    campaign = build_campaign("laptop")
    learnt = {read_set(name).level for name in campaign.about.frames["deepmd-96"]}
    said = [line for line in campaign.deviations if line.startswith("the AIMD reference is by CP2K PBE")]
    assert len(said) == len(judges - learnt) > 0


def test_deviations_are_those_of_the_deposited_potential():
    """What is judged was trained by another tier than the one that judges it."""
    said = "\n".join(build_campaign("paper", start_from="potentials").deviations)
    for nnp in NNPS:
        _, record = deposited_model(nnp)
        assert f"{record['name']} is the deposited one, of the {record['tier']} tier: 1 seed" in said
        assert f"{record['steps']} training steps in place of our 1000000" in said
    assert "training seed(s)" not in said


def test_the_reference_is_named_for_a_potential_of_ones_own(tmp_path):
    own = tmp_path / "own.lmp"
    own.write_text("pair_style zero 6.0\npair_coeff * *\n")
    said = "\n".join(build_campaign("laptop", potential=own).deviations)
    assert "what own.lmp learned from is not known: held-out frames are by CP2K PBE" in said
    assert ", the AIMD reference by CP2K PBE DZVP-MOLOPT-SR-GTH GAPW 280" in said
    said = "\n".join(build_campaign("paper", engine="vasp", start_from="nothing").deviations)
    assert "the AIMD reference is deposited, by CP2K PBE" in said


def test_gc_keeps_runs_that_nobody_observes(tmp_path, capsys):
    from jobs.cli.housekeeping.gc import collect_garbage
    from jobs.store.store import Store

    started = build_campaign("reference").runs["nnp-3000"][0]
    (tmp_path / started.name).mkdir()
    (tmp_path / "md-0123456789abcdef").mkdir()
    collect_garbage(build_campaign("laptop"), Store(tmp_path), forget=(), trajectories=False, really=True)
    assert [path.name for path in tmp_path.glob("md-*")] == [started.name]
    assert "deleted" in capsys.readouterr().out


def test_gc_keeps_what_cost_measured_and_what_a_site_was_found_to_be(tmp_path, capsys):
    from jobs.base.machine import node_type
    from jobs.cli.housekeeping.gc import collect_garbage
    from jobs.cli.speed.cost import measure
    from jobs.cost.plan import Plan, cost_stage
    from jobs.cost.tune import potential_stage
    from jobs.store.store import Recipe, Store
    from jobs.store.workspace import Workspace

    store = Store(tmp_path / "store")
    store.prepare()
    own = tmp_path / "own.pb"
    own.write_bytes(b"a network")
    potential = potential_stage(own)
    cost = cost_stage(Plan(), potential, label="cost", cores=1, machine_type=node_type())
    probe = Stage("probe", "probe", {"site": "x"})
    for stage in (potential, cost, probe):  # measured before, so that nothing runs here
        store.part(stage.name).mkdir()
        (store.part(stage.name) / "cost.json").write_text("{}")
        store.finish(Recipe.of(stage), Workspace({}, 0, {}, store.part(stage.name)), wall_seconds=1.0)
    measure(store, Plan(), potential=own, cores=1, results=tmp_path / "results", again=False)
    assert (tmp_path / "results" / "cost.json").read_text() == "{}"
    collect_garbage(build_campaign("smoke"), store, forget=(), trajectories=False, really=True)
    assert set(store.finished()) == {potential.name, cost.name, probe.name}
    assert f"cost-{node_type()}" in capsys.readouterr().out


def test_gc_keeps_cost_records_and_trajectories_that_others_start_from(tmp_path, capsys):
    from jobs.cli.housekeeping.gc import collect_garbage
    from jobs.store.store import Recipe, Store
    from jobs.store.workspace import Workspace

    store, laptop = Store(tmp_path), build_campaign("laptop")
    store.prepare()
    observed = next(stage for stage in laptop.labels["liquid-96-nvt"])
    trajectory = observed.inputs["trajectory"]

    def made(stages):
        for stage in stages:
            store.part(stage.name).mkdir()
            store.finish(Recipe.of(stage), Workspace({}, 0, {}, store.part(stage.name)), wall_seconds=1.0)

    def freed():
        collect_garbage(laptop, store, forget=(), trajectories=True, really=True)
        capsys.readouterr()
        return not store.is_done(trajectory.name)

    made([trajectory, observed])
    (tmp_path / "cost-0123456789abcdef").mkdir()
    assert not freed(), "other runs of the tier start from it"
    assert (tmp_path / "cost-0123456789abcdef").is_dir()
    waiting = [s for s in laptop.all_stages() if trajectory in s.inputs.values() and s != observed]
    assert waiting
    made(waiting)
    assert freed()


def test_gc_keeps_what_was_run_in_the_store_until_it_is_forgotten(tmp_path, capsys):
    """A tier file or a potential of one's own that nobody names to gc."""
    from jobs.cli.housekeeping.gc import collect_garbage
    from jobs.store.store import Store

    store, laptop = Store(tmp_path / "store"), build_campaign("laptop")
    (tmp_path / "own.lmp").write_text("pair_style zero 5.0\npair_coeff * *\n")
    own = build_campaign("smoke", potential=tmp_path / "own.lmp")
    product = store.path(own.labels["liquid-96-nvt"][0].name)
    store.remember(own.results_name, (stage.name for stage in own.all_stages()))
    product.mkdir()

    def collect(**options):
        collect_garbage(laptop, store, **{"forget": (), "trajectories": False, "really": True} | options)
        return capsys.readouterr().out

    assert f"kept: what the built-in tiers plan, and laptop, {own.results_name}" in collect()
    assert product.is_dir()
    with pytest.raises(SuiteError, match="--forget: found smoke-own, expected one of smoke-own-"):
        collect(forget=("smoke-own",))
    assert "would delete" in collect(forget=(own.results_name,), really=False)
    assert product.is_dir()
    assert f"deleted {product}" in collect(forget=(own.results_name,))
    assert not product.exists()
    assert store.plans() == {}


def test_a_demanded_kernel_reaches_every_networks_md_and_no_identity(tmp_path):
    content = yaml.safe_load((TIERS / "smoke.yml").read_text())
    path = tmp_path / "deepmd.yml"
    path.write_text(yaml.safe_dump({**content, "md": {"kernel": "deepmd"}}, sort_keys=False))
    free, demanded = build_campaign("smoke"), build_campaign(str(path))
    names = [sorted(s.name for stages in c.runs.values() for s in stages) for c in (free, demanded)]
    assert names[0] == names[1]
    stages = [stage for stages in demanded.runs.values() for stage in stages]
    by_network = [stage for stage in stages if "potential" in stage.inputs]
    assert {stage.wanted_kernel for stage in by_network} == {"deepmd"}
    assert {stage.wanted_kernel for stage in stages if stage not in by_network} == {None}
    assert {stage.wanted_kernel for stages in free.runs.values() for stage in stages} == {None}


def test_a_kernel_that_does_not_exist_is_refused(tmp_path):
    content = yaml.safe_load((TIERS / "smoke.yml").read_text())
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump({**content, "md": {"kernel": "fortran"}}, sort_keys=False))
    with pytest.raises(SuiteError, match=r"own.yml: .*kernel.*fortran"):
        build_campaign(str(path))
