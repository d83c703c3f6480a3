"""How the potentials were made: data, starts, iteration, and the other descriptor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from suite.claims import fig1_rdf, fig2_badf, fig3_glass, pairs
from suite.claims.fig1_rdf import rdf_reader, rdf_square
from suite.judging.against_aimd import by_draw, require_runs
from suite.judging.checks import Check
from suite.judging.curves import beyond_a_third, common, difference, root_of
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import (
    Array,
    Estimate,
    Groups,
    difference_of_shares,
    estimate,
    estimate_mean,
    mean_of,
)


@claim("inherited")
def inherited(check: Check, evidence: Evidence) -> Estimate:
    """How far AIMD from NNP starts is from AIMD from BKS starts, beside how far NNP is from BKS."""
    size, pair = check["size"], check["pair"]
    starts = {name: evidence.observables(f"reference-{size}-{name}") for name in ("nnp", "bks")}
    require_runs({f"reference-{size}-{name}": runs for name, runs in starts.items()})
    ours = evidence.observables(f"liquid-{size}-nvt")[0].facts["potential"]
    if not ours.startswith("DeePMD-"):
        raise NotTested(f"AIMD was not started from {ours}: how far that is from BKS is no measure of it")
    made_by = {
        name: evidence.observables(f"liquid-{size}-{end}") for name, end in (("nnp", "nvt"), ("bks", "bks"))
    }
    curves = common(*(rdf_reader(pair)(runs) for runs in (*starts.values(), *made_by.values())))
    one, other, nnp, bks = (part.shares for part in curves)
    square = rdf_square(nnp.x)
    if difference(square, nnp, bks).ci_low <= 0:
        raise NotTested("the two potentials' g(r) are not known to differ: AIMD may have nothing to forget")
    from_nnp, from_bks = by_draw(one.groups, starts["nnp"]), by_draw(other.groups, starts["bks"])
    return beyond_a_third(square, from_nnp, from_bks, far=nnp.groups, reference=bks.groups)


def _force_squares(seeds: Sequence[Observation]) -> Array:
    """Sums of squared force errors, (seeds, frames)."""
    errors = [((seed["forces_predicted"] - seed["forces_reference"]) ** 2).sum(axis=1) for seed in seeds]
    return np.array(
        [
            np.bincount(seed["frame"], weights=error, minlength=len(seed["melt"]))
            for seed, error in zip(seeds, errors, strict=True)
        ]
    )


@claim("small-data")
def small_data(check: Check, evidence: Evidence) -> Estimate:
    """How much the last doubling of the training data lowered the error, on the same held-out frames.

    Units are melts and seeds. Each seed has its own draw of the training frames; seeds are averaged frame by
    frame. An unfinished training gains nothing from more data, so halving the steps must not change the error
    by more than halving the data may.
    """
    half, whole = _last_doubling(evidence.heldout("learning-curve"), "train_frames", "data")
    precision = whole[0].facts["precision"]
    settings = evidence.heldout("learning-curve-settings")
    shorter, longer = _last_doubling(
        [one for one in settings if one.facts["precision"] == precision], "steps", "steps"
    )

    def per_seed(of_frames: Array) -> list[Array]:
        """Each training's share of the mean square error; each training is a unit."""
        totals = of_frames.sum(axis=1)
        return [np.array([total]) for total in totals / totals.mean()]

    if (fewest := min(len(half), len(whole))) < 2:
        raise NotTested(f"{fewest} training of a size: how far trainings differ is not known, two are needed")
    by_steps = math.sqrt(
        float(_force_squares(shorter).mean(axis=0).sum() / _force_squares(longer).mean(axis=0).sum())
    )
    most = check.band[1] or math.inf
    if by_steps > most:
        raise NotTested(
            f"half the steps leave {by_steps:.2f} times the force error, band {most:g}: the training is not "
            "at its end and would hide what data bring"
        )
    melt = np.asarray(whole[0]["melt"])
    half_squares, whole_squares = _force_squares(half), _force_squares(whole)
    table = np.stack([half_squares.mean(axis=0), whole_squares.mean(axis=0)], axis=1)

    def ratio(samples: Mapping[str, Groups]) -> float:
        few, all_of_them = mean_of(samples["melts"])
        return math.sqrt(few * mean_of(samples["half"]) / (all_of_them * mean_of(samples["whole"])))

    melts = [table[melt == name] for name in np.unique(melt)]
    seeds = {"half": per_seed(half_squares), "whole": per_seed(whole_squares)}
    return estimate(ratio, {"melts": melts, **seeds})


def _last_doubling(
    points: Sequence[Observation], key: str, what: str
) -> tuple[list[Observation], list[Observation]]:
    """The points of a curve with about half the most of `key`, and those with the most."""
    ladder: dict[int, list[Observation]] = {}
    for point in points:
        ladder.setdefault(point.facts[key], []).append(point)
    halves = [value for value in ladder if value <= max(ladder) / 1.8]
    if not halves:
        raise NotTested(f"the learning curve has no point at half its {what}")
    return ladder[max(halves)], ladder[max(ladder)]


@claim("iterate")
def iterate(check: Check, evidence: Evidence) -> Estimate:
    """DeePMD-216 (the child) against DeePMD-96 (its parent), as compared under Figs. 1, 2 and 3."""
    if check.measure == "paired-vaf":
        return pairs.vaf_almost_the_same(check["species"], evidence)
    shared = {
        "glass-216-better": fig3_glass.glass_216_better,
        "rdf-96-216": fig1_rdf.rdf_96_216,
        "badf-96-216": fig2_badf.badf_96_216,
    }
    return shared[check.same_as.split("/")[0]](check, evidence)


@claim("n2p2-same")
def n2p2_same(check: Check, evidence: Evidence) -> Estimate:
    """A symmetry-function potential's liquid and its held-out errors against DeePMD-96's."""
    if check.measure == "forces":
        seeds = {"hdnnp": evidence.heldout("parity-hdnnp-96"), "deepmd": evidence.heldout("parity-96")}
        melt = np.asarray(seeds["deepmd"][0]["melt"])
        table = np.stack([_force_squares(of_one).mean(axis=0) for of_one in seeds.values()], axis=1)
        melts = [table[melt == name] for name in np.unique(melt)]
        return estimate(lambda s: math.sqrt(np.divide(*mean_of(s["melts"]))), {"melts": melts})
    pair = check["pair"]
    labels = ("liquid-96-hdnnp", "liquid-96-nvt")
    other, ours = common(*(rdf_reader(pair)(evidence.observables(label)) for label in labels))
    return root_of(rdf_square(ours.x), other.shares, ours.shares)


@claim("n2p2-stability")
def n2p2_stability(check: Check, evidence: Evidence) -> Estimate:
    """How many more runs broke than with DeePMD, and how often the other runs left the range of the data."""
    kelvin = check["kelvin"]
    theirs = evidence.observables(f"stability-hdnnp@{kelvin}")
    if check.measure == "warnings":
        whole = [run.facts["extrapolation_warnings_per_step"] for run in theirs if not run.has_fused_atoms]
        if len(whole) < 2:
            raise NotTested(f"in {len(theirs) - len(whole)} of {len(theirs)} runs atoms fused")
        return estimate_mean([np.array([warnings]) for warnings in whole], counted=True)
    ours = evidence.observables(f"stability-deepmd@{kelvin}")
    return difference_of_shares(
        [run.has_fused_atoms for run in theirs], [run.has_fused_atoms for run in ours]
    )
