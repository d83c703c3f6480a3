"""`python -m jobs gc`: free disk of products that no plan names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.campaign.build import build_campaign
from jobs.campaign.plan import Campaign
from jobs.campaign.tier import TIERS
from jobs.cli.options import add_campaign_options, campaign_of
from jobs.store import todo
from jobs.store.store import Store

HELP = "free disk: products, also unfinished ones, that no plan names"
DESCRIPTION = """\
Says which products could go, and with --yes deletes them. Kept is what the built-in tiers plan, what any
run of this store planned last (also with --potential or a tier file of your own), and what the options here
plan. First-principles data, cost records and probes of sites always stay."""
EXAMPLES = (
    ("gc", "only says what would go"),
    ("gc --trajectories --yes", "deletes it, and trajectories whose observables are there already"),
)
# In no plan, and kept: first-principles data of `python -m jobs aimd`, which cost hours and little disk, cost
# records, and what sites were found to be like, kilobytes each.
KEPT_KINDS = ("aimd-", "cost-", "probe-")
_PRODUCT = re.compile(r"[a-z_]+-[0-9a-f]{16}(\.part)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs gc`."""
    add_campaign_options(parser)
    parser.add_argument(
        "--forget",
        action="append",
        default=[],
        metavar="NAME",
        help="a run of this store, by the name of its results, whose products may go; may be repeated",
    )
    parser.add_argument(
        "--trajectories", action="store_true", help="also trajectories whose observables are there already"
    )
    parser.add_argument("--yes", action="store_true", help="really delete")


def main(arguments: argparse.Namespace) -> int:
    """List or delete.

    Raises:
        SuiteError: wrong input.
    """
    collect_garbage(
        campaign_of(arguments),
        Store(arguments.store),
        forget=arguments.forget,
        trajectories=arguments.trajectories,
        really=arguments.yes,
    )
    return 0


def collect_garbage(
    campaign: Campaign, store: Store, *, forget: Collection[str], trajectories: bool, really: bool
) -> None:
    """Delete, or only list, what nobody plans any more; not what is in use.

    Kept is what this campaign, any built-in tier or any plan that was run in this store has, but for the
    plans to `forget`.

    Raises:
        SuiteError: a plan to forget that the store does not have.
    """
    plans = store.plans()
    if unknown := [name for name in forget if name not in plans]:
        raise SuiteError(
            f"--forget: found {unknown[0]}, expected one of {', '.join(plans) or 'none'}, the plans run in "
            f"{store.root}"
        )
    chosen = {stage.name: stage for stage in campaign.all_stages()}
    planned = set(chosen).union(*(names for plan, names in plans.items() if plan not in forget))
    for tier in TIERS.glob("*.yml"):
        planned |= {stage.name for stage in build_campaign(tier.stem).all_stages()}
    kept = [campaign.results_name, *(plan for plan in plans if plan not in forget)]
    print(f"kept: what the built-in tiers plan, and {', '.join(dict.fromkeys(kept))}")
    doomed: dict[Path, str] = {}
    for path in sorted(store.root.glob("*")):
        if path.name.startswith(KEPT_KINDS):
            continue
        if path.is_dir() and _PRODUCT.fullmatch(path.name) and path.name.removesuffix(".part") not in planned:
            doomed[path] = "in none of these plans"
    if trajectories:
        # What is still to be made may start from a trajectory that was observed, or observe it once more.
        awaited = {
            one.name for stage in todo.plan(chosen.values(), store).to_do for one in stage.inputs.values()
        }
        for stage in chosen.values():
            if not stage.kind.startswith("observe") or not store.is_done(stage.name):
                continue
            for source in stage.inputs.values():
                if store.is_done(source.name) and source.name not in awaited:
                    doomed[store.path(source.name)] = f"observed in {stage.name}"
    freed = 0
    for path, why in doomed.items():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        said = "would delete"
        if really:
            try:
                store.delete(path.name)
                said = "deleted"
            except SuiteError as error:
                print(error)
                continue
        freed += size
        print(f"{said} {path} ({size / 1e6:.1f} MB, {why})")
    if really:
        for plan in forget:
            (store.root / "plans" / f"{plan}.json").unlink()
    print(f"{freed / 1e6:.1f} MB {'freed' if really else 'to free; add --yes to delete'}")
