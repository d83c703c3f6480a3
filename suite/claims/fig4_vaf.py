"""Fig. 4: velocity autocorrelation and the vibrational density of states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np

from suite.judging.against_aimd import aimd_reference, network_against_aimd
from suite.judging.checks import Check, band_of
from suite.judging.curves import (
    Curves,
    Difference,
    Distance,
    Reader,
    common,
    difference,
    farther,
    read_curves,
    root_of,
)
from suite.judging.distances import mean_square, mean_square_difference, rooted
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, estimate, mean_of
from suite.judging.verdict import Band

WINDOW_FS = (0.0, 200.0)  # Fig. 4 ends there
MEMORY_FS = 50.0  # twice the time in which a velocity of silica first turns round


def vaf_reader(species: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the normalised VAF of a species over the time of Fig. 4."""
    key = f"vaf_{species}"
    return lambda observations: read_curves(observations, "vaf_time_fs", key).between_fs(*WINDOW_FS)


def rms_difference(first: Curves, second: Curves) -> Estimate:
    """Root mean square difference of two curves, noise removed."""
    return root_of(mean_square_difference, first, second)


def vaf_reference(
    evidence: Evidence,
    species: str,
    *,
    start_difference: Difference = rms_difference,
    band: Band | None = None,
) -> Curves:
    """AIMD's VAF, valid where the `start_difference` is within `band`, by default that of vaf-nnp-aimd."""
    return aimd_reference(
        evidence,
        size=96,
        read=vaf_reader(species),
        start_difference=start_difference,
        band=band or band_of(f"vaf-nnp-aimd/{species}"),
        static=False,
    )


def first_zero(x: Array, y: Array) -> float:
    """Where a curve first crosses zero, by linear interpolation.

    Raises:
        NotTested: it does not.
    """
    below = np.flatnonzero(y < 0)
    if len(below) == 0 or below[0] == 0:
        raise NotTested("the velocity autocorrelation does not change its sign within 0.2 ps")
    i = int(below[0])
    return float(x[i - 1] + (x[i] - x[i - 1]) * y[i - 1] / (y[i - 1] - y[i]))


def zero_ratio(first: Curves, second: Curves) -> Estimate:
    """First zero of one curve over that of another on the same grid."""
    return difference(zero_ratio_on(first.x), first, second)


def zero_ratio_on(x: Array) -> Distance:
    """The same of the means of two sets of curves on a grid."""
    return lambda first, second: first_zero(x, mean_of(first)) / first_zero(x, mean_of(second))


def motion_against_aimd(check: Check, evidence: Evidence, *, read: Reader, aimd: Curves) -> Estimate:
    """How far the NNP's motion of 96 atoms is from AIMD's."""
    return network_against_aimd(
        check, evidence, size=96, read=read, apart=rms_difference, aimd=aimd, run="motion"
    )


def bks_farther(evidence: Evidence, *, read: Reader, bks: Curves, aimd: Curves) -> Estimate:
    """How much farther BKS's motion of 96 atoms is from AIMD's than the NNP's is."""
    nnp, bks, aimd = common(read(evidence.observables("motion-96-nvt")), bks, aimd)
    return farther(mean_square_difference, far=bks.groups, near=nnp.groups, reference=aimd.groups)


