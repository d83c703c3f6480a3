"""Labelled frames of the deposit to DeePMD-kit's npy systems, split into train and test by source.

The unit of the split is a *melt*: every run that descends from one initial melt, in whatever
set and at whatever temperature, since configurations of one melt are correlated. A frame never has a
neighbour in time on the other side. The split is balanced so that each temperature has its share of
frames on both sides, as well as whole melts allow (see `split_melts`). Melts of a set that is never held
out (`jobs.reference.deposit`) train, all of them; the share is of the others.

Parameters:
    sets: list of {"name", "sha256", "thin_frames", "use_unequilibrated"}. `sha256` is the deposited
        set's (`jobs.reference.sets.read_set(name).sha256`). `thin_frames` n keeps every n-th frame of a
        trajectory (1 keeps all): consecutive frames at 2 fs are nearly one frame, and the deposited
        3000 K trajectory's forces lose their memory within 10 fs, so 5 there. `use_unequilibrated`
        also takes the frames that still remember the start, as the paper did.
    train_share: share of the frames that train, 2/3 in the paper.
    sel: [si, o] neighbours that the NNP sees, or null for what the data need and a margin.
    cutoff_angstrom: of the NNP.
    max_train_frames: null, or train on fewer frames (a learning curve): a whole number of them, or a
        share of all below 1. The subsets of one seed are nested and the test frames stay the same.
    subset_seed: optional; of the subset alone, so that a learning curve's seeds draw subsets of their own.
    deposit: where sets are looked for before the project's deposit; not part of the identity.

Inputs: any number of aimd products, taken as further sets.

The seed picks the split, and the subset unless `subset_seed` does.

Products: `train/<set>/` and `test/T<temperature>/<set>/`, each with `type.raw`, `type_map.raw`,
`set.000/{box,coord,energy,force}.npy` (A, eV, eV/A, float64: a total energy of -31 442 eV needs it) and
`frames.csv` (set, run, melt, frame index in the run, temperature_K; one line per frame); `dataset.json`.

The frames are read twice, to choose and to write, so that memory holds a few hundred bytes of each.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.frames import TYPE_MAP, density_g_cm3, read_extxyz
from jobs.base.silica import perpendicular_widths
from jobs.engines.first_principles.registry import load_engine
from jobs.observables.rdf import PAIRS
from jobs.reference.deposit import deposit
from jobs.reference.sets import DepositedSet, Frames, find_set, iter_runs, verify_set
from jobs.store.workspace import Workspace

CODE_VERSION = 3

# A PBE force in liquid silica at 6000 K reaches 32 eV/A on these data (rms 2.5 to 4.1). Twice that is a
# collision, or an SCF that ended in a wrong state, and one such atom would weigh as much as the forces of
# four usual frames in the loss.
MAX_FORCE_EV_ANGSTROM = 60.0
# No two atoms of silica come this close: the shortest contact at 6000 K is 1.27 A (Si-O) here, and an O2
# bond of 1.21 A would need four standard deviations of its thermal motion. Fused atoms (BKS behind its
# barrier) are below.
MIN_DISTANCE_ANGSTROM = 0.8
# `sel` is rounded up to this and given this margin: MD meets denser spots than the training frames have,
# and DeePMD-kit silently drops the farthest neighbours beyond sel.
_SEL_STEP = 4
_SEL_MARGIN = 4


def neighbour_counts(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    types: NDArray[np.int8],
    *,
    cutoff_angstrom: float,
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Neighbours of each atom by species, and the shortest distance of each pair of species.

    Every periodic image counts, an atom's own images too, so a cell narrower than twice the cutoff is
    right as well.

    Args:
        positions: (N, 3) A, wrapped or not.
        cell: (3, 3) A, rows are the cell vectors; any shape.
        types: (N,) indices into `TYPE_MAP`.
        cutoff_angstrom: distances up to and including this count.

    Returns:
        Counts (N, 2) of Si and O neighbours, and by pair ("Si-Si", "Si-O", "O-O") the shortest distance in
        A between two atoms (images included); infinite for a pair that the cell does not hold.
    """
    widths = perpendicular_widths(cell)
    fractional = positions @ np.linalg.inv(cell)
    delta = fractional[None, :] - fractional[:, None]
    # Along the normal of a face, |delta| <= 1/2 of a width: image n can only reach into the cutoff if
    # |n| <= cutoff / width + 1/2.
    delta -= np.rint(delta)
    reach = [math.floor(cutoff_angstrom / width + 0.5) for width in widths]
    nearest = delta @ cell
    counts = np.zeros((len(types), len(TYPE_MAP)), dtype=np.int64)
    is_species = np.stack([types == index for index in range(len(TYPE_MAP))], axis=1).astype(np.float32)
    closest_squared = np.full(nearest.shape[:2], np.inf)
    squared_nearest = np.einsum("ijk,ijk->ij", nearest, nearest)
    limit = cutoff_angstrom**2
    for image in np.ndindex(*(2 * n + 1 for n in reach)):
        shift = (np.array(image) - reach) @ cell
        squared = squared_nearest + 2.0 * (nearest @ shift) + shift @ shift
        if not shift.any():
            np.fill_diagonal(squared, np.inf)
        np.minimum(closest_squared, squared, out=closest_squared)
        counts += np.rint((squared <= limit).astype(np.float32) @ is_species).astype(np.int64)
    closest = {}
    for pair in PAIRS:
        first, second = (np.flatnonzero(types == TYPE_MAP.index(species)) for species in pair.split("-"))
        squared = closest_squared[np.ix_(first, second)].min(initial=math.inf)
        closest[pair] = math.sqrt(max(float(squared), 0.0))
    return counts, closest


