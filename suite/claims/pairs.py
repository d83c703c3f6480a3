"""Figs. 1, 2, 4 and 5 at a fixed bond network: MD and AIMD from the same frames on, compared run by run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from jobs.observables.rdf import PAIRS
from suite.claims.fig1_rdf import feature_difference, rdf_reader
from suite.claims.fig2_badf import badf_reader, moment_difference
from suite.claims.fig4_vaf import spectral_window, vaf_reader, zero_ratio_on
from suite.claims.fig5_msd import log_msd_reader
from suite.judging.against_aimd import beside_bks
from suite.judging.checks import Check
from suite.judging.curves import Distance, Reader, Square
from suite.judging.distances import (
    mean_square,
    paired_cramer_von_mises,
    paired_differences,
    percent_not_fourfold,
    rooted,
    shares,
)
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence
from suite.judging.pairs import Paired, Sides, read_pairs, scalars
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, mean_of

Measured: TypeAlias = Callable[[Paired, str], Estimate]
SquareOnGrid: TypeAlias = Callable[[Array, Groups, Groups], float]
HEATED = 1.05  # as far as a run's temperature may be off (precondition/temperature)
MSD_FS = (20.0, 100.0)  # half of an AIMD run of 240 fs holds lags to 120 fs


def _distribution_reader(curve: str) -> Reader:
    return rdf_reader(curve) if curve in PAIRS else badf_reader(curve)


def _featureless(curve: str, x: Array) -> Array:
    return np.ones_like(x) if curve in PAIRS else np.sin(np.radians(x))


def _distribution_square(
    curve: str, x: Array, first: Groups, second: Groups, *, biased: bool = False
) -> float:
    return paired_cramer_von_mises(first, second, _featureless(curve, x), biased=biased)


def _curve_square(first: Groups, second: Groups, *, biased: bool = False) -> float:
    """Mean square difference of two curves as they are."""
    return mean_square(paired_differences(first, second), biased=biased)


def _square_on_any_grid(_: Array, first: Groups, second: Groups) -> float:
    return _curve_square(first, second)


def _root(pairs: Paired, side: str, square: Square) -> Estimate:
    """How far a side is from AIMD."""
    return rooted(
        pairs.estimate(lambda s: square(s[side], s["aimd"])),
        pairs.estimate(lambda s: math.sqrt(square(s[side], s["aimd"], biased=True))),
    )


def _network_against_aimd(
    check: Check, evidence: Evidence, *, size: int, read: Reader, measured: Measured
) -> Estimate:
    """How far the NNP is from AIMD. The remark says so where BKS would pass too."""

    def of(side: str) -> Estimate:
        return measured(read_pairs(evidence, size=size, sides=(side,), read=read), side)

    return beside_bks(check, of("nnp"), bks=lambda: of("bks") if f"paired-{size}-bks" in evidence else None)


def _distribution_against_aimd(
    check: Check, evidence: Evidence, curve: str, distance: Callable[[Array], Distance]
) -> Estimate:
    """How far the NNP's distribution is from AIMD's: as a curve, or in a number by `distance` on a grid."""

    def measured(pairs: Paired, side: str) -> Estimate:
        if check.measure == "curve":
            return _root(pairs.mapped(shares), side, partial(_distribution_square, curve, pairs.x))
        apart = distance(pairs.x)
        return pairs.estimate(lambda s: apart(s[side], s["aimd"]))

    return _network_against_aimd(
        check, evidence, size=check["size"], read=_distribution_reader(curve), measured=measured
    )


def _heat_of_bks(evidence: Evidence, size: int) -> str:
    """How hot BKS becomes: it starts from AIMD's frames, and relaxing to its own bonds gives heat."""
    bks, aimd = (
        np.mean([run["temperature_K"].mean() for run in evidence.observables(f"paired-{size}-{side}")])
        for side in ("bks", "aimd")
    )
    if bks < HEATED * aimd:
        return ""
    return f"BKS is at {bks:.0f} K here, AIMD at {aimd:.0f} K: part of its distance is heat"


def _bks_farther(
    evidence: Evidence,
    *,
    size: int,
    read: Reader,
    square: SquareOnGrid,
    of_shares: bool = False,
) -> Estimate:
    """How much farther BKS goes from AIMD than the NNP does."""

    def excess(x: Array, s: Sides) -> float:
        return square(x, s["bks"], s["aimd"]) - square(x, s["nnp"], s["aimd"])

    return _ranked(evidence, ("nnp", "bks"), excess, size=size, read=read, of_shares=of_shares)


def _almost_the_same(
    evidence: Evidence,
    *,
    size: int,
    read: Reader,
    square: SquareOnGrid,
    of_shares: bool = False,
) -> Estimate:
    """Whether the two NNPs are farther apart than a third of BKS's distance from AIMD."""
    if evidence.directories(f"paired-{size}-nnp") == evidence.directories(f"paired-{size}-other"):
        raise NotTested("one potential stands for both: there is nothing to compare")

    def excess(x: Array, s: Sides) -> float:
        return square(x, s["nnp"], s["other"]) - square(x, s["bks"], s["aimd"]) / 9

    return _ranked(evidence, ("nnp", "other", "bks"), excess, size=size, read=read, of_shares=of_shares)


def _ranked(
    evidence: Evidence,
    sides: tuple[str, ...],
    excess: Callable[[Array, Sides], float],
    *,
    size: int,
    read: Reader,
    of_shares: bool,
) -> Estimate:
    """The signed root of a difference of squared distances between sides, on their grid."""
    pairs = read_pairs(evidence, size=size, sides=sides, read=read)
    pairs = pairs.mapped(shares) if of_shares else pairs
    found = pairs.estimate(lambda s: excess(pairs.x, s))
    return found.root().with_remark(_heat_of_bks(evidence, size))


