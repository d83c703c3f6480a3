"""Site files: what they say is what jobs ask for, and what is wrong in them is one line."""

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.base.errors import SuiteError
from jobs.base.machine import IMAGE_VARIABLE
from jobs.campaign.build import build_campaign
from jobs.cli import overview
from jobs.running import batch, scheduler
from jobs.running.site_files import known_sites, read_site
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.todo import in_order
from jobs.store.workspace import Workspace

needs_dpdispatcher = pytest.mark.skipif(
    find_spec("dpdispatcher") is None, reason="needs dpdispatcher: pip install -e '.[hpc]'"
)
MINIMAL = {
    "name": "x",
    "batch_type": "Slurm",
    "kinds": {"default": {"queue": "q", "flags": ["#SBATCH --account=a"]}},
}


def write(tmp_path: Path, content: dict) -> str:
    path = tmp_path / "site.yml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return str(path)


@pytest.mark.parametrize(
    ("site", "potential", "ranks", "cores"),
    [
        ("example-gpu", Stage("train", "network", {}), 1, 8),
        ("example-gpu", Stage("potential", "network", {"family": "deepmd"}), 1, 8),
        ("example-gpu", Stage("potential", "own", {"family": "lammps"}), 1, 8),
        ("example-gpu", None, 16, 16),
        ("example-gpu", Stage("train_hdnnp", "network", {}), 16, 16),
        ("example-cpu", Stage("train", "network", {}), 16, 16),
    ],
)
def test_md_on_gpus_has_one_rank_for_each(site, potential, ranks, cores) -> None:
    inputs = {} if potential is None else {"potential": potential}
    stage = Stage("quench", "glass", {"ranks": 16}, inputs=inputs, cores=16)
    assert scheduler.ranks(read_site(site), stage) == ranks
    assert scheduler.nodes_and_cores(read_site(site), stage) == (1, cores)


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_on_a_gpu_are_fixed_whatever_was_tuned_on_cores(ranks) -> None:
    """`Tuning(threads=32).split(8, "deepmd")` is eight ranks, which would share one GPU."""
    potential = Stage("train", "network", {})
    stage = Stage("md", "liquid", {"ranks": ranks}, inputs={"potential": potential}, cores=ranks)
    assert scheduler.recipe_of(read_site("example-gpu"), stage).ranks == 1
    assert scheduler.recipe_of(read_site("example-pbs"), stage).ranks is None


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        (Stage("md", "m", {"potential": "bks"}), "default"),
        (Stage("parity", "p", {"potential": "bks"}), "default"),
        (Stage("quench", "q", {}, inputs={"potential": Stage("train_hdnnp", "t", {})}), "default"),
        (Stage("md", "m", {}, inputs={"potential": Stage("potential", "p", {"family": "hdnnp"})}), "default"),
        (Stage("md", "m", {}, inputs={"potential": Stage("train", "t", {})}), "md"),
        (Stage("md", "m", {}, inputs={"potential": Stage("potential", "p", {"family": "deepmd"})}), "md"),
        (Stage("md", "m", {}, inputs={"potential": Stage("potential", "p", {"family": "lammps"})}), "md"),
        (
            Stage("md", "m", {}, inputs={"potential": Stage("train", "t", {})}, wanted_kernel="native"),
            "default",
        ),
        (Stage("train", "t", {}), "train"),
        (Stage("potential", "p", {"family": "deepmd"}), "potential"),
        (Stage("potential", "p", {"family": "hdnnp"}), "default"),
        (Stage("aimd", "a", {}), "aimd"),
        (Stage("melt", "m", {}), "melt"),  # its kind asks for no GPU
    ],
)
def test_what_cannot_use_a_gpu_holds_none(tmp_path: Path, stage: Stage, place: str) -> None:
    kinds = {kind: {"gpus": 1} for kind in ("md", "quench", "parity", "train", "potential", "aimd")}
    site = read_site(write(tmp_path, {**MINIMAL, "kinds": {"default": {}, **kinds}}))
    assert scheduler.kind_of(site, stage) == place
    (probe,) = batch.planned_probes(site, [stage])
    assert scheduler.kind_of(site, probe) == place
    assert probe.parameters["gpus"] == scheduler.request_of(site, probe).gpus == int(place in kinds)


