"""What `python -m jobs deposit --from-stage` takes from products of the aimd stage instead of from options.

A trajectory whose product has refused steps (SCF not converged) has gaps. Its longest stretch without one
is deposited, and what was left out is said in the provenance. The stretches are not deposited as runs of
their own: they are one trajectory of one melt, so they would count as replicas without being independent,
and each would be cut by its unequilibrated frames again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.frames import Frame, read_extxyz
from jobs.engines.first_principles.registry import load_engine
from jobs.store.store import Store

PROGRAM_NAMES = {"cp2k": "CP2K", "espresso": "Quantum ESPRESSO", "vasp": "VASP"}
# What the settings do not say because it is the same for all of an engine's.
FIXED_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "cp2k": {"pseudopotential": "GTH-PBE", "k_points": "Gamma"},
    "espresso": {"k_points": "Gamma", "occupations": "fixed"},
    "vasp": {"k_points": "Gamma", "pseudopotential": "PAW-PBE"},
}


@dataclass(frozen=True)
class Products:
    """Finished products of one kind: what describes all of them, and the frames that can be deposited."""

    paths: tuple[Path, ...]
    kind: str
    start: str
    engine: str
    engine_version: str
    functional: str
    basis: str
    settings: Mapping[str, str]
    thermostat: str | None
    timestep_fs: float | None
    unequilibrated_frames: int
    kept: Mapping[tuple[Path, str, float], tuple[int, int]] = field(repr=False)
    """First and last step deposited, by product, replica and temperature; of trajectories only."""
    left_out: int

    @property
    def lacks(self) -> str | None:
        """What is missing, in words, or None."""
        if not self.left_out:
            return None
        if self.kind == "singlepoints":
            return f"{self.left_out} starts were refused (SCF not converged)"
        return f"{self.left_out} frames beyond steps whose SCF failed were left out"

    @property
    def provenance(self) -> str:
        """The provenance in words: who computed what, from what."""
        names = ", ".join(path.name for path in self.paths)
        lacks = f"; {self.lacks}" if self.lacks else ""
        return (
            f"Computed by this suite's aimd stage with {self.engine} {self.engine_version} from {self.start} "
            f"starts: {names}{lacks}."
        )

    def frames(self) -> Iterator[Frame]:
        """The frames to deposit, one at a time."""
        for path in self.paths:
            for frame in read_extxyz(path / "frames.xyz"):
                if self.kind == "singlepoints":
                    yield frame
                    continue
                first, last = self.kept[path, frame.info["replica"], frame.temperature_K]
                if first <= int(frame.info["step"]) <= last:
                    yield frame

    def copy_decks(self, folder: Path) -> list[Path]:
        """The first deck of each product, named after it; a product's others differ in coordinates only."""
        copied = []
        for path in self.paths:
            first = sorted((path / "decks").iterdir())[0].name.rsplit(".", 1)[0]
            for deck in sorted((path / "decks").glob(f"{first}.*")):
                copied.append(folder / f"{path.name}{deck.suffix}")
                shutil.copyfile(deck, copied[-1])
        return copied


def read_products(paths: Sequence[Path]) -> Products:
    """Describe products and find the gapless stretch of each of their trajectories.

    Raises:
        SuiteError: not finished aimd products, changed ones, or ones that do not belong in one set.
    """
    described: dict[Path, dict[str, Any]] = {}
    for path in (path.resolve() for path in paths):
        if path in described:
            raise SuiteError(f"{path}: found it twice, expected each product once")
        described[path] = _describe(path)
    (first_path, common), *others = described.items()
    for path, own in others:
        for key, value in own.items():
            if value != common[key]:
                raise SuiteError(
                    f"{path}: found {key} {value!r}, expected {common[key]!r} as in {first_path}"
                )
    kept: dict[tuple[Path, str, float], tuple[int, int]] = {}
    left_out = 0
    if common["kind"] == "singlepoints":
        left_out = sum(json.loads((path / "aimd.json").read_text())["refused"] for path in described)
    else:
        for path in described:
            for (replica, kelvin), steps in _steps(path).items():
                if any((other, replica, kelvin) in kept for other in described):
                    raise SuiteError(
                        f"{path}: found replica {replica} at {kelvin:g} K, expected each in one product"
                    )
                stretch = longest_stretch(steps)
                kept[path, replica, kelvin] = stretch[0], stretch[-1]
                left_out += len(steps) - len(stretch)
    return Products(paths=tuple(described), kept=kept, left_out=left_out, **common)


def _describe(path: Path) -> dict[str, Any]:
    record = path / "aimd.json"
    store = Store(path.parent)
    if not record.is_file() or not store.is_done(path.name):
        raise SuiteError(
            f"{path}: found no finished aimd stage, expected a folder like STORE/aimd-0123456789abcdef"
        )
    store.verify([path.name])
    about = json.loads(record.read_text())
    parameters = store.manifest(path.name)["parameters"]
    labels = about["mode"] == "labels"
    thermostat = None
    if not labels:
        named = {"csvr": "CSVR", "nose-hoover": "Nose-Hoover"}
        thermostat = "none"
        if about["ensemble"] == "nvt":
            thermostat = f"{named[about['thermostat']]} {about['damping_fs']:g} fs"
    return {
        "kind": "singlepoints" if labels else "trajectory",
        "start": about["source"],
        "engine": PROGRAM_NAMES[about["engine"]],
        "engine_version": about["engine_version"],
        "functional": about["functional"],
        "basis": load_engine(about["engine"]).read_settings(about["settings"]).basis,
        "settings": {
            **FIXED_SETTINGS[about["engine"]],
            **_solver(path),
            **{key: _text(value) for key, value in about["settings"].items() if key != "basis"},
        },
        "thermostat": thermostat,
        "timestep_fs": None if labels else float(about["timestep_fs"]),
        # The state at the change of temperature relaxes too.
        "unequilibrated_frames": parameters["relaxation_steps"] + 1 if about["mode"] == "stepwise" else 0,
    }


def _solver(path: Path) -> dict[str, str]:
    """How CP2K finds the wave function, as the first deck says: labels and MD have other preconditioners."""
    deck = min((path / "decks").iterdir()).read_text(errors="replace")
    found = re.search(r"^\s*PRECONDITIONER (\S+)$", deck, re.MULTILINE)
    return {"scf": f"OT-DIIS-{found.group(1)}"} if found else {}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}:{item}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _steps(path: Path) -> dict[tuple[str, float], list[int]]:
    """The MD steps that a product has of each replica and temperature, in its order."""
    steps: dict[tuple[str, float], list[int]] = {}
    for frame in read_extxyz(path / "frames.xyz"):
        steps.setdefault((frame.info["replica"], frame.temperature_K), []).append(int(frame.info["step"]))
    return steps


def longest_stretch(steps: Sequence[int]) -> list[int]:
    """The longest part of a list of step numbers in which each is one more than the last; the first such."""
    stretches: list[list[int]] = []
    for step in steps:
        if stretches and step == stretches[-1][-1] + 1:
            stretches[-1].append(step)
        else:
            stretches.append([step])
    return max(stretches, key=len)
