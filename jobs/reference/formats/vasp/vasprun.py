"""VASP's vasprun.xml (5.4 and 6): one frame per `<calculation>`, energies e_fr_energy, which is TOTEN.

Each `<calculation>` is parsed as XML of its own and forgotten, so a file of any length needs the memory of
one step. An SCF converged if it took fewer than NELM steps, or if its last change of energy is below EDIFF.
Steps of a machine-learned force field (VASP 6) stand between the calculations as bare structures; they are no
frames, but they are counted, so that frames keep the numbers of their steps.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import TILT_ANGSTROM, tilts_angstrom
from jobs.base.streams import blocks, head
from jobs.base.units import BOLTZMANN_EV_K
from jobs.engines.first_principles import vasp_scf
from jobs.reference.formats import (
    HALF,
    LEFT_HANDED,
    UNREADABLE,
    WITHOUT_FORCES,
    Snapshot,
    Source,
    collect,
    refuse_second_run,
)
from jobs.reference.formats.vasp.settings import Potcar, Settings, is_true, level, number, whole

_BEGIN, _END = b"<calculation>", b"</calculation>"
# A step of the force field; the structures before the first calculation have names.
_LEARNED = b"<structure>"
_LAST_DIGIT_EV = 1.1e-8


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
    tags = _tags(root)
    settings = _settings(root, tags)
    species = tuple(
        (cell.text or "").strip() for cell in root.iterfind(".//array[@name='atoms']/set/rc/c[1]")
    )
    if not species:
        raise SuiteError(f"{path}: found no atoms in <atominfo>, expected the head of a vasprun.xml")
    source = Source(path, "VASP vasprun.xml", files=[path])
    settings.describe(source)
    under_pressure = number(tags.get("PSTRESS"), 0.0) != 0.0
    if under_pressure and (whole(tags.get("IVDW"), 0) or is_true(tags.get("LVDW"))):
        raise SuiteError(
            f"{path}: found PSTRESS with a dispersion correction, expected the run's OUTCAR: energies are "
            "enthalpies here, and those of SCF steps lack the dispersion"
        )
    rest = chain([(first, complete)], parts)
    frames = _frames(
        rest,
        len(species),
        settings,
        source,
        under_pressure=under_pressure,
        # Steps of the force field are written only so often, or not at all.
        counted=whole(tags.get("ML_OUTBLOCK"), 1) == 1 and whole(tags.get("ML_OUTPUT_MODE"), 1) == 1,
    )
    source.batches = collect(((species, frame) for frame in frames), source)
    return source


def _tags(root: ElementTree.Element) -> dict[str, str]:
    """Tags by name: what VASP used (<parameters>), else what the user gave; of one that repeats, the first.

    NELM stands among the SCF's settings first, and once more among those of response functions.
    """
    tags: dict[str, str] = {}
    for section in ("parameters", "incar"):
        for item in root.iterfind(f"{section}//*[@name]"):
            if item.tag in ("i", "v"):
                tags.setdefault(item.get("name", ""), (item.text or "").strip())
    return tags


def _settings(root: ElementTree.Element, tags: dict[str, str]) -> Settings:
    version = root.findtext("generator/i[@name='version']")
    potcars = [
        Potcar(" ".join(words[4].split()), number(words[3], float("nan")), whole(words[0], 0))
        for row in root.iterfind(".//array[@name='atomtypes']/set/rc")
        if len(words := [cell.text or "" for cell in row]) >= 5
    ]
    return Settings(
        version=version.strip() if version else None,
        level=level(
            tags.get,
            potcar_exchange=_exchange_of([potcar.title for potcar in potcars]),
            potcars=potcars,
        ),
        nelm=whole(tags.get("NELM"), 0) or None,
        ediff_eV=number(tags.get("EDIFF"), 0.0) or None,
        ibrion=whole(tags.get("IBRION"), -1),
        nsw=whole(tags.get("NSW"), 0),
        isif=whole(tags.get("ISIF"), 2),
        potim_fs=number(tags.get("POTIM"), float("nan")),
        tebeg_K=number(tags.get("TEBEG"), float("nan")),
        teend_K=number(tags.get("TEEND"), number(tags.get("TEBEG"), float("nan"))),
        smass=number(tags.get("SMASS"), -3.0),
        mdalgo=whole(tags.get("MDALGO"), 0),
        icharg=whole(tags.get("ICHARG"), 0),
    )


def _exchange_of(titles: list[str]) -> str | None:
    """The letters of LEXCH, which the file does not have, by the library that a POTCAR's title names."""
    letters = {"PAW_PBE": "PE", "PAW_GGA": "91", "PAW": "CA"}
    libraries = {title.split()[0] if title else "" for title in titles}
    return letters.get(libraries.pop()) if len(libraries) == 1 else None


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
    source: Source,
    *,
    under_pressure: bool,
    counted: bool,
) -> Iterator[Snapshot]:
    step = 0
    for number_of_block, (block, complete) in enumerate(parts):
        begin = block.find(_BEGIN)
        refuse_second_run(source.path, number_of_block > 0 and b"<modeling>" in block)
        if not complete:
            if begin >= 0:
                source.refused[HALF] += 1
            elif b"</modeling>" not in block:
                source.remarks.append("the file ends before </modeling>: the run was killed or goes on")
            return
        step += 1 + block.count(_LEARNED, 0, begin)
        try:
            calculation = ElementTree.fromstring(block[begin : block.find(_END, begin) + len(_END)])
            scf_steps, converged = _scf(calculation, settings)
            if not source.accepts(converged, doubtful=scf_steps == settings.nelm):
                continue
            forces, structure = _varray(calculation, "forces"), calculation.find("structure")
            if forces is None or structure is None:
                source.refused[WITHOUT_FORCES] += 1
                continue
            cell = _varray(structure.find("crystal"), "basis")  # type: ignore[arg-type]
            fractional = _varray(structure, "positions")
            # With PSTRESS the summary is an enthalpy; the last SCF step never is.
            place = "scstep[last()]/energy" if under_pressure else "energy"
            energy = float(calculation.findtext(f"{place}/i[@name='e_fr_energy']") or "nan")
            if fractional is None or cell is None or cell.shape != (3, 3):
                raise ValueError
            if not forces.shape == fractional.shape == (n_atoms, 3):
                raise ValueError
            if not np.isfinite(fractional.sum() + cell.sum()):
                raise ValueError
            if np.linalg.det(cell) < 0 and tilts_angstrom(cell[None])[0] > TILT_ANGSTROM:
                # VASP runs with none: rows were exchanged, which fractional coordinates rest on.
                source.refused[LEFT_HANDED] += 1
                continue
            kinetic = float(calculation.findtext("energy/i[@name='kinetic']") or "nan")
        except (ElementTree.ParseError, ValueError):
            # Where the end of a calculation is lost, several are in one piece.
            lost = max(1, _calculations(block[begin:]))
            source.refused[UNREADABLE] += lost
            step += lost - 1
            continue
        yield Snapshot(
            positions=fractional @ cell,
            cell=cell,
            energy_eV=energy,
            forces=forces,
            step=step if counted else -1,
            target_K=settings.target_kelvin(step),
            # The centre of mass rests.
            kinetic_K=2 * kinetic / (3 * max(1, n_atoms - 1) * BOLTZMANN_EV_K),
            stress=calculation.find("varray[@name='stress']") is not None,
            proven=converged is not None,
        )


def _calculations(block: bytes) -> int:
    """How many calculations are in a broken piece: one of three signs may be lost or doubled."""
    signs = (_BEGIN, b'<varray name="forces"', b'<time name="totalsc">')
    return sorted(block.count(sign) for sign in signs)[1]


def _scf(calculation: ElementTree.Element, settings: Settings) -> tuple[int, bool | None]:
    """SCF steps of a calculation, and whether it converged."""
    steps = calculation.findall("scstep")
    energies = [step.findtext("energy/i[@name='e_fr_energy']") for step in steps[-2:]]
    last = [float(text) for text in energies if text]
    # A change of energy of the last digit is none.
    changes = (max(0.0, abs(last[1] - last[0]) - _LAST_DIGIT_EV),) if len(last) == 2 else ()
    return len(steps), vasp_scf.converged(
        steps=len(steps) or None, nelm=settings.nelm, changes_eV=changes, ediff_eV=settings.ediff_eV
    )
