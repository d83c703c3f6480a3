"""`python -m jobs import`: somebody's own first-principles data, looked at and, if asked for, deposited.

Frames stream from the file through the report into the deposit: memory does not grow with their number.
Without `--deposit` nothing is written. With it, the frames become a set of a deposit of the user's own
(`--root`, by default `./imported`), which a tier file names by `deposit:` and `frames:`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.frames import TILT_ANGSTROM, TYPE_MAP, Frame, tilts_angstrom
from jobs.base.streams import content_sha256
from jobs.cli.options import count, positive, whole
from jobs.reference.deposit import KINDS, STARTS, USES, check_cut, deposit
from jobs.reference.formats import Batch, Source
from jobs.reference.formats.extxyz_labels import Choice
from jobs.reference.formats.sources import open_sources
from jobs.reference.sets import DEPOSIT, READ_REFERENCES, list_sets, read_set
from jobs.reference.survey import Survey, report, watch

IMPORTED = Path("imported")
RUN_TEMPERATURE_TOLERANCE = 0.10  # of a run that judges, as claims allow it where there are velocities


@dataclass(frozen=True)
class Choices:
    """What the user says of the frames that the files do not."""

    temperature_K: float | None
    every: int
    stretch: int | None
    one_melt: bool
    judged_from: int | None  # frame of a trajectory that judges; before it the start is remembered


@dataclass
class Composition:
    """Which frames a set takes, by their atoms: as the first frame of more than one has them, or as chosen.

    `left_out` counts the others, by a word for them.
    """

    n_atoms: int | None
    species: Counter[str] | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def takes(self, batch: Batch) -> bool:
        """Whether a batch is taken; others are counted."""
        found = Counter(batch.species)
        wrong = found.total() != self.n_atoms if self.n_atoms is not None else found.total() == 1
        if self.species is None and not wrong:
            self.species = found
        if found == self.species:
            return True
        formula = " ".join(f"{number} {name}" for name, number in found.items())
        self.left_out["isolated atoms" if found.total() == 1 else f"of {formula}"] += len(batch)
        return False


def digests_of(sources: Sequence[Source]) -> list[str]:
    """A name for each source from the content of its files, packed or not: equal data, equal name."""
    digests: dict[tuple[Path, ...], str] = {}
    systems: Counter[tuple[Path, ...]] = Counter()
    names: list[str] = []
    for source in sources:
        files = tuple(source.files)
        if files not in digests:
            joined = "".join(content_sha256(file) for file in files)
            digests[files] = hashlib.sha256(joined.encode()).hexdigest()[:12]
        # Several systems are in one HDF5 file.
        names.append(digests[files] + (f".g{systems[files]}" if systems[files] else ""))
        systems[files] += 1
    return names


def melts_of(digests: Sequence[str], *, one_melt: bool) -> list[str]:
    """The melt behind each source: its own, or one of them all."""
    if not one_melt:
        return list(digests)
    return [hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:12]] * len(digests)


def frames_of(
    source: Source, batches: Iterable[Batch], *, melt: str, choices: Choices, composition: Composition
) -> Iterator[Frame]:
    """Frames as the deposit takes them.

    Raises:
        SuiteError: other atoms than Si and O, no temperature, or one that a trajectory that judges does not
            have.
    """
    seen = taken = 0
    kinetic: list[float] = []
    for batch in filter(composition.takes, batches):
        unknown = sorted(set(batch.species) - set(TYPE_MAP))
        if unknown:
            raise SuiteError(
                f"{source.path}: found species {unknown[0]}, expected only {' and '.join(TYPE_MAP)}"
            )
        tilts = tilts_angstrom(batch.cells)
        if (tilts > TILT_ANGSTROM).any():
            raise SuiteError(
                f"{source.path}: found a cell tilted by {tilts.max():.2g} A, expected orthorhombic ones: the "
                "stages that measure errors know no others"
            )
        types = np.array([TYPE_MAP.index(name) for name in batch.species], dtype=np.int8)
        for k in range(len(batch)):
            seen += 1
            if (seen - 1) % choices.every:
                continue
            kelvin = choices.temperature_K if choices.temperature_K is not None else float(batch.target_K[k])
            if math.isnan(kelvin):
                raise SuiteError(
                    f"{source.path}: found no temperature of the run, expected it by --temperature K"
                )
            part = "" if choices.stretch is None else f".{taken // choices.stretch}"
            taken += 1
            if choices.judged_from is not None and taken > choices.judged_from:
                kinetic.append(float(batch.kinetic_K[k]))
            yield Frame(
                types=types,
                positions=batch.positions[k],
                cell=batch.cells[k],
                energy_eV=float(batch.energies_eV[k]),
                forces=batch.forces[k],
                velocities=None if batch.velocities is None else batch.velocities[k],
                temperature_K=kelvin,
                info={"replica": f"{melt}{part}", "step": str(int(batch.steps[k]))},
            )
    # Velocities, from which a claim would see it, are in few files; a frame may lack its temperature.
    known = [value for value in kinetic if not math.isnan(value)]
    if known and abs(np.mean(known) - kelvin) > RUN_TEMPERATURE_TOLERANCE * kelvin:
        raise SuiteError(
            f"{source.path}: found {np.mean(known):.0f} K on average, expected {kelvin:g} K within "
            f"{RUN_TEMPERATURE_TOLERANCE:.0%} of a run that judges: a longer --unequilibrated, or another run"
        )


def _level(sources: Sequence[Source], arguments: argparse.Namespace) -> dict[str, str]:
    """Engine, version, functional and basis: the option, else what all sources say alike.

    Raises:
        SuiteError: sources of unlike levels, with the names of two of them, or a level that nobody says.
    """
    level: dict[str, str] = {}
    missing = []
    for name in ("engine", "engine_version", "functional", "basis"):
        option = f"--{name.replace('_', '-')}"
        value = getattr(arguments, name)
        if value is None:
            said = {source.path: getattr(source, name) for source in sources}
            _refuse_unlike(said, name.replace("_", " "), f" (or {option} to overrule)")
            value = said[sources[0].path]
        if value is None:
            missing.append(option)
        else:
            level[name] = value
    for name in sorted({name for source in sources for name in source.level.settings}):
        _refuse_unlike({source.path: source.level.settings.get(name) for source in sources}, name)
    if missing:
        raise SuiteError(f"import: the files do not say the level of theory, expected {', '.join(missing)}")
    return level


def _refuse_unlike(said: Mapping[Path, str | None], what: str, remedy: str = "") -> None:
    """Refuse files that do not say one thing alike, in the name of the first two that differ."""
    (first, one), *rest = said.items()
    for path, other in rest:
        if one != other:
            raise SuiteError(
                f"{path}: found {what} {other or 'not said'}, and {one or 'not said'} in {first}, expected "
                f"one level of theory in a set{remedy}"
            )


def _one(sources: Sequence[Source], name: str, given: Any) -> Any:
    """An option, else what all sources say alike.

    Raises:
        SuiteError: they say nothing, or different things.
    """
    said = {getattr(source, name) for source in sources}
    option = f"--{name.replace('_', '-')}"
    if given is not None:
        return given
    if len(said) > 1 or said == {None}:
        found = "nothing" if said == {None} else " and ".join(sorted(map(str, said)))
        raise SuiteError(f"import: found {found} for the trajectory's {name}, expected {option}")
    return said.pop()


def _refuse_double_use(digests: Sequence[str], *, use: str, root: Path) -> None:
    for place in {root.resolve(), DEPOSIT.resolve()}:
        for other in list_sets(root=place):
            # Sets of before `sources` was recorded have the digest in the names of their melts only.
            known = [*other.facts.get("sources", ()), *(run.melt for run in other.runs)]
            if other.use != use and any(digest in name for name in known for digest in digests):
                raise SuiteError(
                    f"{other.directory}: found data of the same files to {other.use}, expected them not to "
                    f"{use} as well: what judges never trains"
                )


def _deposit(sources: Sequence[Source], surveys: Sequence[Survey], arguments: argparse.Namespace) -> None:
    kind = arguments.kind or ("trajectory" if arguments.use == "judge" else "singlepoints")
    start = arguments.start or "other"
    if arguments.use == "judge" and arguments.start is None:
        raise SuiteError(
            "import: found no --start, expected what the trajectories that judge began from: "
            f"{', '.join(STARTS)}"
        )
    if arguments.use == "judge" and arguments.stretch is not None:
        raise SuiteError(
            "import: found --stretch with --use judge, expected it with train only: pieces of one run are no "
            "replicas"
        )
    check_cut(use=arguments.use, kind=kind, unequilibrated_frames=arguments.unequilibrated)
    trajectory = kind == "trajectory"
    level = _level(sources, arguments)
    timestep = _one(sources, "timestep_fs", arguments.timestep_fs) if trajectory else None
    thermostat = _one(sources, "thermostat", arguments.thermostat) if trajectory else None
    choices = Choices(
        arguments.temperature,
        arguments.every,
        arguments.stretch,
        arguments.one_melt,
        judged_from=arguments.unequilibrated if trajectory and arguments.use == "judge" else None,
    )
    composition = Composition(arguments.atoms)
    if arguments.append:
        before = read_set(arguments.deposit, root=arguments.root)
        composition.species = +Counter(dict(before.facts["atoms"]))
        composition.n_atoms = before.n_atoms
    digests = digests_of(sources)
    melts = melts_of(digests, one_melt=choices.one_melt)
    _refuse_double_use(digests, use=arguments.use, root=arguments.root)
    names = ", ".join(
        f"{source.path.name} ({source.format}, melt {melt})"
        for source, melt in zip(sources, melts, strict=True)
    )
    made = deposit(
        (
            frame
            for source, survey, melt in zip(sources, surveys, melts, strict=True)
            for frame in frames_of(
                source, watch(source, survey), melt=melt, choices=choices, composition=composition
            )
        ),
        source=", ".join(str(source.path) for source in sources),
        name=arguments.deposit,
        kind=kind,
        use=arguments.use,
        settings={
            **sources[0].level.settings,
            "every": str(choices.every),
            "stretch": "none" if choices.stretch is None else f"{choices.stretch} frames count as a melt",
        },
        start=start,
        thermostat=thermostat,
        timestep_fs=timestep,
        unequilibrated_frames=arguments.unequilibrated or 0,
        licence=arguments.licence,
        provenance=" ".join(filter(None, [arguments.provenance, f"Imported from {names}."])),
        digests=digests,
        decks=[],
        held_out=True,
        append=arguments.append,
        root=arguments.root,
        **level,
    )
    for survey in surveys:
        print(report(survey.facts()))
    if composition.left_out:
        left_out = ", ".join(f"{number} {what}" for what, number in composition.left_out.items())
        print(f"left out: {left_out}; expected frames as the first one, or as --atoms and the set say")
    melts_made = len({run.melt for run in made.runs})
    print(
        f"deposited {made.frames} frames of {made.n_atoms} atoms, {melts_made} melts, to {made.use} in "
        f"{made.directory}, sha256 {made.sha256[:12]}"
    )
    print(f"its level of theory: {made.level_line}")
    if made.use == "judge" and made.kind == "singlepoints":
        print("no claim reads it: single points judge only with their sampler (jobs deposit --sampler)")
    elif made.use == "judge":
        unread = f", which no claim reads: they read {', '.join(READ_REFERENCES)}"
        print(f"it judges as {made.judges_as}{unread if made.judges_as not in READ_REFERENCES else ''}")
    if made.use == "train":
        print(
            f"to train on it, in a copy of a tier file: deposit: {arguments.root.resolve()} and "
            f"frames: {{deepmd-96: {{{made.name}: 1}}, deepmd-216: {{{made.name}: 1}}}}"
        )
        if melts_made < 2:
            print(
                "but training needs at least 2 melts, to hold one out: import a second run with --append, or "
                "cut this one with --stretch FRAMES"
            )


# Command line -------------------------------------------------------------------------------------

# Options that say nothing of a file, only of the set that is made of it.
_OF_A_DEPOSIT = (
    "append", "use", "kind", "start", "atoms", "one_melt", "stretch", "unequilibrated", "temperature",
    "timestep_fs", "thermostat", "engine", "engine_version", "functional", "basis", "provenance",
)  # fmt: skip
_DESCRIPTION = """\
Look at somebody's first-principles data and, with --deposit, take it in.

