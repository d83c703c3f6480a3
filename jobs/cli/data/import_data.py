"""`python -m jobs import`: look at somebody's own first-principles data and, if asked for, take it in.

Without `--name` nothing is written. With it, the frames become a set of a deposit of the user's own
(`--root`, by default `./imported`), which a tier file names by `deposit:` and `frames:`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jobs.base.errors import SuiteError, option
from jobs.cli.data.options import add_level_options, add_set_options
from jobs.cli.options import count, positive
from jobs.reference.deposit import KINDS, STARTS, check_cut
from jobs.reference.formats import Source
from jobs.reference.formats.extxyz.labels import Choice
from jobs.reference.formats.sources import open_sources
from jobs.reference.importing import LEVEL, Choices, NewSet, deposit_sources
from jobs.reference.sets import READ_REFERENCES, DepositedSet
from jobs.reference.survey import Survey, report, watch

HELP = "look at your own VASP, CP2K, pw.x, extxyz or DeePMD data, take it in"
DESCRIPTION = """\
Looks at somebody's first-principles data and, with --name, takes it in.

PATH is an OUTCAR or vasprun.xml (VASP 5.4 or 6), CP2K's NAME-pos-1.xyz (with NAME-frc-1.xyz and the log
beside it) or a single point's log, pw.x output, extended XYZ, a DeePMD system (folder with type.raw, or a
folder of such) or DeePMD's HDF5; text also as .gz, .xz or .bz2. A run's folder will do, too.

Energies are those that the forces belong to (VASP: TOTEN). Frames whose SCF did not converge and a
half-written last frame are refused and counted. Any number of frames needs the memory of a few. To
train on the set, name it in a tier file: docs/your-data.md."""
EXAMPLES = (
    ("import OUTCAR", "what is in it; nothing is written"),
    (
        "import run-1/OUTCAR.gz run-2/OUTCAR.gz --name mine --use train",
        "into the set ./imported/mine, each run a melt of its own",
    ),
    (
        "import data/ --name mine --use train --temperature-K 3000 --every 20 --stretch 500 "
        "--engine VASP --engine-version 5.4.4 --functional PBE --basis 'PAW, 500 eV'",
        "DeePMD data, which say nothing of themselves",
    ),
)
IMPORTED = Path("imported")
# Options that say nothing of a file, only of the set that is made of it.
_OF_A_SET = (
    "append", "use", "kind", "start", "atoms", "one_melt", "stretch", "unequilibrated", "temperature_K",
    "timestep_fs", "thermostat", *LEVEL, "provenance",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs import`."""
    parser.add_argument("path", type=Path, nargs="+", metavar="PATH", help="files, or folders of runs")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    labels = parser.add_argument_group("where extended XYZ has several labels")
    labels.add_argument(
        "--energy-key", metavar="NAME", help="the energy in the comment line, for example REF_energy"
    )
    labels.add_argument("--force-key", metavar="NAME", help="the property with the forces, as REF_forces")
    into = parser.add_argument_group("to deposit")
    add_set_options(into, root=IMPORTED, root_help="the deposit (default: ./imported)")
    into.add_argument(
        "--kind",
        choices=KINDS,
        help="trajectory: evenly spaced steps without gaps (default with --use judge); singlepoints: "
        "frames without order (default with --use train)",
    )
    into.add_argument(
        "--start",
        choices=STARTS,
        help="what the configurations descend from; claims against AIMD need nnp and bks",
    )
    into.add_argument("--every", type=count, default=1, metavar="N", help="take every N-th frame only")
    into.add_argument(
        "--atoms",
        type=count,
        metavar="N",
        help="take frames of N atoms only (default: as the first frame of more than one has them); others "
        "are counted and left out",
    )
    into.add_argument(
        "--one-melt",
        action="store_true",
        help="all PATHs descend from one melt (else each from its own); melts go whole to training or test",
    )
    into.add_argument(
        "--stretch",
        type=count,
        metavar="FRAMES",
        help="count each FRAMES taken frames as a melt of its own, for data that are one long run or whose "
        "melts nobody knows; held-out errors are then too good",
    )
    saying = parser.add_argument_group("where the files do not say it, or to overrule them")
    saying.add_argument(
        "--temperature-K", dest="temperature_K", type=positive, metavar="T", help="target of the run"
    )
    add_level_options(saying, licence="not stated")


