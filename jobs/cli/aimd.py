"""`python -m jobs aimd`: first-principles data from given starts, in stages that are kept one by one."""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import read_text, write_whole
from jobs.base.frames import comment_values
from jobs.cli.options import count, positive, whole
from jobs.cost.estimates import aimd_core_seconds, beyond_aimd_estimate, label_core_seconds
from jobs.engines.first_principles.registry import ENGINES, load_engine, named_settings
from jobs.engines.first_principles.types import THERMOSTATS
from jobs.engines.lammps.program import DAMPING_FS
from jobs.stages.aimd import start_of
from jobs.store.stage import Stage
from jobs.store.store import Store

MODES = ("labels", "short", "stepwise")
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

DESCRIPTION = (
    "Compute PBE energies and forces (labels), short runs from each start, or stepwise runs through falling "
    "temperatures. Work is cut into stages of --per-stage starts; each is kept when it is done, and the same "
    "command goes on from where it was killed. Where products are, and how to deposit them, is printed last."
)
EPILOG = (
    "Examples: python -m jobs aimd starts.xyz --per-stage 5 | python -m jobs aimd starts.xyz --mode short "
    "--temperature-K 3000 --settings md --steps 160 --timestep-fs 2 | python -m jobs aimd melts.xyz --mode "
    "stepwise --temperature-K 5000 4500 4000 --relaxation-steps 100 --steps 200. "
    "See docs/first-principles.md"
)


