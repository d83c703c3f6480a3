"""Tables of the report: the reference and the glass beside what is known of silica, and diffusion.

They inform and decide nothing. Known numbers come from `reference/experiment`, with their certainty: M is
remembered, and never gates anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.silica import SPECIES
from jobs.observables.msd import diffusion
from jobs.reference.paper import Row, read_experiment
from suite.claims.fig1_rdf import peak_feature, rdf_reader
from suite.claims.fig2_badf import MAXIMUM_HALF_WIDTH, MAXIMUM_WINDOW, badf_reader
from suite.claims.fig5_msd import many_stretches
from suite.judging.against_aimd import by_draw
from suite.judging.checks import REWEIGHTED
from suite.judging.curves import Curves, read_curves
from suite.judging.distances import moments, peak
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import UNAVAILABLE, NotTested
from suite.judging.reweighted import best_overlap, overlap_lacks
from suite.judging.statistics import Array, Estimate, Groups, estimate, estimate_mean, mean_of

REFERENCES = {
    "reference-96-nnp": "AIMD from NNP starts, N = 96",
    "reference-96-bks": "AIMD from BKS starts, N = 96",
    "reference-216-nnp": "AIMD from NNP starts, N = 216",
    "reference-216-bks": "AIMD from BKS starts, N = 216",
    "reference-96-reweighted": "PBE single points, N = 96",
    "reference-216-reweighted": "PBE single points, N = 216",
    "aimd-training": "AIMD of the training data, no reference",
}
GLASSES = {
    "glass-96": "DeePMD-96",
    "glass-216": "DeePMD-216",
    "glass-96-equal-n": "DeePMD-96 in the box of DeePMD-216",
    "glass-96@1e13": "DeePMD-96",
    "glass-216@1e13": "DeePMD-216",
    "glass-96@1e14": "DeePMD-96",
    "glass-216@1e14": "DeePMD-216",
}
# Runs that could show diffusion, in the order of the table.
MOVING = (
    "msd-long",
    "msd-long-216",
    "liquid-96-nvt@5000",
    "liquid-96-nvt@4500",
    "liquid-96-nvt@4000",
    "liquid-96-nvt@3500",
    "liquid-96-nvt",
    "liquid-96-bks",
    "liquid-216-nvt@5000",
    "liquid-216-nvt@4000",
    "liquid-216-nvt",
    "liquid-216-bks",
    *REFERENCES,
)


@dataclass(frozen=True)
class Quantity:
    """A line of the table: how a number comes from runs, and which rows of `reference/` stand beside it."""

    name: str
    unit: str
    of: Callable[[Sequence[Observation]], Estimate]
    known: tuple[str, ...] = ()


def _of_curves(
    read: Callable[[Sequence[Observation]], Curves], feature: Callable[[Array, Groups], float]
) -> Callable[[Sequence[Observation]], Estimate]:
    def measure(runs: Sequence[Observation]) -> Estimate:
        curves = read(runs)
        return estimate(lambda s: feature(curves.x, s["runs"]), {"runs": by_draw(curves.groups, runs)})

    return measure


def _peak(pair: str) -> Callable[[Sequence[Observation]], Estimate]:
    return _of_curves(rdf_reader(pair), lambda x, groups: peak_feature(pair, x, groups)[0])


def _angle(triplet: str, which: int) -> Callable[[Sequence[Observation]], Estimate]:
    return _of_curves(badf_reader(triplet), lambda x, groups: moments(x, mean_of(groups))[which])


def _first_maximum(triplet: str) -> Callable[[Sequence[Observation]], Estimate]:
    def position(x: Array, groups: Groups) -> float:
        window = MAXIMUM_WINDOW[triplet]
        return peak(x, mean_of(groups), window=window, half_width=MAXIMUM_HALF_WIDTH)[0]

    return _of_curves(badf_reader(triplet), position)


def _coordination(key: str, *, fold: int | None = None) -> Callable[[Sequence[Observation]], Estimate]:
    """Mean number of neighbours, or the percentage of atoms that have `fold`."""

    def number(groups: Groups) -> float:
        shares = mean_of(groups)
        if fold is not None:
            return float(100 * shares[fold] / shares.sum())
        return float(shares @ np.arange(len(shares)) / shares.sum())

    def measure(runs: Sequence[Observation]) -> Estimate:
        samples = {"runs": by_draw([np.atleast_2d(run[key]) for run in runs], runs)}
        return estimate(lambda s: number(s["runs"]), samples, counted=True)

    return measure


def _count(key: str, *, factor: float = 1.0) -> Callable[[Sequence[Observation]], Estimate]:
    def measure(runs: Sequence[Observation]) -> Estimate:
        if any("counts" not in run.facts for run in runs):
            raise NotTested("bonds were not counted in this run")
        blocks = [factor * np.array(run.facts["counts"][key]["blocks"]) for run in runs]
        return estimate_mean(by_draw(blocks, runs), counted=True)

    return measure


def _two_rings(runs: Sequence[Observation]) -> Estimate:
    """Pairs of Si that share two O, for each hundred Si: glasses differ in N."""
    return _count("two_rings", factor=100 / runs[0].facts["n_si"])(runs)


def _temperature(runs: Sequence[Observation]) -> Estimate:
    if any("temperature_K" not in run for run in runs):
        raise NotTested("velocities are not known")
    return estimate_mean(by_draw([np.atleast_1d(run["temperature_K"]) for run in runs], runs))


SHIFTED = {
    "Si-O-Si": "mean Si-O-Si (deg)",
    "Si-Si-Si": "mean Si-Si-Si (deg)",
    "O-O-O": "mean O-O-O (deg)",
    "defects": "silicon without four oxygens (%)",
}
QUANTITIES = (
    Quantity("temperature", "K", _temperature),
    Quantity("first Si-O peak of g(r)", "Å", _peak("Si-O"), ("pbe-glass-Si-O",)),
    Quantity("first O-O peak of g(r)", "Å", _peak("O-O"), ("pbe-glass-O-O",)),
    Quantity("first Si-Si peak of g(r) above 2.7 Å", "Å", _peak("Si-Si"), ("pbe-glass-Si-Si",)),
    Quantity("O around Si", "", _coordination("coordination_SiO")),
    Quantity("Si around O", "", _coordination("coordination_OSi")),
    Quantity("Si not 4-fold", "%", _count("defects_si", factor=100)),
    Quantity("O not 2-fold", "%", _count("defects_o", factor=100)),
    Quantity("O-Si-O, mean", "°", _angle("O-Si-O", 0), ("pbe-glass-O-Si-O", "liquid-O-Si-O")),
    Quantity("O-O-O, first maximum", "°", _first_maximum("O-O-O"), ("liquid-O-O-O",)),
    Quantity("Si-O-Si, mean", "°", _angle("Si-O-Si", 0), ("pbe-glass-Si-O-Si", "liquid-Si-O-Si")),
    Quantity("Si-O-Si, standard deviation", "°", _angle("Si-O-Si", 1)),
    Quantity("2-rings (two Si sharing two O) in a frame", "", _count("two_rings")),
    Quantity("Si-Si pairs below 2.5 Å in a frame", "", _count("sisi_below_2.5"), ("pbe-melt-trapped-Si-Si",)),
)

GLASS_QUANTITIES = (
    Quantity("temperature", "K", _temperature),
    Quantity("first Si-O peak of g(r)", "Å", _peak("Si-O"), ("bond-Si-O",)),
    Quantity("first O-O peak of g(r)", "Å", _peak("O-O"), ("bond-O-O",)),
    Quantity("first Si-Si peak of g(r) above 2.7 Å", "Å", _peak("Si-Si"), ("bond-Si-Si",)),
    Quantity("O around Si", "", _coordination("coordination_SiO"), ("coordination-Si-O",)),
    Quantity("Si with 3 O", "%", _coordination("coordination_SiO", fold=3)),
    Quantity("Si with 5 O", "%", _coordination("coordination_SiO", fold=5)),
    Quantity("Si around O", "", _coordination("coordination_OSi"), ("coordination-O-Si",)),
    Quantity("O with 1 Si", "%", _coordination("coordination_OSi", fold=1)),
    Quantity("O with 3 Si", "%", _coordination("coordination_OSi", fold=3)),
    Quantity("2-rings (two Si sharing two O) per 100 Si", "", _two_rings),
    Quantity("O-Si-O, mean", "°", _angle("O-Si-O", 0), ("angle-O-Si-O",)),
    Quantity("Si-O-Si, mean", "°", _angle("Si-O-Si", 0), ("angle-Si-O-Si-17O", "angle-Si-O-Si-29Si")),
    Quantity(
        "Si-O-Si, standard deviation",
        "°",
        _angle("Si-O-Si", 1),
        ("angle-sd-Si-O-Si-17O", "angle-sd-Si-O-Si-29Si"),
    ),
)


@dataclass(frozen=True)
class Table:
    """Texts of a table: `heads`, `rows` of as many cells, and `notes` below."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def reference_table(evidence: Evidence, number: Callable[..., str]) -> Table:
    """The references of this run, quantity by quantity with 95% half widths, beside what is known.

    `number(value, half_width)` writes a number.
    """
    runs, notes = {}, []
    for label, title in REFERENCES.items():
        try:
            runs[title] = evidence.observables(label)
        except UNAVAILABLE as reason:
            notes.append(f"{title}: {reason}")
            continue
        if label.endswith(REWEIGHTED):
            found = runs.pop(title)
            best = best_overlap(found)
            notes.extend(_overlap(title, run.facts, judges=run is best) for run in found)
            for run in found:
                if best and run.facts["sampler"] == best.facts["sampler"] and not overlap_lacks(run.facts):
                    runs[f"{title}, {run.facts['estimator']}"] = [run]
    return Table(("", *runs, "known"), _lines(QUANTITIES, runs, number) if runs else (), tuple(notes))


