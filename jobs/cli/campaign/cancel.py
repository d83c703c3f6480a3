"""`python -m jobs cancel`: take a tier's jobs out of the queue."""

from __future__ import annotations

import argparse

from jobs.base.errors import SuiteError
from jobs.cli.options import add_campaign_options, campaign_of, site_of
from jobs.running import batch
from jobs.store.store import Store

HELP = "take a tier's jobs out of a cluster's queue"
DESCRIPTION = """\
Takes the jobs of a tier out of the queue of a cluster, running ones too. What they have made stays, and the
same `run` submits them again."""
EXAMPLES = (("cancel --site my-site.yml --tier paper", "the paper tier's jobs, and no others"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs cancel`."""
    add_campaign_options(parser, site=True)


def main(arguments: argparse.Namespace) -> int:
    """Cancel the jobs.

    Raises:
        SuiteError: no site, or its scheduler does not answer.
    """
    site = site_of(arguments)
    if site is None:
        raise SuiteError("cancel needs --site: whose jobs are meant")
    stages = campaign_of(arguments).all_stages()
    ids = batch.cancel(site, Store(arguments.store), [*stages, *batch.planned_probes(site, stages)])
    print(f"{len(ids)} jobs taken out of the queue; the same `run` submits them again")
    return 0
