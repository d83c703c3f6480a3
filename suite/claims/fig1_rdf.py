"""Fig. 1: partial g(r) of the liquid at 3000 K."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from jobs.observables.rdf import PAIRS
from suite.judging.against_aimd import (
    NO_AIMD,
    aimd_reference,
    network_against_aimd,
    require_pair,
    require_seeds,
)
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
from suite.judging.distances import cramer_von_mises, peak
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, estimate, mean_of
from suite.judging.verdict import Band

# Where each first peak is looked for: between the shortest contact and the second shell. Si-Si starts
# above the 2.4 A of edge-sharing tetrahedra, a feature of its own.
PEAK_WINDOW = {"Si-O": (1.3, 2.0), "O-O": (2.2, 3.2), "Si-Si": (2.7, 3.6)}
PEAK_HALF_WIDTH = {"Si-O": 0.06, "O-O": 0.14, "Si-Si": 0.14}


def rdf_reader(pair: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the partial g(r) of a pair."""
    return lambda observations: read_curves(observations, "rdf_r", f"rdf_{pair}")


def rdf_square(x: Array) -> Square:
    """Squared Cramer-von Mises distance of two g(r) (their shares), 1 being as far as g = 1 everywhere."""
    return partial(cramer_von_mises, featureless=np.ones_like(x))


def peak_feature(pair: str, x: Array, groups: Groups) -> tuple[float, float]:
    """Position and height of the first peak of the mean g(r)."""
    return peak(x, mean_of(groups), window=PEAK_WINDOW[pair], half_width=PEAK_HALF_WIDTH[pair])


def feature_difference(measure: str, pair: str, x: Array) -> Distance:
    """How far apart two sets have the position, or relatively the height, of their first peak."""
    if measure == "first-peak-position":
        return lambda first, second: peak_feature(pair, x, first)[0] - peak_feature(pair, x, second)[0]
    return lambda first, second: peak_feature(pair, x, first)[1] / peak_feature(pair, x, second)[1] - 1


def apart(measure: str, pair: str) -> Difference:
    """The difference of two sets of curves that a check's `measure` names."""
    if measure == "curve":
        return lambda first, second: root_of(rdf_square(first.x), first.shares, second.shares)
    return lambda first, second: difference(feature_difference(measure, pair, first.x), first, second)


def rdf_reference(
    evidence: Evidence, *, size: int, pair: str, measure: str = "curve", band: Band | None = None
) -> Curves:
    """AIMD's g(r), valid where its starts agree on `measure` within `band`, by default rdf-nnp-aimd's."""
    return aimd_reference(
        evidence,
        size=size,
        unit="A" if measure == "first-peak-position" else "",
        read=rdf_reader(pair),
        start_difference=apart(measure, pair),
        band=band or band_of(f"rdf-nnp-aimd/{size}/{pair}/{measure}"),
        static=True,
    )


@claim("rdf-nnp-aimd")
def rdf_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The NNP against AIMD at equal N."""
    size, pair = check["size"], check["pair"]
    return network_against_aimd(
        check,
        evidence,
        size=size,
        read=rdf_reader(pair),
        apart=apart(check.measure, pair),
        aimd=rdf_reference(evidence, size=size, pair=pair, measure=check.measure),
    )


@claim("rdf-bks")
def rdf_bks(check: Check, evidence: Evidence) -> Estimate:
    """BKS against AIMD: the same peaks, but farther off than the NNP."""
    size, pair = check["size"], check["pair"]
    read = rdf_reader(pair)
    bks = read(evidence.observables(f"liquid-{size}-bks"))
    if check.measure == "first-peak-position":
        aimd = rdf_reference(evidence, size=size, pair=pair, measure=check.measure, band=check.band)
        return apart(check.measure, pair)(*common(bks, aimd))
    aimd = rdf_reference(evidence, size=size, pair=pair)
    curves = common(read(evidence.observables(f"liquid-{size}-nvt")), bks, aimd)
    nnp, bks, aimd = (part.shares for part in curves)
    return farther(rdf_square(bks.x), far=bks.groups, near=nnp.groups, reference=aimd.groups)


@claim("rdf-96-216")
def rdf_96_216(check: Check, evidence: Evidence) -> Estimate:
    """The two NNPs at equal N and volume, in units of BKS's distance from AIMD."""
    require_pair(evidence)
    if check.measure != "same":
        require_seeds(evidence, "train-96", "train-216")
    labels = {"96": "liquid-216-nvt-96", "216": "liquid-216-nvt", "bks": "liquid-216-bks"}
    samples: dict[str, dict[str, list[Array]]] = {}
    squares: dict[str, Square] = {}
    remark = ""
    for pair in (check["pair"],) if "pair" in check.values else PAIRS:
        models = [rdf_reader(pair)(evidence.observables(name)) for name in labels.values()]
        try:
            models.append(rdf_reference(evidence, size=216, pair=pair))
        except NotTested:
            if check.measure != "same":
                raise
            remark = NO_AIMD
        models = [part.shares for part in common(*models)]
        samples[pair] = {name: part.groups for name, part in zip((*labels, "aimd"), models, strict=False)}
        squares[pair] = rdf_square(models[0].x)

    def gain(pair: str, s: dict[str, Groups]) -> float:
        return squares[pair](s["96"], s["aimd"]) - squares[pair](s["216"], s["aimd"])

    if check.measure == "most-for-si-si":
        # The three curves of a run are one sample: side by side, so that they are thinned together.
        width = [samples[pair]["aimd"][0].shape[1] for pair in PAIRS]
        edges = np.cumsum([0, *width])
        joined = {
            name: [np.hstack(parts) for parts in zip(*(samples[pair][name] for pair in PAIRS), strict=True)]
            for name in ("96", "216", "aimd")
        }

        def advantage(s: dict[str, Groups]) -> float:
            gains = {
                pair: gain(pair, {name: [part[:, edges[i] : edges[i + 1]] for part in s[name]] for name in s})
                for i, pair in enumerate(PAIRS)
            }
            return gains["Si-Si"] - max(gains["Si-O"], gains["O-O"])

        return estimate(lambda s: advantage(dict(s)), joined, scatter_donors=("96", "216")).root()
    groups = samples[check["pair"]]
    square = squares[check["pair"]]
    if check.measure == "closer":
        return farther(square, far=groups["96"], near=groups["216"], reference=groups["aimd"])
    reference = groups.get("aimd", groups["216"])
    return beyond_a_third(
        square, groups["96"], groups["216"], far=groups["bks"], reference=reference
    ).with_remark(remark)


@claim("strong-interaction")
def strong_interaction(check: Check, evidence: Evidence) -> Estimate:
    """How high the first Si-O peak is, by itself and beside the others."""
    liquid = evidence.observables("liquid-216-nvt")
    curves = dict(zip(PAIRS, common(*(rdf_reader(pair)(liquid) for pair in PAIRS)), strict=True))
    joined = [np.hstack(parts) for parts in zip(*(curves[pair].groups for pair in PAIRS), strict=True)]
    x, width = curves["Si-O"].x, len(curves["Si-O"].x)

    def height(pair: str, groups: Groups) -> float:
        start = PAIRS.index(pair) * width
        return peak_feature(pair, x, [group[:, start : start + width] for group in groups])[1]

    def measured(s: Mapping[str, Groups]) -> float:
        found = height("Si-O", s["runs"])
        if check.measure == "si-o-ratio":
            return found / max(height(pair, s["runs"]) for pair in ("Si-Si", "O-O"))
        return found

    return estimate(measured, {"runs": joined})