def main(arguments: argparse.Namespace) -> int:
    """Look at files and, with --name, take their frames in.

    Raises:
        SuiteError: anything wrong, in one line; nothing is left half-made.
    """
    if not arguments.name and (given := [name for name in _OF_A_SET if getattr(arguments, name)]):
        raise SuiteError(f"{option(given[0])} needs --name: without it nothing is written")
    if arguments.name and arguments.json:
        raise SuiteError("--json is a report of what is there; with --name there is none")
    if arguments.name and not arguments.use:
        raise SuiteError("--name needs --use train or --use judge")
    sources = open_sources(arguments.path, Choice(arguments.energy_key, arguments.force_key))
    surveys = [Survey(source) for source in sources]
    if arguments.name:
        _take_in(arguments, sources, surveys)
        return 0
    for source, survey in zip(sources, surveys, strict=True):
        for _ in watch(source, survey):
            pass
        if not arguments.json:
            print(report(survey.facts()), flush=True)
    if arguments.json:
        json.dump([survey.facts() for survey in surveys], sys.stdout, indent=1)
        print()
    if not any(survey.frames for survey in surveys):
        raise SuiteError(
            f"{', '.join(map(str, arguments.path))}: found no usable frame, expected at least one"
        )
    return 0


def _take_in(arguments: argparse.Namespace, sources: Sequence[Source], surveys: Sequence[Survey]) -> None:
    """Deposit the frames, and say what was made."""
    judges = arguments.use == "judge"
    kind = arguments.kind or ("trajectory" if judges else "singlepoints")
    if judges and arguments.start is None:
        raise SuiteError(
            f"--use judge needs --start: what the trajectories began from, one of {', '.join(STARTS)}"
        )
    if judges and arguments.stretch is not None:
        raise SuiteError("--stretch is for --use train only: pieces of one run are no replicas")
    check_cut(use=arguments.use, kind=kind, unequilibrated_frames=arguments.unequilibrated)
    new = NewSet(
        name=arguments.name,
        root=arguments.root,
        append=arguments.append,
        use=arguments.use,
        kind=kind,
        start=arguments.start or "other",
        unequilibrated_frames=arguments.unequilibrated or 0,
        licence=arguments.licence,
        provenance=arguments.provenance,
        level={name: getattr(arguments, name) for name in LEVEL},
        timestep_fs=arguments.timestep_fs,
        thermostat=arguments.thermostat,
        atoms=arguments.atoms,
    )
    choices = Choices(
        temperature_K=arguments.temperature_K,
        every=arguments.every,
        stretch=arguments.stretch,
        one_melt=arguments.one_melt,
        judged_from=arguments.unequilibrated if judges and kind == "trajectory" else None,
    )
    made, left_out = deposit_sources(sources, surveys, new, choices)
    for survey in surveys:
        print(report(survey.facts()))
    _print_made(made, left_out, root=arguments.root)


def _print_made(made: DepositedSet, left_out: Counter[str], *, root: Path) -> None:
    """What the set is, and what it can be used for."""
    if left_out:
        found = ", ".join(f"{number} {what}" for what, number in left_out.items())
        print(f"left out: {found}; expected frames as the first one, or as --atoms and the set say")
    melts = len({run.melt for run in made.runs})
    print(
        f"deposited {made.frames} frames of {made.n_atoms} atoms, {melts} melts, to {made.use} in "
        f"{made.directory}, sha256 {made.sha256[:12]}"
    )
    print(f"its level of theory: {made.level_line}")
    if made.use == "judge" and made.kind == "singlepoints":
        print(
            "no claim reads it: single points are a reference only with their sampler "
            "(python -m jobs deposit --sampler)"
        )
    elif made.use == "judge":
        read = made.reference_product in READ_REFERENCES
        unread = "" if read else f", which no claim reads: they read {', '.join(READ_REFERENCES)}"
        print(f"it belongs to the product {made.reference_product}{unread}")
    if made.use == "train":
        print(
            f"to train on it, in a copy of a tier file: deposit: {root.resolve()} and "
            f"frames: {{deepmd-96: {{{made.name}: 1}}, deepmd-216: {{{made.name}: 1}}}}"
        )
        if melts < 2:
            print(
                "but training needs at least 2 melts, to hold one out: import a second run with --append, or "
                "cut this one with --stretch FRAMES"
            )
