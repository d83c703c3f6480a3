"""`python -m jobs starts`: states of a tier's MD runs, as the file that `python -m jobs aimd` reads."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.files import write_whole
from jobs.base.frames import VELOCITIES, format_extxyz
from jobs.base.silica import FUSED_ANGSTROM, Configuration
from jobs.base.trajectory import Trajectory, open_trajectory
from jobs.campaign.build import build_campaign
from jobs.cli.options import add_store_option, count, positive, whole
from jobs.engines.first_principles.types import kinetic_temperatures_K
from jobs.observables.rdf import PAIRS
from jobs.reference.sets import list_sets
from jobs.stages.data.splits import neighbour_counts
from jobs.store.store import Store

HELP = "write the last states of a tier's MD runs as starts for aimd"
DESCRIPTION = """\
Writes the last state of each replica of a tier's MD run, with velocities, as starts for `aimd`. Each start
is a melt of its own and gets a number of its own, counted from --first-replica; in a deposited set, starts
of one number are one melt. States with fused atoms are left out. See docs/first-principles.md."""
EXAMPLES = (
    (
        "starts --run nnp-3000 --first-replica 53001 --output starts.xyz",
        "of the reference tier, after `run --tier reference --only nnp-3000`",
    ),
    (
        "starts --run edge-5000 --first-replica 54001 --first-contact Si-Si 2.1 --output edge.xyz",
        "the first state in which two Si are closer than 2.1 A",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs starts`."""
    parser.add_argument(
        "--tier",
        default="reference",
        help="the tier of the run, or a tier file of yours (default: reference)",
    )
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
        type=count,
        required=True,
        metavar="N",
        help="number of the first start's melt; take numbers that no deposited set has",
    )
    parser.add_argument(
        "--after",
        type=whole,
        default=0,
        metavar="N",
        help="leave out the first N replicas, whose starts were drawn before; others keep their numbers",
    )
    parser.add_argument(
        "--heat-to",
        type=positive,
        default=None,
        metavar="K",
        help="scale each start's velocities to this instantaneous temperature: bonds that another "
        "potential made take up heat while they adjust",
    )
    parser.add_argument(
        "--first-contact",
        nargs=2,
        default=None,
        metavar=("PAIR", "ANGSTROM"),
        help="in place of the last state, the first one in which two such atoms are closer than this, to "
        "teach an NNP a contact where it fails (for example Si-Si 2.1); replicas without one are left out",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="extended XYZ")
    add_store_option(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the starts.

    Raises:
        SuiteError: no such run, or one that is not finished.
    """
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
    contact = None if arguments.first_contact is None else _read_contact(*arguments.first_contact)
    texts, drawn = [], []
    for number, stage in numbered:
        trajectory = open_trajectory(store.path(stage.name))
        frame = trajectory.n_frames - 1 if contact is None else first_contact(trajectory, *contact)
        if frame is None:
            print(f"left out replica {number}: found no such contact")
            continue
        start = state(trajectory, frame, heat_to_K=arguments.heat_to)
        closest = start.closest_pair_angstrom()
        if not closest >= FUSED_ANGSTROM:  # NaN too
            print(f"left out replica {number}: found atoms {closest:.2f} A apart; the potential failed")
            continue
        source = stage.parameters.get("potential", "nnp")
        comment = f"source={source} replica={number} temperature_K={trajectory.facts['temperature_K']:g}"
        assert start.velocities is not None
        arrays = {"pos": start.positions, VELOCITIES: start.velocities}
        drawn.append(f"{source}-{number}")
        texts.append(format_extxyz(start.types, arrays, cell=start.cell, comment=comment))
    if not texts:
        raise SuiteError(f"{arguments.run}: found no state to start from in {len(numbered)} replicas")
    write_whole(arguments.output, "".join(texts))
    print(f"{arguments.output}: {len(texts)} starts, replicas {numbered[0][0]} to {numbered[-1][0]}")
    for found in list_sets():
        if taken := sorted({run.melt for run in found.runs} & set(drawn)):
            print(f"note: {found.name} has melts of these numbers already ({len(taken)}: {taken[0]}, ...)")
    return 0


def _read_contact(pair: str, text: str) -> tuple[str, float]:
    """The values of --first-contact."""
    try:
        distance_angstrom = float(text)
    except ValueError:
        distance_angstrom = 0.0
    if pair not in PAIRS or not distance_angstrom > 0:
        known = ", ".join(PAIRS)
        raise SuiteError(f"--first-contact: found {pair} {text}, expected one of {known} and a distance in A")
    return pair, distance_angstrom


def first_contact(trajectory: Trajectory, pair: str, distance_angstrom: float) -> int | None:
    """The first frame in which two atoms of a pair ("Si-O") are closer than `distance_angstrom`, or None."""
    types, cell = np.asarray(trajectory.types, np.int8), np.diag(trajectory.cell)
    for frame in range(trajectory.n_frames):
        positions = trajectory.positions(frame, frame + 1)[0]
        _, closest = neighbour_counts(positions, cell, types, cutoff_angstrom=distance_angstrom)
        if closest[pair] < distance_angstrom:
            return frame
    return None


def state(trajectory: Trajectory, frame: int, *, heat_to_K: float | None = None) -> Configuration:
    """A frame of an MD product with its velocities, atoms inside the box.

    With `heat_to_K` its velocities are scaled to that temperature.
    """
    types = np.asarray(trajectory.types, np.int8)
    positions, velocities = trajectory.positions(frame, frame + 1), trajectory.velocities(frame, frame + 1)
    if heat_to_K is not None:
        velocities = velocities * np.sqrt(heat_to_K / kinetic_temperatures_K(types, velocities))
    inside = np.mod(positions[0], trajectory.cell)
    return Configuration(
        types=types, positions=inside, cell=np.diag(trajectory.cell), velocities=velocities[0]
    )
