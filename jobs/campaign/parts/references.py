"""What claims compare with: which deposited AIMD is a reference, and the reweighted single points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobs.base.errors import SuiteError
from jobs.campaign.parts.observing import observe_parameters
from jobs.campaign.tier import Tier
from jobs.reference.potentials import deposited_model, imported_potential
from jobs.reference.sets import (
    DEPOSIT,
    READ_REFERENCES,
    DepositedSet,
    deposit_root,
    list_sets,
)
from jobs.store.stage import Stage

SIZES = (96, 216)


@dataclass
class References:
    """Stages by product, reasons for missing products, and the levels of theory of the AIMD references."""

    labels: dict[str, list[Stage]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    levels: set[tuple[str, ...]] = field(default_factory=set)


def plan_references(about: Tier) -> References:
    """The deposited references of a tier.

    AIMD in the user's own `deposit` replaces the project's of the same size and start. The project's other
    references of that size are used too only if their level of theory is the same: levels differ by more than
    starts do.
    """
    references = References()
    root = deposit_root(about.place)
    own = [] if root == DEPOSIT else [found for found in list_sets(root=root) if found.kind == "trajectory"]
    given = {_label(found) for found in own}
    theirs = list_sets()
    for found in own:
        _add_trajectories(references, found, about.place)
    for found in theirs:
        if found.kind == "trajectory" and _label(found) not in given and _is_of_the_level(found, own):
            _add_trajectories(references, found, {})
    _add_reweighted(references, [found for found in theirs if found.sampler is not None], own)
    return references


def _label(found: DepositedSet) -> str:
    return found.reference_product if found.use == "judge" else "aimd-training"


def _is_of_the_level(found: DepositedSet, own: list[DepositedSet]) -> bool:
    """Whether a set of the project may be a reference beside the user's AIMD of its size."""
    levels = {
        one.level
        for one in own
        if one.use == "judge" and one.n_atoms == found.n_atoms and one.reference_product in READ_REFERENCES
    }
    return found.use != "judge" or not levels or found.level in levels


def _add_trajectories(references: References, found: DepositedSet, place: dict[str, str]) -> None:
    if found.use == "judge":
        references.levels.add(found.level)
    for run in found.runs:
        parameters = observe_parameters()
        del parameters["skip_fraction"]
        parameters["skip_frames"] = run.unequilibrated_frames
        parameters["reference"] = {"set": found.name, "run": run.id, "sha256": found.sha256}
        references.labels.setdefault(_label(found), []).append(
            Stage("observe", f"observe AIMD {found.name} {run.id}", parameters | place, core_seconds=1)
        )


def _add_reweighted(references: References, drawn: list[DepositedSet], own: list[DepositedSet]) -> None:
    """Reweighted single points of a sampler: a reference that does not depend on a start, for each N."""
    unusable: dict[int, str] = {}  # by number of atoms, the last set that cannot be used and why
    usable: list[tuple[DepositedSet, Stage]] = []
    for found in drawn:
        assert found.sampler is not None
        if not _is_of_the_level(found, own):
            unusable[found.n_atoms] = f"{found.name} is not of the level of theory of the tier's own AIMD"
            continue
        try:
            path, record = deposited_model(found.sampler["model"])
        except SuiteError as error:
            unusable[found.n_atoms] = str(error)
            continue
        if record["sha256"] != found.sampler["sha256"]:
            unusable[found.n_atoms] = (
                f"{path}: no longer the sampler of {found.name}; keep a sampler under its own name"
            )
            continue
        usable.append((found, imported_potential(path, f"sampler {found.sampler['model']}")))
    for found, sampler in usable:
        stages = [_reweight(found, sampler, estimator="weights")]
        smaller = [
            other
            for other, its in usable
            if its.name == sampler.name
            and other.n_atoms < found.n_atoms
            and other.facts["temperatures_K"] == found.facts["temperatures_K"]
        ]
        if smaller:
            fewer = max(smaller, key=lambda other: other.frames)
            stages.append(_reweight(found, sampler, estimator="first-order", fewer=fewer))
        references.labels.setdefault(found.reweighted_product, []).extend(stages)
    for size in SIZES:
        if (label := f"reference-{size}-reweighted") not in references.labels:
            references.unavailable[label] = unusable.get(
                size,
                f"no single points of {size} atoms by a fixed sampler are deposited "
                "(python -m jobs deposit --sampler)",
            )


def _reweight(
    found: DepositedSet, sampler: Stage, *, estimator: str, fewer: DepositedSet | None = None
) -> Stage:
    observe = observe_parameters()
    bins = ("rdf_bin_angstrom", "angle_bin_degree", "angle_cutoffs_angstrom")
    parameters: dict[str, Any] = {"estimator": estimator, **{key: observe[key] for key in bins}}
    sets = {"reference": found} | ({"fewer": fewer} if fewer else {})
    parameters |= {key: {"set": one.name, "sha256": one.sha256} for key, one in sets.items()}
    title = f"reweight {found.name}, {estimator}"
    return Stage("reweight", title, parameters, inputs={"potential": sampler}, core_seconds=3 * len(sets))
