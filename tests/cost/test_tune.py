"""Tuning: the search finds the fastest setting, the answer is kept and used as resources only."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.cost.points import Point
from jobs.cost.tune import (
    MODELS,
    SKINS_ANGSTROM,
    Meter,
    Search,
    answer,
    axes,
    every_setting,
    layouts,
    plain_default,
    search,
    suite_default,
)
from jobs.engines.lammps.program import MPI_LAUNCH, lammps_command, lammps_environment
from jobs.engines.process import executable
from jobs.reference.potentials import deposited_model
from jobs.running.scheduler import recipe_of
from jobs.running.site_files import read_site
from jobs.stages.motion import md
from jobs.store.machine_settings import SKIN_ANGSTROM, Tuning, read_tuning, tuning_file
from jobs.store.stage import Stage
from jobs.store.workspace import Workspace
from tests.helpers.md_tools import crystal_product

CORES = 4


def true_cost(setting):
    """A machine on which float32, compression, ranks and a skin of 1.5 A pay, with an interaction."""
    cost = 100.0
    cost *= 0.5 if setting.precision == "float32" else 1.0
    cost *= 0.8 if setting.compressed else 1.0
    cost *= 1 + 0.1 * (setting.layout.threads - 1)
    cost *= 0.9 if setting.layout.replicas > 1 and setting.compressed else 1.0
    return cost * (1 + 0.1 * abs(setting.layout.skin_angstrom - 1.5))


def found_by_search(*, noise=0.02, seed=0, time_left=lambda: True, cores=CORES):
    rng = np.random.default_rng(seed)
    return search(
        lambda setting: true_cost(setting) * np.exp(noise * rng.normal()),
        start=suite_default(cores), plain=plain_default(cores), alternatives=axes(cores), time_left=time_left,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_search_is_within_five_per_cent_of_an_exhaustive_sweep(seed):
    best = min(map(true_cost, every_setting(CORES)))
    found = found_by_search(seed=seed)
    assert true_cost(found.best()) <= 1.05 * best
    assert found.complete
    launches = sum(map(len, found.samples.values()))
    assert launches < len(every_setting(CORES)), "a fraction of one launch of each"


def test_without_time_the_default_is_compared_with_the_plain_one_and_no_more():
    found = found_by_search(time_left=lambda: False)
    assert not found.complete
    assert set(found.samples) == {suite_default(CORES), plain_default(CORES)}


def test_only_a_setting_of_the_last_comparison_wins():
    """The three best of few launches get slower when they run again; the fourth did not run again."""
    settings = every_setting(CORES)[:4]
    start, (*others, fourth) = settings[0], settings[1:]
    launched = dict.fromkeys(settings, 0)

    def measure(setting):
        launched[setting] += 1
        return 4.0 if setting == fourth else 3.0 if launched[setting] <= 3 else 9.0

    to = [lambda setting, other=other: other for other in (*others, fourth)]
    found = search(measure, start=start, plain=start, alternatives=[to], time_left=lambda: True)
    assert [len(found.samples[setting]) for setting in settings] == [6, 6, 6, 3]
    assert found.best() in (start, *others)


def test_threads_are_those_of_a_setting_of_the_last_comparison():
    alone = [one for one in every_setting(CORES) if one.layout.replicas == 1]
    one_thread = next(one for one in alone if one.layout.threads == 1)
    two_threads = next(one for one in alone if one.layout.threads == 2)
    found = Search({one_thread: [5.0] * 6, two_threads: [1.0] * 3}, finals=[one_thread])
    content = answer(found, plain=plain_default(CORES), cores=CORES)
    assert content["resources"]["threads"] == 1


def test_what_is_swept():
    settings = every_setting(CORES)
    assert len(set(settings)) == len(settings) == len(MODELS) * len(layouts(CORES)) * len(SKINS_ANGSTROM)
    assert all(setting.layout.cores == CORES for setting in settings)
    assert [way.cores for way in layouts(1)] == [1]
    assert {(way.ranks, way.gpus) for way in layouts(8, gpus=2)} == {(1, 1), (2, 2)}
    plain = plain_default(2)
    assert (plain.precision, plain.compressed, plain.layout.threads, plain.layout.skin_angstrom) == (
        "float64", False, 2, 2.0,
    )  # fmt: skip


def test_answer_is_kept_and_read_as_resources(tmp_path):
    found = found_by_search()
    content = answer(found, plain=plain_default(CORES), cores=CORES)
    path = tuning_file(tmp_path, "node")
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    read = read_tuning(tmp_path, "node")
    assert read == Tuning(threads=1, skin_angstrom=1.5)
    assert read_tuning(tmp_path, "another-node") is None, "what was tuned elsewhere is not used here"
    medians = {json.dumps(row["samples"]): row["median"] for row in content["measurements"]}
    assert len(medians) == len(found.samples)


@pytest.mark.parametrize(
    "broken", ["[]", "{}", '{"resources": {"threads": 0, "skin_angstrom": 1}}',
               '{"resources": {"threads": 1, "skin_angstrom": -1}}'],
)  # fmt: skip
def test_broken_answer_is_one_line(tmp_path, broken):
    path = tuning_file(tmp_path, "node")
    path.parent.mkdir()
    path.write_text(broken)
    with pytest.raises(SuiteError, match=r"node.json: found .*expected"):
        read_tuning(tmp_path, "node")


def test_split_uses_every_core():
    assert Tuning().split(8, "deepmd") == (8, 1)
    assert Tuning(threads=2).split(8, "deepmd") == (4, 2)
    assert Tuning(threads=2).split(1, "deepmd") == (1, 1)
    assert Tuning(threads=2).split(7, "deepmd") == (7, 1)
    assert Tuning(threads=2).split(8, "bks") == (8, 1), "it would leave the threads idle"


MD = {
    "potential": "tersoff", "configuration": 0, "replicate": [1, 1, 1], "density_g_cm3": 2.2,
    "timestep_fs": 0.5, "damping_fs": 100.0, "ensemble": "nvt", "thermostat": "nose-hoover",
    "schedule": [{"temperature_K": 300.0, "steps": 20}], "dump_every": 10, "thermo_every": 10,
    "checkpoint_every": 20, "ranks": 1,
}  # fmt: skip


@pytest.mark.engine
def test_a_second_potential_is_not_measured_with_the_models_of_the_first(tmp_path):
    used = set()
    for name in ("deepmd-96", "deepmd-216"):
        product = tmp_path / name
        product.mkdir()
        (product / "model.pb").symlink_to(deposited_model(name)[0])
        bench = Meter(product, tmp_path / "work", cores=1).bench
        used.add(file_sha256(bench._model(Point("deepmd", "tuned", 96, "float64", compressed=False))))
    assert len(used) == 2


@pytest.mark.engine
def test_md_uses_what_was_tuned_and_its_identity_does_not_know(tmp_path):
    start = crystal_product(tmp_path / "start")
    for name, tuning, skin, job, used in (
        ("untuned", None, SKIN_ANGSTROM, {"cores": 1}, (1, 1)),
        ("tuned", Tuning(1, 1.7), 1.7, {"cores": 1}, (1, 1)),
        # Threads were tuned on the network; Tersoff has no use for them.
        ("tuned-threads", Tuning(2, 1.7), 1.7, {"cores": 2}, (2, 1)),
        # A job whose one GPU takes one rank, whatever was tuned on cores.
        ("on-a-gpu", Tuning(1, 1.7), 1.7, {"cores": 2, "ranks": 1}, (1, 2)),
    ):
        directory = tmp_path / name
        directory.mkdir()
        md.run(Workspace(MD, 1, {"start": start}, directory, tuning=tuning, **job))
        facts = json.loads((directory / "md.json").read_text())
        assert facts["skin_angstrom"] == skin
        assert (facts["ranks"], facts["threads"]) == used
        assert f"neighbor {skin} bin" in (directory / "checkpoints" / "from-0.in").read_text()
    stage = Stage("md", "md", MD)
    assert replace(stage, cores=8).identity == stage.identity


@pytest.mark.engine
def test_md_has_as_many_ranks_as_the_scheduler_starts_whatever_was_tuned(tmp_path, monkeypatch):
    site = tmp_path / "site.yml"
    about = {"name": "x", "batch_type": "Slurm", "cores_per_node": 2, "kinds": {"default": {}}}
    site.write_text(json.dumps(about | {"mpi": {"launcher": "srun"}}))
    recipe = recipe_of(read_site(str(site)), Stage("md", "md", MD | {"ranks": 2}, cores=2))
    # What srun would start: LAMMPS on two ranks, with what it needs set for it.
    program = lammps_command("x", ranks=1)[0]
    needs = [f"{key}={value}" for key, value in lammps_environment(1).items() if "LIBRARY_PATH" in key]
    monkeypatch.setenv(MPI_LAUNCH, shlex.join([executable("mpirun"), "-n", "2", "env", *needs, program]))
    start, directory = crystal_product(tmp_path / "start"), tmp_path / "md"
    directory.mkdir()
    job = {"cores": recipe.cores, "ranks": recipe.ranks, "tuning": Tuning(2, 1.7)}
    md.run(Workspace(recipe.parameters, 1, {"start": start}, directory, **job))
    facts = json.loads((directory / "md.json").read_text())
    assert (facts["ranks"], facts["threads"], facts["skin_angstrom"]) == (2, 1, 1.7)
