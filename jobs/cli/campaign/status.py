"""`python -m jobs status`: how far a tier is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from jobs.campaign.plan import Campaign
from jobs.cli.options import add_campaign_options, campaign_of, site_of
from jobs.cli.overview import console, state
from jobs.running import batch
from jobs.running.batch import Standing
from jobs.running.site import Site
from jobs.store.store import Store

HELP = "which stages are done, stale, begun or missing"
DESCRIPTION = """\
Shows every stage of a tier: done, STALE (other software versions made it), CHANGED (its files are not what
was made), begun or missing; with --site also how its jobs stand."""
EXAMPLES = (
    ("status", "the laptop tier in ./store"),
    ("status --site my-site.yml --tier paper", "with the cluster's queue"),
)
_COLOURS = {"done": "green", "STALE": "yellow", "CHANGED": "red", "FAILED": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs status`."""
    add_campaign_options(parser, site=True)


def main(arguments: argparse.Namespace) -> int:
    """Show the stages.

    Raises:
        SuiteError: wrong input, or a scheduler that does not answer.
    """
    show(campaign_of(arguments), Store(arguments.store), site=site_of(arguments))
    return 0


def show(campaign: Campaign, store: Store, *, site: Site | None = None) -> None:
    """Print the state of every stage of a tier; with a site, of its jobs too."""
    from rich.table import Table

    table = Table(
        "state", "stage", "made of", "name", title=f"tier {campaign.tier} in {store.root}", box=None
    )
    stages = campaign.all_stages()
    standings: Mapping[str, Standing] = {}
    images: Mapping[str, str] | None = None
    if site is not None:
        images = batch.planned_images(site, stages)
        stages = [*batch.planned_probes(site, stages), *stages]
        standings = batch.look(site, store, stages)
    done = 0
    for stage in stages:
        word = state(stage, store, images)
        done += word == "done"
        if word not in ("done", "STALE", "CHANGED") and stage.name in standings:
            word = f"{standings[stage.name].state} {standings[stage.name].text}".strip()
        colour = _COLOURS.get(word.split()[0], "default")
        made_of = ", ".join(needed.label for needed in stage.inputs.values())
        table.add_row(f"[{colour}]{word}[/]", stage.label, made_of, stage.name)
    console().print(table)
    print(f"{done} of {len(stages)} stages are done")
