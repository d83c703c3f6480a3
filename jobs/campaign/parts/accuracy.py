"""How good potentials are: held-out errors, the learning curve, and the native kernel beside DeePMD-kit."""

from __future__ import annotations

from typing import Any

from jobs.campaign.parts.potentials import Potentials
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import HDNNP, HDNNP_DATA, NNPS
from jobs.campaign.tier import DISPLAY_NAMES
from jobs.store.stage import Stage


def add_parity(campaign: Campaign, potentials: Potentials) -> None:
    """Held-out errors of every potential, and of BKS on the same frames."""
    if campaign.about.hdnnp and potentials.user_potential is None:
        _parity_of(HDNNP, potentials.dataset(HDNNP_DATA), campaign, potentials)
    dataset = {nnp: potentials.dataset(nnp) for nnp in NNPS}
    for nnp in NNPS:
        campaign.labels[f"parity-{nnp.removeprefix('deepmd-')}-bks"] = [
            Stage(
                "parity",
                f"held-out errors of BKS on frames of {DISPLAY_NAMES[nnp]}",
                {"potential": "bks"},
                inputs={"dataset": dataset[nnp]},
                core_seconds=5,
            )
        ]
        _parity_of(nnp, dataset[nnp], campaign, potentials)


def _parity_of(nnp: str, dataset: Stage, campaign: Campaign, potentials: Potentials) -> None:
    label = f"parity-{nnp.removeprefix('deepmd-')}"
    if label in campaign.unavailable:
        return
    campaign.labels[label] = [
        _held_out_errors(stage.parameters["name"], stage, dataset) for stage in potentials.of(nnp)
    ]


def add_kernels(campaign: Campaign, potentials: Potentials, *, md_runs: bool) -> None:
    """The comparison of the native kernel with DeePMD-kit, for every NNP whose MD it runs."""
    for nnp in NNPS:
        label = f"kernel-{nnp.removeprefix('deepmd-')}"
        if not md_runs:
            campaign.unavailable[label] = "trajectories are given, no MD runs"
            continue
        compared = [
            Stage(
                "kernel",
                f"native kernel of {stage.label} beside DeePMD-kit",
                {},
                seed=1,
                inputs={"potential": stage, "dataset": potentials.dataset(nnp)},
                core_seconds=10,
            )
            for stage in potentials.of(nnp)
            if stage.parameters.get("family", "deepmd") == "deepmd"
        ]
        if compared:
            campaign.labels[label] = compared
        else:
            campaign.unavailable[label] = "the potential is no deep potential"


def add_learning_curve(campaign: Campaign, potentials: Potentials) -> None:
    """DeePMD-96's held-out error by frames, and by precision and steps; one stage per point and seed.

    Every point is judged on the held-out frames of the whole dataset. The point with all frames and the
    tier's own settings is the tier's training itself. With fewer steps the learning rate falls faster,
    to the same end.
    """
    labels = ("learning-curve", "learning-curve-settings")
    about = campaign.about.learning_curve
    reason = None
    if about is None:
        reason = f"the {campaign.tier} tier trains no learning curve; reference, overnight and paper do"
    elif potentials.user_potential is not None:
        reason = potentials.judged_instead
    else:
        reason = potentials.why_given
    if about is None or reason is not None:
        campaign.unavailable |= dict.fromkeys(labels, str(reason))
        return
    own = campaign.about.training
    shorter = [
        {"steps": n, "decay_steps": max(1, round(own.decay_steps * n / own.steps))}
        for n in sorted(about.steps)
        if n != own.steps
    ]
    # Precisions are compared at the shortest length, where float64 is affordable.
    shortest = shorter[0] if shorter else {}
    others = shorter + [{"precision": p} | shortest for p in about.precisions if p != own.precision]
    points: dict[str, list[tuple[float, dict[str, Any]]]] = {
        "learning-curve": [(float(share), {}) for share in about.shares],
        "learning-curve-settings": [(1.0, settings) for settings in ({}, *others)],
    }
    for label, of_label in points.items():
        campaign.labels[label] = [
            _held_out_errors(trained.label.removeprefix("train "), trained, potentials.dataset("deepmd-96"))
            for share, settings in of_label
            for seed in about.seeds
            for trained in [potentials.trained("deepmd-96", seed, share=share, **settings)]
        ]


def _held_out_errors(name: str, potential: Stage, dataset: Stage) -> Stage:
    return Stage(
        "parity",
        f"held-out errors of {name}",
        {},
        inputs={"dataset": dataset, "potential": potential},
        core_seconds=5,
    )