@pytest.fixture(scope="module")
def paper():
    """The paper tier's stages by kind."""
    stages = {}
    for stage in in_order(build_campaign("paper").select()):
        stages.setdefault(stage.kind, []).append(stage)
    return stages


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_only_mpi_ranks_lie_on_several_nodes(tmp_path: Path, paper, launcher: str) -> None:
    site = read_site(write(tmp_path, {**MINIMAL, "cores_per_node": 2, "mpi": {"launcher": launcher}}))
    for kind, stages in paper.items():
        for stage in stages:
            nodes, cores = scheduler.nodes_and_cores(site, stage)
            recipe = scheduler.recipe_of(site, stage)
            asked = stage.parameters.get("ranks", 1)
            if launcher == "srun" and asked > 1:
                assert nodes * cores == recipe.cores == recipe.ranks == asked
            else:
                assert (nodes, cores) == (1, 2 if kind == "cost" else min(stage.cores, 2))
                assert recipe.cores == cores
                assert recipe.ranks == (2 if asked > 1 else None)
    assert {stage.cores for stage in paper["aimd"]} == {16}
    (aimd, *_), (cost,) = paper["aimd"], paper["cost"]
    assert scheduler.wall_seconds(site, aimd) == aimd.core_seconds / 2, "not as fast as on 16 cores"
    assert scheduler.wall_seconds(site, replace(cost, cores=64)) == scheduler.wall_seconds(site, cost)


def test_cost_takes_a_whole_node_of_the_site(tmp_path: Path, paper) -> None:
    (cost,) = paper["cost"]
    site = read_site("example-cpu")
    assert scheduler.nodes_and_cores(site, cost) == (1, 128)
    assert scheduler.recipe_of(site, cost).cores == 128
    # Its first-principles steps, half an hour, are on one core however many a node has.
    small = read_site(write(tmp_path, {**MINIMAL, "cores_per_node": 2}))
    assert scheduler.wall_seconds(small, cost) > scheduler.wall_seconds(site, cost) > 1800


def test_a_node_has_at_least_the_cores_that_its_site_asks_for(tmp_path: Path) -> None:
    site = read_site(write(tmp_path, {**MINIMAL, "kinds": {"default": {"cores": 8}}}))
    assert scheduler.nodes_and_cores(site, Stage("train", "network", {})) == (1, 8)
    assert scheduler.nodes_and_cores(site, Stage("md", "liquid", {"ranks": 4}, cores=4)) == (1, 8)


@needs_dpdispatcher
def test_a_dry_run_says_what_each_job_waits_for(tmp_path: Path, capsys) -> None:
    campaign = build_campaign("paper")
    site, store = read_site("example-gpu"), Store(tmp_path / "store")
    overview.dry_run(campaign, campaign.select(["train-96"]), store, site=site)
    trainings = re.findall("^# .* train .*", capsys.readouterr().out, re.MULTILINE)
    assert len(trainings) == 5
    assert all(line.endswith("after dataset for DeePMD-96") for line in trainings)


HEADERS = {
    "Slurm": ["#SBATCH --time=1:30:00", "#SBATCH --mem=2000M", "#SBATCH --dependency=afterok:7:8,afterany:9"],
    "PBS": ["#PBS -l walltime=1:30:00", "#PBS -l mem=2000mb", "#PBS -W depend=afterok:7:8,afterany:9"],
    "Torque": ["#PBS -l walltime=1:30:00", "#PBS -l mem=2000mb", "#PBS -W depend=afterok:7:8,afterany:9"],
    "LSF": ["#BSUB -W 90", "#BSUB -M 2000MB"],
    "SGE": ["#$ -l h_rt=1:30:00", "#$ -l h_vmem=2000M"],
}


@needs_dpdispatcher
@pytest.mark.parametrize("batch_type", HEADERS)
def test_what_a_script_asks_of_each_scheduler(tmp_path: Path, batch_type: str) -> None:
    """Text only: of these, Slurm alone was ever run."""
    request = {"queue": "q", "walltime_h": 1.5, "memory_gb": 2, "flags": ["#MINE"]}
    site = read_site(write(tmp_path, MINIMAL | {"batch_type": batch_type, "kinds": {"default": request}}))
    store, stage = Store(tmp_path / "store"), Stage("melt", "m", {})
    knows = scheduler.knows_dependencies(site)
    assert knows == (batch_type in ("Slurm", "PBS", "Torque"))
    after = {"after_success": ["7", "8"], "after_any": ["9"]} if knows else {}
    submission = scheduler.prepare_job(site, store, stage, tmp_path / "job", image_digest=None, **after)
    lines = scheduler.script_text(submission).splitlines()
    assert [line for line in [*HEADERS[batch_type], "#MINE"] if line not in lines] == []
    assert any(f"-m jobs make {stage.name} --store {store.root}" in line for line in lines)


