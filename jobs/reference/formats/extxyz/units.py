"""Units that an extended XYZ frame says it is in: the usual ones are converted, others refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.base.errors import SuiteError
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV

_KCAL_MOL_EV = 0.0433641043  # CODATA 2018: 4184 J / (Avogadro's number x e)
_ENERGIES = {
    "ev": 1.0,
    "electronvolt": 1.0,
    "mev": 1e-3,
    "hartree": HARTREE_EV,
    "eh": HARTREE_EV,
    "ha": HARTREE_EV,
    "au": HARTREE_EV,
    "ry": HARTREE_EV / 2,
    "rydberg": HARTREE_EV / 2,
    "kcal/mol": _KCAL_MOL_EV,
    "kj/mol": _KCAL_MOL_EV / 4.184,
}
_LENGTHS = {
    **dict.fromkeys(("a", "aa", "ang", "angs", "angstrom", "angstroms"), 1.0),
    **dict.fromkeys(("bohr", "a0", "au"), BOHR_ANGSTROM),
    "nm": 10.0,
}
_QUANTITIES = {
    **dict.fromkeys(("energy", "energies", "free_energy", "total_energy"), "energy"),
    **dict.fromkeys(("force", "forces"), "force"),
    **dict.fromkeys(("pos", "position", "positions", "coord", "coords", "coordinates"), "position"),
    **dict.fromkeys(("lattice", "cell", "box"), "cell"),
    **dict.fromkeys(("length", "lengths", "distance"), "length"),
}
_SAYS_UNIT = re.compile(r"(.*?)_?units?|units?_(?!cell)(.*)")
_WHOSE = re.compile(r"(ref|dft|qm|vasp|cp2k|espresso|qe|pbe)_|_(ref|dft|qm)$")
_IGNORED = (
    "stress", "stresses", "virial", "virials", "pressure", "dipole", "charge", "charges", "magmom", "magmoms",
    "velocity", "velocities", "time", "timestep", "temperature", "mass", "masses", "density", "volume",
    "angle",
)  # fmt: skip


@dataclass(frozen=True)
class Units:
    """What energies, forces, positions and cells are multiplied by to be in eV, eV/A and A."""

    energy: float = 1.0
    force: float = 1.0
    position: float = 1.0
    cell: float = 1.0


def units_of(info: Mapping[str, str], where: str) -> Units:
    """Units by a comment's `energy-unit=hartree` and its like; without any, eV and A.

    Raises:
        SuiteError: a unit that is not known, an energy in another unit than eV without the forces', or
            positions in another than A without the cell's, and the other way round.
    """
    found: dict[str, float] = {}
    for key, value in info.items():
        match = _SAYS_UNIT.fullmatch(key.lower().replace("-", "_"))
        if match is None:
            continue
        quantity = _WHOSE.sub("", match.group(1) or match.group(2) or "")
        if quantity in _IGNORED or (not quantity and value.lower() in ("metal", "ase", "ev")):
            continue
        kind = _QUANTITIES.get(quantity)
        factor = _factor(kind, value) if kind else None
        if factor is None:
            raise SuiteError(f"{where}: found {key}={value}, expected units of eV and A, or known ones")
        for one in ("position", "cell") if kind == "length" else (kind,):
            if found.setdefault(str(one), factor) != factor:
                raise SuiteError(f"{where}: found {key}={value} and another, expected one unit of {one}")
    for one, other in (("energy", "force"), ("force", "energy"), ("position", "cell"), ("cell", "position")):
        if found.get(one, 1.0) != 1.0 and other not in found:
            raise SuiteError(f"{where}: found a unit of {one} only, expected {other}-unit as well")
    return Units(**found)


def _factor(kind: str, text: str) -> float | None:
    unit = text.strip().lower().replace("å", "a").replace("ö", "o").replace("⁻¹", "^-1").replace(".", "")
    if kind == "energy":
        return _ENERGIES.get(unit)
    if kind in ("position", "cell", "length"):
        return _LENGTHS.get(unit)
    if unit == "au":
        return HARTREE_EV / BOHR_ANGSTROM
    # eV/A, or eV*A^-1, eV A^-1 and the like.
    inverse = re.fullmatch(r"(.+?)[\s*·]+(\w+?)\s*\^?\(?-1\)?", unit)
    energy, length = inverse.groups() if inverse else unit.rpartition("/")[::2]
    energy, length = energy.strip(), length.strip()
    if energy in _ENERGIES and length in _LENGTHS:
        return _ENERGIES[energy] / _LENGTHS[length]
    return None
