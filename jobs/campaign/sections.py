"""The sections of a tier file: which keys they have; each is explained below its attribute."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Strict, StringConstraints, Tag

from jobs.base.schema import (
    FORM,
    Count,
    Counts,
    Expected,
    Flag,
    Keys,
    Number,
    OneOf,
    Positive,
    PositiveOrNull,
    Text,
    names,
)
from jobs.cost.record import AIMD, CLASSICAL, NNP
from jobs.cost.record import HDNNP as COST_HDNNP
from jobs.engines.deepmd.precision import PRECISIONS
from jobs.engines.first_principles.registry import ENGINES
from jobs.engines.lammps.kernel import KERNELS
from jobs.reference.trajectories import SPACING_FS
from jobs.stages.motion.md import THERMOSTATS

NNPS = ("deepmd-96", "deepmd-216")
# The other kind of NNP (Sec. II B), n2p2's, on the frames of the first.
HDNNP, HDNNP_DATA = "hdnnp-96", "deepmd-96"


def _different(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("two of one seed")
    return seeds


Name = Annotated[str, Strict(), StringConstraints(pattern=r"^\w[\w.-]*$"), Expected("a name for a folder")]
# Two NNPs of one seed are one NNP, and no second measurement.
Seeds = Annotated[
    list[Count],
    Field(min_length=1),
    AfterValidator(_different),
    Expected("a list of different positive integers"),
]
Atoms = Annotated[Count, Field(multiple_of=3), Expected("a multiple of 3 (SiO2)")]
Sizes = Annotated[
    list[Annotated[Count, Field(multiple_of=24)]], Field(min_length=1), Expected("a list of multiples of 24")
]
Kelvins = Annotated[list[Positive], Field(min_length=1), Expected("a list of temperatures in K")]
Fraction = Annotated[Number, Field(ge=0, lt=1), Expected("a number from 0 to below 1")]
Share = Annotated[Positive, Field(le=1)]
Precision = Annotated[str, OneOf(*PRECISIONS)]
Schedule = Annotated[list[tuple[Positive, Count]], Field(min_length=1), Expected("a list of [K, steps]")]
Copies = Annotated[list[Count], Field(min_length=3, max_length=3), Expected("three positive integers")]
Temperatures = Annotated[dict[str, Positive], names()]
Thinning = Annotated[dict[str, Count], names()]


class Training(Keys):
    """How a DeePMD potential is trained."""

    precision: Precision
    """Of its weights."""
    steps: Count
    """Of the optimiser; one batch each."""
    start_lr: Positive
    """Learning rate at the first step."""
    stop_lr: Positive
    """Learning rate at the last step; between the two it falls exponentially."""
    decay_steps: Count
    """Steps between two falls of the learning rate."""
    checkpoint_every: Count
    """Steps between two checkpoints that a killed training resumes from."""
    batch_size: Count = 1
    """Frames in a batch."""
    axis_neuron: Count = 4
    """Axis neurons of the descriptor."""
    type_one_side: Flag = False
    """Whether the embedding knows only the neighbour's species."""


class Hdnnp(Keys):
    """How NNPs of the other kind are trained (docs/hdnnp.md)."""

    seeds: Seeds
    """One NNP each."""
    updates: Count
    """Of the Kalman filter."""
    checkpoint_every: Count
    """Updates between two checkpoints that a killed training resumes from."""
    sampler_updates: Count | None = None
    """Of further NNPs, one for each seed: from every frame of deepmd-216, held-out ones too."""


class LearningCurve(Keys):
    """Trainings with fewer frames, fewer steps or another precision."""

    seeds: Seeds
    """One NNP each, at every point of the curve."""
    shares: Annotated[list[Share], Field(min_length=1), Expected("a list of numbers above 0, up to 1")]
    """Of the training frames."""
    precisions: Annotated[
        list[Precision], Field(min_length=1), Expected(f"a list of some of {', '.join(PRECISIONS)}")
    ]
    """Compared at the fewest steps, where float64 is affordable."""
    steps: Counts
    """Lengths of training."""


class Dynamics(Keys):
    """What runs the MD of NNPs."""

    kernel: Annotated[str, OneOf(*KERNELS)]
    """Demanded; without this section the fastest that can run."""


class Melt(Keys):
    """The melts that runs start from: each a random lattice, annealed with Tersoff's potential."""

    duration_ps: Positive
    """Of each anneal."""
    configurations: Count
    """How many melts."""
    temperature_K: Positive = 5000.0
    """Of the anneal."""
    timestep_fs: Positive = 1.0
    """Of its MD."""


class Observables(Keys):
    """How a run is observed, where it differs from the others."""

    skip_fraction: Fraction = 0.0
    """Of the production, not observed at its start."""
    blocks: Count = 8
    """Blocks that errors come from."""
    dynamics_max_fs: PositiveOrNull = 1000.0
    """Longest time lag of velocity autocorrelation; null: there is none, as where frames are far apart."""
    structure_factor: Flag = False
    """Whether S(q) is computed."""
    stretch: Positive = 1.0
    """Lengths are multiplied by it: a planted fault."""


class Again(Keys):
    """A run's trajectories, observed a second time in another way."""

    again: Text
    """Name of the run."""
    observables: Observables = Observables()
    """How it is observed this time."""


