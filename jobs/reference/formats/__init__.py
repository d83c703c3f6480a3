"""Readers of other people's output files, one file per format.

Each module has `recognises(path)`, which looks at a name and a few kilobytes, and `open_source(path)`, which
reads what stands before the first frame and returns a `Source`: facts, and batches of frames that are read
while they are asked for, so that memory does not grow with the number of frames. What a file says of itself
that makes a frame unusable (an SCF that did not converge, a half-written last frame) is counted in
`Source.refused`; it never becomes a frame. Units: A, eV, eV/A, A/fs, fs, K.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import NOT_KNOWN, UNCONVERGED
from jobs.reference.formats.level import Level

# Frames of a batch: its arrays stay near 10 MB whatever the number of atoms.
ATOMS_PER_BATCH = 100_000
HALF = "half written"
UNREADABLE = "numbers that cannot be read or are not finite"
WITHOUT_FORCES = "without forces"
NOT_PERIODIC = "not periodic"
LEFT_HANDED = "left-handed cell"


@dataclass(frozen=True)
class Snapshot:
    """One frame of N atoms: `positions`, `forces`, `velocities` (N, 3), `cell` (3, 3) with rows as vectors.

    `energy_eV` is the one that the forces are the slope of (VASP: TOTEN). `target_K` is the thermostat's,
    `kinetic_K` the instantaneous temperature, NaN where the source says none; `step` -1 likewise. `proven` is
    False where a number is missing that would tell whether the SCF converged.
    """

    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    energy_eV: float
    forces: NDArray[np.float64]
    velocities: NDArray[np.float64] | None = None
    step: int = -1
    target_K: float = float("nan")
    kinetic_K: float = float("nan")
    stress: bool = False
    proven: bool = True


@dataclass(frozen=True)
class Batch:
    """F frames of the same N atoms, as arrays: (F, N, 3), cells (F, 3, 3), the rest (F,)."""

    species: tuple[str, ...]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    energies_eV: NDArray[np.float64]
    forces: NDArray[np.float64]
    velocities: NDArray[np.float64] | None
    steps: NDArray[np.int64]
    target_K: NDArray[np.float64]
    kinetic_K: NDArray[np.float64]
    stress: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.energies_eV)

    def select(self, chosen: NDArray[np.bool_]) -> Batch:
        """The frames that a mask picks."""
        return Batch(
            species=self.species,
            positions=self.positions[chosen],
            cells=self.cells[chosen],
            energies_eV=self.energies_eV[chosen],
            forces=self.forces[chosen],
            velocities=None if self.velocities is None else self.velocities[chosen],
            steps=self.steps[chosen],
            target_K=self.target_K[chosen],
            kinetic_K=self.kinetic_K[chosen],
            stress=self.stress[chosen],
        )


@dataclass
class Source:
    """A run of somebody's: what it says of itself (None: it does not say), and its frames.

    `batches` can be gone through once; `refused` (frames by reason) and `unproven` (frames that were taken
    though a number is missing that would tell whether their SCF converged) are whole when that has been done.
    `convergence_known` is False for formats that do not say whether the SCF converged.
    """

    path: Path
    format: str
    engine: str | None = None
    engine_version: str | None = None
    level: Level = field(default_factory=Level)
    timestep_fs: float | None = None
    thermostat: str | None = None
    convergence_known: bool = True
    files: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    unproven: int = 0
    batches: Iterator[Batch] = field(default_factory=lambda: iter(()), repr=False)

    @property
    def functional(self) -> str | None:
        """Exchange and correlation of its level of theory."""
        return self.level.functional

    @property
    def basis(self) -> str | None:
        """Basis set or cut-off of its level of theory."""
        return self.level.basis

    def accepts(self, converged: bool | None, *, doubtful: bool = False) -> bool:
        """Whether a frame may be taken, by whether its SCF converged; what is refused is counted.

        None, not known, is no reason to refuse, unless it is `doubtful`: the SCF used up its steps.
        """
        if converged or (converged is None and not doubtful):
            return True
        self.refused[UNCONVERGED if converged is False else NOT_KNOWN] += 1
        return False


def frames_per_batch(n_atoms: int) -> int:
    """How many frames a batch holds."""
    return max(1, ATOMS_PER_BATCH // max(1, n_atoms))


def collect(frames: Iterable[tuple[tuple[str, ...], Snapshot]], source: Source) -> Iterator[Batch]:
    """Batches of consecutive frames that have the same atoms; frames that are not finite are refused."""
    waiting: list[Snapshot] = []
    species: tuple[str, ...] = ()
    for atoms, frame in frames:
        if waiting and (
            atoms != species
            or len(waiting) == frames_per_batch(len(species))
            or (waiting[0].velocities is None) != (frame.velocities is None)
        ):
            yield _batch(species, waiting)
            waiting = []
        # One sum is finite if all its terms are (or, at worst, cancel: inf - inf is NaN).
        total = frame.energy_eV + frame.forces.sum() + frame.positions.sum() + frame.cell.sum()
        total += 0.0 if frame.velocities is None else frame.velocities.sum()
        if not np.isfinite(total):
            source.refused[UNREADABLE] += 1
            continue
        source.unproven += not frame.proven
        species = atoms
        waiting.append(frame)
    if waiting:
        yield _batch(species, waiting)


def _batch(species: tuple[str, ...], frames: list[Snapshot]) -> Batch:
    velocities = [frame.velocities for frame in frames if frame.velocities is not None]
    return Batch(
        species=species,
        positions=np.array([frame.positions for frame in frames]),
        cells=np.array([frame.cell for frame in frames]),
        energies_eV=np.array([frame.energy_eV for frame in frames]),
        forces=np.array([frame.forces for frame in frames]),
        velocities=np.array(velocities) if velocities else None,
        steps=np.array([frame.step for frame in frames], dtype=np.int64),
        target_K=np.array([frame.target_K for frame in frames]),
        kinetic_K=np.array([frame.kinetic_K for frame in frames]),
        stress=np.array([frame.stress for frame in frames]),
    )


def refuse_second_run(path: Path, found: bool) -> None:
    """Refuse files that were joined: what stands at the head of the first run is not so of the second.

    Raises:
        SuiteError: a second run was found.
    """
    if found:
        raise SuiteError(
            f"{path}: found a second run in the file, expected one: give each run a file of its own"
        )


# Files --------------------------------------------------------------------------------------------


def stem(path: Path) -> str:
    """A file's name without a compression's ending."""
    return path.name.removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2")


def atom_count(line: bytes) -> int | None:
    """The number of atoms that a line of its own gives, if it does."""
    word = line.strip()
    return int(word) if word.isdigit() and len(word) < 9 and int(word) > 0 else None


def numbers(text: bytes) -> NDArray[np.float64]:
    """All numbers of a text; ValueError if there is anything else in it."""
    return np.array(list(map(float, text.split())))
