"""Somebody's own first-principles data as frames of a deposited set: which are taken, as what, from what.

Frames stream from the files through the survey into the deposit: memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError, option
from jobs.base.frames import TILT_ANGSTROM, Frame, tilts_angstrom
from jobs.base.silica import SPECIES
from jobs.base.streams import content_sha256
from jobs.reference.deposit import deposit
from jobs.reference.formats import Batch, Source
from jobs.reference.sets import DEPOSIT, DepositedSet, list_sets, read_set
from jobs.reference.survey import Survey, watch

RUN_TEMPERATURE_TOLERANCE = 0.10  # of a run with use judge, as claims allow it where there are velocities
LEVEL = ("engine", "engine_version", "functional", "basis")


@dataclass(frozen=True)
class Choices:
    """What the user says of the frames that the files do not.

    `temperature_K` is the target of the runs; of `every` so many frames one is taken; each `stretch` taken
    frames count as a melt; `one_melt` is behind all sources; `judged_from` is the first frame of a trajectory
    with use judge, before which its start is remembered.
    """

    temperature_K: float | None
    every: int
    stretch: int | None
    one_melt: bool
    judged_from: int | None


@dataclass(frozen=True)
class NewSet:
    """The set that frames go into, and what is said of it; None where the files say it.

    `level` has some of `LEVEL`; `atoms` is the number that frames must have; the others are what
    `jobs.reference.deposit.deposit` takes.
    """

    name: str
    root: Path
    append: bool
    use: str
    kind: str
    start: str
    unequilibrated_frames: int
    licence: str
    provenance: str | None
    level: Mapping[str, str | None]
    timestep_fs: float | None
    thermostat: str | None
    atoms: int | None


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
        SuiteError: other atoms than Si and O, no temperature, or one that a trajectory with use judge does
            not have.
    """
    seen = taken = 0
    kinetic: list[float] = []
    for batch in filter(composition.takes, batches):
        unknown = sorted(set(batch.species) - set(SPECIES))
        if unknown:
            raise SuiteError(
                f"{source.path}: found species {unknown[0]}, expected only {' and '.join(SPECIES)}"
            )
        tilts = tilts_angstrom(batch.cells)
        if (tilts > TILT_ANGSTROM).any():
            raise SuiteError(
                f"{source.path}: found a cell tilted by {tilts.max():.2g} A, expected orthorhombic ones: the "
                "stages that measure errors know no others"
            )
        types = np.array([SPECIES.index(name) for name in batch.species], dtype=np.int8)
        for k in range(len(batch)):
            seen += 1
            if (seen - 1) % choices.every:
                continue
            kelvin = choices.temperature_K if choices.temperature_K is not None else float(batch.target_K[k])
            if math.isnan(kelvin):
                raise SuiteError(f"{source.path}: found no temperature of the run, expected --temperature-K")
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
            f"{RUN_TEMPERATURE_TOLERANCE:.0%} of a run with use judge: a longer --unequilibrated, or "
            "another run"
        )


def level_of(sources: Sequence[Source], given: Mapping[str, str | None]) -> dict[str, str]:
    """Engine, version, functional and basis: as given, else as all sources say alike.

    Sources that say otherwise than what is given have it among their remarks.

    Raises:
        SuiteError: sources of unlike levels, with the names of two of them, or a level that nobody says.
    """
    level: dict[str, str] = {}
    missing = []
    for name in LEVEL:
        value = given.get(name)
        if value is None:
            said = {source.path: getattr(source, name) for source in sources}
            _refuse_unlike(said, name.replace("_", " "), f" (or {option(name)} to overrule)")
            value = said[sources[0].path]
        else:
            for source in sources:
                if (own := getattr(source, name)) not in (None, value):
                    source.remarks.append(f"{option(name)} {value} overrules {own}, which the file says")
        if value is None:
            missing.append(option(name))
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
                f"{path}: found {what} {other or 'none'}, and {one or 'none'} in {first}, expected one "
                f"level of theory in a set{remedy}"
            )


def said_alike(sources: Sequence[Source], name: str, given: Any) -> Any:
    """What is given, else what all sources say alike.

    Raises:
        SuiteError: they say nothing, or different things.
    """
    if given is not None:
        return given
    said = {getattr(source, name) for source in sources}
    if len(said) > 1 or said == {None}:
        found = "nothing" if said == {None} else " and ".join(sorted(map(str, said)))
        raise SuiteError(f"import: found {found} for the trajectory's {name}, expected {option(name)}")
    return said.pop()


def refuse_double_use(digests: Sequence[str], *, use: str, root: Path) -> None:
    """Refuse data that a set of another use has already, under `root` or in the project's deposit.

    Raises:
        SuiteError: as said.
    """
    for place in {root.resolve(), DEPOSIT.resolve()}:
        for other in list_sets(root=place):
            # Sets of before `sources` was recorded have the digest in the names of their melts only.
            known = [*other.facts.get("sources", ()), *(run.melt for run in other.runs)]
            if other.use != use and any(digest in name for name in known for digest in digests):
                raise SuiteError(
                    f"{other.directory}: found data of the same files to {other.use}, expected them not to "
                    f"{use} as well: training data are never a reference"
                )


def deposit_sources(
    sources: Sequence[Source], surveys: Sequence[Survey], new: NewSet, choices: Choices
) -> tuple[DepositedSet, Counter[str]]:
    """Put the frames of some files into a set.

    Each survey sees its source's frames on their way. Returned are the set and how many frames were left
    out, by a word for them.

    Raises:
        SuiteError: anything wrong, in one line; nothing is left half-made.
    """
    trajectory = new.kind == "trajectory"
    level = level_of(sources, new.level)
    timestep = said_alike(sources, "timestep_fs", new.timestep_fs) if trajectory else None
    thermostat = said_alike(sources, "thermostat", new.thermostat) if trajectory else None
    composition = Composition(new.atoms)
    if new.append:
        before = read_set(new.name, root=new.root)
        composition.species = +Counter(dict(before.facts["atoms"]))
        composition.n_atoms = before.n_atoms
    digests = digests_of(sources)
    melts = melts_of(digests, one_melt=choices.one_melt)
    refuse_double_use(digests, use=new.use, root=new.root)
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
        name=new.name,
        kind=new.kind,
        use=new.use,
        settings={
            **sources[0].level.settings,
            "every": str(choices.every),
            "stretch": "none" if choices.stretch is None else f"{choices.stretch} frames count as a melt",
        },
        start=new.start,
        thermostat=thermostat,
        timestep_fs=timestep,
        unequilibrated_frames=new.unequilibrated_frames,
        licence=new.licence,
        provenance=" ".join(filter(None, [new.provenance, f"Imported from {names}."])),
        digests=digests,
        decks=[],
        held_out=True,
        append=new.append,
        root=new.root,
        **level,
    )
    return made, composition.left_out
