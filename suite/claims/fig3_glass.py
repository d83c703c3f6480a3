"""Fig. 3: the glass against experiment, and how much of its bond network the liquid already has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TypeAlias

import numpy as np

from jobs.reference.paper import REFERENCE, gating_value
from suite.claims.fig1_rdf import peak_feature, rdf_reader
from suite.claims.fig2_badf import badf_reader, coordination_groups
from suite.judging.against_aimd import require_216_atom_data, require_seeds
from suite.judging.checks import Check
from suite.judging.curves import read_curves
from suite.judging.distances import moments, peak, percent_not_fourfold
from suite.judging.evaluate import Measure, claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, estimate, mean_of

# Samples of some glasses, and the number that is taken from them.
Feature: TypeAlias = tuple[Groups, Callable[[Groups], float]]
QUENCHES = 5
PRINTED_ATOMS = {"96": {2592}, "216": {5832}}
COMPARED_ANGSTROM = (1.0, 8.0)  # of Fig. 3
MEASURED_CURVES = REFERENCE / "experiment"
RATE = "quench_rate_K_per_s"
FASTEST_K_S = 1.01e12  # Sec. II C, and the rounding of a ramp to whole steps
SMALLEST_FOR_FSDP = 2592  # below, the box holds too few of the 4 A correlations that make the peak
# Windows and half-widths of the peaks of the neutron total pair correlation function and S(Q).
NEUTRON_PEAKS = {
    "Si-O": ("tr_r", "tr_neutron", (1.4, 2.0), 0.06),
    "O-O": ("tr_r", "tr_neutron", (2.3, 2.9), 0.10),
    "first-sharp-diffraction-peak": ("sq_q", "sq_neutron", (1.0, 2.2), 0.15),
}
# First distances of vitreous silica (Fig. 3), and of a PBE glass.
TARGETS = {"experiment": "bond", "PBE": "pbe-glass"}
FIRST_DISTANCE_ANGSTROM = {
    (pair, target): gating_value(f"{row}-{pair}")
    for pair in ("Si-O", "O-O", "Si-Si")
    for target, row in TARGETS.items()
}


def _first_bond(glasses: Sequence[Observation]) -> Feature:
    curves = rdf_reader("Si-O")(glasses)
    return curves.groups, lambda groups: peak_feature("Si-O", curves.x, groups)[0]


def _mean_bridge(glasses: Sequence[Observation]) -> Feature:
    curves = badf_reader("Si-O-Si")(glasses)
    return curves.groups, lambda groups: moments(curves.x, mean_of(groups))[0]


def _defects(glasses: Sequence[Observation]) -> Feature:
    return coordination_groups(glasses), percent_not_fourfold


def _require_printed_rate(glasses: Sequence[Observation]) -> None:
    """Refuse to judge what a faster quench than the paper's changes.

    Raises:
        NotTested: a glass was quenched faster, or its rate is not known.
    """
    for glass in glasses:
        rate = glass.facts.get(RATE)
        if rate is None:  # a user's trajectory, or one observed before the rate was recorded
            raise NotTested("how fast a glass was quenched is not known, the claim is of 1e12 K/s")
        if rate > FASTEST_K_S:
            raise NotTested(f"a glass was quenched at {rate:.2g} K/s, the claim is of 1e12 K/s")


def _says_rate(measure: Measure) -> Measure:
    """Add to a verdict how fast its glass was quenched, where that was faster than the paper's."""

    @wraps(measure)
    def judged(check: Check, evidence: Evidence) -> Estimate:
        found = measure(check, evidence)
        labels = [label for label in check.needs if label.startswith("glass-")]
        glasses = [glass for label in labels for glass in evidence.observables(label)]
        fast = [glass.facts for glass in glasses if (glass.facts.get(RATE) or 0.0) > FASTEST_K_S]
        if not fast:
            return found
        fastest = max(fast, key=lambda facts: facts[RATE])
        said = f"glass of {fastest['n_atoms']} atoms quenched at {fastest[RATE]:.0e} K/s"
        return found.with_remark(f"{said}, printed is 1e+12")

    return judged


