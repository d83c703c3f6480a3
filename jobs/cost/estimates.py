"""Rough costs, for ordering stages and for --dry-run: seconds of one core of a 2020s server, and bytes."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.cost.speed import core_seconds_per_atom_step, kernel_here
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.lammps.kernel import NATIVE
from jobs.store.stage import Stage

CORE_SECONDS_PER_ATOM_STEP = {"bks": 6.0e-6, "tersoff": 2.0e-6, "hdnnp-96": 1.0e-5}
CORE_SECONDS_PER_TRAINING_STEP = {"float32": 0.022, "float64": 0.09}
CORE_SECONDS_PER_HDNNP_UPDATE = 0.1
TENSORFLOW_START_S = 12.0
LAMMPS_START_S = 0.5
# CP2K, 96 atoms: a step with md, a single point with default (docs/notes/first-principles-measured.md).
AIMD_STEP_S, LABEL_S = 15.0, 52.0


def production_steps(stage: Stage) -> float:
    """Steps of an MD run that are observed: of a quench its anneal, else the last segment."""
    if stage.kind == "quench":
        return float(stage.parameters["anneal_steps"])
    return float(stage.parameters["schedule"][-1]["steps"])


def network_md_core_seconds(atom_steps: float, *, kernel: str | None) -> float:
    """Rough cost of MD of an NNP on one core, by the kernel that will run it (None: the fastest)."""
    kernel = kernel or kernel_here()
    start_s = LAMMPS_START_S if kernel == NATIVE else TENSORFLOW_START_S
    return start_s + atom_steps * core_seconds_per_atom_step(kernel)


def disk_bytes(stage: Stage) -> float:
    """Rough size of a stage's product: trajectories (8 float64 values an atom and frame), else a MB."""
    if stage.kind in ("md", "quench"):
        frames = production_steps(stage) / stage.parameters["dump_every"]
        return float(64 * frames * stage.parameters["n_atoms"])
    return 1e6


def aimd_core_seconds(atoms: int) -> float:
    """Rough cost of one step of AIMD on one core, cubic in the number of atoms."""
    return AIMD_STEP_S * (atoms / 96) ** 3


def label_core_seconds(atoms: int) -> float:
    """The same of a single point, whose SCF starts from atoms."""
    return LABEL_S * (atoms / 96) ** 3


def beyond_aimd_estimate(stages: Iterable[Stage]) -> list[str]:
    """Why first-principles stages cost more than their estimates, a line for each reason."""
    aimd = [stage for stage in stages if stage.kind == "aimd"]
    timed = [named_settings("cp2k", name) for name in ("default", "md")]
    lines = []
    if any(s.parameters["engine"] != "cp2k" or s.parameters["settings"] not in timed for s in aimd):
        lines.append(
            "only CP2K with its settings default and md was timed: other first-principles stages are "
            "counted as if by it"
        )
    if any(stage.cores > 1 for stage in aimd):
        lines.append("first-principles stages of several cores are counted as if these scaled perfectly")
    return lines
