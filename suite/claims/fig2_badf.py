"""Fig. 2: bond angles of the liquid at 3000 K, and how many neighbours its silicon has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from suite.judging.against_aimd import NO_AIMD, aimd_reference, network_against_aimd, require_pair
from suite.judging.checks import Check, band_of
from suite.judging.curves import (
    Curves,
    Difference,
    Distance,
    Square,
    beyond_a_third,
    common,
    difference,
    farther,
    read_curves,
    root_of,
)
from suite.judging.distances import cramer_von_mises, moments, peak, percent_not_fourfold
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, estimate, mean_of

# First maxima are looked for well beyond the tetrahedron's own angle on both sides.
MAXIMUM_WINDOW = {"O-Si-O": (80.0, 140.0), "O-O-O": (40.0, 85.0)}
MAXIMUM_HALF_WIDTH = 6.0


def badf_reader(angle: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the distribution of an angle."""
    return lambda observations: read_curves(observations, "angle_deg", f"badf_{angle}")


def coordination_groups(observations: Sequence[Observation]) -> list[Array]:
    """Numbers of silicon atoms by how many oxygens they have: of each run (blocks, coordinations)."""
    return [np.atleast_2d(observation["coordination_SiO"]) for observation in observations]


def badf_square(x: Array) -> Square:
    """Squared Cramer-von Mises distance of two angle distributions (shares), 1 being as far as chance."""
    return partial(cramer_von_mises, featureless=np.sin(np.radians(x)))


def moment_difference(measure: str, x: Array) -> Distance:
    """How far apart two sets have the mean, or the standard deviation, of an angle."""
    which = ("mean", "sd").index(measure)
    return lambda first, second: moments(x, mean_of(first))[which] - moments(x, mean_of(second))[which]


def apart(measure: str) -> Difference:
    """The difference of two sets of curves that a check's `measure` names."""
    if measure == "curve":
        return lambda first, second: root_of(badf_square(first.x), first.shares, second.shares)
    return lambda first, second: difference(moment_difference(measure, first.x), first, second)


def badf_reference(evidence: Evidence, *, size: int, angle: str, measure: str = "curve") -> Curves:
    """AIMD's distribution, valid where its starts agree on `measure` within the band of badf-nnp-aimd."""
    return aimd_reference(
        evidence,
        size=size,
        unit="deg" if measure in ("mean", "sd") else "",
        read=badf_reader(angle),
        start_difference=apart(measure),
        band=band_of(f"badf-nnp-aimd/{size}/{angle}/{measure}"),
        static=True,
    )


@claim("badf-nnp-aimd")
def badf_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The NNP against AIMD at equal N."""
    size, angle = check["size"], check["angle"]
    return network_against_aimd(
        check,
        evidence,
        size=size,
        read=badf_reader(angle),
        apart=apart(check.measure),
        aimd=badf_reference(evidence, size=size, angle=angle, measure=check.measure),
    )


@claim("badf-bks")
def badf_bks(check: Check, evidence: Evidence) -> Estimate:
    """BKS is farther from AIMD than the NNP."""
    size, angle = check["size"], check["angle"]
    aimd = badf_reference(evidence, size=size, angle=angle)
    read = badf_reader(angle)
    curves = common(
        read(evidence.observables(f"liquid-{size}-nvt")),
        read(evidence.observables(f"liquid-{size}-bks")),
        aimd,
    )
    nnp, bks, aimd = (part.shares for part in curves)
    return farther(badf_square(bks.x), far=bks.groups, near=nnp.groups, reference=aimd.groups)


@claim("badf-tetrahedron")
def badf_tetrahedron(check: Check, evidence: Evidence) -> Estimate:
    """Where the first maximum of an angle distribution lies."""
    angle = check["angle"]
    curves = badf_reader(angle)(evidence.observables(f"liquid-{check['size']}-nvt"))

    def maximum(groups: Sequence[Array]) -> float:
        window = MAXIMUM_WINDOW[angle]
        return peak(curves.x, mean_of(groups), window=window, half_width=MAXIMUM_HALF_WIDTH)[0]

    return estimate(lambda s: maximum(s["nnp"]), {"nnp": curves.groups})


@claim("badf-96-216")
def badf_96_216(check: Check, evidence: Evidence) -> Estimate:
    """The two NNPs at equal N and volume, in units of BKS's distance from AIMD."""
    require_pair(evidence)
    angle = check["angle"]
    labels = ("liquid-216-nvt-96", "liquid-216-nvt", "liquid-216-bks")
    models = [badf_reader(angle)(evidence.observables(name)) for name in labels]
    remark = ""
    try:
        models.append(badf_reference(evidence, size=216, angle=angle))
    except NotTested:
        remark = NO_AIMD
    parent, child, bks, *aimd = (part.shares for part in common(*models))
    reference = aimd[0] if aimd else child
    return beyond_a_third(
        badf_square(child.x), parent.groups, child.groups, far=bks.groups, reference=reference.groups
    ).with_remark(remark)


@claim("coordination-nnp-aimd")
def coordination_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The share of silicon that has not four oxygens, NNP less AIMD."""

    def read(observations: Sequence[Observation]) -> Curves:
        groups = coordination_groups(observations)
        return Curves(np.arange(float(groups[0].shape[1])), groups)

    def excess(first: Curves, second: Curves) -> Estimate:
        return difference(lambda a, b: percent_not_fourfold(a) - percent_not_fourfold(b), first, second)

    size = check["size"]
    aimd = aimd_reference(
        evidence, size=size, read=read, start_difference=excess, band=check.band, static=True, unit="%"
    )
    return network_against_aimd(check, evidence, size=size, read=read, apart=excess, aimd=aimd)
