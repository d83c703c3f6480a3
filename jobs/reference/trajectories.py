"""Deposited trajectories: `reference/trajectories/<tier>/` holds the MD that a tier observes, thinned.

Kept are frames about 4 fs apart, or as far apart as the tier says (all, where a run wrote fewer), positions
to 1e-3 A (bins of g(r) have 0.02 A) and velocities to 5e-5 A/fs (0.4 % of their rms at 3000 K), in 16 bits
each. Runs that start from frames of AIMD keep all of theirs, under `paired`: they serve every tier. Of the
positions it is what remains when the integral of the velocities is taken off, from frame to frame: a few
quanta, which compress to a third. Where frames are more than 20 fs apart the integral says nothing, and is
left out. Nothing adds up, each position is rounded by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml, require_sha256
from jobs.base.paths import REFERENCE
from jobs.base.trajectory import (
    THERMO_READ,
    ArrayTrajectory,
    DumpTrajectory,
    Trajectory,
    rows_from,
)
from jobs.reference.sets import DEPOSIT, read_run, read_set
from jobs.store.stage import Stage

Floats = NDArray[np.float64]

TRAJECTORIES = REFERENCE / "trajectories"
RECORD = "trajectories.yml"
PAIRED, OBSERVE_PAIRS = "paired", "observe_pairs"
SPACING_FS = 4.0  # seven frames in a Si-O stretch
_PREDICTED_FS = 20.0
QUANTA = {"positions_A": 1e-3, "velocities_A_fs": 5e-5}
# Parameters that move no atom: how a run is written, which configuration of a melt it starts from, counts.
_NO_PROTOCOL = {
    "thermo_every",
    "checkpoint_every",
    "ranks",
    "configuration",
    "configurations",
    "coordination_cutoff_angstrom",
}


@dataclass(frozen=True)
class ThinTrajectory:
    """A deposited trajectory as its record has it.

    `protocol` is what `protocol_of` gave for its run; `stage` was its name, `finished` the time it was done.
    """

    path: Path
    sha256: str
    stage: str
    finished: str
    protocol: list[dict[str, Any]]

    def other_protocol(self, planned: Stage) -> str | None:
        """How its protocol differs from that of the planned run, in words; None where it can replace the run.

        Another model of the same name is no other protocol: `models` has it.
        """
        nothing: dict[str, Any] = {}
        for there, now in zip_longest(self.protocol, protocol_of(planned), fillvalue=nothing):
            for key in sorted((there.keys() | now.keys()) - {"model"}):
                if there.get(key) != now.get(key):
                    return f"{self.path.name} has {key} {there.get(key)}, the tier {now.get(key)}"
        return None

    def entry(self) -> dict[str, Any]:
        """What the record says of it."""
        return {
            "file": self.path.name,
            **{name: value for name, value in vars(self).items() if name != "path"},
        }

    @property
    def models(self) -> dict[str, str]:
        """The sha256 of the NNPs that moved the atoms, by name."""
        return {step["potential"]: step["model"] for step in self.protocol if "model" in step}


def protocol_of(stage: Stage) -> list[dict[str, Any]]:
    """What was done to the atoms, in a run and in what it starts from, back to the melt.

    Each has the parameters of a stage, its code's version, and the name and the model of its potential.
    """
    own = {key: value for key, value in stage.parameters.items() if key not in _NO_PROTOCOL}
    own["code_version"] = stage.module.CODE_VERSION
    if (potential := stage.inputs.get("potential")) is not None:
        own |= {"potential": potential.parameters["name"], "model": potential.parameters.get("sha256")}
    start = stage.inputs.get("start")
    return [own, *(protocol_of(start) if start else [])]


def thin_trajectories(
    tier: str, *, needed: bool = True, root: Path = TRAJECTORIES
) -> dict[str, ThinTrajectory]:
    """The deposited trajectories of a tier (or `PAIRED`), by label of their stage (`liquid-96-nvt #1`).

    Raises:
        SuiteError: none are deposited and some are `needed`, the record is no such record, or a file is not
            what it says.
    """
    record = root / tier / RECORD
    if not record.is_file() and not needed:
        return {}
    if not record.is_file():
        there = ", ".join(sorted(path.parent.name for path in root.glob(f"*/{RECORD}"))) or "none"
        raise SuiteError(
            f"{record}: not found, expected deposited trajectories of tier {tier} (deposited: {there}); "
            "start from potentials"
        )
    try:
        entries: dict[str, dict[str, Any]] = parse_yaml(record.read_text())["trajectories"]
        found = {
            label: ThinTrajectory(path=record.parent / entry.pop("file"), **entry)
            for label, entry in entries.items()
        }
    except Exception as error:  # any failure of YAML, or of its content
        what = " ".join(str(error).split())
        raise SuiteError(f"{record}: found {type(error).__name__} ({what}), expected a record") from None
    for thin in found.values():
        _require_unchanged(thin.path, thin.sha256)
    return found


def changed_trajectories(*, root: Path = TRAJECTORIES) -> Iterator[str]:
    """A line for each tier of which a deposited trajectory is not what its record says."""
    for record in sorted(root.glob(f"*/{RECORD}")):
        try:
            thin_trajectories(record.parent.name, root=root)
        except SuiteError as error:
            yield str(error)


def _require_unchanged(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise SuiteError(f"{path}: not found, expected a deposited trajectory")
    require_sha256(path, sha256, record=RECORD)


class _Opened(ArrayTrajectory):
    """A thinned trajectory with the thermo table of its run, from its first frame on."""

    def __init__(self, *given: Any, thermo: Mapping[str, Floats], **named: Any) -> None:
        super().__init__(*given, **named)
        self._thermo = thermo

    def thermo(self, start: int) -> Mapping[str, Floats]:
        """See `Trajectory.thermo`."""
        return rows_from(self._thermo, step=self.facts["first_step"] + start * self.facts["dump_every"])


def open_thin(path: Path, *, sha256: str) -> Trajectory:
    """A deposited trajectory.

    Raises:
        SuiteError: it is not there, or was changed.
    """
    _require_unchanged(path, sha256)
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays)
    facts = json.loads(str(content["facts"]))
    quantum = facts["quanta"]["positions_A"]
    velocities = content["velocities"] * facts["quanta"]["velocities_A_fs"]
    remaining = np.cumsum(content["remaining"], axis=0, dtype=np.int64)
    return _Opened(
        content["origin"] + quantum * (remaining + np.rint(_integral(velocities, facts) / quantum)),
        velocities,
        types=content["types"].astype(np.int64),
        cell=content["cell"],
        time_between_frames_fs=facts["timestep_fs"] * facts["dump_every"],
        facts=facts,
        wrapped=False,
        thermo={name: content[f"thermo_{name}"] for name in THERMO_READ},
    )


def write_thin(path: Path, trajectory: DumpTrajectory, *, spacing_fs: float = SPACING_FS) -> None:
    """Write a trajectory, thinned to frames `spacing_fs` apart, or the next lower multiple of what it has.

    Raises:
        SuiteError: an atom too fast, or too far from where its velocity leads, for 16 bits.
    """
    every = max(1, int(spacing_fs / trajectory.time_between_frames_fs + 1e-9))
    positions = trajectory.positions(0, trajectory.n_frames, every)
    facts = {key: value for key, value in trajectory.facts.items() if key != "types"}
    facts |= {
        "quanta": QUANTA,
        "first_step": trajectory.first_step,
        "dump_every": trajectory.steps_between_frames * every,
        "frames": len(positions),
    }
    quantum = QUANTA["positions_A"]
    velocities = _in_16_bits(
        trajectory.velocities(0, trajectory.n_frames)[::every] / QUANTA["velocities_A_fs"], trajectory.path
    )
    integral = _integral(velocities * QUANTA["velocities_A_fs"], facts)
    remaining = np.rint((positions - positions[0]) / quantum) - np.rint(integral / quantum)
    arrays: dict[str, Any] = {
        "origin": positions[0],
        "remaining": _in_16_bits(np.diff(remaining, axis=0, prepend=0), trajectory.path),
        "velocities": velocities,
        "types": trajectory.types.astype(np.int8),
        "cell": trajectory.cell,
        "facts": np.array(json.dumps(facts)),
        **{f"thermo_{name}": values for name, values in trajectory.thermo(0).items()},
    }
    np.savez_compressed(path, **arrays)


def _integral(velocities: NDArray[Any], facts: Mapping[str, Any]) -> Floats:
    """Displacements (F, N, 3) since the first frame, by the trapezoidal rule; 0 for frames far apart."""
    half_fs = facts["timestep_fs"] * facts["dump_every"] / 2
    if 2 * half_fs > _PREDICTED_FS + 1e-9:
        return np.zeros_like(velocities)
    steps = (velocities[1:] + velocities[:-1]) * half_fs
    return np.concatenate([np.zeros((1, *steps.shape[1:])), np.cumsum(steps, axis=0)])


def _in_16_bits(values: Floats, source: Path) -> NDArray[np.int16]:
    whole = np.rint(values)
    if not np.abs(whole).max() <= np.iinfo(np.int16).max:
        raise SuiteError(
            f"{source}: found an atom that leaps {np.abs(whole).max():.0f} quanta, expected at most "
            f"{np.iinfo(np.int16).max}"
        )
    return whole.astype(np.int16)


def open_reference(set_name: str, run_id: str, *, root: Path | None = None) -> Trajectory:
    """A deposited AIMD trajectory, whole; `facts["unequilibrated_frames"]` says where equilibrium begins.

    Raises:
        SuiteError: no such run, a damaged file, single points instead of a trajectory, or a box that is
            tilted or changes.
    """
    deposited = read_set(set_name, root=root or DEPOSIT)
    if deposited.kind != "trajectory":
        raise SuiteError(f"{deposited.directory}: found {deposited.kind}, expected a trajectory")
    frames = read_run(deposited, run_id)
    cell = frames.cells[0]
    if not np.allclose(frames.cells, cell, rtol=0, atol=1e-9) or not np.allclose(
        cell, np.diag(np.diag(cell))
    ):
        raise SuiteError(f"{deposited.directory}: run {run_id}: expected one orthogonal box in all frames")
    facts = dict(deposited.facts)
    facts.update(
        unequilibrated_frames=deposited.run(run_id).unequilibrated_frames,
        temperature_K=float(frames.temperatures_K[0]),
        energies_eV=frames.energies_eV,
    )
    return ArrayTrajectory(
        frames.positions,
        frames.velocities,
        types=frames.types.astype(np.int64),
        cell=np.diag(cell).copy(),
        time_between_frames_fs=float(facts["timestep_fs"]) * facts["steps_between_frames"],
        facts=facts,
    )
