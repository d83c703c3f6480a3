"""What is timed: an engine, a number of atoms, and the setting that it runs with."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cost.record import HDNNP, NNP
from jobs.engines.lammps.kernel import NATIVE

COST_FILE = "cost.json"
# Atoms times steps of one launch: a second or two on two cores of a 2020s server, ten steps at least.
ATOM_STEPS = {NNP: 30_000, NATIVE: 600_000, HDNNP: 200_000, "bks": 200_000, "tersoff": 1_000_000}
GPU_SPEED = 30
LEAST_STEPS = 10
# Of a rank, as in the paper tier's runs: ranks of fewer atoms mostly talk to each other.
LEAST_ATOMS = 300


@dataclass(frozen=True)
class Point:
    """One thing that is timed.

    `setting` says what for: `tuned` (the suite's settings, which claims read), `plain` (DeePMD's plain
    default: one process with all cores as threads, float64, uncompressed, LAMMPS' own skin), `dumps` (tuned,
    writing a trajectory), `strong` and `weak` (scaling with ranks, one run alone). With `ranks` None runs of
    `ranks_of` ranks fill the cores.
    `kernel` says what runs an NNP: `deepmd` or `native`, of which precision and compression say nothing.
    HDNNP-96 runs on `native` only.
    """

    engine: str
    setting: str
    n_atoms: int
    precision: str | None = None
    compressed: bool | None = None
    ranks: int | None = None
    gpus: int = 0
    kernel: str | None = None

    @property
    def key(self) -> str:
        """File name of its launches."""
        ranks = f"-{self.ranks}" if self.ranks else ""
        program = self.engine + "-native" * (self.kernel == NATIVE)
        return f"{program}-{self.setting}-{self.n_atoms}{ranks}" + (f"-{self.gpus}gpu" * bool(self.gpus))

    @property
    def model(self) -> str:
        """Name of the model variant it runs."""
        if self.kernel == NATIVE:
            return f"{self.engine}-native"
        return f"{self.engine}-{self.precision}{'-compressed' * bool(self.compressed)}"

    @property
    def steps(self) -> int:
        """Timed steps of one launch."""
        kind = NATIVE if self.engine == NNP and self.kernel == NATIVE else self.engine
        budget = ATOM_STEPS[kind] * (GPU_SPEED if self.gpus else 1)
        return max(LEAST_STEPS, budget // self.n_atoms)


def ranks_of(n_atoms: int, cores: int) -> int:
    """Ranks of one run where runs side by side fill these cores, as MD stages do; a divisor of the cores."""
    most = min(cores, max(1, n_atoms // LEAST_ATOMS))
    return next(ranks for ranks in range(most, 0, -1) if cores % ranks == 0)
