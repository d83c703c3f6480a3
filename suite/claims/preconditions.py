"""What must hold before any claim is judged: temperature, energy, bonds, and the engine's own warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from jobs.base.silica import FUSED_ANGSTROM
from jobs.base.units import BOLTZMANN_EV_K
from jobs.observables.rdf import PAIRS
from suite.claims.fig1_rdf import peak_feature, rdf_reader
from suite.judging.against_aimd import by_draw
from suite.judging.checks import Check
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.pairs import read_pairs, scalars
from suite.judging.reasons import NotTested
from suite.judging.reweighted import judging_reference
from suite.judging.statistics import (
    Array,
    Estimate,
    Groups,
    equilibrated,
    estimate,
    estimate_mean,
    in_blocks,
    mean_of,
)

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
    """Whether two atoms fused. The run then goes on, but of another substance."""
    return min(_closest_angstrom(run, pair) for pair in PAIRS) < FUSED_ANGSTROM


def _halves(blocks: Array) -> float:
    """Mean of the second half of a series less that of the first."""
    first, second = np.array_split(np.asarray(blocks, dtype=float), 2)
    return float(second.mean() - first.mean())


def _energy_change_meV(run: Observation) -> float:  # noqa: N802 - the unit
    """By how much the potential energy per atom changes from the first half of a run to the second."""
    n_atoms = run.facts["n_atoms"]
    kinetic = 1.5 * (n_atoms - 1) * BOLTZMANN_EV_K * run["thermo_temperature_K"]
    return 1000 * _halves(run["thermo_total_eV"] - kinetic) / n_atoms


def _count_change_percent(key: str, run: Observation) -> float:
    """The same of shares of silicon without four oxygens, or of pairs of silicon that share two oxygens."""
    if "counts" not in run.facts:
        raise NotTested("bonds were not counted in this run")
    silicon = run.facts["n_si"] if key == "two_rings" else 1
    return 100 * _halves(np.array(run.facts["counts"][key]["blocks"])) / silicon


CHANGES: Mapping[str, Callable[[Observation], float]] = {
    "stationary-energy": _energy_change_meV,
    "stationary-defects": partial(_count_change_percent, "defects_si"),
    "stationary-rings": partial(_count_change_percent, "two_rings"),
}


def _difference_of_preparations(sets: Sequence[Observation]) -> Estimate:
    """The sampler's energy in the second half of the melts less that in the first, in the set that judges."""
    best = judging_reference(sets)
    melts = [np.array([energy]) for energy in best.facts["sampler_energy_meV_atom"]]
    middle = len(melts) // 2
    return estimate(
        lambda s: float(mean_of(s["second"]) - mean_of(s["first"])),
        {"first": melts[:middle], "second": melts[middle:]},
    )


def _density_g_cm3(run: Observation) -> float:
    # Planted stretch changes the observed distances only, not the state of the liquid.
    return float(run.facts["density_g_cm3"] * run.facts["stretch"] ** 3)


@claim("precondition")
def precondition(check: Check, evidence: Evidence) -> Estimate:
    """One physical precondition of one product."""
    if check.measure == "pair-temperature":
        read = scalars(lambda run: np.atleast_2d(run["temperature_K"]).T)
        pairs = read_pairs(evidence, size=check["size"], sides=("nnp",), read=read)
        return pairs.estimate(lambda s: float(mean_of(s["nnp"])[0] / mean_of(s["aimd"])[0]))
    label = check["label"]
    if check.measure in KERNEL_DIFFERENCES:
        compared = evidence.kernel(f"kernel-{label}")
        for product, one in zip(evidence.directories(f"kernel-{label}"), compared, strict=True):
            if reason := one["unavailable"]:
                raise NotTested(
                    f"the native kernel could not run when {product.name} was made: {reason}; "
                    "delete that product to have them compared"
                )
        worst = max(one["worst"][KERNEL_DIFFERENCES[check.measure]] for one in compared)
        return Estimate.exact(worst, n_eff=len(compared))
    if check.measure == "preparations":
        return _difference_of_preparations(evidence.observables(label))
    if check.measure in CHANGES:
        changes = [np.array([CHANGES[check.measure](run)]) for run in evidence.observables(label)]
        units = by_draw(changes, evidence.observables(label))
        return estimate_mean(units, counted=True)
    if check.measure in ("compressed-against-full", "training-range"):
        trainings = evidence.train(f"train-{label}")
        if check.measure == "compressed-against-full":
            worst = max(training.facts["compressed_vs_full_force_rms_eV_A"] for training in trainings)
            return Estimate.exact(worst, n_eff=len(trainings))
        audits = [training.audit for training in trainings]
        if any("min_distance_angstrom" not in audit for audit in audits):
            raise NotTested("the record of the training data does not say its shortest distances")
        runs = evidence.observables(f"liquid-{label}-nvt")
        beyond = [
            _closest_angstrom(run, pair) - min(audit["min_distance_angstrom"][pair] for audit in audits)
            for run in runs
            for pair in PAIRS
        ]
        return Estimate.exact(min(beyond), n_eff=len(runs))
    runs = evidence.observables(label)
    if check.measure == "density":
        ratios = [_density_g_cm3(run) / evidence.density_g_cm3 for run in runs]
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        return Estimate.exact(worst, n_eff=len(runs))
    if check.measure == "dangerous_builds":
        return Estimate.exact(sum(run.facts["dangerous_builds"] for run in runs), n_eff=len(runs))
    if check.measure == "fused_atoms":
        return Estimate.exact(sum(has_fused_atoms(run) for run in runs), n_eff=len(runs))
    if check.measure == "temperature":
        # A rescaled temperature has no scatter. That is a real result, here and below, not missing data.
        target_K = GLASS_K if label.startswith("glass") else LIQUID_K
        return estimate_mean([np.atleast_1d(run["temperature_K"]) / target_K for run in runs], counted=True)
    if check.measure == "kinetic-energy":
        n_atoms = runs[0].facts["n_atoms"]
        blocks = [in_blocks(equilibrated(run["thermo_temperature_K"])[0], blocks=BLOCKS) for run in runs]
        return estimate(lambda s: _temperature_variance(s["runs"], n_atoms), {"runs": blocks}, counted=True)
    if check.measure == "drift":
        warmings = [
            _warming_K(run["thermo_time_fs"], run["thermo_total_eV"], run.facts["n_atoms"]) for run in runs
        ]
        return estimate(lambda s: float(mean_of(s["runs"])), {"runs": warmings})
    curves = rdf_reader("Si-O")(runs)
    return estimate(lambda s: peak_feature("Si-O", curves.x, s["runs"])[0], {"runs": curves.groups})
