"""What is in a user's first-principles data: counted batch by batch, and reported."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.silica import GRAMS_PER_CM3
from jobs.reference.formats import Batch, Source

_PROGRESS_EVERY_S = 5.0
# On average over the atoms; a finite grid or a coarse SCF leave less.
NET_FORCE_EV_A = 0.2
# Of frames of the same atoms: between a glass and its liquid at 6000 K there is 1 eV.
SPREAD_EV_PER_ATOM = 2.0


@dataclass
class Survey:
    """What has been seen of a source, grown batch by batch."""

    source: Source
    frames: int = 0
    compositions: Counter[tuple[str, ...]] = field(default_factory=Counter)
    densities_g_cm3: set[float] = field(default_factory=set)
    targets_K: Counter[float] = field(default_factory=Counter)
    kinetic: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # number, sum, sum of squares
    with_stress: int = 0
    with_velocities: int = 0
    energy_eV_per_atom: list[float] = field(default_factory=lambda: [math.inf, -math.inf])
    largest_force: float = 0.0
    largest_net_force: float = 0.0
    partly_without_force: int = 0
    steps: list[int] = field(default_factory=lambda: [-1, -1])

    def add(self, batch: Batch) -> None:
        """Take note of a batch."""
        self.frames += len(batch)
        self.compositions[batch.species] += len(batch)
        volumes = np.abs(np.linalg.det(batch.cells))
        mass = _mass_amu(batch.species, self.source.path)
        if not volumes.min() > 1e-6:
            raise SuiteError(
                f"{self.source.path}: found a cell without volume, expected three vectors that span one"
            )
        self.densities_g_cm3.update(np.unique(np.round(mass * GRAMS_PER_CM3 / volumes, 3)).tolist())
        known = batch.target_K[~np.isnan(batch.target_K)]
        self.targets_K.update(
            dict(zip(*(a.tolist() for a in np.unique(known, return_counts=True)), strict=True))
        )
        kelvin = batch.kinetic_K[np.abs(batch.kinetic_K) < 1e9]  # known, and a number that its square fits
        self.kinetic = [
            now + more
            for now, more in zip(self.kinetic, (len(kelvin), kelvin.sum(), (kelvin**2).sum()), strict=True)
        ]
        self.with_stress += int(batch.stress.sum())
        self.with_velocities += 0 if batch.velocities is None else len(batch)
        per_atom = batch.energies_eV / len(batch.species)
        low, high = self.energy_eV_per_atom
        self.energy_eV_per_atom = [min(low, float(per_atom.min())), max(high, float(per_atom.max()))]
        self.largest_force = max(self.largest_force, float(np.abs(batch.forces).max()))
        # As a product of matrices, ten times as fast as a mean over the middle axis.
        share = np.full(len(batch.species), 1 / len(batch.species))
        self.largest_net_force = max(self.largest_net_force, float(np.abs(share @ batch.forces).max()))
        if not batch.forces.all():
            resting = (batch.forces == 0).all(axis=2)
            self.partly_without_force += int((resting.any(axis=1) & ~resting.all(axis=1)).sum())
        if self.steps[0] < 0:
            self.steps[0] = int(batch.steps[0])
        self.steps[1] = int(batch.steps[-1])

    def doubts(self) -> list[str]:
        """What is unlike first-principles forces on free atoms."""
        doubts = []
        if self.largest_net_force > NET_FORCE_EV_A:
            doubts.append(
                f"forces do not sum to zero (up to {self.largest_net_force:.2g} eV/A an atom): are they "
                "forces, and all of them?"
            )
        if self.partly_without_force:
            doubts.append(
                f"in {self.partly_without_force} frames some atoms, but not all, have no force at all: were "
                "they held fixed?"
            )
        low, high = self.energy_eV_per_atom
        if len(self.compositions) == 1 and high - low > SPREAD_EV_PER_ATOM:
            doubts.append(
                f"energies of the same atoms are {high - low:.1f} eV/atom apart: are they of one level of "
                "theory and in one unit?"
            )
        return doubts

    def facts(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        source = self.source
        number, total, squares = self.kinetic
        mean = total / number if number else None
        spread = math.sqrt(max(0.0, squares / number - mean**2)) if mean is not None else None
        return {
            "path": str(source.path),
            "format": source.format,
            "engine": source.engine,
            "engine_version": source.engine_version,
            "functional": source.functional,
            "basis": source.basis,
            "settings": source.level.settings,
            "level": source.level.line(),
            "frames": self.frames,
            "refused": dict(source.refused),
            "convergence_known": source.convergence_known,
            "unproven": source.unproven,
            "compositions": [
                {"atoms": len(species), "species": dict(Counter(species)), "frames": frames}
                for species, frames in self.compositions.items()
            ],
            "densities_g_cm3": sorted(self.densities_g_cm3),
            "target_K": {f"{kelvin:g}": frames for kelvin, frames in sorted(self.targets_K.items())},
            "kinetic_K": {"mean": mean, "standard_deviation": spread, "frames": int(number)},
            "timestep_fs": source.timestep_fs,
            "thermostat": source.thermostat,
            "first_step": self.steps[0] if self.steps[0] >= 0 else None,
            "last_step": self.steps[1] if self.steps[1] >= 0 else None,
            "with_stress": self.with_stress,
            "with_velocities": self.with_velocities,
            "energy_eV_per_atom": self.energy_eV_per_atom if self.frames else None,
            "largest_force_eV_A": self.largest_force,
            "largest_net_force_eV_A": self.largest_net_force,
            "remarks": [*source.remarks, *self.doubts()],
        }


def _mass_amu(species: tuple[str, ...], path: Path) -> float:
    from ase.data import atomic_masses, atomic_numbers

    unknown = sorted(set(species) - set(atomic_numbers))
    if unknown:
        raise SuiteError(f"{path}: found species {unknown[0]}, expected chemical symbols")
    return float(sum(atomic_masses[atomic_numbers[name]] * n for name, n in Counter(species).items()))


def watch(source: Source, survey: Survey) -> Iterator[Batch]:
    """The batches of a source, each noted in its survey, with a line on stderr every few seconds."""
    began = told = time.monotonic()
    for batch in source.batches:
        survey.add(batch)
        yield batch
        now = time.monotonic()
        if now - told > _PROGRESS_EVERY_S:
            told = now
            rate = survey.frames / (now - began)
            print(f"{source.path}: {survey.frames} frames, {rate:.0f} a second", file=sys.stderr, flush=True)


def look(source: Source) -> Survey:
    """Go through a whole source."""
    survey = Survey(source)
    for _ in watch(source, survey):
        pass
    return survey


def _span(values: Iterable[float], unit: str) -> str:
    ordered = sorted(values)
    if not ordered:
        return "not said"
    if len(ordered) == 1:
        return f"{ordered[0]:g} {unit}"
    return f"{ordered[0]:g} to {ordered[-1]:g} {unit}"


def report(facts: dict[str, Any]) -> str:
    """The facts of a survey for a person."""

    def said(value: Any, unit: str = "") -> str:
        return "not said" if value is None else f"{value}{unit}"

    refused = ", ".join(f"{count} {reason}" for reason, count in facts["refused"].items()) or "none"
    converged = "" if facts["convergence_known"] else "; the format does not say whether the SCF converged"
    kinetic = facts["kinetic_K"]
    instantaneous = (
        f"{kinetic['mean']:.0f} +- {kinetic['standard_deviation']:.0f} K"
        if kinetic["mean"] is not None
        else "not said"
    )
    targets = ", ".join(f"{kelvin} K ({n})" for kelvin, n in facts["target_K"].items()) or "not said"
    if len(facts["target_K"]) > 8:
        targets = _span([float(k) for k in facts["target_K"]], "K")
    lines = [f"{facts['path']}: {facts['format']}, {said(facts['engine_version'])}"]
    unproven = f" (of {facts['unproven']}, SCF convergence is not known)" if facts["unproven"] else ""
    lines.append(f"  level        {facts['level']}")
    lines.append(f"  frames       {facts['frames']} taken{unproven}; refused: {refused}{converged}")
    for composition in facts["compositions"][:5]:
        formula = " ".join(f"{count} {name}" for name, count in composition["species"].items())
        lines.append(f"  atoms        {composition['atoms']} ({formula}) in {composition['frames']} frames")
    if len(facts["compositions"]) > 5:
        lines.append(f"               and {len(facts['compositions']) - 5} other compositions")
    lines.append(f"  density      {_span(facts['densities_g_cm3'], 'g/cm3')}")
    lines.append(f"  temperature  target {targets}; kinetic {instantaneous}")
    steps = f"steps {facts['first_step']} to {facts['last_step']}" if facts["last_step"] is not None else ""
    lines.append(
        f"  time         step {said(facts['timestep_fs'] and round(facts['timestep_fs'], 4), ' fs')}; "
        f"thermostat {said(facts['thermostat'])}; {steps or 'steps not said'}"
    )
    if facts["frames"]:
        low, high = facts["energy_eV_per_atom"]
        lines.append(
            f"  labels       energy {low:.4f} to {high:.4f} eV/atom; force up to "
            f"{facts['largest_force_eV_A']:.3g}, net up to {facts['largest_net_force_eV_A']:.2g} eV/A a "
            f"component; stress in {facts['with_stress']}, velocities in {facts['with_velocities']} frames"
        )
    lines.extend(f"  note         {remark}" for remark in facts["remarks"])
    return "\n".join(lines)
