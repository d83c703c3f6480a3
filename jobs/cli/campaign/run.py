"""`python -m jobs run`: make everything a tier needs that is not there yet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobs.base.errors import SuiteError
from jobs.cli import overview
from jobs.cli.options import add_campaign_options, add_cores_option, campaign_of, needs, site_of
from jobs.cost.speed import planned_with_speed
from jobs.running import batch, local
from jobs.running.site import Site
from jobs.store.outcome import Outcome
from jobs.store.stage import Stage
from jobs.store.store import Store

HELP = "make everything a tier needs that is not there yet"
DESCRIPTION = """\
Makes all products of a tier, in core slots of this machine or, with --site, as
batch jobs of a cluster. Nothing that is there is made again. A stage that fails does not stop the others;
killed, the same command goes on."""
EXAMPLES = (
    ("run --tier smoke --dry-run", "every stage with its command, resources and estimated cost"),
    ("run --only liquid-96-nvt --cores 2", "of the laptop tier, one product and what it is made from"),
    ("run --site my-site.yml --tier paper", "submit the paper's campaign to a cluster, and return"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs run`."""
    add_campaign_options(parser, site=True)
    parser.add_argument(
        "--only",
        action="append",
        metavar="PRODUCT",
        help="only this product (`graph` lists them); may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be made and what it costs; make nothing"
    )
    parser.add_argument(
        "--rebuild-stale", action="store_true", help="make again what other software versions made"
    )
    add_cores_option(parser)
    batch = parser.add_argument_group("with --site")
    batch.add_argument(
        "--wait", action="store_true", help="stay until no job is left, submitting what becomes ready"
    )
    batch.add_argument(
        "--retry-failed", action="store_true", help="submit again what failed, after you mended why"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run a tier, or say what would run.

    Raises:
        SuiteError: wrong input, or a stage failed.
    """
    needs(arguments, "site", "wait", "retry_failed")
    campaign = campaign_of(arguments)
    wanted = campaign.select(arguments.only)
    store, site = Store(arguments.store), site_of(arguments)
    if site is not None and arguments.cores is not None:
        raise SuiteError(f"--cores says nothing with --site: give cores under kinds in {site.path}")
    if not arguments.dry_run:
        store.remember(campaign.results_name, (stage.name for stage in campaign.all_stages()))
    if site is None:
        campaign = planned_with_speed(campaign, lambda: campaign_of(arguments))
        wanted = campaign.select(arguments.only)
    if arguments.dry_run:
        overview.dry_run(campaign, wanted, store, site=site)
        return 0
    outcome = outcome_of(arguments, wanted, store, site)
    outcome.raise_for_failures()
    there = f"{outcome.reused} were there already"
    if outcome.pending:
        print(f"{len(outcome.pending)} stages wait or run at {arguments.site}; {there}")
    elif outcome.made:
        print(f"made {len(outcome.made)} stages in {outcome.seconds:.0f} s; {there}")
    else:
        print(f"nothing had to run: all {outcome.reused} products of tier {campaign.tier} are unchanged")
    return 0


def outcome_of(
    arguments: argparse.Namespace, wanted: Sequence[Stage], store: Store, site: Site | None
) -> Outcome:
    """Make the stages here, or submit them at a site: what became of each.

    Raises:
        SuiteError: no scheduler, a missing or changed image, or a product that was changed.
    """
    if site is None:
        return local.run(wanted, store, cores=arguments.cores, rebuild_stale=arguments.rebuild_stale)
    return batch.run(
        wanted,
        store,
        site,
        wait=arguments.wait,
        retry_failed=arguments.retry_failed,
        rebuild_stale=arguments.rebuild_stale,
    )
