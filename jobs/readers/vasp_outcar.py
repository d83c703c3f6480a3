"""VASP's OUTCAR (5.4 and 6): one frame per ionic step, energies TOTEN.

An ionic step ends with its `free  energy   TOTEN`, the energy that the forces belong to; the one
extrapolated to sigma -> 0 is not. The SCF converged if and only if the step says `aborting loop because
EDIFF is reached`: 5.4 says nothing when NELM was used up, 6 says `EDIFF was not reached (unconverged)`.
Steps that a machine-learned force field made (VASP 6, `ML TOTEN`) are no frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.errors import SuiteError
from jobs.frames import UNCONVERGED
from jobs.readers import (
    HALF,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    blocks,
    collect,
    head,
    numbers,
    refuse_second_run,
    stem,
)
from jobs.readers.vasp_settings import Settings

_END = b"free  energy   TOTEN"
_FORCES = b"TOTAL-FORCE (eV/Angst)"
_CELL = b"direct lattice vectors"
_ITERATION = b"Iteration"
_CONVERGED = b"aborting loop because EDIFF is reached"
_STRESS = b"FORCE on cell =-STRESS in cart. coord.  units"
_RUN = b"\n vasp."
_KINETIC = re.compile(rb"EKIN(?:_LAT)?\s*=.*\(temperature\s+([\d.]+) K\)")


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
    settings = _settings(header)
    species = _species(header, path)
    source = Source(path, "VASP OUTCAR", files=[path])
    settings.describe(source)
    frames = _frames(chain([(first, complete)], parts), len(species), settings, source)
    source.batches = collect(((species, frame) for frame in frames), source.refused)
    return source


def _settings(header: str) -> Settings:
    def tag(name: str, pattern: str = r"\S+") -> str | None:
        match = re.search(rf"^\s*{name}\s*=\s*({pattern})", header, re.MULTILINE)
        return match.group(1).rstrip(";") if match else None

    version = re.search(r"vasp\.(\S+)", header)
    # Twice in an OUTCAR: the letters of the POTCAR first, a code number among the settings last.
    exchange = re.search(r"^\s*LEXCH\s*=\s*([A-Z0-9]{2})\s*$", header, re.MULTILINE)
    ramp = re.search(r"TEBEG\s*=\s*([\d.]+);\s*TEEND\s*=\s*([\d.]+)", header)
    return Settings(
        version=version.group(1) if version else None,
        potcar_exchange=exchange.group(1) if exchange else None,
        gga=tag("GGA"),
        metagga=tag("METAGGA"),
        # VASP 6 begins with the user's INCAR, where true is written in many ways; its own list has T or F.
        hybrid=(tag("LHFCALC") or "F").strip(".").upper().startswith("T"),
        ivdw=int(tag("IVDW", r"\d+") or 0),
        encut_eV=float(tag("ENCUT", r"[\d.]+") or "nan"),
        ibrion=int(tag("IBRION", r"-?\d+") or -1),
        nsw=int(tag("NSW", r"\d+") or 0),
        potim_fs=float(tag("POTIM", r"[\d.]+") or "nan"),
        tebeg_K=float(ramp.group(1)) if ramp else float("nan"),
        teend_K=float(ramp.group(2)) if ramp else float("nan"),
        smass=float(tag("SMASS", r"-?[\d.]+") or -3.0),
        mdalgo=int(tag("MDALGO", r"\d+") or 0),
        pseudopotentials=tuple(dict.fromkeys(re.findall(r"TITEL\s*=\s*(\S+ \S+)", header))),
    )


def _species(header: str, path: Path) -> tuple[str, ...]:
    names = [title.split()[1].split("_")[0] for title in re.findall(r"TITEL\s*=\s*(.+)", header)]
    counts = re.search(r"ions per type\s*=\s*([\d ]+)", header)
    if counts is None or not names:
        raise SuiteError(f"{path}: found no 'ions per type' and TITEL lines, expected the head of an OUTCAR")
    numbers_of = [int(word) for word in counts.group(1).split()]
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
    for number, (block, complete) in enumerate(parts):
        refuse_second_run(source.path, number > 0 and _RUN in block)
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
        step = _step(block, after=step)
        if _CONVERGED not in block:
            source.refused[UNCONVERGED] += 1
            continue
        table = _force_table(block)
        if table is None:
            source.refused[WITHOUT_FORCES] += 1
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
            values = numbers(block[table[0] : table[1]]).reshape(n_atoms, 6)
            energy = float(block[block.rfind(_END) :].split()[4])
            if cell is None or cell[1].shape != (3, 3):
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
        )
    if waiting is not None:
        yield waiting


def _step(block: bytes, *, after: int) -> int:
    where = block.rfind(b"- " + _ITERATION)
    number = block[where + 11 : where + 40].partition(b"(")[0].strip()
    return int(number) if where >= 0 and number.isdigit() else after + 1


def _force_table(block: bytes) -> tuple[int, int] | None:
    """Where the rows of the last table of first-principles forces begin and end."""
    found = block.rfind(_FORCES)
    while found >= 0 and block[found + len(_FORCES) : found + len(_FORCES) + 5] == b" (ML)":
        found = block.rfind(_FORCES, 0, found)
    if found < 0:
        return None
    begin = block.find(b"\n", block.find(b"\n", found) + 1) + 1
    end = block.find(b" ---", begin)
    return (begin, end) if 0 < begin < end else None
