"""Which energy and forces of an extended XYZ frame are first-principles labels.

A frame may hold several sets of them: a model's beside those it was trained on, as `MACE_energy` and
`REF_energy`. One set of a known name is taken; of several, or of a name that says nothing, the user chooses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.base.errors import SuiteError

# Energies that are not the total one, and numbers about an energy.
_OTHER = re.compile(
    r"kinetic|formation|cohesive|binding|interaction|atomi[sz]ation|dispersion|zero_?point|per_?atom|weight|"
    r"sigma|std|var|unc|err|unit|shift|isolated|average|mean"
)
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
    energies = [key for key in keys if _ends_in_energy(key)]
    # ASE writes both of VASP: the free energy is the one that the forces belong to.
    free = {key.replace("free_", "") for key in energies if "free_" in key}
    energies = [key for key in energies if key not in free]
    forces = [
        name
        for name, form in properties.items()
        if "force" in name and form == "R3" and not _OTHER.search(name)
    ]
    energy = _one(energies, choice.energy, _ENERGY, among=keys, what="energy", where=where)
    force = _one(forces, choice.forces, _FORCES, among=list(properties), what="force", where=where)
    if force is not None and properties[force] != "R3":
        raise SuiteError(
            f"{where}: found {force} of type {properties[force]}, expected three numbers an atom"
        )
    chosen = choice.energy is not None and choice.forces is not None
    if energy and force and not chosen and _family(energy, _ENERGY) != _family(force, _FORCES):
        raise SuiteError(
            f"{where}: found {energy} with {force}, expected both of one name, or the choice of both by "
            "--energy-key and --force-key"
        )
    return Labels(energy, force)


def _ends_in_energy(key: str) -> bool:
    found = re.search(r"energy(_(ref|dft|qm))?$", key)
    return found is not None and not _OTHER.search(key)


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
