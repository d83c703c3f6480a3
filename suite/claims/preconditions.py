"""What must hold before any claim is judged: temperature, energy, bonds, and the engine's own warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

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
BETWEEN_BLOCKS = 20  # a larger gap between numbers of melts: the runs that drew them are others


def _temperature_variance(groups: Groups, n_atoms: int) -> float:
    """Variance of the kinetic temperature over the canonical 2 T^2 / (3 N - 3)."""
    series = np.concatenate([np.ravel(group) for group in groups])
    return float(series.var() * (3 * n_atoms - 3) / (2 * series.mean() ** 2))


def _warming_K(time_fs: Array, total_eV: Array, n_atoms: int) -> Array:  # noqa: N802 - the unit
    """By how much a run warms if its energy drifts as in each block; half of the drift is kinetic energy."""
    times, energies = in_blocks(time_fs, blocks=BLOCKS), in_blocks(total_eV, blocks=BLOCKS)
    slopes = [np.polyfit(time, energy, 1)[0] for time, energy in zip(times, energies, strict=True)]
    return np.array(slopes) * (time_fs[-1] - time_fs[0]) / (n_atoms * 3 * BOLTZMANN_EV_K)


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


def _density_g_cm3(run: Observation) -> float:
    # Planted stretch changes the observed distances only, not the state of the liquid.
    return float(run.facts["density_g_cm3"] * run.facts["stretch"] ** 3)


def _pair_temperature(check: Check, evidence: Evidence) -> Estimate:
    read = scalars(lambda run: np.atleast_2d(run["temperature_K"]).T)
    pairs = read_pairs(evidence, size=check["size"], sides=("nnp",), read=read)
    return pairs.estimate(lambda s: float(mean_of(s["nnp"])[0] / mean_of(s["aimd"])[0]))


def _kernel_difference(key: str, check: Check, evidence: Evidence) -> Estimate:
    """The worst of what `kernel.json` calls `key`."""
    label = f"kernel-{check['label']}"
    compared = evidence.kernel(label)
    for product, one in zip(evidence.directories(label), compared, strict=True):
        if reason := one["unavailable"]:
            raise NotTested(
                f"the native kernel could not run when {product.name} was made: {reason}; "
                "delete that product to have them compared"
            )
    return Estimate.exact(max(one["worst"][key] for one in compared), n_eff=len(compared))


def _compressed_against_full(check: Check, evidence: Evidence) -> Estimate:
    trainings = evidence.train(f"train-{check['label']}")
    worst = max(training.facts["compressed_vs_full_force_rms_eV_A"] for training in trainings)
    return Estimate.exact(worst, n_eff=len(trainings))


def _training_range(check: Check, evidence: Evidence) -> Estimate:
    """By how much the nearest atoms of the liquid are farther apart than those of the training data."""
    audits = [training.audit for training in evidence.train(f"train-{check['label']}")]
    if any("min_distance_angstrom" not in audit for audit in audits):
        raise NotTested("the record of the training data does not say its shortest distances")
    runs = evidence.observables(f"liquid-{check['label']}-nvt")
    beyond = [
        run.closest_angstrom(pair) - min(audit["min_distance_angstrom"][pair] for audit in audits)
        for run in runs
        for pair in PAIRS
    ]
    return Estimate.exact(min(beyond), n_eff=len(runs))


def _preparations(runs: Sequence[Observation]) -> Estimate:
    """The sampler's energy in the second block of melts' numbers less that in the first.

    A reference to first order rests on fewer atoms too: of both sets the one farther apart counts.
    """
    facts = judging_reference(runs).facts
    sets = [facts, facts["fewer"]] if facts["estimator"] == "first-order" else [facts]
    return max((_second_less_first(one["sampler_energy_meV_atom"]) for one in sets), key=_farthest)


def _second_less_first(by_melt: Mapping[str, float]) -> Estimate:
    energies = [np.array([energy]) for energy in by_melt.values()]
    gaps = np.diff([int(melt.rpartition("-")[2]) for melt in by_melt])
    if gaps.max() < BETWEEN_BLOCKS:
        raise NotTested("all draws are of one block of numbers, so of one preparation")
    end = int(gaps.argmax()) + 1
    return estimate(
        lambda s: float(mean_of(s["second"]) - mean_of(s["first"])),
        {"first": energies[:end], "second": energies[end:]},
    )


def _farthest(found: Estimate) -> float:
    return max(abs(found.ci_low), abs(found.ci_high))


def _sizes_agree(check: Check, evidence: Evidence) -> Estimate:
    """How far a reference would move if its first order were of its own number of atoms alone."""
    facts = judging_reference(evidence.observables(check["label"])).facts
    if facts["estimator"] != "first-order":
        raise NotTested("the reference that judges is reweighted by weights, of one number of atoms")
    many, few = (one["first_order"][check["quantity"]] for one in (facts, facts["fewer"]))
    borrowed = 1 - facts["own_share_of_first_order"]
    return Estimate.from_error(
        borrowed * (many["value"] - few["value"]),
        standard_error=borrowed * math.hypot(many["standard_error"], few["standard_error"]),
        degrees_of_freedom=facts["blocks"] - 1,
    )


def _change(of: Callable[[Observation], float], runs: Sequence[Observation]) -> Estimate:
    return estimate_mean(by_draw([np.array([of(run)]) for run in runs], runs), counted=True)


def _density(check: Check, evidence: Evidence) -> Estimate:
    runs = evidence.observables(check["label"])
    ratios = [_density_g_cm3(run) / evidence.density_g_cm3 for run in runs]
    return Estimate.exact(max(ratios, key=lambda ratio: abs(ratio - 1)), n_eff=len(runs))


def _dangerous_builds(runs: Sequence[Observation]) -> Estimate:
    return Estimate.exact(sum(run.facts["dangerous_builds"] for run in runs), n_eff=len(runs))


def _fused_atoms(check: Check, evidence: Evidence) -> Estimate:
    runs = evidence.every_run(check["label"])
    return Estimate.exact(sum(run.has_fused_atoms for run in runs) / len(runs), n_eff=len(runs))


def _temperature(check: Check, evidence: Evidence) -> Estimate:
    # A rescaled temperature has no scatter. That is a real result, here and below, not missing data.
    runs = evidence.observables(check["label"])
    target_K = GLASS_K if check["label"].startswith("glass") else LIQUID_K
    return estimate_mean([np.atleast_1d(run["temperature_K"]) / target_K for run in runs], counted=True)


def _kinetic_energy(runs: Sequence[Observation]) -> Estimate:
    n_atoms = runs[0].facts["n_atoms"]
    blocks = [in_blocks(equilibrated(run["thermo_temperature_K"]), blocks=BLOCKS) for run in runs]
    return estimate(lambda s: _temperature_variance(s["runs"], n_atoms), {"runs": blocks}, counted=True)


def _drift(runs: Sequence[Observation]) -> Estimate:
    warmings = [
        _warming_K(run["thermo_time_fs"], run["thermo_total_eV"], run.facts["n_atoms"]) for run in runs
    ]
    return estimate(lambda s: float(mean_of(s["runs"])), {"runs": warmings})


def _si_o_bond(runs: Sequence[Observation]) -> Estimate:
    curves = rdf_reader("Si-O")(runs)
    return estimate(lambda s: peak_feature("Si-O", curves.x, s["runs"])[0], {"runs": curves.groups})


# By `measure` of a check: of what the evidence has, and of the runs of its label.
OF_EVIDENCE: Mapping[str, Callable[[Check, Evidence], Estimate]] = {
    "pair-temperature": _pair_temperature,
    "native-kernel-forces": partial(_kernel_difference, "force_rms_eV_A"),
    "native-kernel-energy": partial(_kernel_difference, "energy_meV_atom"),
    "compressed-against-full": _compressed_against_full,
    "training-range": _training_range,
    "first-order-sizes": _sizes_agree,
    "fused_atoms": _fused_atoms,
    "density": _density,
    "temperature": _temperature,
}
OF_RUNS: Mapping[str, Callable[[Sequence[Observation]], Estimate]] = {
    "preparations": _preparations,
    "stationary-energy": partial(_change, _energy_change_meV),
    "stationary-defects": partial(_change, partial(_count_change_percent, "defects_si")),
    "stationary-rings": partial(_change, partial(_count_change_percent, "two_rings")),
    "dangerous_builds": _dangerous_builds,
    "kinetic-energy": _kinetic_energy,
    "drift": _drift,
    "si-o-bond": _si_o_bond,
}


@claim("precondition")
def precondition(check: Check, evidence: Evidence) -> Estimate:
    """One physical precondition of one product."""
    if check.measure in OF_EVIDENCE:
        return OF_EVIDENCE[check.measure](check, evidence)
    return OF_RUNS[check.measure](evidence.observables(check["label"]))