def glass_table(evidence: Evidence, number: Callable[..., str]) -> Table:
    """The glasses of this run, quantity by quantity with 95% half widths, beside experiment; empty without.

    `number(value, half_width)` writes a number.
    """
    runs: dict[str, Sequence[Observation]] = {}
    shown: list[Sequence[Path]] = []
    for label, title in GLASSES.items():
        try:
            found, where = evidence.observables(label), evidence.directories(label)
        except UNAVAILABLE:
            continue
        if where in shown:  # one glass under two names: a faster quench in a slower one's place, or equal N
            continue
        shown.append(where)
        facts = found[0].facts
        rate = facts.get("quench_rate_K_per_s")
        quenches = f"{len(found)} quench{'es' * (len(found) > 1)}{f' at {rate:.0e} K/s' if rate else ''}"
        made = f"N = {facts['n_atoms']}, {facts['density_g_cm3']:.3f} g/cm³, {quenches}"
        runs[f"{title}, {made}"] = found
    return Table(("", *runs, "known"), _lines(GLASS_QUANTITIES, runs, number) if runs else ())


def _lines(
    quantities: Sequence[Quantity], runs: Mapping[str, Sequence[Observation]], number: Callable[..., str]
) -> tuple[tuple[str, ...], ...]:
    """A row for each quantity: its name, a cell for each set of runs, what is known."""
    rows = []
    for quantity in quantities:
        cells = [_cell(quantity, found, number) for found in runs.values()]
        known = "; ".join(_known(read_experiment()[row]) for row in quantity.known)
        unit = f" ({quantity.unit})" if quantity.unit else ""
        rows.append((quantity.name + unit, *cells, known or "–"))
    return tuple(rows)