@claim("glass-neutron")
@_says_rate
def glass_neutron(check: Check, evidence: Evidence) -> Estimate:
    """Peaks of the neutron total pair correlation function and of S(Q)."""
    glasses = evidence.observables(f"glass-{check['potential']}")
    if check.measure == "curve":
        return _miss(glasses, "tr_r", "tr_neutron", measured_curve("neutron"))
    x_key, y_key, window, half_width = NEUTRON_PEAKS[check["peak"]]
    smallest = min(glass.facts["n_atoms"] for glass in glasses)
    if x_key == "sq_q" and smallest < SMALLEST_FOR_FSDP:
        raise NotTested(f"the glass has {smallest} atoms; the first sharp peak needs {SMALLEST_FOR_FSDP}")
    curves = read_curves(glasses, x_key, y_key)
    return estimate(
        lambda s: peak(curves.x, mean_of(s["quenches"]), window=window, half_width=half_width)[0],
        {"quenches": curves.groups},
    )


@claim("glass-partials")
@_says_rate
def glass_partials(check: Check, evidence: Evidence) -> Estimate:
    """First peaks, angles and defects of the glass."""
    glasses = evidence.observables(f"glass-{check['potential']}")
    if check.measure == "curve":
        pair = check["pair"]
        return _miss(glasses, "rdf_r", f"rdf_{pair}", measured_curve(pair))
    elif check.measure == "first-peak-position":
        curves = rdf_reader(check["pair"])(glasses)
        return estimate(
            lambda s: peak_feature(check["pair"], curves.x, s["quenches"])[0], {"quenches": curves.groups}
        )
    elif check.measure == "defects":
        _require_printed_rate(glasses)
        samples = {"quenches": coordination_groups(glasses)}
        return estimate(lambda s: percent_not_fourfold(s["quenches"]), samples, counted=True)
    else:
        angle, _, which = check.measure.partition(" ")
        if angle == "Si-O-Si":  # a fast quench widens it
            _require_printed_rate(glasses)
        curves = badf_reader(angle)(glasses)
        index = ("mean", "sd").index(which)
        return estimate(
            lambda s: moments(curves.x, mean_of(s["quenches"]))[index], {"quenches": curves.groups}
        )


@claim("glass-rate")
def glass_rate(check: Check, evidence: Evidence) -> Estimate:
    """What a quench slower by a decade changes, from glasses of three rates."""
    slowest = f"glass-{check['potential']}"
    by_rate: dict[float | None, list[Observation]] = {}
    for label in (slowest, f"{slowest}@1e13", f"{slowest}@1e14"):
        found = evidence.observables(label)
        by_rate[found[0].facts.get(RATE)] = found
    rates = [rate for rate in by_rate if rate is not None]
    if len(rates) < len(by_rate):
        raise NotTested("how fast a glass was quenched is not known")
    if len(sizes := {glass.facts["n_atoms"] for found in by_rate.values() for glass in found}) > 1:
        raise NotTested(f"glasses of {' and '.join(map(str, sorted(sizes)))} atoms: a trend needs one size")
    if len(by_rate) < 3:
        raise NotTested(f"glasses of {len(by_rate)} rates: a trend needs three")
    decades = -np.log10(rates)
    feature = {"Si-O": _first_bond, "Si-O-Si": _mean_bridge, "defects": _defects}[check.measure]
    parts = [feature(found) for found in by_rate.values()]
    samples = {str(rate): groups for rate, (groups, _) in zip(by_rate, parts, strict=True)}

    def slope(s: Mapping[str, Groups]) -> float:
        values = [of(s[rate]) for rate, (_, of) in zip(samples, parts, strict=True)]
        return float(np.polyfit(decades, values, 1)[0])

    return estimate(slope, samples, counted=check.measure == "defects")


def measured_curve(name: str) -> Array:
    """The measured T(r) (`neutron`), or RMC's partial g(r) of a pair: two columns, r in A and the curve.

    Raises:
        NotTested: there is no such file. No measured curve of the glass is openly available, only distances.
    """
    path = MEASURED_CURVES / f"glass-{name}.txt"
    if not path.is_file():
        raise NotTested(
            f"no measured {name} curve of the glass is deposited (none is openly available; "
            f"reference/experiment/{path.name} would be read)"
        )
    return np.loadtxt(path, ndmin=2).T


def _relative_miss(x: Array, y: Array, measured: Array) -> float:
    """Rms difference from a measured curve over the latter's rms, where both are known within the window."""
    r, curve = measured
    inside = (r >= max(COMPARED_ANGSTROM[0], x[0])) & (r <= min(COMPARED_ANGSTROM[1], x[-1]))
    apart = np.interp(r[inside], x, y) - curve[inside]
    return float(np.sqrt(np.mean(apart**2) / np.mean(curve[inside] ** 2)))


def _miss(glasses: list[Observation], x_key: str, y_key: str, measured: Array) -> Estimate:
    curves = read_curves(glasses, x_key, y_key)
    return estimate(
        lambda s: _relative_miss(curves.x, mean_of(s["quenches"]), measured), {"quenches": curves.groups}
    )


