"""Fig. 5: mean-square displacement and its regimes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.base.silica import MASSES_AMU, SPECIES
from jobs.base.units import BOLTZMANN_EV_K, EV_PER_AMU_A2_FS2
from jobs.observables.msd import diffusion
from suite.claims.fig4_vaf import bks_farther, motion_against_aimd, rms_difference
from suite.judging.against_aimd import aimd_reference, by_draw
from suite.judging.checks import Check, band_of
from suite.judging.curves import Curves, common, read_curves
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import REPLICA_UNITS, Array, Estimate, Groups, estimate, mean_of, student
from suite.judging.verdict import Band

MASS_AMU = dict(zip(SPECIES, MASSES_AMU, strict=True))
# 3 k_B / amu in A^2/fs^2/K, from the exact k_B and N_A: mean square velocity is this times T / mass.
THREE_KB_PER_AMU = 3 * BOLTZMANN_EV_K / EV_PER_AMU_A2_FS2
COMPARED_FS = (20.0, 1000.0)  # beyond, an AIMD run holds too few independent stretches
BALLISTIC_FS = 12.0
PLATEAU_FS = (300.0, 1000.0)
BUMP_FS, AFTER_BUMP_FS = (150.0, 350.0), (450.0, 900.0)
AIMD_LENGTH_FS = 20_000.0  # the paper's equilibrium runs
DIFFUSIVE_SLOPE = 0.9
# Lags go to half of a run. Where the paper says that diffusion is (Sec. III B), a run is 100 times as long.
DIFFUSIVE_FROM_FS = 100 * AIMD_LENGTH_FS / 2
# How long a run must be to "get the diffusion regime", in units of the lag at which diffusion begins: at the
# least its longest lag is there, at the most it gives D of lags from there on (`transport_accuracy`).
D_LAGS, D_SPAN = 8, 3
LEAST_RUN, MOST_RUN = 2, 2 * D_LAGS * D_SPAN


def msd_reader(species: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the MSD of a species."""
    return lambda observations: read_curves(observations, "msd_time_fs", f"msd_{species}")


def log_msd_reader(
    species: str, *, between_fs: tuple[float, float] = COMPARED_FS
) -> Callable[[Sequence[Observation]], Curves]:
    """Reads ln MSD over the times at which potentials are compared: equal factors count equally."""

    def read(observations: Sequence[Observation]) -> Curves:
        curves = msd_reader(species)(observations).between_fs(*between_fs)
        return Curves(curves.x, [np.log(group) for group in curves.groups])

    return read


def msd_reference(evidence: Evidence, species: str, *, band: Band | None = None) -> Curves:
    """AIMD's ln MSD, valid where its starts agree within `band`, by default that of msd-nnp-aimd."""
    return aimd_reference(
        evidence,
        size=96,
        read=log_msd_reader(species),
        start_difference=rms_difference,
        band=band or band_of(f"msd-nnp-aimd/{species}"),
        static=False,
    )


@claim("msd-nnp-aimd")
def msd_nnp_aimd(check: Check, evidence: Evidence) -> Estimate:
    """The NNP against AIMD."""
    species = check["species"]
    aimd = msd_reference(evidence, species)
    return motion_against_aimd(check, evidence, read=log_msd_reader(species), aimd=aimd)


@claim("msd-bks")
def msd_bks(check: Check, evidence: Evidence) -> Estimate:
    """BKS: within a factor, but farther off than the NNP."""
    species = check["species"]
    read = log_msd_reader(species)
    bks = read(evidence.observables("motion-96-bks"))
    if check.measure == "qualitative":
        return rms_difference(*common(bks, msd_reference(evidence, species, band=check.band)))
    aimd = msd_reference(evidence, species)
    return bks_farther(evidence, read=read, bks=bks, aimd=aimd)


def window_slope(x: Array, y: Array, window: tuple[float, float]) -> float:
    """Slope of a straight line through ln y (ln x) within a window."""
    inside = _within(x, window)
    return float(np.polyfit(np.log(x[inside]), np.log(y[inside]), 1)[0])


