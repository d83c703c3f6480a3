"""`python -m jobs tune`: which ranks, threads, skin, precision and compression are fastest here."""

from __future__ import annotations

import argparse

from jobs.base.machine import available_cores
from jobs.cli.options import add_machine_options, positive
from jobs.cost.tune import potential_stage, tune
from jobs.running import local
from jobs.store.store import Store

HELP = "find the fastest ranks, threads, skin, precision and compression for this machine"
DESCRIPTION = """\
Searches for as long as --minutes allows; let nothing else run beside it. Every MD stage of the store then
uses the ranks, threads and skin found; precision and compression are only recommended, since they change
what is computed. Without it, the suite's defaults hold."""
EXAMPLES = (
    ("tune", "with all cores of this process"),
    ("tune --cores 8 --minutes 10", "with eight cores, and more time"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs tune`."""
    parser.add_argument(
        "--minutes", type=positive, default=5.0, metavar="M", help="how long it may take (default: 5)"
    )
    add_machine_options(parser)


def main(arguments: argparse.Namespace) -> int:
    """Tune this machine.

    Raises:
        SuiteError: no such potential, or a launch failed.
    """
    store, cores = Store(arguments.store), arguments.cores or available_cores()
    stage = potential_stage(arguments.potential)
    local.run([stage], store, cores=cores).raise_for_failures()
    tune(store, store.path(stage.name), minutes=arguments.minutes, cores=cores, gpus=arguments.gpus)
    return 0
