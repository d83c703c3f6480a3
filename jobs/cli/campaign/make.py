"""`python -m jobs make`: make planned stages. Imports little: a campaign starts dozens of these."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.cli.options import add_store_option

HELP = "make planned stages (what a core slot or a batch job runs)"
DESCRIPTION = """\
Makes stages that `run` has planned, one after the other, or goes on with them where an earlier
attempt was killed. `run --dry-run` names the stages of a tier."""
EXAMPLES = (("make melt-0123456789abcdef --store store", "that stage, here and now"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs make`."""
    parser.add_argument(
        "names", metavar="STAGE", nargs="+", help="its kind and identity, as its folder in the store"
    )
    parser.add_argument("--job", type=Path, metavar="DIR", help="folder of the batch job that it runs in")
    add_store_option(parser)


def main(arguments: argparse.Namespace) -> int:
    """Make the stages; the first that fails ends it.

    Raises:
        SuiteError: one was not planned, or failed.
    """
    from jobs.running.worker import make_stage, make_stage_in_job
    from jobs.store.store import Store

    store = Store(arguments.store)
    for name in arguments.names:
        if arguments.job is None:
            make_stage(store, name)
        else:
            make_stage_in_job(store, name, directory=arguments.job)
    return 0
