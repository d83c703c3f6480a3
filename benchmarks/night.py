"""One night: measure, record, compare with earlier nights, publish. At most ten minutes on one node.

    python benchmarks/night.py [--nights nights] [--store store]

The folder of nights is a git repository of its own: `records/` holds one raw record a night, each committed,
so asv's series has a commit for every night (asv keys results by commit: a second night on one commit of the
project would overwrite the first) and nothing is ever lost. Models and starting liquids are made once and
used every night. Exit code 1 if something got slower by more than 5 % beyond noise (`regression.py` says
how that is decided); such a night is no baseline for later ones unless `--accept` says that
the new level is wanted. A change of driver, software or commit since the last night is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.regression import compare_night
from jobs.base.errors import ERROR_EXIT, SuiteError
from jobs.base.files import write_json
from jobs.base.machine import machine, require_gpus, suite_commit
from jobs.cli.options import count, positive, whole
from jobs.cost.plan import Plan, native, plain, program, tuned
from jobs.cost.tune import potential_stage
from jobs.running import local
from jobs.stages import cost as cost_stage
from jobs.store.machine_settings import read_tuning
from jobs.store.store import Store
from jobs.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"deepmd": (216, 2592), "bks": (216, 2592), "tersoff": (216, 2592)}
PLAIN_SIZE = 216
LAUNCHES = 8
TRAINING_STEPS, TRAININGS = 400, 3
CANARY = "canary"
MD = "all MD together"


def main() -> int:
    """Measure a night; 1 if something got slower."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=Path, default=Path("nights"), help="folder of all nights")
    parser.add_argument("--store", type=Path, default=Path("store"), help="has the tuning and the potential")
    parser.add_argument("--engines", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    parser.add_argument("--launches", type=count, default=LAUNCHES)
    parser.add_argument("--cores", type=count, default=None, help="default: all this process may use")
    parser.add_argument("--gpus", type=whole, default=0, help="GPUs of the NNP (not tried)")
    parser.add_argument("--quick", action="store_true", help="only the small size, no plain default: a trial")
    parser.add_argument("--no-asv", action="store_true", help="record and compare, do not publish")
    parser.add_argument("--accept", action="store_true", help="from this night on its level is the baseline")
    parser.add_argument(
        "--plant-slowdown",
        type=positive,
        default=1.0,
        metavar="FACTOR",
        help="make every MD step do FACTOR steps' work, to see that the alarm works here; never a baseline",
    )
    arguments = parser.parse_args()
    try:
        return night(arguments)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return ERROR_EXIT


def night(arguments: argparse.Namespace) -> int:
    """Measure, record, compare, publish."""
    # All before ten minutes of measuring.
    require_gpus(arguments.gpus)
    if shutil.which("git") is None:
        raise SuiteError("git: found none on PATH, expected it: each night is a commit of its record")
    if not arguments.no_asv and importlib.util.find_spec("asv") is None:
        raise SuiteError("asv: found none, expected it installed; pip install -e '.[bench]', or --no-asv")
    begun = time.monotonic()
    folder: Path = arguments.nights.resolve()
    (folder / "records").mkdir(parents=True, exist_ok=True)
    earlier = [json.loads(path.read_text()) for path in sorted((folder / "records").glob("*.json"))]
    record = measure(arguments, folder)
    earlier = [one for one in earlier if one["machine"]["type"] == record["machine"]["type"]]
    record["changed"] = changes(earlier[-1], record) if earlier else []
    record["accepted"], record["planted_slowdown"] = arguments.accept, arguments.plant_slowdown
    record["comparisons"], record["flags"] = compare(record, baseline(earlier))
    record["seconds"] = round(time.monotonic() - begun, 1)
    path = folder / "records" / f"{record['date'].replace(':', '')}.json"
    write_json(path, record, indent=1)
    commit = keep(folder, path)
    for name, found in record["comparisons"].items():
        print(
            f"{name:28s} {found['change']:+6.1%} [{found['low']:+.1%}, {found['high']:+.1%}] against "
            f"{found['nights']} nights; {found['detectable']:.0%} would have been reported"
        )
    for line in record["changed"]:
        print(f"changed since the last night: {line}")
    if record["flags"] and not record["changed"]:
        print("commit, software and driver are those of the last night: look at the machine")
    for line in record["flags"]:
        print(f"REGRESSION {line}")
    if not arguments.no_asv:
        publish(folder, path, commit, record["machine"])
    from suite.report.cost_page import write_cost_page

    nights = [
        {"date": one["date"], "commit": one["commit"][:10], "machine": one["machine"]["type"],
         "changed": one["changed"] + planted(one), "flags": one["flags"], "unit": one["unit"],
         "medians": {name: median(samples) for name, samples in with_md(one["series"]).items()}}
        for one in (*earlier, record)
    ]  # fmt: skip
    page = write_cost_page(record["cost"], folder / "cost.html", nights=nights)
    print(f"{record['seconds']:.0f} s; record {path}; page {page}")
    return 1 if record["flags"] else 0


# Measuring ----------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All series of tonight: `series` maps a name to its samples, lower is better."""
    cores = arguments.cores or local.available_cores()
    store = Store(arguments.store)
    inputs, name = {}, "classical"
    if "deepmd" in arguments.engines:
        stage = potential_stage(None)
        local.run([stage], store, cores=cores).raise_for_failures()
        inputs, name = {"potential": store.path(stage.name)}, stage.name
    plan = Plan(launches=arguments.launches)
    for engine in arguments.engines:
        for size in SIZES[engine][: 1 if arguments.quick else None]:
            plan.points.append(tuned(engine, size, precision="float32", gpus=arguments.gpus))
        plan.points += [native(size) for size in SIZES[engine] if engine == "deepmd"]
    if "deepmd" in arguments.engines and not arguments.quick:
        plan.points.append(plain(PLAIN_SIZE, gpus=arguments.gpus))
    print(
        f"{len(plan.points)} points, {plan.launches} launches each: about {plan.seconds(cores) / 60:.0f} min",
        file=sys.stderr,
    )
    about = machine()
    work = folder / "work" / f"{about['type']}-{name}"
    work.mkdir(parents=True, exist_ok=True)
    canaries = [canary() for _ in range(arguments.launches)]
    workspace = Workspace(
        plan.parameters() | {"planted_slowdown": arguments.plant_slowdown},
        0,
        inputs,
        work,
        cores,
        tuning=read_tuning(store.root, about["type"]),
    )
    # Last night's launches go; models and liquids stay.
    shutil.rmtree(workspace.checkpoints / "launches", ignore_errors=True)
    cost_stage.run(workspace)
    record = json.loads((work / cost_stage.COST_FILE).read_text())
    series = {
        f"{program(point)}-{point['setting']}-{point['n_atoms']}": watched(point)
        for point in record["points"]
        if len(point["us_per_step_atom"]) >= 2
    }
    canaries += [canary() for _ in range(arguments.launches)]
    if "deepmd" in arguments.engines and not arguments.quick:
        series["training"] = [training(store, cores) for _ in range(TRAININGS)]
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": suite_commit(),
        "machine": about,
        "cost": record,
        "series": {**series, CANARY: canaries},
        "unit": "us/step/atom of processor time (of wall time with a GPU); canary: ms",
    }


