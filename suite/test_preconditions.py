"""What must hold before any claim is judged: temperature, energy, bonds, and the engine's own warnings."""

from __future__ import annotations

import numpy as np

from jobs.engines.first_principles import FUSED_ANGSTROM
from jobs.units import BOLTZMANN_EV_K
from suite.claims import Atom, Judge, claim
from suite.evidence import Evidence, Observation
from suite.statistics import (
    Array,
    Estimate,
    Groups,
    equilibrated,
    estimate,
    estimate_mean,
    in_blocks,
    mean_of,
)
from suite.test_fig1_rdf import PAIRS, peak_feature, rdf_reader
from suite.verdict import NotTested

LIQUID_K, GLASS_K = 3000.0, 300.0  # every liquid of Figs. 1, 2, 4 and 5; every glass of Fig. 3
BLOCKS = 8
# Measure -> what kernel.json calls it.
KERNEL_DIFFERENCES = {
    "native-kernel-forces": "force_rms_eV_A",
    "native-kernel-energy": "energy_meV_atom",
}


def _temperature_variance(groups: Groups, n_atoms: int) -> float:
    """Variance of the kinetic temperature over the canonical 2 T^2 / (3 N - 3)."""
    series = np.concatenate([np.ravel(group) for group in groups])
    return float(series.var() * (3 * n_atoms - 3) / (2 * series.mean() ** 2))


def _warming_K(time_fs: Array, total_eV: Array, n_atoms: int) -> Array:  # noqa: N802 - the unit
    """By how much a run warms if its energy drifts as in each block; half of the drift is kinetic energy."""
    times, energies = in_blocks(time_fs, blocks=BLOCKS), in_blocks(total_eV, blocks=BLOCKS)
    slopes = [np.polyfit(time, energy, 1)[0] for time, energy in zip(times, energies, strict=True)]
    return np.array(slopes) * (time_fs[-1] - time_fs[0]) / (n_atoms * 3 * BOLTZMANN_EV_K)


def _closest_angstrom(run: Observation, pair: str) -> float:
    """The nearest that two atoms of a pair came in a run, to a bin of its g(r)."""
    return float(run["rdf_r"][np.atleast_2d(run[f"rdf_{pair}"]).any(axis=0)][0])


def has_fused_atoms(run: Observation) -> bool:
    """Whether two atoms fell into each other: the run goes on, of another substance."""
    return min(_closest_angstrom(run, pair) for pair in PAIRS) < FUSED_ANGSTROM


@claim("precondition")
def test_precondition(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """One physical precondition for one label."""
    label = atom["label"]
    if atom.measure in KERNEL_DIFFERENCES:
        checks = evidence.kernel(f"kernel-{label}")
        if reason := next((check["unavailable"] for check in checks if check["unavailable"]), None):
            raise NotTested(f"MD ran on DeePMD-kit: {reason}")
        worst = max(check["worst"][KERNEL_DIFFERENCES[atom.measure]] for check in checks)
        judge(Estimate.exact(worst, n_eff=len(checks)))
        return
    if atom.measure in ("compressed-against-full", "training-range"):
        trainings = evidence.train(f"train-{label}")
        if atom.measure == "compressed-against-full":
            worst = max(training.facts["compressed_vs_full_force_rms_eV_A"] for training in trainings)
            judge(Estimate.exact(worst, n_eff=len(trainings)))
            return
        audits = [training.audit for training in trainings]
        if any("min_distance_angstrom" not in audit for audit in audits):
            raise NotTested("the record of the training data does not say its shortest distances")
        runs = evidence.observables(f"liquid-{label}-nvt")
        beyond = [
            _closest_angstrom(run, pair) - min(audit["min_distance_angstrom"][pair] for audit in audits)
            for run in runs
            for pair in PAIRS
        ]
        judge(Estimate.exact(min(beyond), n_eff=len(runs)))
        return
    runs = evidence.observables(label)
    if atom.measure == "dangerous_builds":
        judge(Estimate.exact(sum(run.facts["dangerous_builds"] for run in runs), n_eff=len(runs)))
    elif atom.measure == "fused_atoms":
        judge(Estimate.exact(sum(has_fused_atoms(run) for run in runs), n_eff=len(runs)))
    elif atom.measure == "temperature":
        # A rescaled temperature has no scatter, and that is no lack of resolution; nor is it below.
        target_K = GLASS_K if label.startswith("glass") else LIQUID_K
        judge(estimate_mean([np.atleast_1d(run["temperature_K"]) / target_K for run in runs], counted=True))
    elif atom.measure == "kinetic-energy":
        n_atoms = runs[0].facts["n_atoms"]
        blocks = [in_blocks(equilibrated(run["thermo_temperature_K"])[0], blocks=BLOCKS) for run in runs]
        judge(estimate(lambda s: _temperature_variance(s["runs"], n_atoms), {"runs": blocks}, counted=True))
    elif atom.measure == "drift":
        warmings = [
            _warming_K(run["thermo_time_fs"], run["thermo_total_eV"], run.facts["n_atoms"]) for run in runs
        ]
        judge(estimate(lambda s: float(mean_of(s["runs"])), {"runs": warmings}))
    else:
        curves = rdf_reader("Si-O")(runs)
        judge(estimate(lambda s: peak_feature("Si-O", curves.x, s["runs"])[0], {"runs": curves.groups}))
