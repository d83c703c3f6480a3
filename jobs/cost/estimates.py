"""Rough costs, for ordering stages and for --dry-run: seconds of one core of a 2020s server, and bytes."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.cost.speed import core_seconds_per_atom_step, kernel_here
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.lammps.kernel import NATIVE
from jobs.reference.sets import find_set
from jobs.store.stage import Stage

MD = ("md", "quench", "paired")
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


def atom_steps(stage: Stage) -> float:
    """Atoms times steps of an MD stage."""
    given = stage.parameters
    if stage.kind == "paired":
        return float(find_set(given["reference"]["set"], given).n_atoms * given["steps"])
    if stage.kind == "quench":
        cooling_fs = (given["from_K"] - given["to_K"]) / given["rate_K_per_s"] / 1e-15
        return float(given["n_atoms"] * (cooling_fs + given["anneal_steps"]))
    return float(given["n_atoms"] * sum(segment["steps"] for segment in given["schedule"]))


def _moved_by(stage: Stage) -> str:
    """What moves the atoms of an MD stage: `deepmd`, `lammps` (the user's own) or a key of the table."""
    if (potential := stage.inputs.get("potential")) is None:
        return str(stage.parameters.get("potential"))
    families = {"train": "deepmd", "train_hdnnp": "hdnnp"}
    family = str(potential.parameters.get("family", families.get(potential.kind)))
    return "hdnnp-96" if family == "hdnnp" else family


def speed_is_unknown(stage: Stage) -> bool:
    """Whether a stage is MD by LAMMPS commands of the user's; such potentials differ ten thousand times."""
    return stage.kind in MD and _moved_by(stage) == "lammps"


def md_core_seconds(stage: Stage, *, kernel: str | None = None) -> float:
    """Rough cost of an MD stage on one core; of an unknown speed, of its start only.

    `kernel` is what will run an NNP, if the stage wants none (None: what runs it here).
    """
    moved_by = _moved_by(stage)
    if moved_by == "lammps":
        return LAMMPS_START_S
    if moved_by != "deepmd":
        return LAMMPS_START_S + atom_steps(stage) * CORE_SECONDS_PER_ATOM_STEP[moved_by]
    kernel = stage.wanted_kernel or kernel or kernel_here()
    start_s = LAMMPS_START_S if kernel == NATIVE else TENSORFLOW_START_S
    return start_s + atom_steps(stage) * core_seconds_per_atom_step(kernel)


def not_counted(stages: Iterable[Stage]) -> list[str]:
    """What these stages compute that their estimates leave out, in a line."""
    own = [stage for stage in stages if speed_is_unknown(stage)]
    if not own:
        return []
    return [
        f"not counted: {sum(map(atom_steps, own)) / 1e6:.3g} million atom-steps of MD with "
        f"{own[0].inputs['potential'].parameters['name']}; multiply by its core-seconds per atom and step"
    ]


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