def training(store: Store, cores: int) -> float:
    """Milliseconds of a training step: the laptop tier's network and data, float32, a few hundred steps."""
    from jobs.campaign.build import build_campaign
    from jobs.engines.deepmd import program as deepmd
    from jobs.engines.deepmd.curve import steps_per_second
    from jobs.stages.potentials.train import heldout_systems

    stage = build_campaign("laptop").labels["train-96"][0]
    dataset = stage.inputs["dataset"]
    local.run([dataset], store, cores=cores).raise_for_failures()
    about = json.loads((store.path(dataset.name) / "dataset.json").read_text())
    given = {
        key: stage.parameters[key] for key in ("loss", "precision", "start_lr", "stop_lr", "decay_steps",
                                               "batch_size", "axis_neuron", "type_one_side")
    }  # fmt: skip
    every = TRAINING_STEPS // 4
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "data").symlink_to(store.path(dataset.name))
        configuration = deepmd.train_input(
            train_systems=[f"data/{path}" for path in about["train_systems"]],
            heldout_systems=[f"data/{path}" for _, path in heldout_systems(about)],
            sel=about["sel"], steps=TRAINING_STEPS, checkpoint_every=every, seed=1, **given,
        )  # fmt: skip
        deepmd.train(configuration, directory=directory, threads=1)
        log = directory / deepmd.LOG_FILE
        return 1000 / steps_per_second(log, steps_between=configuration["training"]["disp_freq"])


def watched(point: dict[str, Any]) -> list[float]:
    """The samples that are compared: processor time, which other work on the machine moves least.

    A slow GPU does not show in processor time, so there wall time is compared.
    """
    return list(point["us_per_step_atom" if point["gpus"] else "core_us_per_step_atom"])


def canary() -> float:
    """Milliseconds of processor time of fixed numpy work that no commit of ours changes."""
    import numpy as np

    values = np.random.default_rng(0).normal(size=(400, 400))
    started = time.process_time()
    for _ in range(10):
        np.sort(np.linalg.inv(values @ values.T + np.eye(400)).ravel())
    return 1000 * (time.process_time() - started)


def planted(record: dict[str, Any]) -> list[str]:
    """What a night's page says of a slowdown that was asked for."""
    factor = record["planted_slowdown"]
    return [] if factor == 1.0 else [f"planted: every MD step does {factor:g} steps' work"]


# Comparing ----------------------------------------------------------------------------------------


