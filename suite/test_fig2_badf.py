"""Fig. 2: partial bond angle distributions of the liquid at 3000 K."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from suite.claims import Atom, Judge, band_of, claim
from suite.distances import moments, peak, wasserstein
from suite.evidence import Evidence, Observation
from suite.reference import (
    Curves,
    Distance,
    aimd_reference,
    beyond_a_third,
    common,
    difference,
    farther,
    judge_network,
    read_curves,
    require_pair,
)
from suite.statistics import Array, estimate, mean_of

# First maxima are looked for well beyond the tetrahedron's own angle on both sides.
MAXIMUM_WINDOW = {"O-Si-O": (80.0, 140.0), "O-O-O": (40.0, 85.0)}
MAXIMUM_HALF_WIDTH = 6.0


def badf_reader(angle: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the distribution of an angle."""
    return lambda observations: read_curves(observations, "angle_deg", f"badf_{angle}")


def badf_distance(x: Array) -> Distance:
    """Wasserstein distance of two angle distributions, 1 being as far as random directions are."""
    return lambda first, second: wasserstein(first, second, np.sin(np.radians(x)))


def measured(measure: str, x: Array) -> Distance:
    """The distance that an atom's `measure` names."""
    if measure in ("mean", "sd"):
        which = ("mean", "sd").index(measure)
        return lambda first, second: moments(x, mean_of(first))[which] - moments(x, mean_of(second))[which]
    return badf_distance(x)


def badf_reference(evidence: Evidence, *, size: int, angle: str, measure: str = "curve") -> Curves:
    """AIMD's distribution, valid where its starts agree on `measure` within the band of badf-nnp-aimd."""
    return aimd_reference(
        evidence,
        size=size,
        unit="deg" if measure in ("mean", "sd") else "",
        read=badf_reader(angle),
        start_difference=lambda a, b: difference(measured(measure, a.x), a, b),
        band=band_of(f"badf-nnp-aimd/{size}/{angle}/{measure}"),
        static=True,
    )


@claim("badf-nnp-aimd")
def test_badf_nnp_aimd(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """The network against AIMD at equal N."""
    size, angle = atom["size"], atom["angle"]
    judge_network(
        judge,
        atom,
        evidence,
        size=size,
        read=badf_reader(angle),
        apart=lambda model, aimd: difference(measured(atom.measure, aimd.x), model, aimd),
        aimd=badf_reference(evidence, size=size, angle=angle, measure=atom.measure),
    )


@claim("badf-bks")
def test_badf_bks(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """BKS is farther from AIMD than the network."""
    size, angle = atom["size"], atom["angle"]
    aimd = badf_reference(evidence, size=size, angle=angle)
    read = badf_reader(angle)
    nnp, bks, aimd = common(
        read(evidence.observables(f"liquid-{size}-nvt")),
        read(evidence.observables(f"liquid-{size}-bks")),
        aimd,
    )
    judge(farther(badf_distance(bks.x), far=bks.groups, near=nnp.groups, reference=aimd.groups))


@claim("badf-tetrahedron")
def test_badf_tetrahedron(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """Where the first maximum of an angle distribution lies."""
    angle = atom["angle"]
    curves = badf_reader(angle)(evidence.observables(f"liquid-{atom['size']}-nvt"))

    def maximum(groups: Sequence[Array]) -> float:
        window = MAXIMUM_WINDOW[angle]
        return peak(curves.x, mean_of(groups), window=window, half_width=MAXIMUM_HALF_WIDTH)[0]

    judge(estimate(lambda s: maximum(s["nnp"]), {"nnp": curves.groups}))


@claim("badf-96-216")
def test_badf_96_216(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """The two networks at equal N and volume, in units of what BKS misses."""
    require_pair(evidence)
    angle = atom["angle"]
    aimd = badf_reference(evidence, size=216, angle=angle)
    labels = ("liquid-216-nvt-96", "liquid-216-nvt", "liquid-216-bks")
    parent, child, bks, aimd = common(
        *(badf_reader(angle)(evidence.observables(name)) for name in labels), aimd
    )
    judge(
        beyond_a_third(
            badf_distance(aimd.x), parent.groups, child.groups, far=bks.groups, reference=aimd.groups
        )
    )