def reason_to_refuse(
    energy_eV: float, forces: NDArray[np.float64], min_distance_angstrom: float
) -> str | None:
    """Why a labelled frame must not be used, or None: the deposit holds what a code gave, also outliers.

    Args:
        energy_eV: total energy.
        forces: (N, 3) eV/A.
        min_distance_angstrom: shortest distance of two atoms.
    """
    if not (np.isfinite(forces).all() and math.isfinite(energy_eV) and math.isfinite(min_distance_angstrom)):
        return "not finite"
    if min_distance_angstrom < MIN_DISTANCE_ANGSTROM:
        return f"atoms closer than {MIN_DISTANCE_ANGSTROM:g} A"
    if np.linalg.norm(forces, axis=1).max() > MAX_FORCE_EV_ANGSTROM:
        return f"force above {MAX_FORCE_EV_ANGSTROM:g} eV/A"
    return None


def split_melts(
    frames: Mapping[str, Mapping[float, int]], *, train_share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Whole melts to train and test, each temperature shared as nearly as possible.

    The imbalance of a split is the squared excess of training frames over their share, relative to a
    temperature's frames, summed over temperatures and for all frames together; plus a large penalty
    for each temperature that one side lacks although two melts have it, or that training lacks. From 20
    random starts, melts change side and pairs are exchanged until nothing lowers it; the seed picks one
    among the distinct ends that are at most 1.5 times as imbalanced as the best.

    Args:
        frames: for each melt, its number of frames by temperature in K.
        train_share: wanted share of training frames.
        seed: of the split.

    Returns:
        Names of training and of test melts, sorted; neither is empty.

    Raises:
        SuiteError: fewer than two melts.
    """
    melts = sorted(frames)
    if len(melts) < 2:
        raise SuiteError(f"dataset: found {len(melts)} melts, expected at least 2 to split by melt")
    temperatures = sorted({t for counts in frames.values() for t in counts})
    table = np.array([[frames[melt].get(t, 0) for t in temperatures] for melt in melts], dtype=float)
    table = np.column_stack([table, table.sum(axis=1)])  # the last column: all temperatures together
    total = table.sum(axis=0)
    shared = (table > 0).sum(axis=0) > 1

    def imbalance(got: NDArray[np.float64]) -> NDArray[np.float64]:
        missing = (got == 0).sum(axis=-1) + ((got == total) & shared).sum(axis=-1)
        return ((got - train_share * total) ** 2 / total).sum(axis=-1) + 1e3 * missing

    def settle(train: NDArray[np.bool_]) -> float:
        lowest = float(imbalance(table[train].sum(axis=0)))
        while True:
            got = table[train].sum(axis=0)
            here, there = np.flatnonzero(train), np.flatnonzero(~train)
            flips = imbalance(got + np.where(train, -1.0, 1.0)[:, None] * table)
            best, change = float(flips.min()), [int(flips.argmin())]
            exchanges = imbalance(got - table[here][:, None] + table[there][None, :])
            if exchanges.size and exchanges.min() < best:
                i, j = np.unravel_index(int(exchanges.argmin()), exchanges.shape)
                best, change = float(exchanges.min()), [int(here[i]), int(there[j])]
            if best >= lowest - 1e-9:
                return lowest
            train[change] ^= True
            lowest = best

    random = np.random.default_rng(seed)
    n_train = min(max(1, round(train_share * len(melts))), len(melts) - 1)
    ends: dict[tuple[bool, ...], float] = {}
    for _ in range(20):
        train = random.permutation(len(melts)) < n_train
        cost = settle(train)
        ends[tuple(train.tolist())] = cost
    good = sorted(end for end, cost in ends.items() if cost <= 1.5 * min(ends.values()))
    picked = good[int(random.integers(len(good)))]
    return (
        [melt for melt, trains in zip(melts, picked, strict=True) if trains],
        [melt for melt, trains in zip(melts, picked, strict=True) if not trains],
    )


@dataclass(frozen=True)
class _Chosen:
    """One frame that goes into the dataset."""

    set_name: str
    run: str
    melt: str
    index: int
    temperature_K: float
    energy_eV: float
    volume_A3: float
    density_g_cm3: float
    closest_angstrom: Mapping[str, float]


def _used_frames(
    deposited: DepositedSet, options: Mapping[str, Any]
) -> Iterator[tuple[str, str, Frames, int, int]]:
    """(run, melt, part, index in the part, index in the run) of each frame that the options take."""
    thin = options["thin_frames"]
    if not isinstance(thin, int) or thin < 1:
        raise SuiteError(
            f"dataset: set {deposited.name}: found thin_frames {thin!r}, expected a whole number >= 1"
        )
    for run, part in iter_runs(deposited):
        skip = 0 if options["use_unequilibrated"] else run.unequilibrated_frames
        for k in range(len(part)):
            index = part.first + k
            if index >= skip and (deposited.kind != "trajectory" or (index - skip) % thin == 0):
                yield run.id, run.melt, part, k, index


def _open_sets(parameters: Mapping[str, Any]) -> list[DepositedSet]:
    """The deposited sets, verified; each must have the use `train`."""
    opened = []
    for wanted in parameters["sets"]:
        deposited = find_set(wanted["name"], parameters)
        if deposited.use != "train":
            raise SuiteError(
                f"dataset: set {deposited.name}: found use: {deposited.use}, "
                "expected train: training data are never a reference"
            )
        if deposited.sha256 != wanted["sha256"]:
            raise SuiteError(
                f"{deposited.directory}/set.yml: found sha256 {deposited.sha256}, expected {wanted['sha256']}"
            )
        verify_set(deposited)
        opened.append(deposited)
    return opened


def _own_sets(workspace: Workspace) -> list[tuple[DepositedSet, dict[str, Any]]]:
    """The products of this campaign's own aimd stages (inputs), as sets in a scratch deposit.

    As single points: a refused frame leaves a gap in a trajectory, and the split is by melt anyway. All
    frames train, relaxing ones too, as in the paper (Sec. II A).
    """
    if not workspace.inputs:
        return []
    scratch = workspace.checkpoints / "deposit"
    shutil.rmtree(scratch, ignore_errors=True)
    sets = []
    for role, product in sorted(workspace.inputs.items()):
        about = json.loads((product / "aimd.json").read_text())
        deposited = deposit(
            read_extxyz(product / "frames.xyz"),
            source=str(product / "frames.xyz"),
            name=role,
            kind="singlepoints",
            use="train",
            engine=about["engine"],
            engine_version=about["engine_version"],
            functional=about["functional"],
            basis=_basis(about),
            settings={key: str(value) for key, value in about["settings"].items()},
            start=about["source"],
            thermostat=None,
            timestep_fs=None,
            unequilibrated_frames=0,
            licence="CC0-1.0",
            provenance="computed by this campaign",
            decks=[],
            root=scratch,
        )
        options = {"name": role, "sha256": deposited.sha256, "thin_frames": 1, "use_unequilibrated": True}
        sets.append((deposited, options))
    return sets


def _basis(about: Mapping[str, Any]) -> str:
    """The basis of an aimd product: CP2K's settings name it, those of plane waves amount to one."""
    settings = about["settings"]
    return str(settings.get("basis") or load_engine(about["engine"]).read_settings(settings).basis)


def _check_level(sets: Sequence[DepositedSet]) -> None:
    """All sets of one level of theory, at least one."""
    if not sets:
        raise SuiteError("dataset: found no set, expected at least one")
    levels = {deposited.level: deposited.name for deposited in sets}
    if len(levels) > 1:
        found = "; ".join(f"{name}: {' '.join(level)}" for level, name in levels.items())
        raise SuiteError(
            f"dataset: found {found}, expected one level of theory: total energies must share their zero"
        )


class _System:
    """One DeePMD-kit system, frames of one composition, written row by row."""

    def __init__(self, directory: Path, frames: Sequence[_Chosen], types: NDArray[np.int8]) -> None:
        data = directory / "set.000"
        data.mkdir(parents=True)
        (directory / "type.raw").write_text("".join(f"{t}\n" for t in types))
        (directory / "type_map.raw").write_text("".join(f"{s}\n" for s in TYPE_MAP))
        with (directory / "frames.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["set", "run", "melt", "frame", "temperature_K"])
            writer.writerows([f.set_name, f.run, f.melt, f.index, f"{f.temperature_K:g}"] for f in frames)
        np.save(data / "energy.npy", np.array([f.energy_eV for f in frames]))
        self.widths = {"box": 9, "coord": 3 * len(types), "force": 3 * len(types)}
        self.files = {name: (data / f"{name}.npy").open("wb") for name in self.widths}
        for name, width in self.widths.items():
            header = {"descr": "<f8", "fortran_order": False, "shape": (len(frames), width)}
            np.lib.format.write_array_header_1_0(self.files[name], header)

    def add(self, part: Frames, k: int) -> None:
        """Append a frame; they come in the order of the list that the system was begun with."""
        rows = {"box": part.cells[k], "coord": part.positions[k], "force": part.forces[k]}
        for name, row in rows.items():
            self.files[name].write(np.ascontiguousarray(row, dtype="<f8").tobytes())

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def _chosen_sel(
    wanted: Sequence[int] | None, neighbour_max: NDArray[np.int64], cutoff_angstrom: float
) -> list[int]:
    if wanted is None:
        return [int(math.ceil((n + _SEL_MARGIN) / _SEL_STEP) * _SEL_STEP) for n in neighbour_max]
    if len(wanted) != len(TYPE_MAP) or any(w < n for w, n in zip(wanted, neighbour_max, strict=False)):
        needs = " and ".join(f"{n} {species}" for n, species in zip(neighbour_max, TYPE_MAP, strict=True))
        raise SuiteError(
            f"dataset: found sel {list(wanted)}, expected at least {neighbour_max.tolist()}: "
            f"the data have up to {needs} neighbours within {cutoff_angstrom:g} A"
        )
    return [int(w) for w in wanted]


def run(workspace: Workspace) -> None:
    """Make the dataset (see the module's docstring).

    Raises:
        SuiteError: a set with use `judge`, a damaged one or one of another level of theory; sel too small;
            a cell narrower than the cutoff; fewer than two melts; too few training frames.
    """
    parameters = workspace.parameters
    computed = _own_sets(workspace)
    options_of_sets = [*parameters["sets"], *(options for _, options in computed)]
    sets = [*_open_sets(parameters), *(deposited for deposited, _ in computed)]
    _check_level(sets)
    read = _read(workspace, sets, options_of_sets)
    sel = _chosen_sel(parameters["sel"], read.neighbour_max, parameters["cutoff_angstrom"])
    train, test = _split(workspace, sets, read.chosen)
    force_rms = _write_dataset(workspace.directory, sets, train, test)
    facts = {
        "sel": sel,
        "neighbour_max": read.neighbour_max.tolist(),
        "cutoff_angstrom": float(parameters["cutoff_angstrom"]),
        **_facts_of_frames([deposited.name for deposited in sets], read.chosen, train, test),
        "refused": dict(read.refused),
        "sets": [dict(options) for options in options_of_sets],
        "force_rms_eV_A": round(force_rms, 4),
        "warnings": sorted(read.warnings),
    }
    facts["frames"]["refused"] = sum(read.refused.values())
    write_json(workspace.directory / "dataset.json", facts, indent=1)
    workspace.record(frames=facts["frames"], refused=facts["refused"], warnings=facts["warnings"])


@dataclass
class _Read:
    """What was found while all frames were read once."""

    chosen: list[_Chosen] = field(default_factory=list)
    neighbour_max: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(TYPE_MAP), dtype=np.int64))
    refused: Counter[str] = field(default_factory=Counter)
    warnings: set[str] = field(default_factory=set)


