"""`python -m jobs promote`: put what a tier made under reference/: its potentials, or its trajectories."""

from __future__ import annotations

import argparse

from jobs.base.errors import SuiteError
from jobs.campaign.parts.potentials import SAMPLERS
from jobs.campaign.plan import Campaign
from jobs.campaign.promote import deposit_trajectories
from jobs.cli.options import add_campaign_options, campaign_of, needs
from jobs.reference.potentials import deposit_models
from jobs.store.stage import Stage
from jobs.store.store import Store

HELP = "deposit the potentials that a tier trained, or its trajectories"
DESCRIPTION = """\
Puts the potentials that a tier trained under reference/models/, for --start-from potentials (it started
from frames, or from nothing); or, with --trajectories and --start-from potentials, the MD that it observes,
thinned, under reference/trajectories/, for --start-from trajectories. What was deposited of a run stays while
the tier would make the same: a tier of many hours is deposited in parts."""
EXAMPLES = (
    ("promote --tier reference --start-from frames", "the potentials of the reference tier, all or none"),
    ("promote --tier overnight --start-from potentials --trajectories", "what is made of its MD"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs promote`."""
    add_campaign_options(parser, potential=False)
    parser.add_argument(
        "--replace",
        action="store_true",
        help="also potentials that were trained for more steps than these; of trajectories, also those that "
        "are deposited and made here again",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="MODEL",
        help="only this potential, as deepmd-96; may be repeated",
    )
    parser.add_argument("--trajectories", action="store_true", help="trajectories in place of potentials")
    parser.add_argument(
        "--paired", action="store_true", help="with --trajectories: those that start from frames of AIMD"
    )


def main(arguments: argparse.Namespace) -> int:
    """Deposit potentials or trajectories.

    Raises:
        SuiteError: wrong input, or what is to be deposited is not there or was changed.
    """
    needs(arguments, "trajectories", "paired")
    campaign, store = campaign_of(arguments), Store(arguments.store)
    if arguments.trajectories:
        if arguments.only:
            raise SuiteError("--only is of potentials; trajectories are deposited as far as they are made")
        print(deposit_trajectories(campaign, store, paired=arguments.paired, replace=arguments.replace))
        return 0
    trained = _trained(campaign)
    if arguments.only:
        if unknown := set(arguments.only) - set(trained):
            raise SuiteError(
                f"--only: found {', '.join(sorted(unknown))}, expected some of {', '.join(trained)}"
            )
        trained = {name: stage for name, stage in trained.items() if name in arguments.only}
    print(*deposit_models(trained, store, tier=campaign.tier, replace=arguments.replace), sep="\n")
    return 0


def _trained(campaign: Campaign) -> dict[str, Stage]:
    """The stage that trains each potential of a tier, the first seed's."""
    trained = {f"deepmd-{size}": campaign.select([f"train-{size}"])[0] for size in (96, 216)}
    if "train-hdnnp-96" in campaign.labels:
        trained["hdnnp-96"] = campaign.select(["train-hdnnp-96"])[0]
    for stage in campaign.labels.get(SAMPLERS, ()):
        trained[f"hdnnp-sampler-{stage.seed}"] = stage
    return trained
