"""Deposited trajectories: `reference/trajectories/<tier>/` holds the MD that a tier observes, thinned.

Kept are a frame every 4 fs, positions to 1e-3 A (g(r) has bins of 0.02 A) and velocities to 5e-5 A/fs
(0.4 % of their rms at 3000 K), in 16 bits each. Of the positions it is what remains when the integral of the
velocities is taken off, from frame to frame: a few quanta, which compress to a third. Nothing adds up, each
position is rounded by itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import SuiteError
from jobs.files import parse_yaml
from jobs.stage import Stage
from jobs.store import Store, file_sha256
from jobs.trajectory import THERMO, ArrayTrajectory, DumpTrajectory, Trajectory, open_trajectory, rows_from

if TYPE_CHECKING:
    from jobs.campaign import Campaign

Floats = NDArray[np.float64]

TRAJECTORIES = Path(__file__).parent.parent / "reference" / "trajectories"
RECORD = "trajectories.yml"
SPACING_FS = 4.0  # seven frames in a Si-O stretch
POSITION_QUANTUM_A = 1e-3
VELOCITY_QUANTUM_A_FS = 5e-5
MAX_BYTES = 60_000_000
# How a run is written and checkpointed, which configuration of a melt it starts from, and of how many.
_NO_PROTOCOL = {"dump_every", "thermo_every", "checkpoint_every", "ranks", "configuration", "configurations"}


@dataclass(frozen=True)
class ThinTrajectory:
    """A deposited trajectory as its record has it.

    `potential` is the sha256 of the model that moved the atoms, or the name of a classical potential;
    `protocol` is what `protocol_of` gave for its run, `finished` is when that was.
    """

    path: Path
    sha256: str
    finished: str
    potential: str
    protocol: list[dict[str, Any]]

    def other_protocol(self, planned: Stage) -> str | None:
        """What was done otherwise than a run would do now, in words; None where this stands in for it."""
        nothing: dict[str, Any] = {}
        for there, now in zip_longest(self.protocol, protocol_of(planned), fillvalue=nothing):
            for key in sorted(there.keys() | now.keys()):
                if there.get(key) != now.get(key):
                    return f"{self.path.name} has {key} {there.get(key)}, the tier {now.get(key)}"
        return None


def protocol_of(stage: Stage) -> list[dict[str, Any]]:
    """What was done to the atoms: the parameters of a run, then those of what it starts from, to the melt."""
    own = {key: value for key, value in stage.parameters.items() if key not in _NO_PROTOCOL}
    start = stage.inputs.get("start")
    return [own, *(protocol_of(start) if start else [])]


def thin_trajectories(tier: str, *, root: Path = TRAJECTORIES) -> dict[str, ThinTrajectory]:
    """The deposited trajectories of a tier, by the label of the stage that made them (`liquid-96-nvt #1`).

    Raises:
        SuiteError: none are deposited.
    """
    record = root / tier / RECORD
    if not record.is_file():
        raise SuiteError(
            f"{record}: not found, expected deposited trajectories of tier {tier}; start from potentials"
        )
    entries: dict[str, dict[str, Any]] = parse_yaml(record.read_text())["trajectories"]
    return {
        label: ThinTrajectory(path=record.parent / entry.pop("file"), **entry)
        for label, entry in entries.items()
    }


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
    spacing_fs = facts["timestep_fs"] * facts["dump_every"]
    velocities = content["velocities"] * VELOCITY_QUANTUM_A_FS
    integral = _integral(velocities, spacing_fs)
    remaining = np.cumsum(content["remaining"], axis=0, dtype=np.int64)
    return _Opened(
        content["origin"] + POSITION_QUANTUM_A * (remaining + np.rint(integral / POSITION_QUANTUM_A)),
        velocities,
        types=content["types"].astype(np.int64),
        cell=content["cell"],
        time_between_frames_fs=spacing_fs,
        facts=facts,
        thermo={name: content[f"thermo_{name}"] for name in THERMO},
    )


def _require_unchanged(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise SuiteError(f"{path}: not found, expected a deposited trajectory")
    if (found := file_sha256(path)) != sha256:
        raise SuiteError(f"{path}: found sha256 {found[:12]}..., expected {sha256[:12]}... of {RECORD}")


def changed_trajectories(*, root: Path = TRAJECTORIES) -> Iterator[str]:
    """A line for each deposited trajectory that is not what its record says."""
    for record in sorted(root.glob(f"*/{RECORD}")):
        for thin in thin_trajectories(record.parent.name, root=root).values():
            try:
                _require_unchanged(thin.path, thin.sha256)
            except SuiteError as error:
                yield str(error)


def write_thin(path: Path, trajectory: DumpTrajectory) -> None:
    """Write a trajectory, thinned.

    Raises:
        SuiteError: an atom too fast, or too far from where its velocity leads, for 16 bits.
    """
    spacing_fs = trajectory.time_between_frames_fs
    every = max(1, int(SPACING_FS / spacing_fs + 1e-9))
    positions = trajectory.positions(0, trajectory.n_frames, every)
    fast = trajectory.velocities(0, trajectory.n_frames)[::every]
    velocities = _in_16_bits(fast / VELOCITY_QUANTUM_A_FS, trajectory.path)
    integral = _integral(velocities * VELOCITY_QUANTUM_A_FS, every * spacing_fs)
    remaining = np.rint((positions - positions[0]) / POSITION_QUANTUM_A) - np.rint(
        integral / POSITION_QUANTUM_A
    )
    facts = {key: value for key, value in trajectory.facts.items() if key != "types"}
    facts |= {
        "first_step": trajectory.first_step,
        "dump_every": trajectory.steps_between_frames * every,
        "frames": len(positions),
    }
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


def _integral(velocities: NDArray[Any], spacing_fs: float) -> Floats:
    """Displacements (F, N, 3) since the first frame, by the trapezoidal rule."""
    steps = (velocities[1:] + velocities[:-1]) * (spacing_fs / 2)
    return np.concatenate([np.zeros((1, *steps.shape[1:])), np.cumsum(steps, axis=0)])


def _in_16_bits(values: Floats, source: Path) -> NDArray[np.int16]:
    whole = np.rint(values)
    if not np.abs(whole).max() <= np.iinfo(np.int16).max:
        raise SuiteError(
            f"{source}: found an atom that leaps {np.abs(whole).max():.0f} quanta, expected at most "
            f"{np.iinfo(np.int16).max}"
        )
    return whole.astype(np.int16)


def deposit_trajectories(campaign: Campaign, store: Store, *, root: Path = TRAJECTORIES) -> Path:
    """Put the MD that a tier observes under `reference/trajectories/`, in the place of what was there.

    Raises:
        SuiteError: nothing is computed there, a run is not there or was changed, or it is more than 60 MB.
    """
    observed = [stage for stages in campaign.labels.values() for stage in stages if stage.kind == "observe"]
    runs = {stage.label: stage for one in observed for stage in one.inputs.values()}
    if not runs:
        raise SuiteError(
            f"tier {campaign.tier} from {campaign.start_from}: found no MD to deposit, expected some"
        )
    for stage in runs.values():
        if not store.is_done(stage.name):
            raise SuiteError(f"{store.path(stage.name)}: not found; run tier {campaign.tier} first")
    store.verify(stage.name for stage in runs.values())
    target, part = root / campaign.tier, root / f"{campaign.tier}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    entries = {}
    for label, stage in runs.items():
        path = part / f"{label.replace(' #', '-')}.npz"
        write_thin(path, open_trajectory(store.path(stage.name)))
        entries[label] = {
            "file": path.name,
            "sha256": file_sha256(path),
            "finished": store.manifest(stage.name)["finished"],
            "potential": _moved_by(stage, store),
            "protocol": protocol_of(stage),
        }
        print(f"{label}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    size = sum(path.stat().st_size for path in part.iterdir())
    if size > MAX_BYTES:
        shutil.rmtree(part)
        raise SuiteError(f"{target}: found {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f}")
    (part / RECORD).write_text(_record(campaign.tier, entries))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)
    return target


def _moved_by(stage: Stage, store: Store) -> str:
    """What `ThinTrajectory.potential` is for an MD stage."""
    if "potential" not in stage.inputs:
        return str(stage.parameters["potential"])
    return file_sha256(store.path(stage.inputs["potential"].name) / "model.pb")


def _record(tier: str, entries: Mapping[str, Any]) -> str:
    import yaml

    content = {
        "format": 1,
        "tier": tier,
        "licence": "CC0-1.0",
        "spacing_fs": SPACING_FS,
        "quanta": {"positions_A": POSITION_QUANTUM_A, "velocities_A_fs": VELOCITY_QUANTUM_A_FS},
        "trajectories": entries,
    }
    # By way of JSON, since YAML writes an object that occurs twice as an alias.
    return yaml.safe_dump(
        json.loads(json.dumps(content)), sort_keys=False, default_flow_style=None, width=118
    )