def _read(
    workspace: Workspace, sets: Sequence[DepositedSet], options_of_sets: Sequence[Mapping[str, Any]]
) -> _Read:
    """Every frame that the options take, refused or chosen."""
    cutoff = float(workspace.parameters["cutoff_angstrom"])
    read = _Read()
    expected = sum(deposited.frames for deposited in sets)
    seen = 0
    for deposited, options in zip(sets, options_of_sets, strict=True):
        for run_id, melt, part, k, index in _used_frames(deposited, options):
            seen += 1
            if seen % 50 == 0:
                workspace.progress(0.9 * seen / expected, f"{seen} frames read")
            cell = part.cells[k]
            narrowest = float(perpendicular_widths(cell).min())
            if narrowest < cutoff:
                raise SuiteError(
                    f"{deposited.directory}: run {run_id}, frame {index + 1}: "
                    f"found a cell {narrowest:.2f} A wide, expected at least the cutoff, {cutoff:g} A"
                )
            if narrowest < 2 * cutoff:
                read.warnings.add(
                    f"set {deposited.name}: cells narrower than twice the cutoff; images are counted"
                )
            counts, closest = neighbour_counts(part.positions[k], cell, part.types, cutoff_angstrom=cutoff)
            reason = reason_to_refuse(float(part.energies_eV[k]), part.forces[k], min(closest.values()))
            if reason is not None:
                read.refused[reason] += 1
                continue
            read.neighbour_max = np.maximum(read.neighbour_max, counts.max(axis=0))
            read.chosen.append(
                _Chosen(
                    deposited.name,
                    run_id,
                    melt,
                    index,
                    float(part.temperatures_K[k]),
                    float(part.energies_eV[k]),
                    abs(float(np.linalg.det(cell))),
                    density_g_cm3(part.types, cell),
                    closest,
                )
            )
    return read