PATH is an OUTCAR or vasprun.xml (VASP 5.4 or 6), CP2K's NAME-pos-1.xyz (with NAME-frc-1.xyz and the log
beside it) or a single point's log, pw.x output, extended XYZ, a DeePMD system (folder with type.raw, or a
folder of such) or DeePMD's HDF5; text also as .gz, .xz or .bz2. A run's folder will do, too.

Energies are those that the forces belong to (VASP: TOTEN). Frames whose SCF did not converge and a
half-written last frame are refused and counted. Any number of frames needs the memory of a few."""
_EPILOG = """\
examples:
  python -m jobs import OUTCAR
      what is in it; nothing is written
  python -m jobs import run-*/OUTCAR.gz --deposit mine --use train
      into the set ./imported/mine, each run a melt of its own
  python -m jobs import data/ --deposit mine --use train --temperature 3000 --every 20 --stretch 500 \\
      --engine VASP --engine-version 5.4.4 --functional PBE --basis 'PAW, 500 eV'
      DeePMD data, which say nothing of themselves
Then name the set in a tier file: see docs/your-data.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs import`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("path", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    labels = parser.add_argument_group("where extended XYZ has several labels")
    labels.add_argument(
        "--energy-key", metavar="NAME", help="the energy in the comment line, for example REF_energy"
    )
    labels.add_argument("--force-key", metavar="NAME", help="the property with the forces, as REF_forces")
    into = parser.add_argument_group("to deposit")
    into.add_argument("--deposit", metavar="NAME", help="make (or --append to) the set of this name")
    into.add_argument(
        "--root", type=Path, default=IMPORTED, metavar="DIR", help="the deposit (default: ./imported)"
    )
    into.add_argument("--append", action="store_true", help="add the frames as further runs of the set NAME")
    into.add_argument("--use", choices=USES, help="what judges never trains")
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
    into.add_argument(
        "--unequilibrated",
        type=whole,
        metavar="FRAMES",
        help="first frames of a trajectory that still remember the start; needed where it judges",
    )
    saying = parser.add_argument_group("where the files do not say it, or to overrule them")
    saying.add_argument("--temperature", type=positive, metavar="K", help="target temperature of the run")
    saying.add_argument("--timestep-fs", type=positive, help="of a trajectory")
    saying.add_argument("--thermostat", help="of a trajectory; none for NVE")
    saying.add_argument("--engine", help="for example VASP")
    saying.add_argument("--engine-version")
    saying.add_argument("--functional", help="for example PBE")
    saying.add_argument("--basis", help="for example 'PAW, 500 eV'")
    saying.add_argument("--licence", default="not stated", help="SPDX name, for example CC0-1.0")
    saying.add_argument("--provenance", help="who computed what, in a sentence")


def main(arguments: argparse.Namespace) -> int:
    """Look at files and, with --deposit, take their frames in.

    Raises:
        SuiteError: anything wrong, in one line; nothing is left half-made.
    """
    if not arguments.deposit and (given := [name for name in _OF_A_DEPOSIT if getattr(arguments, name)]):
        raise SuiteError(
            f"import: found --{given[0].replace('_', '-')} without --deposit, expected --deposit NAME: "
            "without it nothing is written"
        )
    if arguments.deposit and arguments.json:
        raise SuiteError(
            "import: found --json with --deposit, expected it without: it is a report of what is there"
        )
    if arguments.deposit and not arguments.use:
        raise SuiteError("import: found no --use, expected --use train or --use judge with --deposit")
    sources = open_sources(arguments.path, Choice(arguments.energy_key, arguments.force_key))
    surveys = [Survey(source) for source in sources]
    if arguments.deposit:
        _deposit(sources, surveys, arguments)
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
