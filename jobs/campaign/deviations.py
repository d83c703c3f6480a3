"""How a campaign departs from the paper's protocol; the lines are shown beside its results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobs.campaign.plan import Campaign
from jobs.campaign.sections import HDNNP, NNPS
from jobs.campaign.tier import DISPLAY_NAMES
from jobs.cost.estimates import production_steps
from jobs.reference.paper import Stated
from jobs.reference.potentials import deposited_model
from jobs.reference.sets import DepositedSet
from jobs.reference.trajectories import SPACING_FS, ThinTrajectory

Frames = Mapping[str, Sequence[DepositedSet]]
OTHER_ENGINES = {
    "cp2k": "CP2K (GTH, DZVP-MOLOPT-SR)",
    "espresso": "Quantum ESPRESSO (ultrasoft pseudopotentials, CSVR)",
}
# Chosen in reference/paper.yml (training-steps, kalman-filter): the paper does not say.
PAPER_TRAINING_STEPS, PAPER_UPDATES = 1_000_000, 10_000
_OVERFITTED_RUN = "-overfitted #"


def deviations(
    campaign: Campaign,
    protocol: Mapping[str, Mapping[str, Stated]],
    *,
    frames: Frames,
    datasets: Mapping[str, str],
    reference_levels: Sequence[tuple[str, ...]],
    given: Mapping[str, ThinTrajectory],
    given_pairs: Mapping[str, ThinTrajectory],
    user_potential: Path | None,
) -> Iterator[str]:
    """A line for each departure.

    Args:
        campaign: with all its runs.
        protocol: the paper's.
        frames: deposited sets that the tier trains each potential on; none where all is computed.
        datasets: name of the dataset stage of each potential.
        reference_levels: levels of theory of the AIMD references.
        given: deposited trajectories, where they are observed in place of new ones.
        given_pairs: those that start from frames of AIMD.
        user_potential: what replaces both of the paper's potentials.
    """
    if user_potential is not None:
        yield f"{user_potential.name} stands in the place of both potentials"
    elif campaign.potentials_given:
        yield from _of_deposited_potentials(frames, datasets)
    else:
        yield from _of_training(campaign, frames)
    if given:
        yield from _of_given_trajectories(given, given_pairs)
    yield from _of_levels(campaign, frames, reference_levels, user_potential)
    for label, steps in (
        ("liquid-96-nvt", "steps_of_DeePMD-96"),
        ("liquid-216-nvt", "steps_of_DeePMD-216"),
    ):
        if label in campaign.runs:
            own, replicas = production_steps(campaign.runs[label][0]), len(campaign.runs[label])
            paper = protocol["II.C liquid"][steps].value
            if own * replicas < paper:
                yield f"{label}: {replicas} x {own:.0f} steps in place of {paper}"
    printed_fs = protocol["II.C liquid"]["timestep"].value
    for label, stages in campaign.runs.items():
        own_fs = stages[0].parameters.get("timestep_fs")
        if label in campaign.labels and stages[0].kind == "md" and own_fs != printed_fs:
            yield f"{label}: steps of {own_fs:g} fs in place of {printed_fs:g}"
    if "vdos-2592" in campaign.runs:
        copies = math.prod(campaign.runs["vdos-2592"][0].parameters["replicate"])
        if copies > 1:
            yield f"vdos-2592: {copies} copies of one box, in place of a melt of 2592 atoms"
    for label, atoms in (("glass-96", "atoms_of_DeePMD-96"), ("glass-216", "atoms_of_DeePMD-216")):
        paper = protocol["II.C glass"][atoms].value
        if label not in campaign.runs:
            yield f"{label}: no quench at this tier"
            continue
        quench = campaign.runs[label][0].parameters
        if quench["n_atoms"] != paper:
            yield f"{label}: {quench['n_atoms']} atoms in place of {paper}"
        printed = protocol["II.C glass"]["cooling_rate"].value
        if quench["rate_K_per_s"] != printed:
            yield f"{label}: {quench['rate_K_per_s']:.0e} K/s in place of {printed:.0e} K/s"
    yield "liquids start from BKS ones (the paper does not say); short runs keep part of their bond network"


def _of_deposited_potentials(frames: Frames, datasets: Mapping[str, str]) -> Iterator[str]:
    for nnp in NNPS:
        _, record = deposited_model(nnp)
        known = record["dataset"] == datasets[nnp]
        yield (
            f"{DISPLAY_NAMES[nnp]} is the deposited one, of the {record['tier']} tier: 1 seed, "
            f"{record['train_frames']} frames{f' by {_programs(frames[nnp])}' if known else ''}, "
            f"{record['precision']}, {record['steps']} training steps in place of our {PAPER_TRAINING_STEPS}"
        )


def _of_given_trajectories(
    given: Mapping[str, ThinTrajectory], pairs: Mapping[str, ThinTrajectory]
) -> Iterator[str]:
    days = sorted({thin.finished[:10] for thin in given.values()})
    yield (
        f"MD is deposited, of {' to '.join(sorted({days[0], days[-1]}))}, thinned to frames "
        f"{SPACING_FS:g} fs or more apart"
    )
    deposited = {record["name"]: record["sha256"] for _, record in map(deposited_model, (*NNPS, HDNNP))}
    # The potential of a planted fault has that name and is another one.
    honest = [thin for label, thin in pairs.items() if _OVERFITTED_RUN not in label]
    moved_by = {model for thin in (*given.values(), *honest) for model in thin.models.items()}
    for name in sorted({name for name, sha256 in moved_by if deposited.get(name) != sha256}):
        yield f"deposited MD is by another {name} than the deposited one"


def _of_training(campaign: Campaign, frames: Frames) -> Iterator[str]:
    if campaign.start_from == "frames":
        count = sum(found.frames for found in frames["deepmd-96"])
        yield (
            f"trained on frames by {_programs(frames['deepmd-96'])}, {count} deposited, in place of VASP and "
            "350 000"
        )
        densities = sorted(
            {density for found in frames["deepmd-96"] for density in found.facts["densities_g_cm3"]}
        )
        drawn = sum(found.frames for found in frames["deepmd-96"] if found.facts["start"] == "nnp")
        yield (
            f"frames of DeePMD-96 are of {' and '.join(f'{one:g}' for one in densities)} g/cm3, {drawn} of "
            f"{count} drawn by an earlier NNP, in place of AIMD of melts at zero pressure"
        )
        by_size: Counter[int] = Counter()
        for found in frames["deepmd-216"]:
            by_size[found.n_atoms] += found.frames
        if lent := by_size.total() - by_size[216]:
            yield (
                f"DeePMD-216 learns from {by_size[216]} frames of 216 atoms, in place of 30 000, "
                f"and {lent} of other sizes"
            )
    elif (aimd := campaign.about.aimd) is not None and aimd.engine != "vasp":
        made_by = OTHER_ENGINES.get(aimd.engine, aimd.engine)
        yield f"first-principles data by {made_by} in place of VASP (PAW, 500 eV)"
    training = campaign.about.training
    if training.precision != "float64":
        yield f"NNPs in {training.precision}"
    if training.steps < PAPER_TRAINING_STEPS:
        yield f"{training.steps} training steps in place of our {PAPER_TRAINING_STEPS}"
    yield f"{len(campaign.about.seeds)} training seed(s); the paper does not say"


def _of_levels(
    campaign: Campaign,
    frames: Frames,
    reference_levels: Sequence[tuple[str, ...]],
    user_potential: Path | None,
) -> Iterator[str]:
    """The AIMD references whose level of theory differs from that of the training data."""
    references = [" ".join(level) for level in reference_levels]
    if campaign.start_from == "nothing":
        yield from (f"the AIMD reference is deposited, by {level}" for level in references)
        return
    learnt = sorted({" ".join(found.level) for sets in frames.values() for found in sets})
    if user_potential is not None:
        yield (
            f"what {user_potential.name} learned from is not known: held-out frames are by "
            f"{' and '.join(learnt)}{', the AIMD reference by ' * bool(references)}{' and '.join(references)}"
        )
        return
    for level in references:
        if level not in learnt:
            yield f"the AIMD reference is by {level}, the training frames are by {' and '.join(learnt)}"


def _programs(sets: Sequence[DepositedSet]) -> str:
    return ", ".join(sorted({f"{found.facts['engine']} {found.facts['functional']}" for found in sets}))


def short_training(campaign: Campaign) -> dict[str, str]:
    """Of NNPs (`96`, `216`, `hdnnp`) that train less than at the paper tier, how long they train."""
    given, about = campaign.potentials_given, campaign.about
    lengths = {
        nnp.removeprefix("deepmd-"): (
            deposited_model(nnp)[1]["steps"] if given else about.training.steps,
            PAPER_TRAINING_STEPS,
            "steps",
        )
        for nnp in NNPS
    }
    if given:
        lengths["hdnnp"] = deposited_model(HDNNP)[1]["steps"], PAPER_UPDATES, "updates"
    elif about.hdnnp is not None:
        lengths["hdnnp"] = about.hdnnp.updates, PAPER_UPDATES, "updates"
    return {
        nnp: f"{count} {unit} in place of our {most}; the paper does not say how many"
        for nnp, (count, most, unit) in lengths.items()
        if count < most
    }