@claim("vaf-nnp-aimd")
def vaf_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The NNP against AIMD, both at N = 96."""
    species = check["species"]
    aimd = vaf_reference(evidence, species)
    return motion_against_aimd(check, evidence, read=vaf_reader(species), aimd=aimd)


@claim("vaf-bks")
def vaf_bks(check: Check, evidence: Evidence) -> Estimate:
    """BKS: the same course, but farther off than the NNP."""
    species = check["species"]
    read = vaf_reader(species)
    bks = read(evidence.observables("motion-96-bks"))
    if check.measure == "first-zero":
        aimd = vaf_reference(evidence, species, start_difference=zero_ratio, band=check.band)
        return zero_ratio(*common(bks, aimd))
    aimd = vaf_reference(evidence, species)
    return bks_farther(evidence, read=read, bks=bks, aimd=aimd)


@claim("vaf-nve-nvt")
def vaf_nve_nvt(check: Check, evidence: Evidence) -> Estimate:
    """The same potential with and without a thermostat.

    Each run without a thermostat begins where a run with one ends, and keeps much of its bond network. So the
    two are compared pair by pair: the mean difference is squared, by products of different pairs.
    """
    read = vaf_reader(check["species"])
    labels = ("liquid-96-nve", "motion-96-nvt")
    curves = common(*(read(evidence.observables(label)) for label in labels))
    nve, nvt = (
        dict(zip(evidence.replicas_of(label), found.groups, strict=True))
        for label, found in zip(labels, curves, strict=True)
    )
    if nve.keys() != nvt.keys():
        raise NotTested(f"replicas without a thermostat are {sorted(nve)}, with one {sorted(nvt)}: no pairs")
    pairs = [
        without.mean(axis=0, keepdims=True) - nvt[number].mean(axis=0, keepdims=True)
        for number, without in nve.items()
    ]
    samples = {"pairs": pairs}
    return rooted(
        estimate(lambda s: mean_square(s["pairs"]), samples),
        estimate(lambda s: math.sqrt(mean_square(s["pairs"], biased=True)), samples),
    )


def spectral_window(times: Array) -> Array:
    """What a VAF is multiplied by so that its mean square is that of its VDOS, but for a factor.

    By Parseval's theorem, of the Hann window that VDOS are made with. An even function of time has each lag
    twice, and lag 0 once.
    """
    window: Array = np.cos(0.5 * np.pi * times / times[-1]) ** 2
    window[0] *= math.sqrt(0.5)
    return window


def _noise(groups: Groups) -> float:
    """Variance of a spectrum between the blocks of a run, relative to its mean square.

    Only the spread within runs counts: a longer run would not average differences between runs away.
    """
    within = np.mean([group.var(axis=0, ddof=1).mean() for group in groups])
    return float(within / (np.concatenate(groups).mean(axis=0) ** 2).mean())


def _require_alike(*runs: Sequence[Observation]) -> None:
    """Refuse to compare the noise of blocks of different lengths: it is not inverse to a block's length.

    Raises:
        NotTested: runs differ in frames, time between them, blocks or lags; or blocks resemble each other.
    """
    shapes = {
        (facts["frames"], facts["time_between_frames_fs"], facts["blocks"], len(observation["vaf_time_fs"]))
        for observation in chain(*runs)
        for facts in [observation.facts]
    }
    if len(shapes) > 1:
        found = " and ".join(map(str, sorted(shapes)))
        raise NotTested(
            f"found (frames, fs between them, blocks, lags) {found}: the runs are not observed alike"
        )
    frames, between_fs, blocks, lags = shapes.pop()
    origins_fs = (frames - lags + 1) // blocks * between_fs
    if origins_fs < MEMORY_FS:
        raise NotTested(
            f"blocks of {origins_fs:.3g} fs resemble each other ({MEMORY_FS:g} fs): their spread is no noise"
        )


@claim("vdos-size")
def vdos_size(check: Check, evidence: Evidence) -> Estimate:
    """Noise of the VDOS of 2592 atoms against 96: at equal simulated time, and for equal core-seconds.

    Noise is the spread between blocks, summed over the spectrum; by Parseval's theorem that is the spread
    of the windowed VAF summed over time, which needs no common frequency grid. The first comparison uses
    96 atoms moved by the NNP in place of AIMD: the noise of an average over 96 atoms does not depend on what
    computes the forces. The second multiplies by the cost of a femtosecond. Both runs have the same length
    and the same blocks.
    """
    costs = {}
    if check.measure == "per-core-second":
        costs = {
            "AIMD": [_core_seconds_per_fs(evidence, "aimd", 96)],
            "network": [_core_seconds_per_fs(evidence, "nnp", 2592)],
        }
    large, small = evidence.observables("vdos-2592"), evidence.observables("vdos-96")
    _require_alike(large, small)
    read = vaf_reader(check["species"])
    many, few = common(read(large), read(small))
    window = spectral_window(few.x)

    def decades(samples: Mapping[str, Groups]) -> float:
        noise = {size: _noise([group * window for group in samples[size]]) for size in ("96", "2592")}
        cost = float(mean_of(samples["AIMD"]) / mean_of(samples["network"])) if costs else 1.0
        return math.log10(cost * noise["96"] / noise["2592"])

    return estimate(decades, {"96": few.groups, "2592": many.groups, **costs})


def _core_seconds_per_fs(evidence: Evidence, method: str, n_atoms: int) -> Array:
    found = evidence.core_seconds_per_fs(method)
    if n_atoms not in found:
        raise NotTested(f"the cost record has no {method} of {n_atoms} atoms")
    return found[n_atoms]
