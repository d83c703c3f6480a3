"""Types of options: what argparse says of a number that makes no sense."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


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


DEFAULT_TIER = "laptop"


def add_campaign_options(
    parser: argparse.ArgumentParser, *, site: bool = False, potential: bool = True
) -> None:
    """The options that say which campaign is meant, and where its products are; `site` where jobs are."""
    from jobs.campaign.tier import STARTS

    parser.add_argument(
        "--tier",
        default=None,
        help=f"how much: smoke, laptop (default), overnight, paper{' (default with --site)' * site}, "
        "reference (what is deposited), or a tier file",
    )
    if site:
        parser.add_argument(
            "--site",
            default=None,
            metavar="NAME",
            help="batch jobs of this cluster: a site file, a name in jobs/running/sites, or DP-GEN's file",
        )
    else:
        parser.set_defaults(site=None)
    parser.add_argument(
        "--start-from",
        choices=STARTS,
        default=None,
        help="what is taken as given: deposited trajectories (a minute), potentials, or frames, or nothing; "
        "default: what the tier says",
    )
    if potential:
        parser.add_argument(
            "--potential",
            type=Path,
            default=None,
            metavar="PATH",
            help="judge this LAMMPS-ready potential (a DeePMD .pb, a folder of n2p2's files, or a file with "
            "pair_style and pair_coeff) in place of both DeePMD potentials",
        )
    else:
        parser.set_defaults(potential=None)
    parser.add_argument(
        "--engine",
        default=None,
        help="what computes first-principles data with --start-from nothing: cp2k, espresso or vasp "
        "(default: what the tier says)",
    )
    add_store_option(parser)


def default_tier(*, batch: bool) -> str:
    """The tier where none is named: a cluster is there for the paper's."""
    return "paper" if batch else DEFAULT_TIER


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Where products are kept."""
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("store"),
        metavar="DIR",
        help="where products are kept (default: ./store)",
    )
