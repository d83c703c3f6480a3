"""`python -m jobs cost`: what a step of MD costs, by engine and number of atoms."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.base.files import write_whole
from jobs.base.machine import available_cores, node_type
from jobs.cli.options import add_machine_options, count, positive
from jobs.cost import plan as cost
from jobs.cost.plan import Plan, cost_stage
from jobs.cost.points import COST_FILE
from jobs.cost.record import DEPOSITED, read_cost
from jobs.cost.tune import potential_stage
from jobs.reference.potentials import deposited_model, imported_potential
from jobs.running import local
from jobs.store.store import Store

HELP = "time MD by every engine against the number of atoms, within a budget"
DESCRIPTION = """\
Measures us/step/atom of DeePMD-96 (on the native kernel, on DeePMD-kit tuned and as its plain default),
HDNNP-96, BKS, Tersoff and AIMD against the number of atoms, with fits and speed-ups. Let nothing else run
beside it. Killed, the same command goes on."""
EXAMPLES = (
    ("cost --dry-run", "what would be measured, and for how long"),
    ("cost --minutes 5 --engines deepmd bks --sizes 96 216 648", "a part of the curve"),
    ("cost --deposit", "put the record under reference/cost/, by its kind of machine"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs cost`."""
    parser.add_argument(
        "--minutes", type=positive, default=25.0, metavar="M", help="how long it may take (default: 25)"
    )
    parser.add_argument(
        "--engines",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(cost.ENGINES)} (default: {', '.join(cost.DEFAULT_ENGINES)})",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=count,
        metavar="N",
        help=f"numbers of atoms (default: {cost.SIZES[0]} to {cost.SIZES[-1]})",
    )
    parser.add_argument(
        "--launches",
        type=count,
        default=cost.LAUNCHES,
        metavar="N",
        help=f"samples a point (default: {cost.LAUNCHES})",
    )
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be measured and what it costs; measure nothing"
    )
    parser.add_argument(
        "--deposit", action="store_true", help="put the last record under reference/cost/; measure nothing"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results/cost"),
        metavar="DIR",
        help="where the record goes (default: results/cost)",
    )
    add_machine_options(parser)


def main(arguments: argparse.Namespace) -> int:
    """Measure, plan or deposit a cost record.

    Raises:
        SuiteError: wrong input, or the measurement failed.
    """
    if arguments.deposit:
        print(cost.deposit(arguments.results / COST_FILE, DEPOSITED))
        return 0
    cores = arguments.cores or available_cores()
    plan = cost.full_plan(
        engines=arguments.engines or cost.DEFAULT_ENGINES,
        sizes=arguments.sizes or cost.SIZES,
        budget_minutes=arguments.minutes,
        cores=cores,
        gpus=arguments.gpus,
        launches=arguments.launches,
    )
    if arguments.dry_run:
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


def measure(
    store: Store, plan: Plan, *, potential: Path | None, cores: int, results: Path, again: bool
) -> Path:
    """Run a plan, or go on with it, and copy its record to `results/cost.json`; returns that file.

    Raises:
        SuiteError: no potential, or the measurement failed.
    """
    kind_of_node = node_type()
    stage = cost_stage(
        plan,
        potential_stage(potential),
        hdnnp=imported_potential(deposited_model("hdnnp-96")[0], "HDNNP-96") if plan.times_hdnnp else None,
        label="cost",
        cores=cores,
        machine_type=kind_of_node,
    )
    print(cost.describe(plan, cores), flush=True)
    store.remember(f"cost-{kind_of_node}", (needed.name for needed in stage.walk()))
    if again:
        store.delete(stage.name)
        store.delete(store.part(stage.name).name)
    local.run([stage], store, cores=cores).raise_for_failures()
    results.mkdir(parents=True, exist_ok=True)
    target = results / COST_FILE
    write_whole(target, (store.path(stage.name) / COST_FILE).read_text())
    return target
