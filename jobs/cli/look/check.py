"""`python -m jobs check`: hash everything again and name what was changed."""

from __future__ import annotations

import argparse

from jobs.base.errors import SuiteError
from jobs.cli.options import add_store_option
from jobs.reference.potentials import changed_models
from jobs.reference.sets import list_sets, verify_set
from jobs.reference.trajectories import changed_trajectories
from jobs.store.store import Store

HELP = "hash every product again, and name what was changed"
DESCRIPTION = """\
Compares every file of the store with its manifest, and all that is deposited under reference/ with its
records. Ends with 1 if anything is not what was made."""
EXAMPLES = (("check", "./store and reference/"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs check`."""
    add_store_option(parser)


def main(arguments: argparse.Namespace) -> int:
    """Check; 1 if anything was changed.

    Raises:
        SuiteError: there is no such store.
    """
    store = Store(arguments.store)
    if not store.root.is_dir():
        raise SuiteError(f"{arguments.store}: found no such folder, expected a store")
    names = list(store.finished())
    problems = [line for name in names for line in store.problems(name)]
    for deposited in list_sets():
        try:
            verify_set(deposited)
        except SuiteError as error:
            problems.append(str(error))
    problems += [*changed_models(), *changed_trajectories()]
    for line in problems:
        print(line)
    if problems:
        return 1
    print(f"{len(names)} products and all that is deposited: all hashes as recorded")
    return 0
