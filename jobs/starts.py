"""`python -m jobs starts`: last states of a tier's MD runs, as the file that `python -m jobs aimd` reads."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from jobs.engines.first_principles import kinetic_temperatures_K
from jobs.errors import SuiteError
from jobs.files import write_whole
from jobs.frames import format_extxyz
from jobs.stage import Stage
from jobs.store import Store

DESCRIPTION = (
    "Write the last state of each replica of a tier's MD run, with velocities, as starts for "
    "`python -m jobs aimd`. Each start is a melt of its own and gets a number of its own, counted from "
    "--first-replica; in a deposited set, starts of one number are one melt."
)
EPILOG = (
    "Example: python -m jobs run --tier reference --only nnp-3000 && python -m jobs starts --run nnp-3000 "
    "--first-replica 3001 --output starts.xyz && python -m jobs aimd starts.xyz. See docs/first-principles.md"
)
DEFAULT_TIER = "reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs starts`."""
    from jobs.cli import add_store_option

    parser.add_argument("--tier", default=DEFAULT_TIER, help="a tier or a tier file (default: reference)")
    parser.add_argument("--run", required=True, metavar="NAME", help="an MD run of the tier (under runs:)")
    parser.add_argument(
        "--potential",
        type=Path,
        default=None,
        metavar="PATH",
        help="the potential that the run was made with",
    )
    parser.add_argument(
        "--first-replica",
        type=int,
        required=True,
        metavar="N",
        help="number of the first start's melt; take numbers that no deposited set has",
    )
    parser.add_argument(
        "--after",
        type=int,
        default=0,
        metavar="K",
        help="leave out the first K replicas, whose starts were drawn before; others keep their numbers",
    )
    parser.add_argument(
        "--heat-to",
        type=float,
        default=None,
        metavar="K",
        help="scale each start's velocities to this instantaneous temperature: bonds that another "
        "potential made take up heat while they adjust",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="extended XYZ")
    add_store_option(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the starts.

    Raises:
        SuiteError: no such run, or one that is not finished.
    """
    from jobs.campaign import build_campaign

    campaign = build_campaign(arguments.tier, potential=arguments.potential)
    if arguments.run not in campaign.runs:
        known = ", ".join(campaign.runs)
        raise SuiteError(f"tier {campaign.tier}: found no run {arguments.run}, expected one of {known}")
    store = Store(arguments.store)
    replicas = campaign.runs[arguments.run]
    if not 0 <= arguments.after < len(replicas):
        raise SuiteError(
            f"starts: found --after {arguments.after}, expected 0 to {len(replicas) - 1}: "
            f"{arguments.run} has {len(replicas)} replicas"
        )
    numbered = list(enumerate(replicas, start=arguments.first_replica))[arguments.after :]
    stages = [stage for _, stage in numbered]
    if missing := [stage.name for stage in stages if not store.is_done(stage.name)]:
        raise SuiteError(
            f"{arguments.store}: found {len(stages) - len(missing)} of the {len(stages)} replicas of "
            f"{arguments.run} finished, expected all; python -m jobs run --tier {arguments.tier} "
            f"--only {arguments.run}"
        )
    texts = [
        start_text(stage, store.path(stage.name), replica=number, heat_to_K=arguments.heat_to)
        for number, stage in numbered
    ]
    write_whole(arguments.output, "".join(texts))
    print(f"{arguments.output}: {len(texts)} starts, replicas {numbered[0][0]} to {numbered[-1][0]}")
    return 0


def start_text(stage: Stage, product: Path, *, replica: int, heat_to_K: float | None = None) -> str:
    """The last frame of an MD product as a frame of extended XYZ: A and A/fs, atoms inside the box.

    With `heat_to_K` its velocities are scaled to that temperature.
    """
    from jobs.trajectory import open_trajectory

    trajectory = open_trajectory(product)
    last = trajectory.n_frames - 1
    types = np.asarray(trajectory.types, np.int8)
    positions, velocities = next(iter(trajectory.iter(last, last + 1, 1)))
    if heat_to_K is not None:
        velocities = velocities * np.sqrt(heat_to_K / kinetic_temperatures_K(types, velocities))
    source = stage.parameters.get("potential", "nnp")
    return format_extxyz(
        types,
        {"pos": np.mod(positions[0], trajectory.cell), "velocities_A_per_fs": velocities[0]},
        cell=np.diag(trajectory.cell),
        comment=f"source={source} replica={replica} temperature_K={trajectory.facts['temperature_K']:g}",
    )
