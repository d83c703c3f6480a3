"""Options that `deposit` and `import` share: which set frames go into, and what made their labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.cli.options import positive, whole
from jobs.reference.deposit import USES


def add_set_options(group: argparse._ArgumentGroup, *, root: Path, root_help: str) -> None:
    """The set's name and use; `root` is the deposit it goes into."""
    group.add_argument("--name", metavar="SET", help="make (or --append to) the set of this name")
    group.add_argument("--root", type=Path, default=root, metavar="DIR", help=root_help)
    group.add_argument("--append", action="store_true", help="add the frames as further runs of the set")
    group.add_argument("--use", choices=USES, help="to train on, or to be a reference (judge); never both")
    group.add_argument(
        "--unequilibrated",
        type=whole,
        metavar="FRAMES",
        help="first frames of each trajectory that still remember the start; needed with --use judge "
        "(default: 0; of a stepwise product of `aimd`, its relaxation)",
    )


def add_level_options(group: argparse._ArgumentGroup, *, licence: str | None = None) -> None:
    """What made the labels; `licence` is the default."""
    group.add_argument("--timestep-fs", type=positive, metavar="FS", help="of a trajectory")
    group.add_argument("--thermostat", metavar="NAME", help="of a trajectory; none for NVE")
    group.add_argument("--engine", metavar="NAME", help="for example CP2K or VASP")
    group.add_argument("--engine-version", metavar="TEXT", help="of it")
    group.add_argument("--functional", metavar="NAME", help="for example PBE")
    group.add_argument("--basis", metavar="TEXT", help="for example DZVP-MOLOPT-SR-GTH, or 'PAW, 500 eV'")
    group.add_argument("--licence", default=licence, metavar="SPDX", help="for example CC0-1.0")
    group.add_argument("--provenance", metavar="TEXT", help="who computed what, from what, in a sentence")
