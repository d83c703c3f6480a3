"""Extended XYZ of whatever origin: `Lattice`, `Properties` with species, pos and forces, an energy.

Keys are read in small or capital letters. Which of several energies and forces are the labels is decided in
`labels`, units in `units`, what is said of the level of theory in `level`. All frames of a file have the same
labels and the same level, or it is refused. Frames that are not periodic, such as isolated atoms, and frames
without forces or energy are counted and left out. (The deposit's own files are read by
`jobs.base.frames.read_extxyz`, which refuses what this one takes as it comes.)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import VELOCITIES, converged_keys
from jobs.base.streams import head, lines, open_binary
from jobs.reference.formats import (
    HALF,
    NOT_PERIODIC,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    atom_count,
    collect,
)
from jobs.reference.formats.extxyz.labels import Choice, choose
from jobs.reference.formats.extxyz.level import KEYS, level_of
from jobs.reference.formats.extxyz.units import Units, units_of
from jobs.reference.formats.level import Level

WITHOUT_ENERGY = "without energy"
_ASSIGNMENT = re.compile(r"""([\w.-]+)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S+)""")
_HEAD_FRAMES = 20
_WIDEST = 10_000  # columns of a property
_PERIODIC = {"t", "true", ".true.", "1", "1.0", "yes"}


@dataclass(frozen=True)
class _Layout:
    """Which columns of a frame hold what, and which key its energy; None for what it has not.

    `energy` and `force` are the names of the labels.
    """

    width: int
    species: int
    text: tuple[int, ...]
    positions: int
    forces: int | None
    velocities: int | None
    energy: str | None
    force: str | None
    units: Units


def recognises(path: Path) -> bool:
    """Whether this is extended XYZ."""
    start = head(path).lower()
    return b"lattice=" in start and b"properties=" in start


def open_source(path: Path, choice: Choice = Choice()) -> Source:  # noqa: B008 - frozen
    """Frames of an extended XYZ file; `choice` names its labels where it has several."""
    source = Source(path, "extended XYZ", files=[path], convergence_known=False)
    said_in, source.level = _level_at_head(path)
    source.batches = collect(_frames(path, source, choice, said_in), source)
    return source


def _level_at_head(path: Path) -> tuple[str, Level]:
    """Which of the first frames says its level of theory, and what; `frame 1` and nothing if none does."""
    with open_binary(path) as stream:
        rest = lines(stream)
        for number, line in enumerate(islice(filter(bytes.strip, rest), _HEAD_FRAMES), start=1):
            n_atoms, where = atom_count(line), f"{path}: frame {number}"
            info = _values(next(rest, b""), where)
            if n_atoms is None:
                break
            if KEYS & info.keys() and _is_periodic(info):
                return f"frame {number}", level_of(info, where)
            deque(islice(rest, n_atoms), maxlen=0)
    return "frame 1", Level()


def refuse_other_labels(info: Mapping[str, str], where: str, *, functional: str) -> None:
    """Hold a frame that is read by its `energy` and `forces` to what `import` asks of one.

    Raises:
        SuiteError: labels beside these, units other than eV and A, or another functional.
    """
    said = {key.lower(): value for key, value in info.items()}
    if "properties" not in said:
        return  # its reader has more to say of it
    if not _is_periodic(said):
        raise SuiteError(f"{where}: found pbc={said.get('pbc')!r}, expected a cell that is periodic")
    form = _layout(said, where, Choice())
    if (form.energy or "energy", form.force or "forces") != ("energy", "forces"):
        raise SuiteError(
            f"{where}: found labels {form.energy} and {form.force}, expected energy and forces only: "
            "`python -m jobs import` has a choice of labels"
        )
    if form.units != Units():
        raise SuiteError(f"{where}: found other units than eV and A, expected these: `import` converts them")
    named = level_of(said, where).exchange_correlation
    if named is not None and named.lower() != functional.lower():
        raise SuiteError(f"{where}: found functional {named}, expected {functional} as --functional says")


def _values(line: bytes, where: str) -> dict[str, str]:
    """Assignments of a comment line by their keys in small letters.

    Raises:
        SuiteError: one key with two values.
    """
    try:
        comment = line.decode()
    except UnicodeDecodeError:
        comment = line.decode("latin-1")
    found: dict[str, str] = {}
    for key, text in _ASSIGNMENT.findall(comment):
        value = text.strip("\"'{}[]").replace(",", " ") if text[0] in "\"'{[" else text
        if found.setdefault(key.lower(), value) != value:
            raise SuiteError(
                f"{where}: found {key} with {found[key.lower()]} and {value}, expected one value"
            )
    return found


def _layout(info: Mapping[str, str], where: str, choice: Choice) -> _Layout:
    parts = info["properties"].lower().split(":")
    places: dict[str, int] = {}
    forms: dict[str, str] = {}
    text: list[int] = []
    column = 0
    try:
        for name, kind, width in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
            if not 1 <= int(width) <= _WIDEST or name in places:
                raise ValueError
            places[name], forms[name] = column, f"{kind.upper()}{width}"
            if kind in "sl":
                text.extend(range(column, column + int(width)))
            column += int(width)
    except ValueError:
        raise SuiteError(
            f"{where}: found Properties={info['properties']}, expected name:type:width triples"
        ) from None
    if forms.get("species") != "S1" or forms.get("pos") != "R3":
        found = ", ".join(f"{name} ({forms[name]})" for name in places)
        raise SuiteError(
            f"{where}: found only {found} among its properties, expected species (S1), pos (R3) and forces"
        )
    labels = choose(list(info), forms, choice=choice, where=where)
    return _Layout(
        column,
        places["species"],
        tuple(text),
        places["pos"],
        None if labels.forces is None else places[labels.forces],
        places.get(VELOCITIES.lower()),
        labels.energy,
        labels.forces,
        units_of(info, where),
    )


def _frames(
    path: Path, source: Source, choice: Choice, said_in: str
) -> Iterator[tuple[tuple[str, ...], Snapshot]]:
    """Frames; the level of theory is that of the frame `said_in`, labels are those of the first one taken."""
    layouts: dict[tuple[str, ...], _Layout] = {}
    names: tuple[str, ...] = ()
    taken, lacking = "", ""  # the first frame that is taken; what one lacks
    labels: tuple[str, str] | None = None
    with open_binary(path) as stream:
        rest = lines(stream)
        # Files that were joined may have an empty line between them.
        for number, line in enumerate(filter(bytes.strip, rest), start=1):
            where = f"{path}: frame {number}"
            n_atoms = atom_count(line)
            if n_atoms is None:
                raise SuiteError(f"{where}: found {line[:40]!r}, expected the number of atoms")
            comment = next(rest, b"")
            rows = list(islice(rest, n_atoms))
            info = _values(comment, where)
            if len(rows) != n_atoms or (not rows[-1].endswith(b"\n") and "properties" not in info):
                source.refused[HALF] += 1
                return
            if not _is_periodic(info):
                source.refused[NOT_PERIODIC] += 1
                continue
            if "properties" not in info:
                raise SuiteError(
                    f"{where}: found only {', '.join(info) or 'no assignment'} in the comment line, "
                    "expected Lattice, Properties and energy (or free_energy)"
                )
            # Of a comment only keys and units matter here, which most frames of a file share.
            marks = (key if "unit" not in key else f"{key}={info[key]}" for key in info)
            form_key = (info["properties"], *marks)
            if form_key not in layouts:
                layouts[form_key] = _layout(info, where, choice)
            form = layouts[form_key]
            if form.energy is None or form.forces is None or form.force is None:
                source.refused[WITHOUT_ENERGY if form.energy is None else WITHOUT_FORCES] += 1
                lacking = lacking or _lacking(form, info, where)
                continue
            said = converged_keys(info)
            if said:
                source.convergence_known = True
            if not source.accepts(min(said.values(), key=_certainty) if said else True):
                continue
            words = b" ".join(rows).split()
            if len(words) != len(rows) * form.width:
                if next(rest, None) is None:
                    source.refused[HALF] += 1
                    return
                raise SuiteError(
                    f"{where}: found {len(words)} values, expected {len(rows)} atoms of {form.width}"
                )
            species = words[form.species :: form.width]
            if len(names) != len(species) or species != [name.encode() for name in names]:
                names = tuple(name.decode(errors="replace") for name in species)
            for column in form.text:
                words[column :: form.width] = [b"0"] * len(rows)
            try:
                table = np.array(list(map(float, words))).reshape(len(rows), form.width)
                frame = _snapshot(table, form, info, proven=None not in said.values())
            except ValueError:
                source.refused[UNREADABLE] += 1
                continue
            if labels is None:
                taken, labels = f"frame {number}", (form.energy, form.force)
            if labels != (form.energy, form.force):
                raise SuiteError(
                    f"{where}: found labels {form.energy} and {form.force}, expected {' and '.join(labels)} "
                    f"as in {taken}, or a choice by --energy-key and --force-key"
                )
            level = level_of(info, where) if KEYS & info.keys() else Level()
            if level != source.level:
                raise SuiteError(
                    f"{where}: found level {level.line()}, and {source.level.line()} in {said_in}, expected "
                    "one level of theory in a set"
                )
            yield names, frame
    if lacking and not taken:
        raise SuiteError(lacking)


def _lacking(form: _Layout, info: Mapping[str, str], where: str) -> str:
    if form.energy is None:
        found, expected = f"{', '.join(info)} in the comment line", "Lattice, Properties and energy"
        return f"{where}: found only {found}, expected {expected} (or free_energy)"
    names = ", ".join(info["properties"].split(":")[0::3])
    return f"{where}: found only {names} among its properties, expected species, pos and forces (R:3)"


def _certainty(said: bool | None) -> int:
    """False before not known before True."""
    return {False: 0, None: 1, True: 2}[said]


def _is_periodic(info: Mapping[str, str]) -> bool:
    """Whether a frame is periodic in all directions; with a Lattice and no word on it, it is."""
    words = info.get("pbc", "T T T").lower().split()
    if len(words) == 1:  # of all three, or three in one word
        words = list(words[0]) if re.fullmatch("[tf01]{3}", words[0]) else words * 3
    return "lattice" in info and len(words) == 3 and set(words) <= _PERIODIC


def _snapshot(
    table: NDArray[np.float64], form: _Layout, info: Mapping[str, str], *, proven: bool
) -> Snapshot:
    def vectors(first: int) -> NDArray[np.float64]:
        return table[:, first : first + 3]

    assert form.energy is not None
    assert form.forces is not None
    step, units = info.get("step", ""), form.units
    return Snapshot(
        positions=vectors(form.positions) * units.position,
        cell=np.array(list(map(float, info["lattice"].split()))).reshape(3, 3) * units.cell,
        energy_eV=float(info[form.energy]) * units.energy,
        forces=vectors(form.forces) * units.force,
        velocities=None if form.velocities is None else vectors(form.velocities),
        step=int(step) if step.isdigit() else -1,
        target_K=float(info.get("temperature_k", "nan")),
        stress="stress" in info or "virial" in info or "virials" in info,
        proven=proven,
    )
