"""Fig. 1: partial g(r) of the liquid at 3000 K."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from suite.claims import Atom, Judge, band_of, claim
from suite.distances import peak, wasserstein
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
    require_seeds,
)
from suite.statistics import Array, Groups, estimate, mean_of
from suite.verdict import Band

PAIRS = ("Si-Si", "Si-O", "O-O")
# Where each first peak is looked for: between the shortest contact and the second shell. Si-Si starts
# above the 2.4 A of edge-sharing tetrahedra, a feature of its own.
PEAK_WINDOW = {"Si-O": (1.3, 2.0), "O-O": (2.2, 3.2), "Si-Si": (2.7, 3.6)}
PEAK_HALF_WIDTH = {"Si-O": 0.06, "O-O": 0.14, "Si-Si": 0.14}


def rdf_reader(pair: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the partial g(r) of a pair."""
    return lambda observations: read_curves(observations, "rdf_r", f"rdf_{pair}")


def rdf_distance(x: Array) -> Distance:
    """Wasserstein distance of two g(r), 1 being as far as g = 1 everywhere."""
    return lambda first, second: wasserstein(first, second, np.ones_like(x))


def peak_feature(pair: str, x: Array, groups: Groups) -> tuple[float, float]:
    """Position and height of the first peak of the mean g(r)."""
    return peak(x, mean_of(groups), window=PEAK_WINDOW[pair], half_width=PEAK_HALF_WIDTH[pair])


def measured(measure: str, pair: str, x: Array) -> Distance:
    """The distance that an atom's `measure` names."""
    if measure == "first-peak-position":
        return lambda first, second: peak_feature(pair, x, first)[0] - peak_feature(pair, x, second)[0]
    if measure == "first-peak-height":
        return lambda first, second: peak_feature(pair, x, first)[1] / peak_feature(pair, x, second)[1] - 1
    return rdf_distance(x)


def rdf_reference(
    evidence: Evidence, *, size: int, pair: str, measure: str = "curve", band: Band | None = None
) -> Curves:
    """AIMD's g(r), valid where its starts agree on `measure` within `band`, by default rdf-nnp-aimd's."""
    return aimd_reference(
        evidence,
        size=size,
        unit="A" if measure == "first-peak-position" else "",
        read=rdf_reader(pair),
        start_difference=lambda a, b: difference(measured(measure, pair, a.x), a, b),
        band=band or band_of(f"rdf-nnp-aimd/{size}/{pair}/{measure}"),
        static=True,
    )


@claim("rdf-nnp-aimd")
def test_rdf_nnp_aimd(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """The network against AIMD at equal N."""
    size, pair = atom["size"], atom["pair"]
    judge_network(
        judge,
        atom,
        evidence,
        size=size,
        read=rdf_reader(pair),
        apart=lambda model, aimd: difference(measured(atom.measure, pair, aimd.x), model, aimd),
        aimd=rdf_reference(evidence, size=size, pair=pair, measure=atom.measure),
    )


@claim("rdf-bks")
def test_rdf_bks(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """BKS against AIMD: the same peaks, but farther off than the network."""
    size, pair = atom["size"], atom["pair"]
    read = rdf_reader(pair)
    bks = read(evidence.observables(f"liquid-{size}-bks"))
    if atom.measure == "first-peak-position":
        aimd = rdf_reference(evidence, size=size, pair=pair, measure=atom.measure, band=atom.band)
        bks, aimd = common(bks, aimd)
        judge(difference(measured(atom.measure, pair, bks.x), bks, aimd))
        return
    aimd = rdf_reference(evidence, size=size, pair=pair)
    nnp, bks, aimd = common(read(evidence.observables(f"liquid-{size}-nvt")), bks, aimd)
    judge(farther(rdf_distance(bks.x), far=bks.groups, near=nnp.groups, reference=aimd.groups))


@claim("rdf-96-216")
def test_rdf_96_216(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """The two networks at equal N and volume, in units of what BKS misses."""
    require_pair(evidence)
    if atom.measure != "same":
        require_seeds(evidence, "train-96", "train-216")
    labels = {"96": "liquid-216-nvt-96", "216": "liquid-216-nvt", "bks": "liquid-216-bks"}
    samples: dict[str, dict[str, list[Array]]] = {}
    distances: dict[str, Distance] = {}
    for pair in (atom["pair"],) if "pair" in atom.values else PAIRS:
        aimd = rdf_reference(evidence, size=216, pair=pair)
        *models, aimd = common(
            *(rdf_reader(pair)(evidence.observables(name)) for name in labels.values()), aimd
        )
        curves = dict(zip(labels, models, strict=True)) | {"aimd": aimd}
        samples[pair] = {name: part.groups for name, part in curves.items()}
        distances[pair] = rdf_distance(aimd.x)

    def gain(pair: str, s: dict[str, Groups]) -> float:
        return distances[pair](s["96"], s["aimd"]) - distances[pair](s["216"], s["aimd"])

    if atom.measure == "most-for-si-si":
        # The three curves of a run are one sample: side by side, so that they are thinned together.
        width = [samples[pair]["aimd"][0].shape[1] for pair in PAIRS]
        edges = np.cumsum([0, *width])
        joined = {
            name: [np.hstack(parts) for parts in zip(*(samples[pair][name] for pair in PAIRS), strict=True)]
            for name in samples[PAIRS[0]]
        }

        def advantage(s: dict[str, Groups]) -> float:
            gains = {
                pair: gain(pair, {name: [part[:, edges[i] : edges[i + 1]] for part in s[name]] for name in s})
                for i, pair in enumerate(PAIRS)
            }
            return gains["Si-Si"] - max(gains["Si-O"], gains["O-O"])

        judge(estimate(lambda s: advantage(dict(s)), joined, lenders=("96", "216")))
        return
    pair = atom["pair"]
    if atom.measure == "closer":
        groups = samples[pair]
        judge(farther(distances[pair], far=groups["96"], near=groups["216"], reference=groups["aimd"]))
        return
    groups = samples[pair]
    judge(
        beyond_a_third(
            distances[pair], groups["96"], groups["216"], far=groups["bks"], reference=groups["aimd"]
        )
    )