def _within(x: Array, window_fs: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (x >= window_fs[0]) & (x <= window_fs[1])
    if np.count_nonzero(inside) < 3:
        raise NotTested(f"fewer than three lags between {window_fs[0]:g} and {window_fs[1]:g} fs")
    return inside


@claim("msd-regimes")
def msd_regimes(check: Check, evidence: Evidence) -> Estimate:
    """Ballistic start, plateau, bump, diffusion: one number each."""
    species = check["species"]
    if check.measure == "diffusive":
        curves = msd_reader(species)(evidence.observables("msd-long"))
        last = float(curves.x[-1])
        if last < DIFFUSIVE_FROM_FS:
            raise NotTested(
                f"the lags end at {last / 1000:.4g} ps; diffusion is looked for from "
                f"{DIFFUSIVE_FROM_FS / 1000:g} ps on, two orders of magnitude beyond an AIMD run"
            )
        return estimate(
            lambda s: window_slope(curves.x, mean_of(s["nnp"]), (last / 3, last)), {"nnp": curves.groups}
        )
    liquid = evidence.observables("motion-216-nvt")
    curves = msd_reader(species)(liquid)
    if check.measure == "ballistic":
        early = np.flatnonzero((curves.x > 0) & (curves.x <= BALLISTIC_FS))
        if not len(early):
            raise NotTested(
                f"the shortest lag is {curves.x[curves.x > 0][0]:g} fs; the ballistic start ends near "
                f"{BALLISTIC_FS:g} fs"
            )
        column = int(early[-1])
        lag = float(curves.x[column])
        rows = [
            np.stack([group[:, column], observation["temperature_K"]], axis=1)
            for group, observation in zip(curves.groups, liquid, strict=True)
        ]

        def share(groups: Groups) -> float:
            displacement, temperature = mean_of(groups)
            return float(displacement / (THREE_KB_PER_AMU * temperature / MASS_AMU[species] * lag**2))

        return estimate(lambda s: share(s["nnp"]), {"nnp": rows})
    if check.measure == "plateau":
        curves = curves.between_fs(*PLATEAU_FS)
        return estimate(
            lambda s: window_slope(curves.x, mean_of(s["nnp"]), PLATEAU_FS), {"nnp": curves.groups}
        )
    curves = curves.between_fs(BUMP_FS[0], AFTER_BUMP_FS[1])
    return estimate(lambda s: bump_height(curves.x, mean_of(s["nnp"])), {"nnp": curves.groups})


def bump_height(x: Array, y: Array) -> float:
    """How far an MSD at the bump lies above the straight line that it follows afterwards, over that line.

    A curve that only saturates and then diffuses lies on the line or below it, however fast it diffuses.

    Raises:
        NotTested: fewer than three lags at the bump or after it.
    """
    at, after = _within(x, BUMP_FS), _within(x, AFTER_BUMP_FS)
    line = np.polyval(np.polyfit(x[after], y[after], 1), x[at])
    return float(np.mean(y[at] / line - 1))


def slope_course(x: Array, y: Array) -> tuple[Array, Array]:
    """Slope of ln y (ln x) in a sliding window of an octave: the windows' middles and the slopes.

    Raises:
        NotTested: no window has three points on either side of it.
    """
    width = math.sqrt(2)
    middles = x[(x >= width * x[0]) & (x * width <= x[-1])]
    windows = [(middle / width, middle * width) for middle in middles]
    held = [np.count_nonzero((x >= low) & (x <= high)) >= 3 for low, high in windows]
    if not any(held):
        raise NotTested(f"the lags from {x[0]:.4g} to {x[-1]:.4g} fs hold no octave")
    slopes = [window_slope(x, y, window) for window, enough in zip(windows, held, strict=True) if enough]
    return middles[held], np.array(slopes)


def onset_decades(x: Array, y: Array, *, slope: float) -> float:
    """Decades of x from which on the slope of ln y (ln x) stays at `slope` or above.

    The first or the last middle of `slope_course` where it does so everywhere or nowhere.
    """
    middles, slopes = slope_course(x, y)
    # Noise lifts the slope above the bound now and then. Diffusion has begun where the slope stays above.
    below = np.flatnonzero(slopes < slope)
    if len(below) == 0:
        return math.log10(middles[0])
    last = below[-1]
    if last == len(slopes) - 1:
        return math.log10(middles[-1])
    return float(np.interp(slope, slopes[last : last + 2], np.log10(middles[last : last + 2])))


def many_stretches(curves: Curves) -> tuple[Array, Array, float]:
    """Lags of which a run has many independent stretches, mean MSD (runs, lags), and where D is fitted from.

    Lags go to half of a run, and a run has two such stretches. D is of lags to an eighth of that.
    """
    last = float(curves.x[-1]) / D_LAGS
    early = curves.x <= last + 1e-9
    return curves.x[early], np.array([group[:, early].mean(axis=0) for group in curves.groups]), last / D_SPAN


@claim("transport-accuracy")
def transport_accuracy(check: Check, evidence: Evidence) -> Estimate:
    """How well D is known where motion is diffusive. Its error comes from the spread over replicas."""
    x, replicas, from_fs = many_stretches(msd_reader(check["species"])(evidence.observables("msd-long")))
    if len(replicas) < REPLICA_UNITS:
        raise NotTested(f"{len(replicas)} replicas: how well D is known needs at least {REPLICA_UNITS}")
    found = diffusion(x, replicas, from_fs=from_fs)
    if found.coefficient_cm2_s is None or found.coefficient_se is None:
        raise NotTested(
            f"the slope of ln MSD is {found.slope:.2f} up to {x[-1] / 1000:.4g} ps: there is no D"
        )
    late = x >= from_fs
    coefficients = np.array([np.polyfit(x[late], row[late], 1)[0] for row in replicas])
    return estimate(
        lambda s: float(
            np.std(np.concatenate(s["d"]), ddof=1)
            / math.sqrt(len(replicas))
            / np.mean(np.concatenate(s["d"]))
        ),
        {"d": [np.array([value]) for value in coefficients]},
    )


@claim("msd-reach")
def msd_reach(check: Check, evidence: Evidence) -> Estimate:
    """How much longer than AIMD a run must be to show diffusion; and whether AIMD gets as far as the plateau.

    The paper does not say what it takes, so the interval holds every reading between two (`LEAST_RUN`,
    `MOST_RUN`). The value is the one half way in the logarithm.
    """
    if check.measure == "aimd-covers":
        started = [evidence.observables(f"reference-96-{start}") for start in ("nnp", "bks")]
        aimd = [*started[0], *started[1]]
        known = msd_reader(check["species"])(aimd).between_fs(*PLATEAU_FS)
        groups = by_draw(known.groups, aimd)
        return estimate(lambda s: window_slope(known.x, mean_of(s["aimd"]), PLATEAU_FS), {"aimd": groups})
    curves = msd_reader(check["species"])(evidence.observables("msd-long"))
    late = curves.x > PLATEAU_FS[1]
    x, runs = curves.x[late], [group[:, late] for group in curves.groups]

    middles, slopes = slope_course(x, mean_of(runs))
    if slopes[-1] < DIFFUSIVE_SLOPE:
        raise NotTested(f"no diffusion within the lags of this run ({middles[-1] / 1000:.4g} ps)")

    def onset(groups: Groups) -> float:
        return onset_decades(x, mean_of(groups), slope=DIFFUSIVE_SLOPE) - math.log10(AIMD_LENGTH_FS)

    # Diffusive from the first lag on, whichever run is left out: diffusion begins there or earlier.
    found = estimate(lambda s: onset(s["nnp"]), {"nnp": runs}, counted=True)
    # A run left out may hide the onset: its place in the jackknife is then the last lag, not where it is.
    if found.ci_high > math.log10(middles[-1] / AIMD_LENGTH_FS):
        raise NotTested(
            f"diffusion begins too near the last lags of this run ({middles[-1] / 1000:.4g} ps) to tell when"
        )
    least, most = math.log10(LEAST_RUN), math.log10(MOST_RUN)
    low, high = found.ci_low + least, found.ci_high + most
    return replace(
        found,
        value=found.value + (least + most) / 2,
        standard_error=(high - low) / 2 / student(found.degrees_of_freedom),
        ci_low=low,
        ci_high=high,
        limit="it holds every reading, from a run whose longest lag is where diffusion begins "
        f"({found.value + least:.2f}) to one that gives D ({found.value + most:.2f})",
    )