def _split(
    workspace: Workspace, sets: Sequence[DepositedSet], chosen: Sequence[_Chosen]
) -> tuple[list[_Chosen], list[_Chosen]]:
    """Frames that train and that are held out: by melt, and some melts only ever train."""
    parameters = workspace.parameters
    never_held_out = {run.melt for deposited in sets if not deposited.held_out for run in deposited.runs}
    per_melt: dict[str, Counter[float]] = {}
    for frame in chosen:
        if frame.melt not in never_held_out:
            per_melt.setdefault(frame.melt, Counter())[frame.temperature_K] += 1
    _, test_melts = split_melts(per_melt, train_share=parameters["train_share"], seed=workspace.seed)
    held_out = set(test_melts)
    train = _subset(
        [frame for frame in chosen if frame.melt not in held_out],
        parameters["max_train_frames"],
        parameters.get("subset_seed", workspace.seed),
    )
    return train, [frame for frame in chosen if frame.melt in held_out]


def _facts_of_frames(
    names: Sequence[str], chosen: Sequence[_Chosen], train: Sequence[_Chosen], test: Sequence[_Chosen]
) -> dict[str, Any]:
    """What `dataset.json` says about the frames of either side, of the sets with these names."""
    temperatures = sorted({frame.temperature_K for frame in chosen})
    test_melts = {frame.melt for frame in test}
    by_temperature = {t: [f for f in test if f.temperature_K == t] for t in temperatures}
    return {
        # What training has seen of each pair: a liquid that comes closer leaves its data.
        "min_distance_angstrom": {
            pair: round(min(frame.closest_angstrom[pair] for frame in train), 4) for pair in PAIRS
        },
        "train_runs": sorted({f"{frame.set_name}/{frame.run}" for frame in train}),
        "test_runs": sorted({f"{frame.set_name}/{frame.run}" for frame in test}),
        "train_melts": sorted({frame.melt for frame in chosen} - test_melts),
        "test_melts": sorted(test_melts),
        "frames": {"train": len(train), "test": len(test)},
        "frames_by_temperature": {
            f"{t:g}": {
                "train": sum(frame.temperature_K == t for frame in train),
                "test": len(by_temperature[t]),
            }
            for t in temperatures
        },
        "temperatures_K": sorted({frame.temperature_K for frame in train}),
        "lowest_temperature_K": min(frame.temperature_K for frame in train),
        "volumes_A3": sorted({round(frame.volume_A3, 2) for frame in train}),
        "densities_g_cm3": sorted({round(frame.density_g_cm3, 3) for frame in train}),
        "train_systems": [f"train/{name}" for name in names if any(f.set_name == name for f in train)],
        "test_systems": {
            f"{t:g}": [
                f"test/T{t:g}/{name}" for name in names if any(f.set_name == name for f in by_temperature[t])
            ]
            for t in temperatures
            if by_temperature[t]
        },
    }