def _cell(quantity: Quantity, runs: Sequence[Observation], number: Callable[..., str]) -> str:
    try:
        found = quantity.of(runs)
    except UNAVAILABLE:
        return "–"
    half = (found.ci_high - found.ci_low) / 2
    return f"{number(found.value, half)} ± {number(half, half)}" if half > 0 else number(found.value)


def _known(row: Row) -> str:
    value = f"{row.value:g}" if row.uncertainty is None else f"{row.value:g} ± {row.uncertainty:g}"
    unit = {"A": " Å", "degree": "°", "count": "", "cm2/s": " cm²/s"}.get(row.unit, f" {row.unit}")
    certainty = "M, informs only" if row.certainty == "M" else row.certainty
    return f"{value}{unit} ({row.quantity.split(',')[0]}; {certainty})"


def _overlap(title: str, facts: Mapping[str, Any], *, judges: bool) -> str:
    what = "judges" if judges else f"decides nothing: {overlap_lacks(facts) or 'another one is better'}"
    line = (
        f"{title}, {facts['estimator']}: {facts['frames']} frames of {facts['sampler']['model']}, effective "
        f"fraction {facts['effective_fraction']:.2g} ({facts['effective_frames']:.1f} frames), "
        f"{facts['expected_fraction']:.1g} expected: {what}. The sampler misses PBE's energy by "
        f"{facts['energy_difference_sd_meV_atom']:.1f} meV/atom, {facts['energy_difference_sd_kT']:.2f} kT "
        "in all"
    )
    if facts["estimator"] != "first-order":
        return line
    smaller = facts["fewer"]
    few, many = smaller["n_atoms"], facts["n_atoms"]
    parts = {
        f"first order of {many} atoms": facts["first_order"],
        f"of {few}": smaller["first_order"],
        f"beyond, of {few}": smaller["beyond"],
    }
    shifts = "; ".join(
        f"{title}: " + ", ".join(f"{part} {_plus_minus(found[key])}" for part, found in parts.items())
        for key, title in SHIFTED.items()
    )
    return (
        f"{line}. Of the first order {facts['own_share_of_first_order']:.0%} are its own, the rest and what "
        f"lies beyond are of {few} atoms, effective fraction {smaller['effective_fraction']:.2g}, largest "
        f"weight {smaller['largest_weight']:.0%}. Added to the draws (standard errors): {shifts}"
    )