def _enough(glasses: dict[str, list[Observation]]) -> dict[str, list[Observation]]:
    fewest = min(len(found) for found in glasses.values())
    if fewest < QUENCHES:
        raise NotTested(f"{fewest} quenches of one potential: a ranking needs at least {QUENCHES}")
    return glasses


def printed_glasses(evidence: Evidence) -> dict[str, list[Observation]]:
    """Glasses of both NNPs as the paper compares them, of 2592 and 5832 atoms.

    Raises:
        NotTested: they are of other sizes, or too few quenches.
    """
    glasses = {name: evidence.observables(f"glass-{name}") for name in ("96", "216")}
    sizes = {name: {glass.facts["n_atoms"] for glass in found} for name, found in glasses.items()}
    if sizes != PRINTED_ATOMS:
        raise NotTested(f"the glasses have {sizes} atoms, printed are {PRINTED_ATOMS}")
    return _enough(glasses)


def equal_glasses(evidence: Evidence) -> dict[str, list[Observation]]:
    """Glasses of both NNPs at one N and density, enough of each to rank them.

    Raises:
        NotTested: N or density differ, or too few quenches.
    """
    labels = {"96": "glass-96-equal-n", "216": "glass-216"}
    glasses = {name: evidence.observables(label) for name, label in labels.items()}
    made = {
        name: {(glass.facts["n_atoms"], round(glass.facts["density_g_cm3"], 3)) for glass in found}
        for name, found in glasses.items()
    }
    if made["96"] != made["216"]:
        raise NotTested(f"the glasses differ in N or density: {made['96']} and {made['216']}")
    return _enough(glasses)


@claim("glass-216-better")
def glass_216_better(check: Check, evidence: Evidence) -> Estimate:
    """How much nearer to experiment, or to PBE, DeePMD-216's glass is, at equal N and density."""
    require_216_atom_data(evidence)
    require_seeds(evidence, "train-96", "train-216")
    printed = check.measure in ("as-printed", "curve")
    glasses = printed_glasses(evidence) if printed else equal_glasses(evidence)
    if check.measure == "curve":
        return _curve_gain(glasses, check["curve"])
    pair = check["pair"]
    target = FIRST_DISTANCE_ANGSTROM[pair, check.values.get("target", "experiment")]
    curves = {name: rdf_reader(pair)(found) for name, found in glasses.items()}

    def miss(name: str, groups: Groups) -> float:
        return abs(peak_feature(pair, curves[name].x, groups)[0] - target)

    samples = {name: part.groups for name, part in curves.items()}
    return estimate(lambda s: miss("96", s["96"]) - miss("216", s["216"]), samples)


def _curve_gain(glasses: dict[str, list[Observation]], name: str) -> Estimate:
    """How much nearer to a measured curve DeePMD-216's glass is."""
    measured = measured_curve(name)
    keys = ("tr_r", "tr_neutron") if name == "neutron" else ("rdf_r", f"rdf_{name}")
    curves = {network: read_curves(found, *keys) for network, found in glasses.items()}

    def miss(network: str, groups: Groups) -> float:
        return _relative_miss(curves[network].x, mean_of(groups), measured)

    samples = {network: part.groups for network, part in curves.items()}
    return estimate(lambda s: miss("96", s["96"]) - miss("216", s["216"]), samples)


@claim("network-kept")
@_says_rate
def network_kept(check: Check, evidence: Evidence) -> Estimate:
    """The liquid's bond network, its change on cooling, and how cold the training data were."""
    if check.measure == "lowest-training-temperature":
        trainings = evidence.train(f"train-{check['potential']}")
        lowest = min(training.audit["lowest_temperature_K"] for training in trainings)
        return Estimate.exact(lowest, n_eff=len(trainings))
    liquid = evidence.observables(f"liquid-{check['potential']}-nvt")
    if check.measure == "liquid-coordination":
        samples = {"liquid": coordination_groups(liquid)}
        return estimate(lambda s: percent_not_fourfold(s["liquid"]), samples, counted=True)
    feature = {"coordination": _defects, "bond": _first_bond, "angle": _mean_bridge}[check.measure]
    glass = evidence.observables(f"glass-{check['potential']}")
    (cold, of_glass), (hot, of_liquid) = feature(glass), feature(liquid)
    return estimate(
        lambda s: of_glass(s["glass"]) - of_liquid(s["liquid"]),
        {"glass": cold, "liquid": hot},
        counted=check.measure == "coordination",
    )
