"""Stages, their identity and their products on disk; the stage made here is a real dataset."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.base.errors import SuiteError
from jobs.base.machine import (
    IMAGE_VARIABLE,
    NATIVE_KERNEL,
    native_kernel,
    software_versions,
    suite_commit,
)
from jobs.campaign.build import build_campaign
from jobs.reference.potentials import deposit_models, deposited_model
from jobs.reference.sets import read_set
from jobs.running import local
from jobs.running.worker import earlier_attempts, make_stage
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.todo import in_order, plan, urgency
from jobs.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SET = "pbe-96-bks-singlepoints"


def dataset_stage(**changes):
    parameters = {
        "sets": [
            {"name": SET, "sha256": read_set(SET).sha256, "thin_frames": 1, "use_unequilibrated": False}
        ],
        "train_share": 2 / 3,
        "sel": None,
        "cutoff_angstrom": 6.0,
        "max_train_frames": None,
    }
    return Stage("dataset", "dataset", parameters | changes, seed=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    stage = dataset_stage()
    outcome = local.run([stage], store)
    assert outcome.made == [stage.name]
    return store, stage


def jobs_command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        **options,
    )


def test_identity_is_what_is_computed_not_where_or_how_it_is_called():
    stage = dataset_stage()
    same = Stage("dataset", "another label", stage.parameters, seed=1, cores=7, core_seconds=99)
    assert same.identity == stage.identity
    assert dataset_stage(train_share=0.5).identity != stage.identity
    assert Stage("dataset", "dataset", stage.parameters, seed=2).identity != stage.identity
    here, there = (Stage("potential", "p", {"file": path, "sha256": "0"}) for path in ("/a/m.pb", "/b/m.pb"))
    assert here.identity == there.identity
    one, other = (
        Stage("observe", "o", {}, inputs={"trajectory": s}) for s in (stage, dataset_stage(sel=[40, 72]))
    )
    assert one.identity != other.identity


def test_order_puts_inputs_first_and_the_longest_chain_is_most_urgent():
    first = Stage("dataset", "first", {"n": 1}, core_seconds=1)
    long = Stage("train", "long", {}, inputs={"dataset": first}, core_seconds=100)
    short = Stage("parity", "short", {}, inputs={"dataset": first}, core_seconds=2)
    order = in_order([short, long])
    assert [stage.label for stage in order] == ["first", "short", "long"]
    chain = urgency(order)
    assert chain[first.identity] == 101
    assert chain[long.identity] > chain[short.identity]


def test_a_finished_stage_is_not_made_again(made):
    store, stage = made
    before = (store.path(stage.name) / "manifest.json").stat().st_mtime_ns
    outcome = local.run([stage], store)
    assert outcome.made == []
    assert outcome.reused == 1
    assert (store.path(stage.name) / "manifest.json").stat().st_mtime_ns == before
    assert not store.part(stage.name).exists()


def test_manifest_says_what_it_was_made_with(made):
    store, stage = made
    manifest = store.manifest(stage.name)
    assert manifest["software"]["numpy"]
    assert manifest["hardware"]["cores"] == os.cpu_count()
    assert "dataset.json" in manifest["files"]
    assert manifest["commit"] == suite_commit()
    assert not store.is_stale(stage.name)


def test_product_of_other_versions_is_stale_and_rebuilt_only_when_asked(made, monkeypatch, capsys):
    store, stage = made
    now = software_versions()
    monkeypatch.setattr("jobs.store.store.software_versions", lambda: {**now, "a package": "newly listed"})
    assert not store.is_stale(stage.name)
    monkeypatch.setattr("jobs.store.store.software_versions", lambda: {"python": "another"})
    assert store.is_stale(stage.name)
    assert local.run([stage], store).made == []
    said = capsys.readouterr().err
    assert "1 products: found other software versions" in said
    assert "--rebuild-stale makes them again" in said
    assert plan([stage], store).to_do == []
    assert plan([stage], store, rebuild_stale=True).to_do == [stage]


def test_what_another_native_kernel_made_is_stale(tmp_path, monkeypatch):
    """Also of what an image made: the kernel's sources are this suite's own."""
    store = Store(tmp_path)
    store.prepare()
    for image in (None, "lammps:1234"):
        if image:
            monkeypatch.setenv(IMAGE_VARIABLE, image)
        stage = Stage("kernel", "kernel", {"image": image})
        workspace = Workspace({}, 0, {}, store.part(stage.name), software={NATIVE_KERNEL: native_kernel()})
        workspace.directory.mkdir()
        store.finish(Recipe.of(stage), workspace, wall_seconds=1.0)
        assert not store.is_stale(stage.name, {"lammps": "1234"} if image else None)
        with monkeypatch.context() as other:
            other.setattr("jobs.store.store.native_kernel", lambda: "another")
            assert store.is_stale(stage.name, {"lammps": "1234"} if image else None)


def test_what_a_killed_write_left_is_no_product(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    stage = Stage("potential", "potential", {})
    workspace = Workspace({}, 0, {}, store.part(stage.name))
    (workspace.directory / "n2p2").mkdir(parents=True)
    for name in ("input.nn", "input.nn.123.tmp"):
        (workspace.directory / "n2p2" / name).touch()
    store.finish(Recipe.of(stage), workspace, wall_seconds=1.0)
    assert list(store.manifest(stage.name)["files"]) == ["n2p2/input.nn"]
    assert [path.name for path in store.path(stage.name).rglob("*.*n*")] == ["manifest.json", "input.nn"]


def test_a_cleared_input_is_not_stale_but_hides_nothing_that_is(tmp_path, monkeypatch):
    """After `gc --trajectories` an observation has no trajectory any more, and stays."""
    store = Store(tmp_path)
    store.prepare()
    network = Stage("train", "network", {})
    trajectory = Stage("md", "trajectory", {}, inputs={"potential": network})
    observation = Stage("observe", "observation", {}, inputs={"trajectory": trajectory})

    def make(stage):
        directory = store.part(stage.name)
        directory.mkdir()
        store.finish(Recipe.of(stage), Workspace({}, 0, {}, directory), wall_seconds=1.0)

    for stage in (network, trajectory, observation):
        make(stage)
    store.delete(trajectory.name)
    assert plan([observation], store).to_do == []
    assert plan([observation], store, rebuild_stale=True).to_do == []
    store.delete(network.name)
    with monkeypatch.context() as other:
        other.setattr("jobs.store.store.software_versions", lambda: {"python": "another"})
        make(network)
    assert plan([observation], store).to_do == []
    assert plan([observation], store, rebuild_stale=True).to_do == [network, trajectory, observation]


def test_a_deletion_that_was_killed_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.prepare()
    stage = Stage("melt", "melt", {})

    def make():
        store.part(stage.name).mkdir()
        (store.part(stage.name) / "final.data").write_text("atoms")
        store.finish(Recipe.of(stage), Workspace({}, 0, {}, store.part(stage.name)), wall_seconds=1.0)

    make()
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.delete(stage.name)
    store.delete(stage.name)
    assert not list(store.finished())
    make()
    assert list(store.finished()) == [stage.name]
    assert store.problems(stage.name) == []
    with store.lock(stage.name), pytest.raises(SuiteError, match="not deleted, a run works on it"):
        Store(tmp_path).delete(stage.name)
    store.delete(stage.name)
    assert not list((tmp_path / "trash").iterdir())


def test_one_changed_byte_is_named_and_the_product_refused(made):
    store, stage = made
    path = next(store.path(stage.name).rglob("force.npy"))
    original = path.read_bytes()
    try:
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        check = jobs_command("check", "--store", store.root)
        assert check.returncode == 1
        assert str(path) in check.stdout
        with pytest.raises(SuiteError, match=r"force\.npy"):
            local.run([stage], store)
    finally:
        path.write_bytes(original)
    assert jobs_command("check", "--store", store.root).returncode == 0


def test_a_missing_input_is_not_called_changed(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(SuiteError) as caught:
        store.verify(["melt-0123456789abcdef"])
    path = store.path("melt-0123456789abcdef") / "manifest.json"
    assert str(caught.value) == f"{path}: not found; the stage is not done"


def test_a_file_system_without_locks_is_one_line_and_gets_no_lock_file_that_outlives_a_kill(
    tmp_path, monkeypatch
):
    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # as Lustre without -o flock

    store = Store(tmp_path)
    store.prepare()
    monkeypatch.setattr("fcntl.flock", flock)
    for hold in (lambda: store.lock("melt-0").__enter__(), lambda: store.delete("melt-0")):
        with pytest.raises(SuiteError) as caught:
            hold()
        said = str(caught.value)
        assert said.startswith(f"{tmp_path / 'locks'}: found no file locks (Function not implemented)")
        assert "\n" not in said
    monkeypatch.undo()
    with store.lock("melt-0", patience_s=0):  # nothing is in the way
        pass


def test_changed_manifest_is_found(made):
    store, stage = made
    path = store.path(stage.name) / "manifest.json"
    original = path.read_text()
    try:
        changed = json.loads(original) | {"seed": 5}
        path.write_text(json.dumps(changed))
        assert "seal" in store.problems(stage.name)[0]
    finally:
        path.write_text(original)


def test_two_processes_make_a_stage_once(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    stage = dataset_stage(train_share=0.6)
    store.write_recipe(Recipe.of(stage))
    command = [sys.executable, "-m", "jobs", "make", stage.name, "--store", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert store.problems(stage.name) == []
    assert not store.part(stage.name).exists()


def test_failure_is_one_line_blocks_what_needs_it_and_leaves_nothing_finished(tmp_path):
    store = Store(tmp_path)
    bad = dataset_stage(sel=[1, 1])
    after = Stage("parity", "after", {"potential": "bks"}, inputs={"dataset": bad})
    good = dataset_stage(train_share=0.55)
    outcome = local.run([after, good], store)
    assert "sel" in outcome.failed[bad.name]
    assert "\n" not in outcome.failed[bad.name]
    assert "Traceback" not in outcome.failed[bad.name]
    assert after.name in outcome.blocked
    assert outcome.made == [good.name]
    assert not store.is_done(bad.name)
    with pytest.raises(SuiteError, match="sel"):
        outcome.raise_for_failures()
    assert store.manifest(good.name)["attempts"] == 1
    # The failed attempt took time too, and the next one knows it.
    ((began, ended),) = earlier_attempts(store.part(bad.name))
    local.run([bad], store)
    first, second = earlier_attempts(store.part(bad.name))
    assert first == (began, ended)
    assert began <= ended <= second[0] <= second[1]


def test_a_stage_that_asks_for_more_cores_than_there_are_is_counted_with_those(tmp_path):
    stage = replace(dataset_stage(train_share=0.5), cores=8)
    store = Store(tmp_path)
    assert local.run([stage], store, cores=2).made == [stage.name]
    manifest = store.manifest(stage.name)
    assert manifest["cores"] == 2
    assert manifest["core_s"] == pytest.approx(2 * manifest["wall_s"], abs=0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_is_one_line_and_nothing_half_made(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        store = Store(disk)
        stage = dataset_stage()
        outcome = local.run([stage], store)
        assert "no space left" in outcome.failed[stage.name]
        assert not store.is_done(stage.name)
        (disk / "rest").write_bytes(b"x" * shutil.disk_usage(disk).free)
        said = jobs_command("run", "--tier", "smoke", "--store", disk)
        assert said.returncode == 2
        assert "No space left" in said.stderr
        assert len(said.stderr.strip().splitlines()) == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_store_that_cannot_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(SuiteError, match="cannot be used as a store"):
        Store(blocker / "store").prepare()


def test_status_graph_and_gc_say_what_is_there_and_what_is_not_planned(made, tmp_path):
    tier = ROOT / "tests" / "helpers" / "tiny.yml"
    copy = tmp_path / "store"
    shutil.copytree(made[0].root, copy)
    stale = copy / made[1].name  # a dataset of other sets than this tier's
    options = ("--tier", tier, "--store", copy)
    status = jobs_command("status", *options)
    assert status.returncode == 0
    assert "missing" in status.stdout
    assert "stages are done" in status.stdout
    assert "liquid-96-bks" in jobs_command("graph", *options).stdout
    assert "->" in jobs_command("graph", "--dot", *options).stdout
    planned = (made[1].name) in {s.name for s in in_order(build_campaign(str(tier)).select())}
    look = jobs_command("gc", *options)
    assert ("would delete" in look.stdout) != planned
    assert stale.is_dir()
    assert jobs_command("gc", *options, "--yes").returncode == 0
    assert stale.is_dir() == planned


def test_what_a_kill_left_of_a_file_is_no_product(tmp_path):
    store = Store(tmp_path)
    stage = Stage("md", "trajectory", {})
    directory = store.part(stage.name)
    directory.mkdir()
    (directory / "md.json").write_text("{}")
    (directory / "md.json.4711.tmp").write_text("{")
    store.finish(Recipe.of(stage), Workspace({}, 0, {}, directory), wall_seconds=1.0)
    assert list(store.manifest(stage.name)["files"]) == ["md.json"]
    assert {path.name for path in store.path(stage.name).iterdir()} == {"md.json", "manifest.json"}


def test_what_was_planned_with_other_code_is_not_made_under_its_name(tmp_path):
    """A `git pull` while the job waits in a queue."""
    store = Store(tmp_path)
    store.prepare()
    stage = dataset_stage()
    planned = Recipe.of(stage)
    store.write_recipe(replace(planned, code_version=planned.code_version - 1))
    with pytest.raises(
        SuiteError, match=r"found a plan for version \d+ of jobs/stages/data/dataset\.py.*plan again"
    ):
        make_stage(store, stage.name)
    assert not store.part(stage.name).exists()
    assert not store.is_done(stage.name)


def test_commit_of_a_repository_and_a_change_of_its_files(tmp_path, monkeypatch):
    code = tmp_path / "jobs" / "store.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")

    def git(*words):
        said = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return said.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "t")
    git("tag", "v1")
    monkeypatch.setattr("jobs.base.machine.ROOT", code.parent)
    assert suite_commit() == git("rev-parse", "HEAD")
    (tmp_path / "new.txt").write_text("not of the repository")
    assert suite_commit() == git("rev-parse", "HEAD")
    code.write_text("x = 2\n")
    assert suite_commit() == git("rev-parse", "HEAD") + "+"


def test_commit_is_unknown_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert suite_commit() == "unknown"


def test_promote_puts_both_potentials_or_none(tmp_path, made, monkeypatch):
    store = Store(tmp_path / "store")
    store.prepare()
    trained = {
        f"deepmd-{size}": Stage("train", "t", {"size": size}, inputs={"dataset": made[1]})
        for size in (96, 216)
    }

    def finish(stage):
        part = store.part(stage.name)
        part.mkdir()
        (part / "model.pb").write_bytes(stage.name.encode())
        (part / "input.json").write_text("{}")
        about = dict.fromkeys(("name", "steps", "precision", "train_frames"), 1) | {"heldout": {"all": {}}}
        (part / "train.json").write_text(json.dumps(about))
        store.finish(Recipe.of(stage), Workspace({}, 1, {}, part), wall_seconds=1.0)

    finish(trained["deepmd-96"])
    root = tmp_path / "models"
    with pytest.raises(SuiteError, match="run the tier that trains deepmd-216 first"):
        deposit_models(trained, store, tier="t", root=root)
    assert not root.exists()
    finish(trained["deepmd-216"])
    deposit_models(trained, store, tier="t", root=root)
    for name, stage in trained.items():
        assert deposited_model(name, root=root)[0].read_bytes() == stage.name.encode()
    assert sorted(path.name for path in root.iterdir()) == sorted(trained)
    path, record = deposited_model("deepmd-216", root=root)
    (path.parent / "model.yml").write_text(json.dumps(record | {"steps": 2}))
    with pytest.raises(SuiteError, match="found a model of 2 training steps, expected none of more"):
        deposit_models(trained, store, tier="t", root=root)
    deposit_models(trained, store, tier="t", replace=True, root=root)
    assert deposited_model("deepmd-216", root=root)[1]["steps"] == 1

    # Killed while the files are moved: nothing is read of two trainings at once, and the next call ends it.
    for name in trained:
        (root / name / "model.pb").write_bytes(b"old")
    replaced = []

    def killed(source, target):
        if len(replaced) == 3:  # the whole folder, then two of six files
            raise KeyboardInterrupt
        replaced.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.reference.potentials.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            deposit_models(trained, store, tier="t", replace=True, root=root)
    with pytest.raises(SuiteError, match=r"\.ready: found potentials on their way .*promote"):
        deposited_model("deepmd-96", root=root)
    deposit_models(trained, store, tier="t", root=root)
    for name, stage in trained.items():
        assert deposited_model(name, root=root)[0].read_bytes() == stage.name.encode()
    assert sorted(path.name for path in root.iterdir()) == sorted(trained)
