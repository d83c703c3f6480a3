"""Which energy and forces of an extended XYZ frame are first-principles labels.

A frame may hold several sets of them: a model's beside those it was trained on, as `MACE_energy` and
`REF_energy`, or `REF_E`. One set of a known name is taken; of several, or of a name that says nothing, the
user chooses. A file has the labels of its first frame: another name later on may be another quantity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.base.errors import SuiteError

# Energies that are not the total one, and numbers about an energy.
_OTHER = re.compile(
    r"kinetic|formation|cohesive|binding|interaction|atomi[sz]ation|dispersion|zero_?point|per_?atom|weight|"
    r"sigma|std|var|unc|err|unit|shift|isolated|average|mean|cut|thresh|tol|fermi|gap|band|homo|lumo|entropy|"
    r"diff|delta|rms|mae|index|source|key|type|method|model_?name|file|field|converge|accuracy|adsorption|"
    r"surface_?energy|barrier|hull|max|min_|limit|norm|conserved|thermostat"
)
# Words that mean a total energy or forces without saying so.
_ENERGY_WORDS = {"e", "e0", "etot", "etotal", "epot", "efree", "toten", "ener", "eng", "enthalpy"}
_FORCE_WORDS = {"f", "frc", "forc", "fxyz"}
# What no choice makes labels of.
_NO_ENERGIES = {"lattice", "properties", "pbc", "step", "time", "temperature_k", "stress", "virial"}
_NO_FORCES = re.compile(
    r"pos(itions?)?|coords?|vel.*|mom.*|magmom.*|dipole.*|.*grad.*|disp.*|frac.*|scaled.*"
)
# A name with a unit in it, which is not eV or eV/A.
_OTHER_UNIT = re.compile(r"(^|_)(hartree|ha|au|ry|rydberg|kcal|kj|mev|kcal_?mol|kj_?mol)(_|$)")
# Who computed them may stand before or behind, as in REF_energy or forces_dft.
_BEFORE = r"((?P<before>ref|dft|qm|vasp|cp2k|espresso|qe|pbe)_?)?(total_?|tot_?)?"
_AFTER = r"(_(?P<after>ref|dft|qm))?"
_ENERGY = re.compile(f"{_BEFORE}(free_?)?energy{_AFTER}")
_FORCES = re.compile(f"{_BEFORE}forces?{_AFTER}")


@dataclass(frozen=True)
class Choice:
    """Names of the labels as the user gave them; None leaves it to the names that are known."""

    energy: str | None = None
    forces: str | None = None


@dataclass(frozen=True)
class Labels:
    """The comment's key of the energy and the property of the forces; None where a frame has none."""

    energy: str | None
    forces: str | None


def choose(keys: Sequence[str], properties: Mapping[str, str], *, choice: Choice, where: str) -> Labels:
    """The labels of a frame, by the keys of its comment and its atoms' properties, all in small letters.

    `properties` maps a name to its type and width, as `R3`.

    Raises:
        SuiteError: several could be meant, or none of a known name is there but others are.
    """
    energies = [key for key in keys if _is_energy(key)]
    # ASE writes both of VASP: the free energy is the one that the forces belong to.
    free = {key.replace("free_", "") for key in energies if "free_" in key}
    energies = [key for key in energies if key not in free]
    forces = [name for name, form in properties.items() if form == "R3" and _is_force(name)]
    energy = _one(energies, choice.energy, _ENERGY, among=keys, what="energy", where=where)
    force = _one(forces, choice.forces, _FORCES, among=list(properties), what="force", where=where)
    if energy in _NO_ENERGIES:
        raise SuiteError(f"{where}: found {energy} chosen by --energy-key, expected the name of an energy")
    if force is not None and (properties[force] != "R3" or _NO_FORCES.fullmatch(force)):
        raise SuiteError(
            f"{where}: found {force} of type {properties[force]} chosen by --force-key, expected three "
            "numbers an atom that are no positions, velocities or gradients"
        )
    for name in (energy, force):
        if name is not None and _OTHER_UNIT.search(name):
            raise SuiteError(f"{where}: found {name} in units of its own, expected eV and eV/A")
    chosen = choice.energy is not None and choice.forces is not None
    if energy and force and not chosen and _family(energy, _ENERGY) != _family(force, _FORCES):
        raise SuiteError(
            f"{where}: found {energy} with {force}, expected both of one name, or the choice of both by "
            "--energy-key and --force-key"
        )
    return Labels(energy, force)


def _is_energy(key: str) -> bool:
    words = set(re.split(r"[_.-]+", key))
    return ("energy" in key or bool(words & _ENERGY_WORDS)) and not _OTHER.search(key)


def _is_force(name: str) -> bool:
    words = set(re.split(r"[_.-]+", name))
    return ("force" in name or bool(words & _FORCE_WORDS)) and not _OTHER.search(name)


def _family(name: str, pattern: re.Pattern[str]) -> str:
    found = pattern.fullmatch(name)
    return name if found is None else (found.group("before") or found.group("after") or "")


def _one(
    found: list[str],
    chosen: str | None,
    known: re.Pattern[str],
    *,
    among: Sequence[str],
    what: str,
    where: str,
) -> str | None:
    if chosen is not None:
        return chosen.lower() if chosen.lower() in among else None
    if len(found) > 1 or (found and not known.fullmatch(found[0])):
        raise SuiteError(
            f"{where}: found {what} labels {', '.join(found)}, expected one of a known name, or one chosen "
            f"by --{what}-key"
        )
    return found[0] if found else None
