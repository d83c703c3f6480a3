"""`python -m jobs deposit`: put frames into the deposit, list it, verify it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.frames import read_extxyz
from jobs.cli.options import positive, whole
from jobs.reference.deposit import KINDS, STARTS, USES, check_cut, deposit, span
from jobs.reference.formats.extxyz import refuse_other_labels
from jobs.reference.sets import DEPOSIT, list_sets, summary, verify_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs deposit`."""
    parser.add_argument("path", type=Path, nargs="?", help="extended XYZ file of labelled frames")
    parser.add_argument(
        "--from-stage",
        type=Path,
        nargs="+",
        metavar="STORE/aimd-ID",
        help="instead of a file: finished aimd products, which say by themselves what made them; then only "
        "--name and --use are needed (of a trajectory with refused steps, the longest stretch without one "
        "is deposited)",
    )
    parser.add_argument("--list", action="store_true", help="list the deposited sets instead")
    parser.add_argument(
        "--verify", action="store_true", help="compare every deposited file with its checksum instead"
    )
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.add_argument("--name", help="name of the set")
    parser.add_argument("--append", action="store_true", help="add runs to the set of this name")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--use", choices=USES, help="what judges never trains")
    parser.add_argument("--start", choices=STARTS, help="what the configurations descend from")
    parser.add_argument("--engine", help="for example CP2K")
    parser.add_argument("--engine-version")
    parser.add_argument("--functional", help="for example PBE")
    parser.add_argument("--basis")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    parser.add_argument("--thermostat", help="of a trajectory; none for NVE")
    parser.add_argument(
        "--sampler",
        metavar="MODEL",
        help="of single points to judge: the network under reference/models/ that drew every configuration; "
        "they then make the reweighted reference",
    )
    parser.add_argument(
        "--never-held-out",
        action="store_true",
        help="of frames to train that were chosen because a network failed there: no sample of the liquid, "
        "so no error is measured on them",
    )
    parser.add_argument("--timestep-fs", type=positive, help="of a trajectory")
    parser.add_argument(
        "--unequilibrated",
        type=whole,
        default=None,
        metavar="FRAMES",
        help="first frames of each trajectory that still remember the start; needed where it judges "
        "(default: 0; of a stepwise product, its relaxation)",
    )
    parser.add_argument("--licence", help="SPDX name, for example CC0-1.0")
    parser.add_argument("--provenance", help="who computed what, from what")
    parser.add_argument("--decks", type=Path, nargs="+", default=[], help="input files of the engine")
    parser.add_argument(
        "--root",
        type=Path,
        default=DEPOSIT,
        metavar="DIR",
        help="a deposit of your own (default: the project's)",
    )


_REQUIRED = (
    "name",
    "kind",
    "use",
    "start",
    "engine",
    "engine_version",
    "functional",
    "basis",
    "licence",
    "provenance",
)


def main(args: argparse.Namespace) -> int:
    """Deposit a file, or list or verify the deposit.

    Raises:
        SuiteError: anything wrong, in one line; the deposit is as it was.
    """
    if args.list or args.verify:
        if not args.root.is_dir():
            raise SuiteError(f"{args.root}: found no such folder, expected a deposit")
        sets = list_sets(root=args.root)
        if args.verify:
            for deposited in sets:
                verify_set(deposited)
        rows = [summary(deposited) for deposited in sets]
        if args.json:
            json.dump(rows, sys.stdout, indent=1)
            print()
        else:
            _print_table(rows)
            if args.verify:
                print(f"{len(sets)} sets: every file as recorded")
        return 0
    if args.from_stage:
        return _deposit_stages(args)
    if args.path is None:
        raise SuiteError(
            "deposit: found no file, expected an extended XYZ file, --from-stage, --list or --verify"
        )
    missing = [f"--{option.replace('_', '-')}" for option in _REQUIRED if getattr(args, option) is None]
    if missing:
        raise SuiteError(f"deposit: found no {', '.join(missing)}, expected each of them")
    settings = {}
    for setting in args.setting:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise SuiteError(f"--setting: found {setting!r}, expected KEY=VALUE")
        settings[key] = value
    check_cut(use=args.use, kind=args.kind, unequilibrated_frames=args.unequilibrated)
    deposited = deposit(
        read_extxyz(args.path, check=partial(refuse_other_labels, functional=args.functional)),
        source=str(args.path),
        settings=settings,
        thermostat=args.thermostat,
        timestep_fs=args.timestep_fs,
        unequilibrated_frames=args.unequilibrated or 0,
        decks=args.decks,
        sampler=args.sampler,
        held_out=not args.never_held_out,
        append=args.append,
        root=args.root,
        **{option: getattr(args, option) for option in _REQUIRED},
    )
    _print_table([summary(deposited)])
    return 0


def _deposit_stages(args: argparse.Namespace) -> int:
    """Deposit products of the aimd stage.

    Raises:
        SuiteError: an option that the products answer themselves, or anything wrong with them.
    """
    from jobs.reference.stage_products import read_products

    answered = (
        "path",
        "kind",
        "engine",
        "engine_version",
        "functional",
        "basis",
        "thermostat",
        "timestep_fs",
    )
    for option in (*answered, "setting", "decks"):
        if getattr(args, option):
            raise SuiteError(
                f"deposit: found --{option.replace('_', '-')} with --from-stage, expected it without: "
                "the product says it"
            )
    for option in ("name", "use"):
        if getattr(args, option) is None:
            raise SuiteError(f"deposit: found no --{option}, expected --name and --use with --from-stage")
    products = read_products(args.from_stage)
    skip = args.unequilibrated
    if skip is None and products.unequilibrated_frames:
        skip = products.unequilibrated_frames
    check_cut(use=args.use, kind=products.kind, unequilibrated_frames=skip)
    with tempfile.TemporaryDirectory() as folder:
        deposited = deposit(
            products.frames(),
            source=", ".join(path.name for path in products.paths),
            name=args.name,
            kind=products.kind,
            use=args.use,
            engine=products.engine,
            engine_version=products.engine_version,
            functional=products.functional,
            basis=products.basis,
            settings=products.settings,
            start=args.start or products.start,
            thermostat=products.thermostat,
            timestep_fs=products.timestep_fs,
            unequilibrated_frames=skip or 0,
            licence=args.licence or "CC0-1.0",
            provenance=args.provenance or products.provenance,
            decks=products.copy_decks(Path(folder)),
            sampler=args.sampler,
            held_out=not args.never_held_out,
            append=args.append,
            root=args.root,
        )
    if products.lacks:
        print(products.lacks)
    _print_table([summary(deposited)])
    return 0


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        temperatures, densities = row["temperatures_K"], row["density_g_cm3"]
        step = "" if row["timestep_fs"] is None else f", {row['timestep_fs']:g} fs"
        print(
            f"{row['name']}: {row['kind']} to {row['use']}, {row['level']}; "
            f"{row['frames']} frames of {row['atoms']} atoms ({row['decorrelated_frames']} decorrelated, "
            f"{row['runs']} runs, {row['melts']} melts){step}, {span(temperatures)} K, "
            f"{span(densities)} g/cm3, sha256 {row['sha256'][:12]}"
        )
