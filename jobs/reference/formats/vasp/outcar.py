"""VASP's OUTCAR (5.4 and 6): one frame per ionic step, energies TOTEN.

An ionic step ends with its `free  energy   TOTEN`, the energy that the forces belong to; the one
extrapolated to sigma -> 0 is not. Whether its SCF converged, its numbers say (`vasp_scf.py`); with
NWRITE 0 or 1 they are there for the first step only. Steps that a machine-learned force field made (VASP 6,
`ML TOTEN`) are no frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.streams import blocks, head
from jobs.engines.first_principles import vasp_scf
from jobs.reference.formats import (
    HALF,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    collect,
    numbers,
    refuse_second_run,
    stem,
)
from jobs.reference.formats.vasp.settings import Potcar, Settings, level, number, whole

_END = b"free  energy   TOTEN"
_FORCES = b"TOTAL-FORCE (eV/Angst)"
_UNIT = b"(eV/Angst)"
_CELL = b"direct lattice vectors"
_ITERATION = b"Iteration"
_STRESS = b"FORCE on cell =-STRESS in cart. coord.  units"
_RUN = b"\n vasp."
_KINETIC = re.compile(rb"EKIN(?:_LAT)?\s*=.*\(temperature\s+(\d+\.?\d*) K\)")


def recognises(path: Path) -> bool:
    """Whether this is an OUTCAR."""
    start = head(path).lstrip()
    return start.startswith(b"vasp.") or ("OUTCAR" in stem(path) and b" INCAR:" in start)


def open_source(path: Path) -> Source:
    """An OUTCAR's settings and frames.

    Raises:
        SuiteError: no atoms in its header.
    """
    parts = blocks(path, _END)
    first, complete = next(parts)
    header = first.partition(b"- Iteration")[0].decode(errors="replace")
    # Dispersion introduces itself after the first SCF.
    settings = _settings(header, first.decode(errors="replace"))
    species = _species(header, path)
    source = Source(path, "VASP OUTCAR", files=[path])
    settings.describe(source)
    frames = _frames(chain([(first, complete)], parts), len(species), settings, source)
    source.batches = collect(((species, frame) for frame in frames), source)
    return source


def _settings(header: str, first_step: str) -> Settings:
    """Settings from what stands before the first SCF, or before the first energy."""

    def tag(name: str) -> str | None:
        if name == "METAGGA":
            # An older line of the same name says something else, and false.
            said = re.findall(r"^\s*METAGGA\s*=\s*([^\s;]+)", header, re.MULTILINE)
            return next((value for value in reversed(said) if len(value) > 2), None)
        if name == "Edisp (eV)" and "w/o vdW" in first_step:
            return "T"  # forces are listed with and without it
        if "VDW_" in name:
            # What was used stands behind what was asked for.
            said = re.findall(rf"^\s*{name}\s*=[ \t]*([^;\n]*[^;\s])", first_step, re.MULTILINE)
            return said[-1].removesuffix(" A") if said else None
        if name in ("IVDW", "LVDW", "LVDWSCS", "LTSSURF", "Edisp (eV)"):
            match = re.search(rf"(?:^|;)\s*{re.escape(name)}\s*=?\s*([^\s;]+)", first_step, re.MULTILINE)
        elif name.startswith("LDAU") or name == "EFIELD_PEAD":
            match = re.search(rf"(?:^|\s){name}\s*=[ \t]*([^;\n]+)", header)
        else:
            match = re.search(rf"(?:^|;)\s*{name}\s*=[ \t]*([^\s;]+)", header, re.MULTILINE | re.IGNORECASE)
        return match.group(1) if match else None

    version = re.search(r"vasp\.(\S+)", header)
    # Twice in an OUTCAR: the letters of the POTCAR first, a code number among the settings last.
    exchange = re.search(r"^\s*LEXCH\s*=\s*([A-Z0-9]{2})\s*$", header, re.MULTILINE)
    ramp = re.search(r"TEBEG\s*=\s*([\d.]+);\s*TEEND\s*=\s*([\d.]+)", header)
    nelm, ediff_eV = vasp_scf.limits(header)
    return Settings(
        version=version.group(1) if version else None,
        level=level(
            # ENMAX is the POTCARs' own here.
            lambda name: None if name == "ENMAX" else tag(name),
            potcar_exchange=exchange.group(1) if exchange else None,
            potcars=_potcars(header),
        ),
        nelm=nelm,
        ediff_eV=ediff_eV,
        ibrion=whole(tag("IBRION"), -1),
        nsw=whole(tag("NSW"), 0),
        isif=whole(tag("ISIF"), 2),
        potim_fs=number(tag("POTIM"), float("nan")),
        tebeg_K=number(ramp.group(1), float("nan")) if ramp else float("nan"),
        teend_K=number(ramp.group(2), float("nan")) if ramp else float("nan"),
        smass=number(tag("SMASS"), -3.0),
        mdalgo=whole(tag("MDALGO"), 0),
        icharg=whole(tag("ICHARG"), 0),
    )


def _potcars(header: str) -> list[Potcar]:
    """POTCARs by what each of them says of itself, with the number of their atoms (0 where that is lost)."""
    titles = [" ".join(title.split()) for title in re.findall(r"TITEL\s*=\s*(.+)", header)]
    valences = [float(value) for value in re.findall(r"ZVAL\s*=\s*(\d+\.?\d*)\s+mass and val", header)]
    counts = _ions_per_type(header)
    if not len(titles) == len(valences) == len(counts):
        return [Potcar(title) for title in titles]
    return [Potcar(*said) for said in zip(titles, valences, counts, strict=True)]


def _ions_per_type(header: str) -> list[int]:
    match = re.search(r"ions per type\s*=\s*([\d ]+)", header)
    return [int(word) for word in match.group(1).split()] if match else []


def _species(header: str, path: Path) -> tuple[str, ...]:
    names = [potcar.element for potcar in _potcars(header)]
    numbers_of = _ions_per_type(header)
    if not numbers_of or not names:
        raise SuiteError(f"{path}: found no 'ions per type' and TITEL lines, expected the head of an OUTCAR")
    if len(numbers_of) != len(names):
        raise SuiteError(
            f"{path}: found {len(numbers_of)} numbers of ions for {len(names)} POTCARs, expected as many; "
            "read the run's vasprun.xml instead"
        )
    return tuple(name for name, count in zip(names, numbers_of, strict=True) for _ in range(count))


def _frames(
    parts: Iterator[tuple[bytes, bool]],
    n_atoms: int,
    settings: Settings,
    source: Source,
) -> Iterator[Snapshot]:
    waiting: Snapshot | None = None  # its temperature is printed after its energy
    cell: tuple[bytes, NDArray[np.float64]] | None = None
    step = 0
    for index, (block, complete) in enumerate(parts):
        refuse_second_run(source.path, index > 0 and _RUN in block)
        body = block.find(b"- " + _ITERATION)
        if waiting is not None:
            match = _KINETIC.search(block, 0, body if body >= 0 else len(block))
            yield waiting if match is None else replace(waiting, kinetic_K=float(match.group(1)))
            waiting = None
        if not complete:
            if body >= 0:
                source.refused[HALF] += 1
            if b"General timing and accounting" not in block:
                source.remarks.append("the file ends without VASP's timings: the run was killed or goes on")
            return
        table = _force_table(block)
        scf = vasp_scf.outcar_step(
            block,
            nelm=settings.nelm,
            ediff_eV=settings.ediff_eV,
            end=None if table is None else table[0],
        )
        step = step + 1 if scf.ionic_step is None else scf.ionic_step
        if table is None:
            source.refused[WITHOUT_FORCES] += 1
            continue
        if not source.accepts(scf.converged, doubtful=scf.steps is not None and scf.steps == settings.nelm):
            continue
        where = block.rfind(_CELL, 0, table[0])
        try:
            if where >= 0:
                rows = block[where : where + 400].split(b"\n")[1:4]
                text = b"\n".join(rows)
                if cell is None or cell[0] != text:
                    # Columns of 13 characters: a minus sign can touch the number before it.
                    vectors = [numbers(row.replace(b"-", b" -"))[:3] for row in rows]
                    cell = text, np.array(vectors)
            values = _rows(block, table, n_atoms)
            energy = float(block[block.rfind(_END) :].split()[4])
            if cell is None or cell[1].shape != (3, 3) or (where < 0 and settings.cell_moves):
                raise ValueError
        except (ValueError, IndexError):
            source.refused[UNREADABLE] += 1
            continue
        waiting = Snapshot(
            positions=values[:, :3],
            cell=cell[1],
            energy_eV=energy,
            forces=values[:, 3:],
            step=step,
            target_K=settings.target_kelvin(step),
            stress=_STRESS in block,
            proven=scf.converged is not None,
        )
    if waiting is not None:
        yield waiting


def _force_table(block: bytes) -> tuple[int, int, int] | None:
    """Where the rows of the last table of first-principles forces begin and end, and its columns."""
    found = block.rfind(_FORCES)
    while found >= 0 and block[found + len(_FORCES) : found + len(_FORCES) + 5] == b" (ML)":
        found = block.rfind(_FORCES, 0, found)
    if found < 0:
        return None
    title_end = block.find(b"\n", found)
    begin = block.find(b"\n", title_end + 1) + 1
    end = block.find(b" ---", begin)
    # Builds that list forces without dispersion beside the total ones have three more columns for each.
    columns = 3 + 3 * block.count(_UNIT, found, title_end)
    return (begin, end, columns) if 0 < begin < end else None


def _rows(block: bytes, table: tuple[int, int, int], n_atoms: int) -> NDArray[np.float64]:
    """Positions and total forces (N, 6), which come first in every row.

    Raises:
        ValueError: another number of them, or text.
    """
    begin, end, columns = table
    if columns == 6:
        return numbers(block[begin:end]).reshape(n_atoms, 6)
    rows = [row.split()[:6] for row in block[begin:end].splitlines() if row.strip()]
    return numbers(b" ".join(b" ".join(row) for row in rows)).reshape(n_atoms, 6)
