"""Which reader a path is for: files, folders of a run, DeePMD systems or folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.frames import are_upright, straightened
from jobs.reference.formats import (
    LEFT_HANDED,
    Batch,
    Source,
    deepmd_data,
    espresso_out,
)
from jobs.reference.formats.cp2k import files as cp2k_files
from jobs.reference.formats.extxyz import frames as extxyz
from jobs.reference.formats.extxyz.labels import Choice
from jobs.reference.formats.vasp import outcar, vasprun

FORMATS = "OUTCAR, vasprun.xml, NAME-pos-1.xyz or log of CP2K, pw.x output, extended XYZ, DeePMD npy or HDF5"
# In this order in a folder that is given: the first that is there is what the run is read from.
_IN_A_FOLDER = ("OUTCAR*", "vasprun.xml*", "*-pos-1.xyz*")


def open_sources(paths: Sequence[Path], choice: Choice = Choice()) -> list[Source]:  # noqa: B008 - frozen
    """What lies at some paths: files, folders of a run, DeePMD systems or folders of them.

    `choice` names the labels of extended XYZ where it has several. Vectors of orthorhombic cells against
    their axes, or in another order, are turned round: they span the same lattice. Left-handed cells are
    counted and left out.

    Raises:
        SuiteError: a path that is missing or of no known format, or data that are given twice.
    """
    sources: list[Source] = []
    given: set[Path] = set()
    for path in paths:
        found = _open(path, choice)
        # What a source is read from comes first; a log may stand beside several runs.
        firsts = {source.files[0].resolve() for source in found}
        if again := sorted(firsts & given):
            raise SuiteError(f"{path}: found {again[0]} a second time, expected each file once")
        given |= firsts
        sources += found
    for source in sources:
        source.batches = _checked(source, source.batches)
    return sources


def _checked(source: Source, batches: Iterator[Batch]) -> Iterator[Batch]:
    said = False
    for batch in batches:
        if batch.forces[0].any() and np.array_equal(batch.forces[0], batch.positions[0]):
            raise SuiteError(f"{source.path}: found the positions in the place of forces, expected forces")
        cells = straightened(batch.cells)
        if cells is not batch.cells:
            if not said:
                source.remarks.append(
                    "vectors of the cell against their axes, or in another order, are turned round"
                )
            said = True
            batch = replace(batch, cells=cells)
        if not are_upright(cells) and not (right_handed := np.linalg.det(cells) >= 0).all():
            source.refused[LEFT_HANDED] += int((~right_handed).sum())
            batch = batch.select(right_handed)
        if len(batch):
            yield batch


def _open(path: Path, choice: Choice) -> list[Source]:
    if not path.exists():
        raise SuiteError(f"{path}: found no such file, expected one of: {FORMATS}")
    if path.is_dir():
        if systems := sorted(found.parent for found in path.rglob("type.raw")):
            return [deepmd_data.open_source(system) for system in systems]
        return _open(_only_run_in(path), choice)
    if path.name == "type.raw":
        return [deepmd_data.open_source(path.parent)]
    if deepmd_data.recognises(path):
        return deepmd_data.open_hdf5(path)
    for reader in (outcar, vasprun, cp2k_files, espresso_out):
        if reader.recognises(path):
            return [reader.open_source(path)]
    if extxyz.recognises(path):
        return [extxyz.open_source(path, choice)]
    raise SuiteError(f"{path}: found none of the known formats, expected one of: {FORMATS}")


def _only_run_in(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    by_name = (sorted(folder.glob(pattern)) for pattern in _IN_A_FOLDER)
    # Logs have the name that their owner gave them.
    by_content = (
        [path for path in files if reader.recognises(path)] for reader in (cp2k_files, espresso_out)
    )
    for found in chain(by_name, by_content):
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SuiteError(f"{folder}: found {names}, expected one run in a folder: give the file")
        if found:
            return found[0]
    raise SuiteError(f"{folder}: found none of the known formats, expected one of: {FORMATS}")