def baseline(earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nights that tonight may be compared with: since the last accepted one, without those that regressed."""
    accepted = [index for index, one in enumerate(earlier) if one["accepted"]]
    recent = earlier[accepted[-1] if accepted else 0 :]
    return [one for one in recent if (one["accepted"] or not one["flags"]) and one["planted_slowdown"] == 1.0]


def with_md(series: dict[str, list[float]]) -> dict[str, list[float]]:
    """The series, and one more of all MD points: the geometric mean over points of each round of launches.

    What slows every MD run stands out there where each point alone drowns in a noisy machine's scatter.
    Launches go round robin, so a round is one stretch of time; if one failed, rounds cannot be told apart.
    """
    points = [samples for name, samples in series.items() if name not in ("training", CANARY)]
    if len(points) < 2 or len({len(samples) for samples in points}) > 1:
        return series
    return {**series, MD: [geometric_mean(launches) for launches in zip(*points, strict=True)]}


def alarm_shares(names: list[str]) -> dict[str, int]:
    """One in how many of the false alarms each series may raise: half of them all MD together."""
    if MD not in names:
        return dict.fromkeys(names, len(names))
    return dict.fromkeys(names, 2 * (len(names) - 1)) | {MD: 2}


def compare(
    record: dict[str, Any], earlier: list[dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Every series against the same series of earlier nights, and a line for each regression."""
    comparisons, flags = {}, []
    series, before = with_md(record["series"]), [with_md(one["series"]) for one in earlier]
    known = {name: [one[name] for one in before if len(one.get(name, ())) >= 2] for name in series}
    compared = [name for name, nights in known.items() if nights]
    shares = alarm_shares(compared)
    for name in compared:
        found = compare_night(series[name], known[name], series=shares[name])
        comparisons[name] = vars(found)
        if found.regressed and name != CANARY:
            flags.append(
                f"{name}: {found.change:+.1%} [{found.low:+.1%}, {found.high:+.1%}] against {found.nights} "
                f"nights, p = {found.p:.2g}"
            )
    if flags and comparisons.get(CANARY, {}).get("regressed"):
        flags.append(f"{CANARY}: {comparisons[CANARY]['change']:+.1%}: the machine itself is slower")
    return comparisons, flags


def changes(last: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """What is not as it was last night, apart from times."""
    lines = []
    if last["commit"] != record["commit"]:
        lines.append(f"commit {last['commit'][:10]} -> {record['commit'][:10]}")
    before, now = last["machine"], record["machine"]
    for key in ("cpu", "cores", "gpus", "driver", "image"):
        if before[key] != now[key]:
            lines.append(f"{key} {before[key]} -> {now[key]}")
    for name in sorted({*before["software"], *now["software"]}):
        versions = before["software"].get(name), now["software"].get(name)
        if versions[0] != versions[1]:
            lines.append(f"{name} {versions[0]} -> {versions[1]}")
    return lines


# Keeping and publishing ---------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    """A git command in the repository of nights."""
    command = ["git", "-c", "user.name=night", "-c", "user.email=night@localhost", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SuiteError(f"{folder}: git {words[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def keep(folder: Path, path: Path) -> str:
    """Commit tonight's record; returns the commit."""
    if not (folder / ".git").is_dir():
        git(folder, "init", "--quiet", "--initial-branch", "nights")
        (folder / ".gitignore").write_text("/work/\n/asv/\n/*.html\n/asv.conf.json\n")
        git(folder, "add", ".gitignore")
    git(folder, "add", str(path.relative_to(folder)))
    git(folder, "commit", "--quiet", "-m", f"Night of {path.stem}")
    return git(folder, "rev-parse", "HEAD")


def publish(folder: Path, path: Path, commit: str, about: dict[str, Any]) -> None:
    """Let asv read tonight's record and write its pages into `asv/html`.

    Raises:
        SuiteError: asv failed.
    """
    config = json.loads((ROOT / "asv.conf.json").read_text())
    config |= {
        "repo": str(folder), "branches": ["nights"], "benchmark_dir": str(ROOT / "benchmarks" / "tracked"),
        "results_dir": "asv/results", "html_dir": "asv/html", "env_dir": "asv/env",
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(config, indent=1) + "\n")
    name = about["type"]
    environment = {**os.environ, "SUITE_COST_RECORD": str(path)}
    gpu = about["gpus"][0] if about["gpus"] else "none"
    asv = [sys.executable, "-m", "asv"]
    facts = ["--os", about["system"], "--arch", os.uname().machine, "--cpu", about["cpu"]]
    facts += ["--num_cpu", str(about["cores"]), "--ram", "unknown"]
    steps = [
        [*asv, "machine", "--machine", name, *facts, "--yes"],
        [*asv, "run", "--machine", name, "-E", f"existing:{sys.executable}", "--set-commit-hash", commit,
         "--record-samples", "--show-stderr"],
        [*asv, "publish"],
    ]  # fmt: skip
    for command in steps:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, 2):  # 2: a benchmark failed; the others are published
            said = " ".join((done.stderr or done.stdout).split()[-40:])
            raise SuiteError(f"asv {command[3]}: ended with code {done.returncode}: {said}")
        if done.returncode == 2:
            print(f"asv {command[3]}: a benchmark failed: {' '.join(done.stdout.split()[-40:])}")
    print(f"asv pages ({gpu} GPU): {folder / 'asv' / 'html' / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
