"""`python -m jobs cost` and `python -m jobs tune`: how fast this machine is, and how it is fastest."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.options import count, positive, whole

if TYPE_CHECKING:
    from jobs.cost.plan import Plan
    from jobs.store.store import Store


def add_cost_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs cost`."""
    parser.description = (
        "us/step/atom of DeePMD (tuned and plain default), BKS, Tersoff and AIMD against N, with fits and "
        "speed-ups. Let nothing else run beside it. Killed, the same command goes on."
    )
    parser.epilog = (
        "Examples: python -m jobs cost --budget 25 | python -m jobs cost --budget 5 --engines deepmd bks "
        "--sizes 96 216 648 | python -m jobs cost --deposit"
    )
    parser.add_argument("--budget", type=positive, default=25.0, metavar="MINUTES", help="default 25")
    parser.add_argument(
        "--engines", nargs="+", metavar="NAME", help="deepmd bks tersoff cp2k (default: these), espresso"
    )
    parser.add_argument("--sizes", nargs="+", type=count, metavar="N", help="default: 96 to 12288 atoms")
    parser.add_argument("--launches", type=count, default=6, help="samples of each point (default 6)")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--plan", action="store_true", help="say what would be measured; measure nothing")
    parser.add_argument(
        "--deposit", action="store_true", help="put results/cost/cost.json under reference/cost/"
    )
    parser.add_argument("--results", type=Path, default=Path("results/cost"), metavar="DIR")
    _add_machine_arguments(parser)


def add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs tune`."""
    parser.description = (
        "Takes at most 5 minutes on an idle machine. Every MD stage of the store then uses the ranks, "
        "threads and skin found; precision and compression are only recommended, they change what is "
        "computed. Without it, the suite's defaults hold."
    )
    parser.add_argument("--minutes", type=positive, default=5.0, help="when to stop searching (default 5)")
    _add_machine_arguments(parser)


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    from jobs.cli.options import add_store_option

    parser.add_argument("--potential", type=Path, metavar="MODEL.pb", help="default: deposited DeePMD-96")
    parser.add_argument("--cores", type=count, default=None, help="default: all this process may use")
    parser.add_argument(
        "--gpus", type=whole, default=0, help="GPUs the network may use (default 0; not tried)"
    )
    add_store_option(parser)


def cost_main(arguments: argparse.Namespace) -> int:
    """Measure, plan or deposit a cost record."""
    from jobs.base.machine import available_cores
    from jobs.cost import plan as cost
    from jobs.cost.points import COST_FILE
    from jobs.cost.record import DEPOSITED, read_cost
    from jobs.store.store import Store

    if arguments.deposit:
        print(cost.deposit(arguments.results / COST_FILE, DEPOSITED))
        return 0
    cores = arguments.cores or available_cores()
    plan = cost.full_plan(
        engines=arguments.engines or cost.DEFAULT_ENGINES,
        sizes=arguments.sizes or cost.SIZES,
        budget_minutes=arguments.budget,
        cores=cores,
        gpus=arguments.gpus,
        launches=arguments.launches,
    )
    if arguments.plan:
        print(cost.describe(plan, cores))
        return 0
    path = measure(
        Store(arguments.store),
        plan,
        potential=arguments.potential,
        cores=cores,
        results=arguments.results,
        again=arguments.again,
    )
    print(cost.summary(read_cost(path)))
    print(f"record: {path}; page: python -m suite.report.cost_page {path}")
    return 0


def tune_main(arguments: argparse.Namespace) -> int:
    """Tune this machine."""
    from jobs.base.machine import available_cores
    from jobs.cost.tune import potential_stage, tune
    from jobs.running import local
    from jobs.store.store import Store

    store, cores = Store(arguments.store), arguments.cores or available_cores()
    stage = potential_stage(arguments.potential)
    local.raise_for_failures(local.run([stage], store, cores=cores))
    tune(store, store.path(stage.name), minutes=arguments.minutes, cores=cores, gpus=arguments.gpus)
    return 0


def measure(
    store: Store, plan: Plan, *, potential: Path | None, cores: int, results: Path, again: bool
) -> Path:
    """Run a plan, or go on with it, and copy its record to `results/cost.json`; returns that file.

    Raises:
        SuiteError: no potential, or the measurement failed.
    """
    from jobs.base.machine import node_type
    from jobs.cost.plan import cost_stage, describe
    from jobs.cost.points import COST_FILE
    from jobs.cost.tune import potential_stage
    from jobs.running import local

    kind_of_node = node_type()
    stage = cost_stage(plan, potential_stage(potential), label="cost", cores=cores, machine_type=kind_of_node)
    print(describe(plan, cores), flush=True)
    store.remember(f"cost-{kind_of_node}", (needed.name for needed in stage.walk()))
    if again:
        store.delete(stage.name)
        store.delete(store.part(stage.name).name)
    local.raise_for_failures(local.run([stage], store, cores=cores))
    results.mkdir(parents=True, exist_ok=True)
    target = results / COST_FILE
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(store.path(stage.name) / COST_FILE, temporary)
    os.replace(temporary, target)
    return target
