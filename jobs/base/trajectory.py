"""Trajectories as streams of frames: LAMMPS binary dumps of the MD stages, and deposited AIMD runs.

A dump is memory-mapped: what is held in memory is what is asked for, however long the file.

The layout of a binary custom dump frame, read from files that LAMMPS 2025.7.22 wrote (little endian):
int64 -10, "DUMPCUSTOM", int32 1 (byte order), int32 2 (revision), int64 step, int64 atoms, int32 tilted,
6 int32 boundaries, 6 float64 bounds, int32 columns, int32 length of the units' name (0: not written),
int8 time given (0: no), int32 length of the column names, the names, int32 chunks (one per MPI rank);
then per chunk an int32 number of float64 values and the values.
"""

from __future__ import annotations

import json
import mmap
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.units import FS_PER_PS
from jobs.observables.msd import unwrap

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TRAJECTORY_FILE = "trajectory.lmpbin"
THERMO_FILE = "thermo.csv"
THERMO_READ = ("step", "time_ps", "temperature_K", "total_eV")  # columns of it
DUMP_COLUMNS = "id type xu yu zu vx vy vz"

_MAGIC = b"DUMPCUSTOM"
_HEAD = struct.Struct("<q10siiqqi6i6diibi")
_STEP = slice(26, 34)
_VALUES = len(DUMP_COLUMNS.split())


class Trajectory(ABC):
    """Frames at equal time steps in one fixed orthorhombic box.

    `types` (N,) 0 for Si, 1 for O; `cell` (3,) edges in A; `facts` what the run says about itself.
    """

    n_frames: int
    types: Integers
    cell: Floats
    time_between_frames_fs: float
    has_velocities: bool
    facts: Mapping[str, Any]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.types)

    @abstractmethod
    def positions(self, start: int, stop: int, stride: int = 1) -> Floats:
        """Unwrapped positions (f, N, 3) in A of the frames start, start + stride, ... below stop."""

    @abstractmethod
    def velocities(self, start: int, stop: int) -> Floats:
        """Velocities (f, N, 3) in A/fs of the frames start to stop - 1."""

    def thermo(self, start: int) -> Mapping[str, Floats]:
        """What the MD engine wrote from frame `start` on, by column of `THERMO_READ`; of AIMD, nothing."""
        return {}


class ArrayTrajectory(Trajectory):
    """A trajectory held in memory; positions may be `wrapped` into the box."""

    def __init__(
        self,
        positions: Floats,
        velocities: Floats | None,
        *,
        types: Integers,
        cell: Floats,
        time_between_frames_fs: float,
        facts: Mapping[str, Any],
        wrapped: bool = True,
    ) -> None:
        self._positions, self._velocities = unwrap(positions, cell) if wrapped else positions, velocities
        self.n_frames = len(positions)
        self.types, self.cell, self.facts = types, cell, facts
        self.time_between_frames_fs = time_between_frames_fs
        self.has_velocities = velocities is not None

    def positions(self, start: int, stop: int, stride: int = 1) -> Floats:
        """See `Trajectory.positions`."""
        return self._positions[start:stop:stride]

    def velocities(self, start: int, stop: int) -> Floats:
        """See `Trajectory.velocities`."""
        if self._velocities is None:
            raise SuiteError("trajectory: found no velocities, expected them")
        return self._velocities[start:stop]


