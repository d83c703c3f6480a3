"""Fig. 5: mean-square displacement and its regimes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from jobs.observables.msd import log_slope
from suite.claims import Atom, Judge, band_of, claim
from suite.distances import mean_square_difference, signed_root
from suite.evidence import Evidence, Observation
from suite.reference import Curves, aimd_reference, common, farther, judge_network, read_curves
from suite.statistics import Array, Groups, estimate, mean_of
from suite.test_fig4_vaf import rms_difference
from suite.verdict import Band, NotTested

MASS_AMU = {"Si": 28.0855, "O": 15.999}
# 3 k_B / amu in A^2/fs^2/K, from the exact k_B and N_A: mean square velocity is this times T / mass.
THREE_KB_PER_AMU = 3 * 8.314462618e-7
COMPARED_FS = (20.0, 1000.0)  # beyond, an AIMD run holds too few independent stretches
BALLISTIC_FS = 12.0
PLATEAU_FS = (300.0, 1000.0)
BUMP_FS, AFTER_BUMP_FS = (150.0, 350.0), (450.0, 900.0)
AIMD_LENGTH_FS = 20_000.0  # the paper's equilibrium runs
DIFFUSIVE_SLOPE = 0.9


def msd_reader(species: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads the MSD of a species."""
    return lambda observations: read_curves(observations, "msd_time_fs", f"msd_{species}")


def log_msd_reader(species: str) -> Callable[[Sequence[Observation]], Curves]:
    """Reads ln MSD over the times on which models are compared: equal factors count equally."""

    def read(observations: Sequence[Observation]) -> Curves:
        curves = msd_reader(species)(observations).between(*COMPARED_FS)
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
def test_msd_nnp_aimd(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """The network against AIMD."""
    species = atom["species"]
    aimd = msd_reference(evidence, species)
    judge_network(
        judge, atom, evidence, size=96, read=log_msd_reader(species), apart=rms_difference, aimd=aimd
    )


@claim("msd-bks")
def test_msd_bks(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """BKS: within a factor, but farther off than the network."""
    species = atom["species"]
    read = log_msd_reader(species)
    bks = read(evidence.observables("liquid-96-bks"))
    if atom.measure == "qualitative":
        judge(rms_difference(*common(bks, msd_reference(evidence, species, band=atom.band))))
        return
    aimd = msd_reference(evidence, species)
    nnp, bks, aimd = common(read(evidence.observables("liquid-96-nvt")), bks, aimd)
    square = farther(mean_square_difference, far=bks.groups, near=nnp.groups, reference=aimd.groups)
    judge(square.through(signed_root))


def window_slope(x: Array, y: Array, window: tuple[float, float]) -> float:
    """Slope of a straight line through ln y (ln x) within a window."""
    inside = (x >= window[0]) & (x <= window[1])
    if np.count_nonzero(inside) < 3:
        raise NotTested(f"fewer than three lags between {window[0]:g} and {window[1]:g} fs")
    return float(np.polyfit(np.log(x[inside]), np.log(y[inside]), 1)[0])


@claim("msd-regimes")
def test_msd_regimes(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """Ballistic start, plateau, bump, diffusion: one number each."""
    species = atom["species"]
    if atom.measure == "diffusive":
        curves = msd_reader(species)(evidence.observables("msd-long"))
        last = curves.x[-1]
        judge(
            estimate(
                lambda s: window_slope(curves.x, mean_of(s["nnp"]), (last / 3, last)), {"nnp": curves.groups}
            )
        )
        return
    liquid = evidence.observables("liquid-216-nvt")
    curves = msd_reader(species)(liquid)
    if atom.measure == "ballistic":
        lag = float(curves.x[curves.x > 0][0])
        if lag > BALLISTIC_FS:
            raise NotTested(
                f"the shortest lag is {lag:g} fs; the ballistic start ends near {BALLISTIC_FS:g} fs"
            )
        column = int(np.argmax(curves.x > 0))
        rows = [
            np.stack([group[:, column], observation["temperature_K"]], axis=1)
            for group, observation in zip(curves.groups, liquid, strict=True)
        ]

        def share(groups: Groups) -> float:
            displacement, temperature = mean_of(groups)
            return float(displacement / (THREE_KB_PER_AMU * temperature / MASS_AMU[species] * lag**2))

        judge(estimate(lambda s: share(s["nnp"]), {"nnp": rows}))
        return
    if atom.measure == "plateau":
        curves = curves.between(*PLATEAU_FS)
        judge(
            estimate(lambda s: window_slope(curves.x, mean_of(s["nnp"]), PLATEAU_FS), {"nnp": curves.groups})
        )
        return
    curves = curves.between(BUMP_FS[0], AFTER_BUMP_FS[1])

    def dip(groups: Groups) -> float:
        mean = mean_of(groups)
        return window_slope(curves.x, mean, BUMP_FS) - window_slope(curves.x, mean, AFTER_BUMP_FS)

    judge(estimate(lambda s: dip(s["nnp"]), {"nnp": curves.groups}))


@claim("msd-reach")
def test_msd_reach(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """When diffusion begins, in units of an AIMD run."""
    curves = msd_reader(atom["species"])(evidence.observables("msd-long"))

    def onset(groups: Groups) -> float:
        late = curves.x > PLATEAU_FS[1]
        slopes = log_slope(curves.x[late], mean_of(groups)[late])
        # Noise lifts the slope above the bound here and there: diffusion has begun where it stays there.
        begun = int(np.flatnonzero(np.append(True, slopes < DIFFUSIVE_SLOPE))[-1])
        if begun == len(slopes):
            raise NotTested(f"no diffusion within the lags of this run ({curves.x[-1] / 1000:.4g} ps)")
        return math.log10(float(curves.x[late][begun]) / AIMD_LENGTH_FS)

    judge(estimate(lambda s: onset(s["nnp"]), {"nnp": curves.groups}))
