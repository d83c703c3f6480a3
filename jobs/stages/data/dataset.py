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
from jobs.base.frames import Frames, read_extxyz
from jobs.base.silica import SPECIES, density_g_cm3, perpendicular_widths
from jobs.engines.first_principles.registry import load_engine
from jobs.observables.rdf import PAIRS
from jobs.reference.deposit import deposit
from jobs.reference.sets import DepositedSet, find_set, iter_runs, verify_set
from jobs.stages.data.splits import neighbour_counts, reason_to_refuse, split_melts
from jobs.store.workspace import Workspace

CODE_VERSION = 3

# `sel` is rounded up to this and given this margin: MD meets denser spots than the training frames have,
# and DeePMD-kit silently drops the farthest neighbours beyond sel.
_SEL_STEP = 4
_SEL_MARGIN = 4


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

    def __init__(self, directory: Path, frames: Sequence[_Chosen], types: NDArray[np.integer]) -> None:
        data = directory / "set.000"
        data.mkdir(parents=True)
        (directory / "type.raw").write_text("".join(f"{t}\n" for t in types))
        (directory / "type_map.raw").write_text("".join(f"{s}\n" for s in SPECIES))
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
    if len(wanted) != len(SPECIES) or any(w < n for w, n in zip(wanted, neighbour_max, strict=False)):
        needs = " and ".join(f"{n} {species}" for n, species in zip(neighbour_max, SPECIES, strict=True))
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
    neighbour_max: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SPECIES), dtype=np.int64))
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
