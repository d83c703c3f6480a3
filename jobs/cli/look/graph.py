"""`python -m jobs graph`: the products of a tier and the stages behind each."""

from __future__ import annotations

import argparse

from jobs.campaign.plan import Campaign
from jobs.cli.options import add_campaign_options, campaign_of
from jobs.cli.overview import console, duration
from jobs.store.todo import in_order

HELP = "the products that claims read, and the stages behind each"
DESCRIPTION = """\
Lists the products of a tier by the names that claims read them by, with the stages behind each and an
estimate; and why a product is not made."""
EXAMPLES = (
    ("graph --tier smoke", "a table of products"),
    ("graph --tier smoke --dot", "what is made of what, for Graphviz (`| dot -Tsvg > graph.svg`)"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs graph`."""
    add_campaign_options(parser)
    parser.add_argument("--dot", action="store_true", help="every stage and its inputs, for Graphviz")


def main(arguments: argparse.Namespace) -> int:
    """Print the products.

    Raises:
        SuiteError: wrong input.
    """
    campaign = campaign_of(arguments)
    if arguments.dot:
        _print_dot(campaign)
    else:
        _print_products(campaign)
    return 0


def _print_dot(campaign: Campaign) -> None:
    print("digraph suite {\n  rankdir=LR; node [shape=box];")
    for stage in campaign.all_stages():
        print(f'  "{stage.name}" [label="{stage.label}"];')
        for needed in stage.inputs.values():
            print(f'  "{needed.name}" -> "{stage.name}";')
    print("}")


def _print_products(campaign: Campaign) -> None:
    from rich.table import Table

    title = f"tier {campaign.tier}, from {campaign.start_from}"
    table = Table("product", "stages", "first of them", "estimate", title=title, box=None)
    # Of a run that is observed, what observes it.
    for label, stages in (campaign.labels | campaign.runs | campaign.labels).items():
        cost = duration(sum(stage.core_seconds for stage in in_order(stages)))
        table.add_row(label, str(len(stages)), stages[0].name, f"{cost} of one core, inputs included")
    console().print(table)
    for label, reason in campaign.unavailable.items():
        print(f"{label}: {reason}")
