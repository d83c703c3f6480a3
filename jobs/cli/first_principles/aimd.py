"""`python -m jobs aimd`: first-principles data from given starts, in stages that are kept one by one."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError, option
from jobs.base.files import write_whole
from jobs.campaign.aimd_starts import GivenStart, read_starts
from jobs.cli.options import add_engine_options, count, positive, whole
from jobs.cost.estimates import aimd_core_seconds, beyond_aimd_estimate, label_core_seconds
from jobs.engines.first_principles.registry import load_engine, named_settings
from jobs.engines.first_principles.types import THERMOSTATS
from jobs.engines.lammps.program import DAMPING_FS
from jobs.running import local
from jobs.stages.data.aimd import MODES
from jobs.store.stage import Stage
from jobs.store.store import Store

SOURCES = ("bks", "nnp", "tersoff")
# Options that only a run has, with their defaults there.
RUN_OPTIONS: Mapping[str, Any] = {
    "temperature_K": None,
    "steps": None,
    "relaxation_steps": 0,
    "timestep_fs": 2.0,
    "ensemble": "nvt",
    "thermostat": None,
    "damping_fs": DAMPING_FS,
    "seed": 1,
}

HELP = "compute first-principles data from given starts"
DESCRIPTION = """\
Computes PBE energies and forces (labels), short runs from each start, or stepwise runs through falling
temperatures. Work is cut into stages of --per-stage starts; each is kept when it is done, and the same
command goes on from where it was killed. Where products are, and how to deposit them, is printed last. See
docs/first-principles.md."""
EXAMPLES = (
    ("aimd starts.xyz --per-stage 5", "energies and forces of each start"),
    (
        "aimd starts.xyz --mode short --temperature-K 3000 --settings md --steps 160 --timestep-fs 2",
        "320 fs at 3000 K from each",
    ),
    (
        "aimd melts.xyz --mode stepwise --temperature-K 5000 4500 4000 --relaxation-steps 100 --steps 200",
        "each melt cooled in three steps",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs aimd`."""
    parser.add_argument(
        "starts",
        type=Path,
        metavar="STARTS",
        help="extended XYZ file; comment lines say replica= (the melt or run that a start descends from), "
        "temperature_K= (labels; short runs, unless given here) and source= (bks, nnp or tersoff)",
    )
    parser.add_argument(
        "--mode", choices=MODES, default="labels", help="what to compute of each start (default: labels)"
    )
    add_engine_options(parser)
    parser.add_argument(
        "--temperature-K",
        dest="temperature_K",
        type=positive,
        nargs="+",
        metavar="T",
        help="of short runs; of stepwise runs all of them, falling",
    )
    parser.add_argument(
        "--steps", type=count, metavar="N", help="of a short run; at each temperature of a stepwise run"
    )
    parser.add_argument(
        "--relaxation-steps",
        type=whole,
        metavar="N",
        help="before --steps at each temperature of a stepwise run (default: 0)",
    )
    parser.add_argument("--timestep-fs", type=positive, metavar="FS", help="default: 2")
    parser.add_argument("--ensemble", choices=("nvt", "nve"), help="default: nvt")
    parser.add_argument(
        "--thermostat", choices=THERMOSTATS, help="default: csvr, with VASP nose-hoover (what it has)"
    )
    parser.add_argument("--damping-fs", type=positive, metavar="FS", help="of the thermostat (default: 100)")
    parser.add_argument(
        "--density", type=positive, metavar="G_CM3", help="scale starts to it (default: leave them)"
    )
    parser.add_argument(
        "--start", choices=SOURCES, help="what the starts descend from, where source= does not say it"
    )
    parser.add_argument("--seed", type=whole, metavar="N", help="of velocities and noise (default: 1)")
    parser.add_argument(
        "--per-stage", type=count, default=10, metavar="N", help="starts per stage (default: 10)"
    )


