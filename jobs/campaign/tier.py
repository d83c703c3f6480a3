"""A tier: how much of everything, as a file of plain numbers that a person copies and edits.

`Tier` is the whole file, `jobs.campaign.sections` has its sections; below each key stands what it means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from jobs.base.errors import SuiteError
from jobs.base.schema import (
    Flag,
    Keys,
    OneOf,
    Positive,
    Text,
    names,
    read_model,
)
from jobs.campaign.sections import (
    HDNNP,
    NNPS,
    Again,
    Aimd,
    Cost,
    Dynamics,
    Hdnnp,
    LearningCurve,
    Melt,
    Moving,
    Name,
    Quenched,
    Run,
    Scheduled,
    Seeds,
    ShortAimd,
    Thinning,
    Training,
)
from jobs.engines.first_principles.registry import load_engine
from jobs.stages.motion.md import check_schedule
from jobs.stages.motion.quench import check_quench

TIERS = Path(__file__).parent / "tiers"
STARTS = ("trajectories", "potentials", "frames", "nothing")
DISPLAY_NAMES = {"deepmd-96": "DeePMD-96", "deepmd-216": "DeePMD-216", HDNNP: "HDNNP-96"}


class Tier(Keys):
    """How much of everything."""

    name: Name
    """Of its results' folder."""
    start_from: Annotated[str, OneOf(*STARTS)]
    """What is taken as given, where the command line does not say it."""
    density_g_cm3: Positive
    """Of all runs that do not say another."""
    seeds: Seeds
    """Of the trainings: each DeePMD potential is trained once with each."""
    deposit: Text | None = None
    """A deposit of one's own, relative to this file; as an absolute path once it is read."""
    frames: Annotated[dict[str, Thinning], names(only=NNPS, needed=NNPS)]
    """Deposited sets that each potential learns from: of each every n-th frame."""
    training: Training
    """Of DeePMD potentials."""
    hdnnp: Hdnnp | None = None
    """Of NNPs of the other kind."""
    learning_curve: LearningCurve | None = None
    """What more frames, steps or precision would bring."""
    md: Dynamics | None = None
    """What runs the MD of NNPs."""
    melt: Melt
    """What runs start from."""
    aimd: Aimd | None = None
    """What --start-from nothing computes."""
    cost: Cost | None = None
    """What MD costs."""
    paired: Flag = False
    """MD from a frame of each AIMD run with use judge."""
    runs: Annotated[dict[str, Run], names()]
    """By name; a run starts from the melt or from a run above it. Claims read products by these names."""

    @property
    def kernel(self) -> str | None:
        """The kernel that is demanded for MD of DeePMD potentials, or None."""
        return None if self.md is None else self.md.kernel

    @property
    def place(self) -> dict[str, str]:
        """The parameter that tells a stage of a deposit of one's own."""
        return {} if self.deposit is None else {"deposit": self.deposit}


def read_tier(tier: str) -> Tier:
    """A tier by name, or from the path of a file.

    Raises:
        SuiteError: no such tier, or something in it that no tier has.
    """
    path = Path(tier) if tier.endswith((".yml", ".yaml")) else TIERS / f"{tier}.yml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in TIERS.glob("*.yml")))
        raise SuiteError(f"tier {tier}: not found, expected one of {known}, or the path of a tier file")
    content = read_model(path, Tier)
    for label, run in content.runs.items():
        if isinstance(run, Again):
            continue
        _check_run(f"{path}: runs.{label}", run)
        if run.potential == HDNNP and content.hdnnp is None:
            raise SuiteError(f"{path}: runs.{label}: found {HDNNP}, expected a section hdnnp that trains it")
    if content.aimd is not None:
        _check_aimd(path, content, content.aimd)
    if content.deposit is not None:
        deposit = (path.parent / content.deposit).resolve()
        if not deposit.is_dir():
            raise SuiteError(f"{path}: deposit {deposit}: found no such folder, expected a deposit")
        content = content.model_copy(update={"deposit": str(deposit)})
    return content


def _check_run(where: str, run: Moving) -> None:
    """As its stage would find it, but before what the run starts from is made."""
    written = {"dump_every": run.dump_every, "thermo_every": run.thermo_every}
    try:
        if isinstance(run, Scheduled):
            check_schedule([steps for _, steps in run.schedule], ensemble=run.ensemble, **written)
        elif isinstance(run, Quenched):
            where += ".quench"
            check_quench(run.quench.model_dump() | written)
    except SuiteError as error:
        raise SuiteError(f"{where}.{error}") from None


def _check_aimd(path: Path, content: Tier, aimd: Aimd) -> None:
    """Settings must be the engine's; starts come from runs that do not need what is computed from them."""
    try:
        load_engine(aimd.engine).read_settings(aimd.settings)
    except SuiteError as error:
        raise SuiteError(f"{path}: aimd.settings: {error}") from None
    labels = list(content.runs)
    moved_by = [None if isinstance(run, Again) else run.potential for run in content.runs.values()]
    for nnp in NNPS:
        about = aimd.of(nnp)
        above = labels[: moved_by.index(nnp)] if nnp in moved_by else labels
        for label in about.starts if isinstance(about, ShortAimd) else ():
            if label not in above:
                raise SuiteError(
                    f"{path}: aimd.{nnp}.starts: found {label}, expected runs above the first of {nnp}"
                )