@pytest.mark.parametrize("batch_type", HEADERS)
def test_what_was_never_run_says_so(tmp_path: Path, batch_type: str) -> None:
    site = read_site(write(tmp_path, MINIMAL | {"batch_type": batch_type}))
    said = f"note: {batch_type} was never run with this suite; "
    said += "scripts are written and their text is tested"
    assert site.notes == (() if batch_type == "Slurm" else (said,))
    own = MINIMAL | {"images": "images", "mpi": {"host_libraries": str(tmp_path)}}
    site = read_site(write(tmp_path, own | {"kinds": {"default": {"image": "x"}}}))
    (said,) = site.notes
    assert said.startswith("note: a host's own MPI (host_libraries) was never run")
    stage, store = Stage("melt", "m", {}), Store(tmp_path / "store")
    words = scheduler._stage_command(site, store, stage, tmp_path, image_digest="0")
    assert any(f"src={tmp_path},dst=/hostmpi,ro" in word for word in words)
    assert any(word.endswith("_LD_LIBRARY_PATH=/hostmpi") for word in words)


@pytest.mark.parametrize("name", known_sites())
def test_every_site_that_comes_with_the_suite_can_be_read(name: str) -> None:
    site = read_site(name)
    assert site.name == name
    assert site.request("no-such-kind") == site.request("default")


def test_a_kind_keeps_what_it_does_not_change_of_the_default(tmp_path: Path) -> None:
    kinds = {**MINIMAL["kinds"], "train": {"gpus": 2, "walltime_h": 3}}
    site = read_site(write(tmp_path, {**MINIMAL, "kinds": kinds}))
    train = site.request("train")
    assert (train.gpus, train.walltime_h, train.queue) == (2, 3, "q")
    assert train.flags == ("#SBATCH --account=a",)
    assert site.image("train") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_type": "Cron"}, "batch_type: found 'Cron', expected one of Slurm, PBS, Torque, LSF, SGE"),
        ({"nodes": 3}, "found nodes, expected only name, batch_type, cores_per_node, images, binds, mpi"),
        ({"cores_per_node": "many"}, "cores_per_node: found 'many', expected a positive integer"),
        ({"cores_per_node": 0}, "cores_per_node: found 0, expected a positive integer"),
        ({"max_jobs": "lots"}, "max_jobs: found 'lots', expected a positive integer"),
        ({"images": 3}, "images: found 3, expected text, or null"),
        ({"binds": "/scratch"}, "binds: found '/scratch', expected a list of texts"),
        ({"gpu_may_be_absent": "no"}, "gpu_may_be_absent: found 'no', expected true or false"),
        ({"kinds": {"train": {}}}, "kinds: found no default, expected default"),
        ({"kinds": {"default": {}, "qench": {}}}, "kinds: found qench, expected only default, aimd, cost"),
        ({"kinds": {"default": 3}}, "kinds.default: found 3, expected keys with values"),
        ({"kinds": {"default": {"gpu": 1}}}, "kinds.default: found gpu, expected only image, queue, cores"),
        ({"kinds": {"default": {"walltime_h": 0}}}, "kinds.default.walltime_h: found 0, expected a positive"),
        ({"kinds": {"default": {"cores": "many"}}}, "kinds.default.cores: found 'many', expected a positive"),
        ({"kinds": {"default": {"gpus": -1}}}, "kinds.default.gpus: found -1, expected an integer, 0 or"),
        ({"kinds": {"default": {"setup": "module load x"}}}, "setup: found 'module load x', expected a list"),
        ({"kinds": {"default": {"flags": "--account=x"}}}, "flags: found '--account=x', expected a list of"),
        ({"kinds": {"default": {"environment": ["a"]}}}, "environment: found ['a'], expected keys with"),
        ({"kinds": {"default": {"environment": {"A": True}}}}, "environment.A: found True, expected text or"),
        ({"kinds": {"default": {"image": "x"}}}, "found image x and no images folder"),
        ({"mpi": {"launcher": "ssh"}}, "mpi.launcher: found 'ssh', expected one of mpirun, srun"),
        ({"mpi": {"options": "--mpi=pmi2"}}, "mpi.options: found '--mpi=pmi2', expected a list of texts"),
        ({"batch_type": "PBS", "mpi": {"launcher": "srun"}}, "found launcher srun with PBS, expected Slurm"),
    ],
)
def test_a_broken_site_file_is_one_line(tmp_path: Path, change: dict, says: str) -> None:
    with pytest.raises(SuiteError) as caught:
        read_site(write(tmp_path, {**MINIMAL, **change}))
    message = str(caught.value)
    assert says in message
    assert "site.yml" in message
    assert "\n" not in message


def test_an_unknown_site_and_a_missing_key_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"site nowhere: not found, expected one of .*one-node"):
        read_site("nowhere")
    with pytest.raises(SuiteError, match="found no kinds, expected name, batch_type, kinds"):
        read_site(write(tmp_path, {"name": "x", "batch_type": "Slurm"}))
    broken = tmp_path / "broken.yml"
    broken.write_text("name: [")
    with pytest.raises(SuiteError, match=r"broken.yml: not readable"):
        read_site(str(broken))