class Moving(Keys):
    """What every run that moves atoms has."""

    potential: Annotated[str, OneOf(*CLASSICAL, *NNPS, HDNNP)]
    """What moves the atoms."""
    start: Text
    """`melt`, or a run above."""
    replicas: Count
    """Runs, each from a start of its own."""
    atoms: Atoms | None = None
    """Of a start from the melt."""
    share_melts: Flag = False
    """Whether replicas beyond melt.configurations start from the first ones again."""
    replicate: Copies = [1, 1, 1]  # noqa: RUF012 - pydantic copies it
    """Copies of the start along each axis."""
    density_g_cm3: Positive | None = None
    """Instead of the tier's."""
    ranks: Count = 1
    """MPI ranks, and cores."""
    dump_every: Count = 10
    """Steps between two saved frames."""
    thermo_every: Count = 10
    """Steps between two lines of temperature, energy and pressure."""
    checkpoint_every: Count = 500
    """Steps between two checkpoints that a killed run resumes from."""
    deposit_every_fs: Positive = SPACING_FS
    """Least time between frames that `promote --trajectories` keeps."""
    observe: Flag = True
    """Whether it is a product that claims read; else it only starts others."""
    observables: Observables = Observables()
    """How it is observed."""


class Quench(Keys):
    """Cooling at a constant rate."""

    rate_K_per_s: Positive
    """Of cooling."""
    from_K: Positive
    """Where it begins."""
    to_K: Positive
    """Where it ends, and anneals."""
    switch_K: Positive
    """Where the time step changes."""
    timestep_above_fs: Positive
    """Above `switch_K`."""
    timestep_below_fs: Positive
    """Below `switch_K`."""
    anneal_steps: Count
    """At `to_K`; these are observed."""


class Quenched(Moving):
    """A run that makes a glass."""

    quench: Quench
    """How it is cooled."""


class Scheduled(Moving):
    """A run at one temperature after the other; the last segment is the production."""

    schedule: Schedule
    """Segments, each [temperature in K, steps]."""
    timestep_fs: Positive
    """Of its MD."""
    ensemble: Annotated[str, OneOf("nvt", "nve")] = "nvt"
    """Of the production."""
    thermostat: Annotated[str, OneOf(*THERMOSTATS)] = "nose-hoover"
    """The others are planted faults."""


def _form_of(**first_keys: str) -> Discriminator:
    """Which form a section has: the one whose first key it has."""

    def choose(found: Any) -> str | None:
        if not isinstance(found, dict):
            return FORM + next(iter(first_keys))  # which says that there are no keys
        return next((FORM + name for name, key in first_keys.items() if key in found), None)

    return Discriminator(
        choose,
        custom_error_type="keys",
        custom_error_message="found none of {keys}, expected one of them",
        custom_error_context={"keys": ", ".join(first_keys.values())},
    )


Run = Annotated[
    Annotated[Again, Tag(f"{FORM}again")]
    | Annotated[Quenched, Tag(f"{FORM}quenched")]
    | Annotated[Scheduled, Tag(f"{FORM}scheduled")],
    _form_of(again="again", quenched="quench", scheduled="schedule"),
]


class StepwiseAimd(Keys):
    """First-principles runs through falling temperatures, one from each configuration of the melt."""

    temperatures_K: Kelvins
    """Falling."""
    atoms: Atoms
    """Of the melt."""
    relaxation_steps: Count
    """At each temperature, before frames are collected."""
    collection_steps: Count
    """At each temperature; these are frames."""
    timestep_fs: Positive
    """Of its MD."""
    density_g_cm3: PositiveOrNull
    """The start is scaled to it; null: the melt's own, at zero pressure."""


class ShortAimd(Keys):
    """Short first-principles runs from states that a run saved."""

    starts: Temperatures
    """Runs of the tier, with the temperature in K of what starts from them."""
    configurations: Count
    """Starts from each run."""
    steps: Count
    """Of each run."""
    timestep_fs: Positive
    """Of its MD."""
    density_g_cm3: PositiveOrNull
    """The start is scaled to it; null: the run's own."""


AimdOfNnp = Annotated[
    Annotated[StepwiseAimd, Tag(f"{FORM}stepwise")] | Annotated[ShortAimd, Tag(f"{FORM}short")],
    _form_of(stepwise="temperatures_K", short="starts"),
]


class Aimd(Keys):
    """First-principles data, with --start-from nothing."""

    engine: Annotated[str, OneOf(*ENGINES)] = "cp2k"
    """What computes them."""
    settings: Annotated[dict[str, Any], names()]
    """Of the engine: all names of one entry of settings.yml beside the engines."""
    cores: Count
    """Of each run."""
    deepmd_96: AimdOfNnp = Field(alias="deepmd-96")
    """What DeePMD-96 learns from."""
    deepmd_216: AimdOfNnp = Field(alias="deepmd-216")
    """What DeePMD-216 learns from."""

    def of(self, nnp: str) -> StepwiseAimd | ShortAimd:
        """What one of `NNPS` learns from."""
        return self.deepmd_96 if nnp == NNPS[0] else self.deepmd_216


class AimdCost(Keys):
    """Timed first-principles MD."""

    sizes: Sizes
    """Numbers of atoms."""
    steps: Count
    """Of each."""


class Cost(Keys):
    """A small measurement of what MD costs."""

    launches: Count
    """Samples of each point."""
    sizes: Annotated[dict[str, Sizes], names(only=(NNP, COST_HDNNP, *CLASSICAL))]
    """Numbers of atoms by engine."""
    plain: Sizes | None = None
    """Of DeePMD as it comes: one process, float64, uncompressed."""
    aimd: Annotated[dict[str, AimdCost], names(only=AIMD)] | None = None
    """By engine."""