class DumpTrajectory(Trajectory):
    """A LAMMPS binary custom dump with the columns `id type xu yu zu vx vy vz`, sorted by id, metal units.

    Raises:
        SuiteError: the file is missing, empty, of another layout, truncated, or its frames differ in
            atoms, box or spacing.
    """

    has_velocities = True

    def __init__(self, path: Path, *, time_step_fs: float, facts: Mapping[str, Any]) -> None:
        self.path, self.facts = path, facts
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                if size == 0:
                    raise SuiteError(f"{path}: found an empty file, expected a LAMMPS binary dump")
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise SuiteError(f"{path}: not found, expected a LAMMPS binary dump") from None
        first = self._frame(0)
        self.cell = first.cell
        steps, self._frames = self._index(first)
        self.n_frames = len(steps)
        self._ids = np.arange(1.0, first.n_atoms + 1)
        self.types = self._records(0, 1, 1, n_atoms=first.n_atoms)[0, :, 1].astype(np.int64) - 1
        if not np.isin(self.types, (0, 1)).all():
            found = sorted({int(t) + 1 for t in self.types})
            raise SuiteError(f"{path}: found atom types {found}, expected 1 (Si) and 2 (O)")
        spacing = np.diff(steps)
        self.first_step = int(steps[0])
        self.steps_between_frames = int(spacing[0]) if len(spacing) else 0
        wrong = np.flatnonzero(spacing != self.steps_between_frames)
        if len(spacing) and (len(wrong) or self.steps_between_frames <= 0):
            at = int(wrong[0]) if len(wrong) else 0
            raise SuiteError(
                f"{path}: found step {steps[at + 1]} after {steps[at]}, "
                f"expected one every {abs(self.steps_between_frames)} steps"
            )
        self.time_between_frames_fs = self.steps_between_frames * time_step_fs

    def positions(self, start: int, stop: int, stride: int = 1) -> Floats:
        """See `Trajectory.positions`."""
        return self._columns(start, stop, stride, slice(2, 5))

    def velocities(self, start: int, stop: int) -> Floats:
        """See `Trajectory.velocities`."""
        return self._columns(start, stop, 1, slice(5, 8)) / FS_PER_PS

    def thermo(self, start: int) -> Mapping[str, Floats]:
        """See `Trajectory.thermo`."""
        table = _read_thermo(self.path.with_name(THERMO_FILE))
        return rows_from(table, step=self.first_step + start * self.steps_between_frames)

    def _columns(self, start: int, stop: int, stride: int, columns: slice) -> Floats:
        records = self._records(start, stop, stride, n_atoms=self.n_atoms)
        if not (records[:, :, 0] == self._ids).all():
            raise SuiteError(f"{self.path}: found atoms out of order, expected ids 1 to {self.n_atoms}")
        values = np.ascontiguousarray(records[:, :, columns])
        if not np.isfinite(values).all():
            raise SuiteError(f"{self.path}: found values that are not finite in frames {start} to {stop - 1}")
        return values

    def _records(self, start: int, stop: int, stride: int, *, n_atoms: int) -> Floats:
        """Raw values (f, N, 8); a view where frames are alike and in one piece."""
        if isinstance(self._frames, _Uniform):
            view: Floats = np.ndarray(
                (self.n_frames, n_atoms, _VALUES),
                np.float64,
                buffer=self._bytes,
                offset=self._frames.offset,
                strides=(self._frames.size, 8 * _VALUES, 8),
            )
            return view[start:stop:stride]
        chosen = self._frames[start:stop:stride]
        records = np.empty((len(chosen), n_atoms, _VALUES))
        for row, chunks in enumerate(chosen):
            values = [np.frombuffer(self._bytes, np.float64, count, offset) for offset, count in chunks]
            records[row] = np.concatenate(values).reshape(n_atoms, _VALUES)
        return records

    def _frame(self, offset: int) -> _Frame:
        """Parse the frame that starts at a byte."""
        size = len(self._bytes)

        def truncated(expected: int) -> SuiteError:
            return SuiteError(
                f"{self.path}: truncated, found {size} bytes, expected at least {expected} "
                f"for the frame that starts at byte {offset}"
            )

        if offset + _HEAD.size > size:
            if (
                self._bytes[offset : offset + 18]
                != struct.pack("<q10s", -len(_MAGIC), _MAGIC)[: size - offset]
            ):
                raise SuiteError(f"{self.path}: found another format, expected a LAMMPS binary custom dump")
            raise truncated(offset + _HEAD.size)
        fields = _HEAD.unpack_from(self._bytes, offset)
        marker, magic, byte_order, revision, step, n_atoms, tilted = fields[:7]
        if (marker, magic) != (-len(_MAGIC), _MAGIC):
            raise SuiteError(
                f"{self.path}: found other bytes than a frame's start at byte {offset}, "
                "expected a LAMMPS binary custom dump"
            )
        bounds, (columns, units, timed, length) = np.array(fields[13:19]), fields[19:]
        if (byte_order, revision, tilted, units, timed) != (1, 2, 0, 0, 0):
            raise SuiteError(
                f"{self.path}: found byte order {byte_order}, revision {revision}, tilted {tilted}, "
                f"units {units}, time {timed}, expected 1, 2, 0, 0, 0"
            )
        cursor = offset + _HEAD.size + length
        if cursor + 4 > size:
            raise truncated(cursor + 4)
        names = self._bytes[offset + _HEAD.size : cursor].decode(errors="replace")
        if columns != _VALUES or names != DUMP_COLUMNS:
            raise SuiteError(f"{self.path}: found the columns '{names}', expected '{DUMP_COLUMNS}'")
        (n_chunks,) = struct.unpack_from("<i", self._bytes, cursor)
        cursor += 4
        chunks = []
        for _ in range(n_chunks):
            if cursor + 4 > size:
                raise truncated(cursor + 4)
            (count,) = struct.unpack_from("<i", self._bytes, cursor)
            cursor += 4
            chunks.append((cursor, count))
            cursor += 8 * count
            if cursor > size:
                raise truncated(cursor)
        values = sum(count for _, count in chunks)
        if values != n_atoms * _VALUES:
            raise SuiteError(
                f"{self.path}: found {values} values at step {step}, expected {n_atoms} x {_VALUES}"
            )
        return _Frame(step, n_atoms, bounds[1::2] - bounds[::2], tuple(chunks), cursor)

    def _index(self, first: _Frame) -> tuple[Integers, _Uniform | list[tuple[tuple[int, int], ...]]]:
        """Steps of all frames and where their values are."""
        size = len(self._bytes)
        n_frames, rest = divmod(size, first.end)
        if rest == 0 and len(first.chunks) == 1:
            # Every header equals the first but for its step: no need to walk through the file.
            header = first.chunks[0][0]
            view: NDArray[np.uint8] = np.ndarray(
                (n_frames, header), np.uint8, buffer=self._bytes, strides=(first.end, 1)
            )
            alike = view == view[0]
            alike[:, _STEP] = True
            if alike.all():
                steps = np.ascontiguousarray(view[:, _STEP]).view("<i8")[:, 0].astype(np.int64)
                return steps, _Uniform(header, first.end)
        frame_steps, pieces, offset = [], [], 0
        while offset < size:
            frame = self._frame(offset)
            if frame.n_atoms != first.n_atoms or not np.array_equal(frame.cell, first.cell):
                raise SuiteError(
                    f"{self.path}: found {frame.n_atoms} atoms in {frame.cell} A at step {frame.step}, "
                    f"expected {first.n_atoms} in {first.cell} A as at step {first.step}"
                )
            frame_steps.append(frame.step)
            pieces.append(frame.chunks)
            offset = frame.end
        return np.array(frame_steps, np.int64), pieces


