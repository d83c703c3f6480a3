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

from jobs.base.errors import SuiteError, option
from jobs.base.frames import read_extxyz
from jobs.cli.data.options import add_level_options, add_set_options
from jobs.reference.deposit import KINDS, STARTS, check_cut, deposit, span
from jobs.reference.formats.extxyz.frames import refuse_other_labels
from jobs.reference.sets import DEPOSIT, list_sets, summary, verify_set
from jobs.reference.stage_products import read_products

HELP = "put first-principles frames under reference/, or list what is there"
DESCRIPTION = """\
Puts labelled frames under reference/aimd/ as a set to train on or to judge by: products of `aimd`, or an
extended XYZ file with options that say what made it. Data of your own are better looked at and taken in by
`import`. Nothing is left behind when anything is wrong."""
EXAMPLES = (
    ("deposit --list", "which sets are there, with frames, melts and temperatures"),
    (
        "deposit --from-stage store/aimd-0123456789abcdef --name pbe-96-mine --use train",
        "a product of `aimd`, which says by itself what made it",
    ),
    ("deposit --verify", "is every deposited file as recorded"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs deposit`."""
    parser.add_argument(
        "path", type=Path, nargs="?", metavar="FILE", help="extended XYZ file of labelled frames"
    )
    parser.add_argument(
        "--from-stage",
        type=Path,
        nargs="+",
        metavar="STORE/aimd-ID",
        help="instead of a file: finished aimd products, which say by themselves what made them; then only "
        "--name and --use are needed (of a trajectory with refused steps, the longest stretch without one "
        "is deposited)",
    )
    look = parser.add_argument_group("to look at what is deposited")
    look.add_argument("--list", action="store_true", help="list the sets")
    look.add_argument("--verify", action="store_true", help="compare every file with its checksum")
    look.add_argument("--json", action="store_true", help="with --list: as JSON")
    into = parser.add_argument_group("the set")
    add_set_options(into, root=DEPOSIT, root_help="a deposit of your own (default: the project's)")
    into.add_argument("--kind", choices=KINDS, help="evenly spaced steps of runs, or frames without order")
    into.add_argument("--start", choices=STARTS, help="what the configurations descend from")
    into.add_argument(
        "--sampler",
        metavar="MODEL",
        help="of single points with use judge: the NNP under reference/models/ that drew every "
        "configuration; they then make the reweighted reference",
    )
    into.add_argument(
        "--never-held-out",
        action="store_true",
        help="of frames to train that were chosen because an NNP failed there: no sample of the liquid, "
        "so no error is measured on them",
    )
    saying = parser.add_argument_group("where FILE does not say it")
    add_level_options(saying)
    saying.add_argument(
        "--setting", action="append", default=[], metavar="KEY=VALUE", help="of the engine; may be repeated"
    )
    saying.add_argument(
        "--decks", type=Path, nargs="+", default=[], metavar="FILE", help="input files of the engine"
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


def main(arguments: argparse.Namespace) -> int:
    """Deposit a file, or list or verify the deposit.

    Raises:
        SuiteError: anything wrong, in one line; the deposit is as it was.
    """
    if arguments.list or arguments.verify:
        if not arguments.root.is_dir():
            raise SuiteError(f"{arguments.root}: found no such folder, expected a deposit")
        sets = list_sets(root=arguments.root)
        if arguments.verify:
            for deposited in sets:
                verify_set(deposited)
        rows = [summary(deposited) for deposited in sets]
        if arguments.json:
            json.dump(rows, sys.stdout, indent=1)
            print()
        else:
            _print_table(rows)
            if arguments.verify:
                print(f"{len(sets)} sets: every file as recorded")
        return 0
    if arguments.from_stage:
        return _deposit_stages(arguments)
    if arguments.path is None:
        raise SuiteError("deposit needs an extended XYZ file, --from-stage, --list or --verify")
    missing = [option(name) for name in _REQUIRED if getattr(arguments, name) is None]
    if missing:
        raise SuiteError(f"deposit FILE needs {', '.join(missing)}")
    settings = {}
    for setting in arguments.setting:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise SuiteError(f"--setting: found {setting!r}, expected KEY=VALUE")
        settings[key] = value
    check_cut(use=arguments.use, kind=arguments.kind, unequilibrated_frames=arguments.unequilibrated)
    deposited = deposit(
        read_extxyz(arguments.path, check=partial(refuse_other_labels, functional=arguments.functional)),
        source=str(arguments.path),
        settings=settings,
        thermostat=arguments.thermostat,
        timestep_fs=arguments.timestep_fs,
        unequilibrated_frames=arguments.unequilibrated or 0,
        decks=arguments.decks,
        sampler=arguments.sampler,
        held_out=not arguments.never_held_out,
        append=arguments.append,
        root=arguments.root,
        **{name: getattr(arguments, name) for name in _REQUIRED},
    )
    _print_table([summary(deposited)])
    return 0


def _deposit_stages(arguments: argparse.Namespace) -> int:
    """Deposit products of the aimd stage.

    Raises:
        SuiteError: an option that the products answer themselves, or anything wrong with them.
    """
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
    for name in (*answered, "setting", "decks"):
        if getattr(arguments, name):
            word = "FILE" if name == "path" else option(name)
            raise SuiteError(f"{word} says nothing with --from-stage: the product says it")
    for name in ("name", "use"):
        if getattr(arguments, name) is None:
            raise SuiteError(f"--from-stage needs {option(name)}")
    products = read_products(arguments.from_stage)
    skip = arguments.unequilibrated
    if skip is None and products.unequilibrated_frames:
        skip = products.unequilibrated_frames
    check_cut(use=arguments.use, kind=products.kind, unequilibrated_frames=skip)
    with tempfile.TemporaryDirectory() as folder:
        deposited = deposit(
            products.frames(),
            source=", ".join(path.name for path in products.paths),
            name=arguments.name,
            kind=products.kind,
            use=arguments.use,
            engine=products.engine,
            engine_version=products.engine_version,
            functional=products.functional,
            basis=products.basis,
            settings=products.settings,
            start=arguments.start or products.start,
            thermostat=products.thermostat,
            timestep_fs=products.timestep_fs,
            unequilibrated_frames=skip or 0,
            licence=arguments.licence or "CC0-1.0",
            provenance=arguments.provenance or products.provenance,
            decks=products.copy_decks(Path(folder)),
            sampler=arguments.sampler,
            held_out=not arguments.never_held_out,
            append=arguments.append,
            root=arguments.root,
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
