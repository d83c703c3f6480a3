"""What a claim may read: small products of the campaign, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.silica import FUSED_ANGSTROM
from jobs.cost.record import AIMD, CLASSICAL, core_seconds, deposited_aimd, is_native, read_cost
from jobs.observables.rdf import PAIRS
from suite.judging.reasons import NotTested, Pending

Array: TypeAlias = np.ndarray
T = TypeVar("T")
OBSERVE = ("observe.json", "observables.npz")
PARITY = ("parity.json", "heldout.npz")
# Products (the first word of their names) whose runs claims average over.
AVERAGED = ("liquid", "motion", "msd", "vdos", "glass")


@dataclass(frozen=True)
class Observation:
    """One small product: facts from its JSON file, arrays (read when asked for) from its npz file.

    `planted` replaces arrays: a fault is a view on the product, the product stays as it is.
    """

    directory: Path
    names: tuple[str, str] = OBSERVE
    planted: Mapping[str, Callable[[Observation], Array]] = field(default_factory=dict)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The JSON file's content."""
        content: dict[str, Any] = _read_json(self.directory / self.names[0])
        return content

    @cached_property
    def arrays(self) -> Mapping[str, Array]:
        """Every array of the npz file as it lies there."""
        path = self.directory / self.names[1]
        try:
            return _read_npz(path, path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise SuiteError(
                f"{path}: found {type(error).__name__} on reading, expected an npz file"
            ) from None

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Array:
        """One array.

        Raises:
            NotTested: this product does not hold it (a tier may leave an observable out).
        """
        if key not in self.arrays:
            raise NotTested(f"{key} was not observed in this run")
        if key in self.planted:
            return self.planted[key](replace(self, planted={}))
        return self.arrays[key]

    def closest_angstrom(self, pair: str) -> float:
        """The nearest that two atoms of a pair came, to a bin of g(r)."""
        return float(self["rdf_r"][np.atleast_2d(self[f"rdf_{pair}"]).any(axis=0)][0])

    @property
    def has_fused_atoms(self) -> bool:
        """Whether two atoms fell into each other; False where no g(r) was observed."""
        there = [pair for pair in PAIRS if f"rdf_{pair}" in self]
        return any(self.closest_angstrom(pair) < FUSED_ANGSTROM for pair in there)


@dataclass(frozen=True)
class Training:
    """The product of one training: `potential` and `train` are its two JSON files."""

    directory: Path

    @cached_property
    def potential(self) -> dict[str, Any]:
        """Content of potential.json; `training` in it is the audit of the data."""
        content: dict[str, Any] = _read_json(self.directory / "potential.json")
        return content

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Content of train.json."""
        content: dict[str, Any] = _read_json(self.directory / "train.json")
        return content

    @property
    def audit(self) -> dict[str, Any]:
        """What the data of this training were.

        Raises:
            NotTested: the potential came without that record.
        """
        if not self.potential["training"]:
            raise NotTested("the potential was given without a record of its training data")
        return dict(self.potential["training"])


@dataclass(frozen=True, eq=False)
class Evidence:
    """Finished products by name; for missing ones the reason (`absent`, `pending` or `broken`).

    `tier` is the tier that made them and `deviations` how it departs from the paper's protocol.
    """

    products: Mapping[str, Sequence[Path]]
    tier: str = ""
    deviations: tuple[str, ...] = ()
    short_training: Mapping[str, str] = field(default_factory=dict)
    """Of NNPs (`96`, `216`, `hdnnp`) whose training was shorter than the paper tier's, how much."""
    absent: Mapping[str, str] = field(default_factory=dict)
    pending: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    density_g_cm3: float = 2.20
    """What the tier gives its liquids and glasses."""
    replicas: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Which replica each folder of a product is; not said, they are the first ones."""
    planted: Mapping[str, Mapping[str, Callable[[Observation], Array]]] = field(default_factory=dict)
    drawn: Mapping[str, Sequence[Observation]] = field(default_factory=dict)
    """Observations in place of a product's files, as simulated campaigns have them."""
    borrowed: list[str] = field(default_factory=list)
    """A line for each cost point that another machine measured: a deviation of the claim that reads it."""
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __contains__(self, label: str) -> bool:
        return bool(self.products.get(label))

    def expects(self, label: str) -> bool:
        """Whether a product is there, pending or broken."""
        return label in self or label in self.pending or label in self.broken

    def directories(self, label: str) -> list[Path]:
        """Folders of a product, one per replica or seed.

        Raises:
            Pending: they are submitted and not there yet.
            SuiteError: making them failed.
            NotTested: this tier has none.
        """
        if label in self.broken:
            raise SuiteError(self.broken[label])
        if label in self.pending:
            raise Pending(self.pending[label])
        if label not in self:
            raise NotTested(self.absent.get(label, f"this tier has no {label}"))
        return list(self.products[label])

    def _numbers(self, label: str) -> list[int]:
        """Which replica each folder of a product is, counted from 1."""
        return list(self.replicas.get(label) or range(1, len(self.directories(label)) + 1))

    def replicas_of(self, label: str) -> list[int]:
        """Which replica each run is that `observables` gives."""
        return [number for number, _ in self._whole(label)]

    def observables(self, label: str) -> list[Observation]:
        """What was observed in each replica of a product, without runs whose atoms fused, if others are left.

        Such a run goes on, but of another substance. The precondition `fused-atoms` says what share they are.
        """
        if _is_averaged(label):
            return [run for _, run in self._whole(label)]
        return self.every_run(label)

    def every_run(self, label: str) -> list[Observation]:
        """The same with those whose atoms fused."""
        return self._read(label, OBSERVE)

    def _whole(self, label: str) -> list[tuple[int, Observation]]:
        def find() -> list[tuple[int, Observation]]:
            runs = list(zip(self._numbers(label), self.every_run(label), strict=True))
            return [one for one in runs if not one[1].has_fused_atoms] or runs

        return self.once(("whole", label), find)

    def heldout(self, label: str) -> list[Observation]:
        """Held-out frames as a potential sees them, one per training seed."""
        return self._read(label, PARITY)

    def kernel(self, label: str) -> list[dict[str, Any]]:
        """The native kernel beside DeePMD-kit (kernel.json), one per seed."""
        return [_read_json(path / "kernel.json") for path in self.directories(label)]

    def train(self, label: str) -> list[Training]:
        """Trainings of a product, one per seed."""
        return [Training(path) for path in self.directories(label)]

    def cost(self) -> list[dict[str, Any]]:
        """Measured points of the cost record that have samples (`jobs.cost.record` says what is in one).

        Where no AIMD was to be timed here, or its program is not installed, the points of the deposited
        records are used. `borrowed` in them names their machine and settings, and says why.
        """
        points, left_out = self._timed_here()
        if not any(point["engine"] in AIMD for point in points):
            why = next((one["why"] for one in left_out if one["what"].split()[0] in AIMD), "")
            aimd, machine = deposited_aimd()
            points += [
                {
                    **point,
                    "borrowed": f"cost: AIMD ({point['engine']}, {point['model']}) was timed on "
                    f"{machine}, deposited{why and f' (here: {why})'}",
                }
                for point in aimd
            ]
        return [point for point in points if point["us_per_step_atom"]]

    def _timed_here(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Points of the cost record, failed ones too, and what it left out."""
        records = [read_cost(path / "cost.json") for path in self.directories("cost")]
        return (
            [point for record in records for point in record["points"]],
            [one for record in records for one in record["not_measured"]],
        )

    def core_seconds_per_fs(self, method: str) -> dict[int, Array]:
        """What a femtosecond costs by number of atoms, shape (samples,).

        `method` is `aimd`, `nnp` (DeePMD-96 by DeePMD-kit, the paper's program), `bks` or `tersoff`. Of
        several first-principles programs at one size, the cheapest.

        Raises:
            NotTested: the record has none.
            SuiteError: all that were to be timed here failed.
        """
        found: dict[int, Array] = {}
        for point in self.cost():
            if _method(point) == method:
                if (line := point.get("borrowed")) and line not in self.borrowed:
                    self.borrowed.append(line)
                cost = np.asarray(core_seconds(point)) / point["timestep_fs"]
                size = int(point["n_atoms"])
                if size not in found or np.median(cost) < np.median(found[size]):
                    found[size] = cost
        if not found:
            tried = [point for point in self._timed_here()[0] if _method(point) == method]
            if why := [why for point in tried for why in point["failed"]]:
                raise SuiteError(f"cost: no timing of {method} succeeded here; the first said: {why[0]}")
            raise NotTested(f"the cost record has no timing of {method}")
        return found

    def with_fault(
        self,
        *,
        replaced: Mapping[str, str] | None = None,
        planted: Mapping[str, Mapping[str, Callable[[Observation], Array]]] | None = None,
        without: Sequence[str] = (),
    ) -> Evidence:
        """This evidence with some products replaced by others, or some arrays changed on reading.

        `replaced` maps a product's name to that of the product to read in its place; `planted` maps a name to
        functions by array name; products named in `without` are treated as missing.
        """
        replaced = replaced or {}
        swapped = {label: self.directories(source) for label, source in replaced.items()}
        return replace(
            self,
            products={
                label: paths for label, paths in {**self.products, **swapped}.items() if label not in without
            },
            broken={label: text for label, text in self.broken.items() if label not in swapped},
            pending={label: text for label, text in self.pending.items() if label not in swapped},
            replicas={
                **self.replicas,
                **{label: self._numbers(source) for label, source in replaced.items()},
            },
            planted={**self.planted, **(planted or {})},
            drawn={},
            borrowed=[],
            _kept={},
        )

    def with_drawn(self, drawn: Mapping[str, Sequence[Observation]]) -> Evidence:
        """This evidence with other observations of some products, and with nothing remembered."""
        averaged = {label: self.replicas_of(label) for label in drawn if _is_averaged(label)}
        replicas = {**self.replicas, **averaged}
        return replace(self, drawn=drawn, replicas=replicas, borrowed=[], _kept={})

    def _read(self, label: str, names: tuple[str, str]) -> list[Observation]:
        if label in self.drawn and names == OBSERVE:
            return list(self.drawn[label])
        paths, changes = self.directories(label), self.planted.get(label, {})

        def read() -> list[Observation]:
            # What is observed run by run in one stage has a folder for each run.
            runs = [run for path in paths for run in (sorted(path.glob("run-*")) or [path])]
            return [Observation(run, names, changes) for run in runs]

        return self.once((label, names), read)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives: made when it is first asked for, and kept for every claim over this evidence."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found


def _is_averaged(label: str) -> bool:
    return label.partition("-")[0] in AVERAGED


def _method(point: Mapping[str, Any]) -> str | None:
    """The method whose cost a point gives; nothing for plain defaults, dumps, scaling and the native kernel.

    Claims use the NNP's cost with DeePMD-kit, the paper's program.
    """
    if point["engine"] in AIMD:
        return "aimd"
    if point["setting"] != "tuned" or is_native(point):
        return None
    return str(point["engine"]) if point["engine"] in CLASSICAL else "nnp"


@lru_cache(maxsize=512)
def _read_npz(path: Path, changed_ns: int) -> Mapping[str, Array]:
    """A file's arrays, read once for all views of it: a dozen planted faults look at the same products."""
    with np.load(path, allow_pickle=False) as content:
        return {key: content[key] for key in content.files}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path}: found {type(error).__name__} on reading, expected JSON") from None