@dataclass(frozen=True)
class _Frame:
    """One parsed frame: `chunks` are (byte offset, number of values), `end` the byte behind it."""

    step: int
    n_atoms: int
    cell: Floats
    chunks: tuple[tuple[int, int], ...]
    end: int


@dataclass(frozen=True)
class _Uniform:
    """All frames alike: values of the first start at `offset`, frames are `size` bytes apart."""

    offset: int
    size: int


def rows_from(thermo: Mapping[str, Floats], *, step: int) -> Mapping[str, Floats]:
    """The rows of a thermo table from a step on."""
    kept = thermo["step"] >= step
    return {name: column[kept] for name, column in thermo.items()}


def _read_thermo(path: Path) -> Mapping[str, Floats]:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise SuiteError(f"{path}: not found, expected the thermo table of an MD run") from None
    if missing := [name for name in THERMO_READ if name not in table]:
        raise SuiteError(
            f"{path}: found the columns {', '.join(map(str, table))}, expected also {', '.join(missing)}"
        )
    return {name: table[name].to_numpy(float) for name in THERMO_READ}


def open_trajectory(directory: Path) -> DumpTrajectory:
    """The trajectory of a finished md or quench stage.

    Raises:
        SuiteError: a file is missing or broken, or the dump is not the one that md.json describes.
    """
    facts_file = directory / "md.json"
    try:
        facts = json.loads(facts_file.read_text())
    except FileNotFoundError:
        raise SuiteError(f"{facts_file}: not found, expected the description of an MD run") from None
    path = directory / TRAJECTORY_FILE
    trajectory = DumpTrajectory(path, time_step_fs=facts["timestep_fs"], facts=facts)
    if trajectory.n_frames != facts["frames"]:
        raise SuiteError(f"{path}: found {trajectory.n_frames} frames, expected {facts['frames']} (md.json)")
    if trajectory.n_atoms != facts["n_atoms"]:
        raise SuiteError(f"{path}: found {trajectory.n_atoms} atoms, expected {facts['n_atoms']} (md.json)")
    if trajectory.n_frames > 1 and trajectory.steps_between_frames != facts["dump_every"]:
        raise SuiteError(
            f"{path}: found a frame every {trajectory.steps_between_frames} steps, "
            f"expected every {facts['dump_every']} (md.json)"
        )
    return trajectory