def plan(arguments: argparse.Namespace) -> list[Stage]:
    """The stages that the starts make; their pieces of the file are put beside the store's products.

    Raises:
        SuiteError: a wrong option, or a start without what the mode needs.
    """
    options = _options(arguments)
    given = list(read_starts(arguments.starts))
    engine = load_engine(arguments.engine)
    common: dict[str, Any] = {
        "mode": arguments.mode,
        "engine": arguments.engine,
        "settings": named_settings(arguments.engine, arguments.settings),
        "density_g_cm3": arguments.density,
    }
    if arguments.mode != "labels":
        common |= {
            "timestep_fs": options["timestep_fs"],
            "ensemble": options["ensemble"],
            "thermostat": None,
            "damping_fs": options["damping_fs"],
        }
        if options["ensemble"] == "nvt":
            common["thermostat"] = options["thermostat"] or engine.THERMOSTATS[0]
    folder = Store(arguments.store).root / "starts"
    each = label_core_seconds if arguments.mode == "labels" else aimd_core_seconds
    stages = []
    for piece, own, steps in _pieces(arguments, options, given):
        text = "".join(start.text for start in piece)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        parameters = {
            **common,
            **own,
            "source": _source(piece, arguments),
            "sha256": sha256,
            "file": str(folder / f"{sha256[:16]}.xyz"),
        }
        replicas = sorted({start.replica for start in piece})
        named = ", ".join(map(str, replicas[:4])) + (", ..." if len(replicas) > 4 else "")
        stages.append(
            Stage(
                "aimd",
                f"{arguments.mode} of {len(piece)} starts (replicas {named})",
                parameters,
                seed=options["seed"],
                core_seconds=steps * sum(each(start.n_atoms) for start in piece),
            )
        )
        if not arguments.dry_run:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{sha256[:16]}.xyz", text)
    return stages


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of a run with their defaults; refused where the mode has no use for them."""
    said = {name: getattr(arguments, name) for name in RUN_OPTIONS}
    given = [option(name) for name, value in said.items() if value is not None]
    if arguments.mode == "labels" and given:
        raise SuiteError(f"{given[0]} needs --mode short or stepwise")
    if arguments.mode == "short" and said["relaxation_steps"] is not None:
        raise SuiteError("--relaxation-steps needs --mode stepwise")
    options = {name: RUN_OPTIONS[name] if value is None else value for name, value in said.items()}
    if arguments.mode != "labels" and options["steps"] is None:
        raise SuiteError(f"--mode {arguments.mode} needs --steps")
    if arguments.mode == "stepwise" and options["temperature_K"] is None:
        raise SuiteError("--mode stepwise needs --temperature-K: the falling temperatures")
    if arguments.mode == "short" and len(options["temperature_K"] or [0]) != 1:
        raise SuiteError("--mode short takes one --temperature-K")
    if options["ensemble"] == "nve" and said["thermostat"] is not None:
        raise SuiteError("--thermostat needs --ensemble nvt")
    return options


def _pieces(
    arguments: argparse.Namespace, options: Mapping[str, Any], given: Sequence[GivenStart]
) -> Iterator[tuple[list[GivenStart], dict[str, Any], int]]:
    """The starts of each stage, the parameters of its own, and how many steps or labels are of each start."""
    path, per_stage = arguments.starts, arguments.per_stage
    if arguments.mode == "stepwise":
        falling = [float(kelvin) for kelvin in options["temperature_K"]]
        own = {
            "temperatures_K": falling,
            "relaxation_steps": options["relaxation_steps"],
            "collection_steps": options["steps"],
        }
        _refuse_twice(path, [(start.replica,) for start in given])
        for start in given:
            yield [start], own, len(falling) * (options["relaxation_steps"] + options["steps"])
        return
    if arguments.mode == "labels":
        if any(start.temperature_K is None for start in given):
            raise SuiteError(
                f"{path}: found a start without temperature_K=, expected it in each comment line"
            )
        # The single points of one melt are one run of a deposited set, so they stay together.
        melts: dict[int, list[GivenStart]] = {}
        for start in given:
            melts.setdefault(start.replica, []).append(start)
        piece: list[GivenStart] = []
        for starts in melts.values():
            if piece and len(piece) + len(starts) > per_stage:
                yield piece, {}, 1
                piece = []
            piece.extend(starts)
        yield piece, {}, 1
        return
    by_temperature: dict[float, list[GivenStart]] = {}
    for start in given:
        kelvin = options["temperature_K"][0] if options["temperature_K"] else start.temperature_K
        if kelvin is None:
            raise SuiteError(
                f"{path}: found a start without temperature_K=, expected it there or --temperature-K"
            )
        by_temperature.setdefault(float(kelvin), []).append(start)
    for kelvin, starts in by_temperature.items():
        _refuse_twice(path, [(start.replica, kelvin) for start in starts])
        for first in range(0, len(starts), per_stage):
            own = {"temperature_K": kelvin, "steps": options["steps"]}
            yield starts[first : first + per_stage], own, options["steps"]


def _refuse_twice(path: Path, names: Sequence[tuple[float, ...]]) -> None:
    for name in names:
        if names.count(name) > 1:
            at = f" at {name[1]:g} K" if len(name) > 1 else ""
            raise SuiteError(
                f"{path}: found two starts of replica {name[0]:g}{at}, expected one: "
                "replica and temperature name a trajectory"
            )


def _source(piece: Sequence[GivenStart], arguments: argparse.Namespace) -> str:
    sources = {start.source or arguments.start for start in piece}
    found = ", ".join(sorted(map(str, sources)))
    if len(sources) != 1 or found not in SOURCES:
        raise SuiteError(
            f"{arguments.starts}: found source {found}, expected one of {', '.join(SOURCES)} for all starts "
            "(source= in comment lines, or --start)"
        )
    return found


def print_products(products: Sequence[Path]) -> None:
    """Where they are, how many frames each has, and the line that deposits them."""
    for product in products:
        about = json.loads((product / "aimd.json").read_text())
        print(f"{product}: {about['frames']} frames, {about['refused']} refused")
    if products:
        paths = " ".join(str(product) for product in products)
        print(
            f"to deposit: python -m jobs deposit --from-stage {paths} "
            "--name SET --use train|judge [--append] [--unequilibrated FRAMES]"
        )


def print_plan(stages: Sequence[Stage]) -> None:
    """What would run, and for how long."""
    for stage in stages:
        print(f"{stage.name}  {stage.label}: about {stage.core_seconds / 3600:.2f} core hours")
    print(f"{len(stages)} stages, about {sum(s.core_seconds for s in stages) / 3600:.1f} core hours")
    for line in beyond_aimd_estimate(stages):
        print(line)


def main(arguments: argparse.Namespace) -> int:
    """Plan, and unless it is a dry run, compute; a stage that fails does not stop the others.

    Raises:
        SuiteError: anything wrong, in one line.
    """
    stages = plan(arguments)
    if arguments.dry_run:
        print_plan(stages)
        return 0
    load_engine(arguments.engine).check(
        load_engine(arguments.engine).read_settings(stages[0].parameters["settings"]),
        stages[0].parameters.get("thermostat"),
    )
    store = Store(arguments.store)
    outcome = local.run(stages, store, cores=arguments.cores)
    print_products([store.path(stage.name) for stage in stages if store.is_done(stage.name)])
    outcome.raise_for_failures()
    return 0