def _plus_minus(shift: Mapping[str, float]) -> str:
    return f"{shift['value']:.2g} ± {shift['standard_error']:.2g}"


def diffusion_table(evidence: Evidence) -> Table:
    """Log slope of the MSD at long times and D where the slope is 1, by label; replicas are the units."""
    rows = []
    for label in MOVING:
        try:
            runs = evidence.observables(label)
            temperature = f"{runs[0].facts['temperature_K']:g}"
            for species in SPECIES:
                rows.append((REFERENCES.get(label, label), temperature, species, *_moved(runs, species)))
        except (*UNAVAILABLE, KeyError, ValueError):
            continue
    known = (f"Known: {_known(read_experiment()['bks-diffusion-3000K'])}.",)
    heads = ("run", "T (K)", "species", "times (ps)", "log slope ± s.e.", "D ± s.e. (cm²/s)")
    return Table(heads, tuple(rows), known)


def _moved(runs: Sequence[Observation], species: str) -> tuple[str, str, str]:
    """Times, log slope and coefficient: over replicas where there are two, else over blocks of the one."""
    if len(runs) > 1:
        x, means, from_fs = many_stretches(read_curves(runs, "msd_time_fs", f"msd_{species}"))
        fit = vars(diffusion(x, means, from_fs=from_fs)) | {"from_fs": from_fs, "to_fs": float(x[-1])}
    else:
        fit = runs[0].facts["diffusion"][species]
    times = f"{fit['from_fs'] / 1000:.3g} to {fit['to_fs'] / 1000:.3g}"
    slope = f"{fit['slope']:.2f} ± {fit['slope_se']:.2f}"
    if fit["coefficient_cm2_s"] is None or not math.isfinite(fit["coefficient_cm2_s"]):
        return times, slope, "none: not diffusive there"
    return times, slope, f"{fit['coefficient_cm2_s']:.2e} ± {fit['coefficient_se']:.1e}"
