"""Extended XYZ of whatever origin: `Lattice`, `Properties` with species, pos and forces, an energy.

Where both `free_energy` and `energy` are given, as ASE writes them of VASP, the free energy is taken: ASE's
`energy` is the one extrapolated to sigma -> 0, which the forces do not belong to. (The deposit's own files
are read by `jobs.frames.read_extxyz`, which refuses what this one takes as it comes.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.errors import SuiteError
from jobs.frames import CONVERGED_KEYS, UNCONVERGED, VELOCITIES, comment_values, unconverged_key
from jobs.readers import HALF, UNREADABLE, Snapshot, Source, collect, head, lines, open_binary

_FORCES = ("forces", "force")
_ENERGIES = ("free_energy", "energy")


@dataclass(frozen=True)
class _Layout:
    """Which columns of a frame hold what."""

    width: int
    species: int
    text: tuple[int, ...]
    positions: int
    forces: int
    velocities: int | None


def recognises(path: Path) -> bool:
    """Whether this is extended XYZ."""
    return b"Lattice=" in head(path) and b"Properties=" in head(path)


def open_source(path: Path) -> Source:
    """Frames of an extended XYZ file."""
    source = Source(path, "extended XYZ", files=[path], convergence_known=False)
    source.batches = collect(_frames(path, source), source)
    return source


def _layout(properties: str, where: str) -> _Layout:
    parts = properties.split(":")
    places: dict[str, int] = {}
    text: list[int] = []
    column = 0
    try:
        for name, kind, width in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
            places[name] = column
            if kind in "SL":
                text.extend(range(column, column + int(width)))
            column += int(width)
    except ValueError:
        raise SuiteError(
            f"{where}: found Properties={properties}, expected name:type:width triples"
        ) from None
    forces = next((places[name] for name in _FORCES if name in places), None)
    if "species" not in places or "pos" not in places or forces is None:
        raise SuiteError(
            f"{where}: found only {', '.join(places)} among its properties, expected species, pos and forces"
        )
    return _Layout(column, places["species"], tuple(text), places["pos"], forces, places.get(VELOCITIES))


def _frames(path: Path, source: Source) -> Iterator[tuple[tuple[str, ...], Snapshot]]:
    layout: tuple[str, _Layout] | None = None
    names: tuple[str, ...] = ()
    with open_binary(path) as stream:
        rest = lines(stream)
        # Files that were joined may have an empty line between them.
        for number, line in enumerate(filter(bytes.strip, rest), start=1):
            where = f"{path}: frame {number}"
            if not line.strip().isdigit() or int(line) < 1:
                raise SuiteError(f"{where}: found {line[:40]!r}, expected the number of atoms")
            comment = next(rest, b"")
            rows = list(islice(rest, int(line)))
            info = comment_values(comment.decode("latin-1"))
            if len(rows) != int(line) or (not rows[-1].endswith(b"\n") and "Properties" not in info):
                source.refused[HALF] += 1
                return
            energy = next((info[key] for key in _ENERGIES if key in info), None)
            if "Lattice" not in info or "Properties" not in info or energy is None:
                raise SuiteError(
                    f"{where}: found only {', '.join(info) or 'no assignment'} in the comment line, "
                    "expected Lattice, Properties and energy (or free_energy)"
                )
            if any(key in info for key in CONVERGED_KEYS):
                source.convergence_known = True
            if unconverged_key(info) is not None:
                source.refused[UNCONVERGED] += 1
                continue
            if layout is None or layout[0] != info["Properties"]:
                layout = info["Properties"], _layout(info["Properties"], where)
            form = layout[1]
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
                names = tuple(name.decode() for name in species)
            for column in form.text:
                words[column :: form.width] = [b"0"] * len(rows)
            try:
                table = np.array(list(map(float, words))).reshape(len(rows), form.width)
                yield names, _snapshot(table, form, info, energy)
            except ValueError:
                source.refused[UNREADABLE] += 1


def _snapshot(table: NDArray[np.float64], form: _Layout, info: dict[str, str], energy: str) -> Snapshot:
    def vectors(first: int) -> NDArray[np.float64]:
        return table[:, first : first + 3]

    step = info.get("step", "")
    return Snapshot(
        positions=vectors(form.positions),
        cell=np.array(list(map(float, info["Lattice"].split()))).reshape(3, 3),
        energy_eV=float(energy),
        forces=vectors(form.forces),
        velocities=None if form.velocities is None else vectors(form.velocities),
        step=int(step) if step.isdigit() else -1,
        target_K=float(info.get("temperature_K", "nan")),
        stress="stress" in info or "virial" in info or "virials" in info,
    )
