"""Options that several commands have, each with one name, and what they mean."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from jobs.base.errors import ERROR_EXIT, SuiteError, option

if TYPE_CHECKING:
    from jobs.campaign.plan import Campaign
    from jobs.running.site import Site

DEFAULT_TIER = "laptop"
DEPOSITED_TIER = "overnight"  # the largest whose trajectories are under reference/


class OneLineParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Leave with the message, without the usage before it."""
        self.exit(ERROR_EXIT, f"error: {self.prog}: {message} (--help lists the options)\n")


# Types: what argparse says of a number that makes no sense ------------------------------------------


def count(text: str) -> int:
    """The type of an option like `--cores`: a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive integer")
    return int(text)


def whole(text: str) -> int:
    """The type of an option like `--gpus`: an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text}, expected an integer, 0 or more")
    return int(text)


def positive(text: str) -> float:
    """The type of an option like `--timestep-fs`: a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive number")
    return value


def needs(arguments: argparse.Namespace, partner: str, *names: str) -> None:
    """Refuse options that say nothing without their partner.

    Raises:
        SuiteError: "--wait needs --site".
    """
    if getattr(arguments, partner):
        return
    for name in names:
        if getattr(arguments, name):
            raise SuiteError(f"{option(name)} needs {option(partner)}")


# A campaign -----------------------------------------------------------------------------------------


def add_campaign_options(
    parser: argparse.ArgumentParser, *, site: bool = False, potential: bool = True
) -> None:
    """The options that say which campaign is meant, and where its products are; `site` where jobs are."""
    from jobs.campaign.tier import STARTS

    group = parser.add_argument_group("which campaign")
    group.add_argument(
        "--tier",
        help="how much of everything: smoke, laptop (default), overnight (default with --start-from "
        f"trajectories), paper{' (default with --site)' * site}, reference (what is deposited), or a tier "
        "file of yours",
    )
    group.add_argument(
        "--start-from",
        choices=STARTS,
        help="what is taken as given: deposited trajectories (two minutes), potentials or frames, or nothing "
        "(default: what the tier says)",
    )
    if potential:
        group.add_argument(
            "--potential",
            type=Path,
            metavar="PATH",
            help="judge this potential in place of both DeePMD potentials: a DeePMD .pb, a folder of n2p2's "
            "files, or a file with pair_style and pair_coeff",
        )
    else:
        parser.set_defaults(potential=None)
    group.add_argument(
        "--engine",
        metavar="NAME",
        help="what computes first-principles data with --start-from nothing: cp2k, espresso or vasp "
        "(default: what the tier says)",
    )
    if site:
        group.add_argument(
            "--site",
            metavar="NAME",
            help="the cluster whose batch jobs are meant: a site file, a name in jobs/running/sites, or "
            "DP-GEN's machine file",
        )
    else:
        parser.set_defaults(site=None)
    add_store_option(group)


def default_tier(*, batch: bool, start_from: str | None) -> str:
    """The tier where none is named: the paper's on a cluster, and of given trajectories the deposited one."""
    if start_from == "trajectories":
        return DEPOSITED_TIER
    return "paper" if batch else DEFAULT_TIER


def campaign_of(arguments: argparse.Namespace) -> Campaign:
    """The campaign that is meant, planned.

    Raises:
        SuiteError: no such tier, or nothing to start from.
    """
    from jobs.campaign.build import build_campaign
    from jobs.cli.overview import kernel_at

    return build_campaign(
        arguments.tier or default_tier(batch=arguments.site is not None, start_from=arguments.start_from),
        start_from=arguments.start_from,
        potential=arguments.potential,
        engine=arguments.engine,
        kernel_of=kernel_at(site_of(arguments)),
    )


def site_of(arguments: argparse.Namespace) -> Site | None:
    """The cluster that is meant, or None.

    Raises:
        SuiteError: no such site, or its file is wrong.
    """
    if arguments.site is None:
        return None
    from jobs.running.site_files import read_site

    return read_site(arguments.site)


# What else several commands have --------------------------------------------------------------------


def add_store_option(parser: argparse._ActionsContainer) -> None:
    """Where products are kept."""
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("store"),
        metavar="DIR",
        help="where products are kept (default: ./store)",
    )


def add_cores_option(parser: argparse._ActionsContainer) -> None:
    """How many cores may be used."""
    parser.add_argument(
        "--cores", type=count, metavar="N", help="cores to use (default: all that this process may use)"
    )


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """What is timed, and on what of this machine."""
    group = parser.add_argument_group("what is timed, and where")
    group.add_argument(
        "--potential", type=Path, metavar="PATH", help="a DeePMD .pb (default: the deposited DeePMD-96)"
    )
    add_cores_option(group)
    group.add_argument(
        "--gpus", type=whole, default=0, metavar="N", help="GPUs that the NNP may use (default: 0)"
    )
    add_store_option(group)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """What computes from first principles, how, and on what of this machine."""
    from jobs.engines.first_principles.registry import ENGINES

    group = parser.add_argument_group("what computes")
    group.add_argument("--engine", choices=ENGINES, default="cp2k", help="default: cp2k")
    group.add_argument(
        "--settings",
        default="default",
        metavar="NAME",
        help="a name in settings.yml beside the engines (default, for labels; tight; CP2K also has md, for "
        "trajectories, and tzvp), or a .yml file of yours",
    )
    add_cores_option(group)
    group.add_argument(
        "--dry-run", action="store_true", help="say what would be computed and what it costs; compute nothing"
    )
    add_store_option(group)