def _subset(train: list[_Chosen], wanted: float | None, seed: int) -> list[_Chosen]:
    """The training frames, or a random, nested subset of them, at least one, in the original order."""
    if wanted is None:
        return train
    number = max(1, round(wanted * len(train))) if 0 < wanted < 1 else wanted
    if number not in range(1, len(train) + 1):
        raise SuiteError(
            f"dataset: found max_train_frames {wanted}, expected 1 to {len(train)}, or a share below 1"
        )
    picked = np.sort(np.random.default_rng([seed, 1]).permutation(len(train))[: int(number)])
    return [train[k] for k in picked]


def _write_dataset(
    directory: Path, sets: Sequence[DepositedSet], train: Sequence[_Chosen], test: Sequence[_Chosen]
) -> float:
    """Write all systems; what a killed run of this stage left is replaced.

    Returns:
        Root mean square of the training forces' components, eV/A.
    """
    for side in ("train", "test"):
        shutil.rmtree(directory / side, ignore_errors=True)
    squares = values = 0.0
    for deposited in sets:
        systems: list[_System] = []
        goes_to: dict[tuple[str, int], _System] = {}
        mine = {"train": [f for f in train if f.set_name == deposited.name]}
        for temperature in sorted({f.temperature_K for f in test if f.set_name == deposited.name}):
            mine[f"test/T{temperature:g}"] = [
                f for f in test if f.set_name == deposited.name and f.temperature_K == temperature
            ]
        for side, frames in mine.items():
            if frames:
                systems.append(_System(directory / side / deposited.name, frames, deposited.types))
                goes_to.update({(f.run, f.index): systems[-1] for f in frames})
        training = systems[0] if mine["train"] else None
        for run, part in iter_runs(deposited):
            for k in range(len(part)):
                system = goes_to.get((run.id, part.first + k))
                if system is not None:
                    system.add(part, k)
                    if system is training:
                        squares += float((part.forces[k] ** 2).sum())
                        values += part.forces[k].size
        for system in systems:
            system.close()
    return math.sqrt(squares / values)