@dataclass(frozen=True)
class _Given:
    """One start of the file, as text, and what its comment line says."""

    text: str
    n_atoms: int
    replica: int
    temperature_K: float | None
    source: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs aimd`."""
    parser.add_argument(
        "starts",
        type=Path,
        help="extended XYZ file; comment lines say replica= (the melt or run that a start descends from), "
        "temperature_K= (labels; short runs, unless given here) and source= (bks, nnp or tersoff)",
    )
    parser.add_argument("--mode", choices=MODES, default="labels")
    add_engine_options(parser)
    parser.add_argument(
        "--temperature-K",
        dest="temperature_K",
        type=positive,
        nargs="+",
        metavar="T",
        help="of short runs; of stepwise runs all of them, falling",
    )
    parser.add_argument("--steps", type=count, help="of a short run; at each temperature of a stepwise run")
    parser.add_argument(
        "--relaxation-steps",
        type=whole,
        help="before --steps at each temperature of a stepwise run (default: 0)",
    )
    parser.add_argument("--timestep-fs", type=positive, help="default: 2")
    parser.add_argument("--ensemble", choices=("nvt", "nve"), help="default: nvt")
    parser.add_argument(
        "--thermostat", choices=THERMOSTATS, help="default: csvr, with VASP nose-hoover (what it has)"
    )
    parser.add_argument("--damping-fs", type=positive, help="of the thermostat (default: 100)")
    parser.add_argument(
        "--density", type=positive, metavar="G_CM3", help="scale starts to it (default: leave them)"
    )
    parser.add_argument("--source", choices=SOURCES, help="where the starts do not say it: what made them")
    parser.add_argument("--seed", type=whole, help="of velocities and noise (default: 1)")
    parser.add_argument(
        "--per-stage", type=count, default=10, metavar="N", help="starts per stage (default: 10)"
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Engine, settings, store, cores and dry run."""
    from jobs.cli.options import add_store_option

    parser.add_argument("--engine", choices=ENGINES, default="cp2k")
    parser.add_argument(
        "--settings",
        default="default",
        metavar="NAME",
        help="a name in settings.yml beside the engines (default: `default`, for labels; tight; CP2K also "
        "has md, for trajectories, and tzvp) or your own .yml file",
    )
    parser.add_argument(
        "--cores", type=count, default=None, help="stages side by side, one core each (default: all cores)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the stages and their estimated cost")
    add_store_option(parser)


def plan(arguments: argparse.Namespace) -> list[Stage]:
    """The stages that the starts make; their pieces of the file are put beside the store's products.

    Raises:
        SuiteError: a wrong option, or a start without what the mode needs.
    """
    options = _options(arguments)
    given = list(_read_starts(arguments.starts))
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
    given = [f"--{name.replace('_', '-')}" for name, value in said.items() if value is not None]
    if arguments.mode == "labels" and given:
        raise SuiteError(
            f"aimd: found {given[0]} with --mode labels, expected it with short or stepwise only"
        )
    if arguments.mode == "short" and said["relaxation_steps"] is not None:
        raise SuiteError("aimd: found --relaxation-steps with --mode short, expected it with stepwise only")
    options = {name: RUN_OPTIONS[name] if value is None else value for name, value in said.items()}
    if arguments.mode != "labels" and options["steps"] is None:
        raise SuiteError(f"aimd: found no --steps with --mode {arguments.mode}, expected how many")
    if arguments.mode == "stepwise" and options["temperature_K"] is None:
        raise SuiteError(
            "aimd: found no --temperature-K, expected the falling temperatures of a stepwise run"
        )
    if arguments.mode == "short" and len(options["temperature_K"] or [0]) != 1:
        raise SuiteError("aimd: found several --temperature-K, expected one for short runs")
    if options["ensemble"] == "nve" and said["thermostat"] is not None:
        raise SuiteError("aimd: found --thermostat with --ensemble nve, expected it with nvt only")
    return options


def _read_starts(path: Path) -> Iterator[_Given]:
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected an extended XYZ file of starts")
    lines = iter(read_text(path, expected="an extended XYZ file of starts").splitlines(keepends=True))
    number = 0
    # Files that were joined may have an empty line between them.
    for number, line in enumerate(filter(str.strip, lines), start=1):
        where = f"{path}: frame {number}"
        if not line.strip().isdigit():
            raise SuiteError(f"{where}: found {line.strip()[:40]!r}, expected the number of atoms")
        n_atoms = int(line)
        block = [line, *islice(lines, n_atoms + 1)]
        if len(block) != n_atoms + 2:
            raise SuiteError(f"{where}: found {len(block) - 2} atoms, expected {n_atoms}: truncated")
        info = comment_values(block[1])
        if "replica" not in info or not info["replica"].isdigit():
            raise SuiteError(
                f"{where}: found replica={info.get('replica')}, expected a number in its comment line"
            )
        try:
            kelvin = float(info["temperature_K"]) if "temperature_K" in info else None
        except ValueError:
            raise SuiteError(
                f"{where}: found temperature_K={info['temperature_K']}, expected a number"
            ) from None
        text = "".join(block)
        text = text if text.endswith("\n") else text + "\n"
        _check_start(text, where)
        yield _Given(
            text,
            n_atoms,
            int(info["replica"]),
            kelvin,
            info.get("source"),
        )
    if number == 0:
        raise SuiteError(f"{path}: found no start, expected at least one")


def _check_start(text: str, where: str) -> None:
    """Refuse what the stage could not use, before anything runs: one bad start would take others with it."""
    from ase.io import iread

    try:
        atoms = next(iread(io.StringIO(text), format="extxyz"))
    except Exception as error:  # whatever ASE says of text that is none
        raise SuiteError(
            f"{where}: found no extended XYZ ({error}), expected species and positions"
        ) from None
    start_of(atoms, where, density=None)


def _pieces(
    arguments: argparse.Namespace, options: Mapping[str, Any], given: Sequence[_Given]
) -> Iterator[tuple[list[_Given], dict[str, Any], int]]:
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
        melts: dict[int, list[_Given]] = {}
        for start in given:
            melts.setdefault(start.replica, []).append(start)
        piece: list[_Given] = []
        for starts in melts.values():
            if piece and len(piece) + len(starts) > per_stage:
                yield piece, {}, 1
                piece = []
            piece.extend(starts)
        yield piece, {}, 1
        return
    by_temperature: dict[float, list[_Given]] = {}
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


def _source(piece: Sequence[_Given], arguments: argparse.Namespace) -> str:
    sources = {start.source or arguments.source for start in piece}
    found = ", ".join(sorted(map(str, sources)))
    if len(sources) != 1 or found not in SOURCES:
        raise SuiteError(
            f"{arguments.starts}: found source {found}, expected one of {', '.join(SOURCES)} for all starts "
            "(source= in comment lines, or --source)"
        )
    return found


def print_products(products: Sequence[Path]) -> None:
    """Where they are, how many frames each has, and the line that deposits them."""
    import json

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
    from jobs.running import local

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
    local.raise_for_failures(outcome)
    return 0