@claim("rdf-paired")
def rdf_paired(check: Check, evidence: Evidence) -> Estimate:
    """The NNP's g(r) against AIMD's."""
    pair = check["pair"]
    return _distribution_against_aimd(check, evidence, pair, partial(feature_difference, check.measure, pair))


@claim("rdf-bks-paired")
def rdf_bks_paired(check: Check, evidence: Evidence) -> Estimate:
    """BKS: the same peaks, but farther off than the NNP."""
    size, pair = check["size"], check["pair"]
    if check.measure == "farther":
        return _bks_farther(
            evidence,
            size=size,
            read=rdf_reader(pair),
            square=partial(_distribution_square, pair),
            of_shares=True,
        )
    pairs = read_pairs(evidence, size=size, sides=("bks",), read=rdf_reader(pair))
    apart = feature_difference(check.measure, pair, pairs.x)
    return pairs.estimate(lambda s: apart(s["bks"], s["aimd"])).with_remark(_heat_of_bks(evidence, size))


@claim("rdf-96-216-paired")
def rdf_96_216_paired(check: Check, evidence: Evidence) -> Estimate:
    """The two NNPs' distributions, in units of BKS's distance from AIMD."""
    curve = check["curve"]
    return _almost_the_same(
        evidence,
        size=check["size"],
        read=_distribution_reader(curve),
        square=partial(_distribution_square, curve),
        of_shares=True,
    )


@claim("badf-paired")
def badf_paired(check: Check, evidence: Evidence) -> Estimate:
    """The NNP's angles against AIMD's."""
    return _distribution_against_aimd(
        check, evidence, check["angle"], partial(moment_difference, check.measure)
    )


@claim("badf-bks-paired")
def badf_bks_paired(check: Check, evidence: Evidence) -> Estimate:
    """BKS's angles are farther off than the NNP's."""
    angle = check["angle"]
    return _bks_farther(
        evidence,
        size=check["size"],
        read=badf_reader(angle),
        square=partial(_distribution_square, angle),
        of_shares=True,
    )


@claim("coordination-paired")
def coordination_paired(check: Check, evidence: Evidence) -> Estimate:
    """The share of silicon that has not four oxygens."""
    read = scalars(lambda run: run["coordination_SiO"])
    pairs = read_pairs(evidence, size=check["size"], sides=("nnp",), read=read)
    return pairs.estimate(lambda s: percent_not_fourfold(s["nnp"]) - percent_not_fourfold(s["aimd"]))


@claim("vaf-paired")
def vaf_paired(check: Check, evidence: Evidence) -> Estimate:
    """The NNP's VAF against AIMD's."""

    def measured(pairs: Paired, side: str) -> Estimate:
        if check.measure == "first-zero":
            ratio = zero_ratio_on(pairs.x)
            return pairs.estimate(lambda s: ratio(s[side], s["aimd"]))
        return _root(pairs, side, _curve_square)

    return _network_against_aimd(
        check, evidence, size=96, read=vaf_reader(check["species"]), measured=measured
    )


@claim("vaf-bks-paired")
def vaf_bks_paired(check: Check, evidence: Evidence) -> Estimate:
    """BKS: the same course, but farther off than the NNP."""
    read = vaf_reader(check["species"])
    if check.measure == "farther":
        return _bks_farther(evidence, size=96, read=read, square=_square_on_any_grid)
    pairs = read_pairs(evidence, size=96, sides=("bks",), read=read)
    ratio = zero_ratio_on(pairs.x)
    found = pairs.estimate(lambda s: ratio(s["bks"], s["aimd"]))
    return found.with_remark(_heat_of_bks(evidence, 96))


@claim("vdos-nnp-aimd")
def vdos_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The NNP's VDOS against AIMD's, relative to AIMD's.

    The mean square over the spectrum is taken over time (`spectral_window`), which needs no common frequency
    grid.
    """

    def measured(pairs: Paired, side: str) -> Estimate:
        window = spectral_window(pairs.x)

        def share(first: Groups, second: Groups, *, biased: bool = False) -> float:
            windowed = ([group * window for group in groups] for groups in (first, second))
            square = _curve_square(*windowed, biased=biased)
            return square / float(np.mean((mean_of(second) * window) ** 2))

        return _root(pairs, side, share)

    return _network_against_aimd(
        check, evidence, size=96, read=vaf_reader(check["species"]), measured=measured
    )


@claim("msd-paired")
def msd_paired(check: Check, evidence: Evidence) -> Estimate:
    """The NNP's MSD against AIMD's, as far as the runs reach; BKS's is farther off."""
    read = log_msd_reader(check["species"], between_fs=MSD_FS)
    if check.measure == "farther":
        return _bks_farther(evidence, size=96, read=read, square=_square_on_any_grid)

    def measured(pairs: Paired, side: str) -> Estimate:
        return _root(pairs, side, _curve_square)

    return _network_against_aimd(check, evidence, size=96, read=read, measured=measured)


def vaf_almost_the_same(species: str, evidence: Evidence) -> Estimate:
    """Whether DeePMD-96 and DeePMD-216 move a species almost alike (claim `iterate`)."""
    return _almost_the_same(
        evidence,
        size=96,
        read=vaf_reader(species),
        square=_square_on_any_grid,
    )
