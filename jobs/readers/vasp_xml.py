"""VASP's vasprun.xml (5.4 and 6): one frame per `<calculation>`, energies e_fr_energy, which is TOTEN.

Each `<calculation>` is parsed as XML of its own and forgotten, so a file of any length needs the memory of
one step. The file does not say that an SCF converged: one that made NELM steps counts as unconverged.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
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
    refuse_second_run,
)
from jobs.readers.vasp_settings import Settings
from jobs.units import BOLTZMANN_EV_K

_BEGIN, _END = b"<calculation>", b"</calculation>"


def recognises(path: Path) -> bool:
    """Whether this is a vasprun.xml."""
    start = head(path)
    return start.lstrip().startswith(b"<?xml") and b"<modeling>" in start


def open_source(path: Path) -> Source:
    """A vasprun.xml's settings and frames.

    Raises:
        SuiteError: its head is cut off or not XML.
    """
    parts = blocks(path, _END)
    first, complete = next(parts)
    begin = first.find(_BEGIN)
    try:
        if begin < 0:
            raise SuiteError(f"{path}: found no <calculation>, expected at least one ionic step")
        root = ElementTree.fromstring(first[:begin] + b"</modeling>")
    except ElementTree.ParseError as error:
        raise SuiteError(f"{path}: found its head is no XML ({error}), expected a vasprun.xml") from None
    settings, n_scf, pressure = _settings(root)
    species = tuple(
        (cell.text or "").strip() for cell in root.iterfind(".//array[@name='atoms']/set/rc/c[1]")
    )
    if not species:
        raise SuiteError(f"{path}: found no atoms in <atominfo>, expected the head of a vasprun.xml")
    source = Source(path, "VASP vasprun.xml", files=[path])
    settings.describe(source)
    rest = chain([(first[begin:], complete)], parts)
    frames = _frames(rest, len(species), settings, n_scf, pressure, source)
    source.batches = collect(((species, frame) for frame in frames), source.refused)
    return source


def _settings(root: ElementTree.Element) -> tuple[Settings, int, float]:
    """Settings, NELM and PSTRESS."""
    tags: dict[str, str] = {}
    # What VASP used stands in <parameters>; <incar> has what only the user gave.
    for section in ("incar", "parameters"):
        for item in root.iterfind(f"{section}//i"):
            tags[item.get("name", "")] = (item.text or "").strip()

    def number(name: str, default: float) -> float:
        try:
            return float(tags[name])
        except (KeyError, ValueError):
            return default

    version = root.findtext("generator/i[@name='version']")
    titles = [
        " ".join((cell.text or "").split()[:2])
        for cell in root.iterfind(".//array[@name='atomtypes']/set/rc/c[5]")
    ]
    settings = Settings(
        version=version.strip() if version else None,
        # The file has no LEXCH; a POTCAR of the PBE library says so in its title.
        potcar_exchange="PE" if titles and all(title.startswith("PAW_PBE") for title in titles) else None,
        gga=tags.get("GGA"),
        metagga=tags.get("METAGGA"),
        hybrid=tags.get("LHFCALC") == "T",
        ivdw=int(number("IVDW", 0)),
        encut_eV=number("ENMAX", number("ENCUT", float("nan"))),
        ibrion=int(number("IBRION", -1)),
        nsw=int(number("NSW", 0)),
        potim_fs=number("POTIM", float("nan")),
        tebeg_K=number("TEBEG", float("nan")),
        teend_K=number("TEEND", number("TEBEG", float("nan"))),
        smass=number("SMASS", -3.0),
        mdalgo=int(number("MDALGO", 0)),
        pseudopotentials=tuple(dict.fromkeys(titles)),
    )
    return settings, int(number("NELM", 60)), number("PSTRESS", 0.0)


def _varray(parent: ElementTree.Element, name: str) -> NDArray[np.float64] | None:
    found = parent.find(f"varray[@name='{name}']")
    if found is None:
        return None
    text = " ".join([row.text or "" for row in found])
    return np.array(list(map(float, text.split()))).reshape(len(found), 3)


def _frames(
    parts: Iterator[tuple[bytes, bool]],
    n_atoms: int,
    settings: Settings,
    n_scf: int,
    pressure: float,
    source: Source,
) -> Iterator[Snapshot]:
    step = 0
    for block, complete in parts:
        begin = block.find(_BEGIN)
        refuse_second_run(source.path, b"<modeling>" in block)
        if not complete:
            if begin >= 0:
                source.refused[HALF] += 1
            elif b"</modeling>" not in block:
                source.remarks.append("the file ends before </modeling>: the run was killed or goes on")
            return
        step += 1
        try:
            calculation = ElementTree.fromstring(block[begin : block.find(_END, begin) + len(_END)])
            if len(calculation.findall("scstep")) >= n_scf:
                source.refused[UNCONVERGED] += 1
                continue
            forces, structure = _varray(calculation, "forces"), calculation.find("structure")
            if forces is None or structure is None:
                source.refused[WITHOUT_FORCES] += 1
                continue
            cell = _varray(structure.find("crystal"), "basis")  # type: ignore[arg-type]
            fractional = _varray(structure, "positions")
            # With PSTRESS the summary is an enthalpy; the last SCF step never is.
            place = "energy" if pressure == 0.0 else "scstep[last()]/energy"
            energy = float(calculation.findtext(f"{place}/i[@name='e_fr_energy']") or "nan")
            if fractional is None or cell is None or not forces.shape == fractional.shape == (n_atoms, 3):
                raise ValueError
        except (ElementTree.ParseError, ValueError):
            source.refused[UNREADABLE] += 1
            continue
        kinetic = calculation.findtext("energy/i[@name='kinetic']")
        yield Snapshot(
            positions=fractional @ cell,
            cell=cell,
            energy_eV=energy,
            forces=forces,
            step=step,
            target_K=settings.target_kelvin(step),
            # The centre of mass rests.
            kinetic_K=float("nan")
            if kinetic is None
            else 2 * float(kinetic) / (3 * max(1, n_atoms - 1) * BOLTZMANN_EV_K),
            stress=calculation.find("varray[@name='stress']") is not None,
        )