def dpgen_entry(queue: str, gpus: int, context: str = "LocalContext") -> dict:
    return {
        "command": "dp",
        "machine": {
            "batch_type": "slurm",
            "context_type": context,
            "local_root": "./",
            "remote_root": "/scratch",
        },
        "resources": {
            "number_node": 1,
            "cpu_per_node": 4,
            "gpu_per_node": gpus,
            "queue_name": queue,
            "group_size": 5,
            "custom_flags": ["#SBATCH --time=1:00:00"],
            "module_list": ["deepmd"],
            "envs": {"OMP_NUM_THREADS": 2},
        },
    }


def test_a_dpgen_machine_file_is_a_site_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    content = {"api_version": "1.0", "train": [dpgen_entry("gpu", 1)], "model_devi": [dpgen_entry("md", 1)]}
    path.write_text(json.dumps({**content, "fp": dpgen_entry("cpu", 0)}))
    site = read_site(str(path))
    assert site.batch_type == "Slurm"
    assert [site.request(kind).queue for kind in ("train", "parity", "md", "quench", "aimd", "other")] == [
        "gpu", "gpu", "md", "md", "cpu", "md",
    ]  # fmt: skip
    assert site.request("train").setup == ("module load deepmd",)
    assert site.request("train").environment == {"OMP_NUM_THREADS": "2"}
    assert site.request("train").walltime_h is None  # its own custom_flags say it


def test_a_dpgen_file_for_another_machine_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"train": dpgen_entry("gpu", 1, context="SSHContext")}))
    with pytest.raises(SuiteError, match="found context_type SSHContext, expected a local one"):
        read_site(str(path))
    path.write_text(json.dumps({"train": {"machine": {}}}))
    with pytest.raises(SuiteError, match=r"train: found no resources, expected machine, resources"):
        read_site(str(path))
    entry = dpgen_entry("gpu", 1)
    entry["resources"]["custom_flags"] = "#SBATCH --time=1:00:00"
    path.write_text(json.dumps({"train": entry}))
    with pytest.raises(SuiteError, match=r"train\.resources\.custom_flags: found '#SBATCH .*expected a list"):
        read_site(str(path))
    entry = dpgen_entry("gpu", 1)
    entry["machine"]["batch_type"] = "Shell"
    path.write_text(json.dumps({"train": entry}))
    with pytest.raises(SuiteError, match=r"train\.machine\.batch_type: found 'Shell', expected one of Slurm"):
        read_site(str(path))
    path.write_text(json.dumps({"train": []}))
    with pytest.raises(SuiteError, match=r"train: found \[\], expected keys with values"):
        read_site(str(path))
    path.write_text("{}")
    with pytest.raises(SuiteError, match="found none of train, model_devi, fp"):
        read_site(str(path))


def finished(store: Store, stage: Stage) -> None:
    """A sealed product without files."""
    store.prepare()
    store.part(stage.name).mkdir()
    recipe = Recipe.of(stage)
    store.finish(recipe, Workspace({}, 1, {}, store.part(stage.name)), wall_seconds=1.0)


def test_without_images_the_software_of_a_product_is_compared(tmp_path, monkeypatch, capsys) -> None:
    site, store, stage = (
        read_site(write(tmp_path, MINIMAL)),
        Store(tmp_path / "store"),
        Stage("melt", "m", {}),
    )
    finished(store, stage)
    assert overview.state(stage, store, batch.planned_images(site, [stage])) == "done"
    monkeypatch.setattr("jobs.store.store.software_versions", lambda: {"python": "another"})
    assert overview.state(stage, store, batch.planned_images(site, [stage])) == "STALE"
    assert batch.run([stage], store, site).reused == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"1 products: found other software versions in {stage.name}/manifest.json, expected today's;" in said
    )


def test_status_at_a_site_compares_a_product_with_its_image(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, f"box:{'a' * 64}")
    store, stage = Store(tmp_path / "store"), Stage("melt", "m", {})
    finished(store, stage)
    site = read_site(
        write(
            tmp_path, MINIMAL | {"images": str(tmp_path / "images"), "kinds": {"default": {"image": "box"}}}
        )
    )
    for digest, expected in ((None, "done"), ("a" * 64, "done"), ("b" * 64, "STALE")):
        if digest is not None:
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / "images" / "box.json").write_text(json.dumps({"digest": digest}))
        assert overview.state(stage, store, batch.planned_images(site, [stage])) == expected
