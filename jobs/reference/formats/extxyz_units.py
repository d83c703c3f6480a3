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
    "mev": 1e-3,
    "hartree": HARTREE_EV,
    "ha": HARTREE_EV,
    "au": HARTREE_EV,
    "ry": HARTREE_EV / 2,
    "rydberg": HARTREE_EV / 2,
    "kcal/mol": _KCAL_MOL_EV,
    "kj/mol": _KCAL_MOL_EV / 4.184,
}
_LENGTHS = {"a": 1.0, "ang": 1.0, "angstrom": 1.0, "aa": 1.0, "bohr": BOHR_ANGSTROM, "au": BOHR_ANGSTROM}
_QUANTITIES = {
    **dict.fromkeys(("energy", "free_energy"), "energy"),
    **dict.fromkeys(("force", "forces"), "force"),
    **dict.fromkeys(("pos", "position", "positions", "length", "lattice", "cell", "distance"), "length"),
}
_SAYS_UNIT = re.compile(r"(.*?)_?units?|units?_(?!cell)(.*)")
_IGNORED = ("stress", "virial", "virials", "dipole", "charge", "charges", "magmom", "velocity", "time")


@dataclass(frozen=True)
class Units:
    """What energies, forces and lengths are multiplied by to be in eV, eV/A and A."""

    energy: float = 1.0
    force: float = 1.0
    length: float = 1.0


def units_of(info: Mapping[str, str], where: str) -> Units:
    """Units by a comment's `energy-unit=hartree` and its like; without any, eV and A.

    Raises:
        SuiteError: a unit that is not known, or an energy in another unit than eV without the forces'.
    """
    found: dict[str, float] = {}
    for key, value in info.items():
        match = _SAYS_UNIT.fullmatch(key.lower().replace("-", "_"))
        if match is None:
            continue
        quantity = match.group(1) or match.group(2) or ""
        if quantity in _IGNORED:
            continue
        kind = _QUANTITIES.get(quantity)
        factor = _factor(kind, value) if kind else None
        if not quantity and value.lower() in ("metal", "ase", "ev"):
            continue
        if factor is None:
            raise SuiteError(f"{where}: found {key}={value}, expected units of eV and A, or known ones")
        assert kind is not None
        if found.setdefault(kind, factor) != factor:
            raise SuiteError(f"{where}: found {key}={value} and another, expected one unit of {kind}")
    energy, force = found.get("energy", 1.0), found.get("force", 1.0)
    if ("energy" in found) != ("force" in found) and (energy, force) != (1.0, 1.0):
        said, other = ("energy", "force") if "energy" in found else ("force", "energy")
        raise SuiteError(f"{where}: found a unit of {said} only, expected {other}-unit as well")
    return Units(energy, force, found.get("length", 1.0))


def _factor(kind: str, text: str) -> float | None:
    unit = text.strip().lower().replace("å", "a").replace(" ", "")
    unit = unit.replace("*", "/").replace("^-1", "").rstrip(".")
    if kind == "energy":
        return _ENERGIES.get(unit)
    if kind == "length":
        return _LENGTHS.get(unit)
    if unit == "au":
        return HARTREE_EV / BOHR_ANGSTROM
    energy, _, length = unit.rpartition("/")
    if energy in _ENERGIES and length in _LENGTHS:
        return _ENERGIES[energy] / _LENGTHS[length]
    return None
