"""Simulated campaigns: the suite's own runs with their scatter drawn anew, and a known fault put in.

A campaign has as many runs, blocks and points as the real one. How its runs deviate from the mean of their
side is drawn from a normal distribution with the covariance of the real ones: as random mixtures of them, so
that correlations along a curve, and between curves of one run, stay. (A random sign for each would draw five
runs in 32 ways, all of one size.) Blocks within a run stay, and so do AIMD's runs in pairs, where only the
differences are drawn. Of a reweighted reference the melts are drawn. An honest NNP has the mean of the
reference that judges, reweighted or AIMD; BKS and glasses have their own. Faults act on the NNP's curves:
distances and angles are mapped; too hot and too soft add, in proportion, what planted runs have in excess of
honest ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from jobs.reference.paper import shared_noise
from suite.judging.curves import common, read_curves
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import UNAVAILABLE
from suite.judging.reweighted import best_overlap
from suite.judging.statistics import Array

Change: TypeAlias = Callable[[str, Array, Array], Array]
"""Of an array's name, its grid and its rows (blocks, points): the rows with a fault."""

GRIDS = {
    "rdf": "rdf_r",
    "badf": "angle_deg",
    "vaf": "vaf_time_fs",
    "msd": "msd_time_fs",
    "tr": "tr_r",
    "sq": "sq_q",
}
SIZES = (96, 216)
# How alike AIMD runs of one thermostat noise are drawn at equilibrium: the upper end of what pairs show,
# 0.16 +- 0.14 (docs/notes/aimd-references.md).
ALIKE = 0.3
UNPAIRED = (
    "liquid-{size}-nvt",
    "liquid-{size}-bks",
    "liquid-{size}-nvt-96",
    "liquid-{size}-hdnnp",
    "liquid-{size}-nve",
    "motion-{size}-nvt",
    "motion-{size}-bks",
    "glass-{size}",
)
LONG = {96: "msd-long", 216: "msd-long-216"}


def kind_of(key: str) -> str:
    """A key of `GRIDS` or `coordination`; nothing for arrays that campaigns do not draw."""
    head = key.split("_")[0]
    return head if (head in GRIDS and key not in GRIDS.values()) or head == "coordination" else ""


def to_linear(key: str, rows: Array) -> Array:
    """The scale on which deviations are added: the logarithm for an MSD, the value itself otherwise."""
    return np.log(rows) if kind_of(key) == "msd" else rows


def from_linear(key: str, rows: Array) -> Array:
    """The reverse of `to_linear`."""
    return np.exp(rows) if kind_of(key) == "msd" else rows


def stretched(percent: float) -> Change:
    """Every distance too long."""
    factor = 1 + percent / 100

    def change(key: str, x: Array, rows: Array) -> Array:
        kind = kind_of(key)
        if kind == "sq":
            return _mapped(x * factor, x, rows)
        return _mapped(x / factor, x, rows) if kind in ("rdf", "tr") else rows

    return change


def turned(degrees: float) -> Change:
    """Every angle too large."""

    def change(key: str, x: Array, rows: Array) -> Array:
        return _mapped(x - degrees, x, rows) if kind_of(key) == "badf" else rows

    return change


def slowed(percent: float) -> Change:
    """Every velocity's correlation too slow in time, as by force constants that are too small."""

    def change(key: str, x: Array, rows: Array) -> Array:
        return _mapped(x * (1 - percent / 100), x, rows) if kind_of(key) == "vaf" else rows

    return change


def steeper(amount: float) -> Change:
    """Ln MSD too steep in ln t by an amount."""

    def change(key: str, x: Array, rows: Array) -> Array:
        return rows * (x / x[-1]) ** amount if kind_of(key) == "msd" else rows

    return change


def raised(amount: float) -> Change:
    """Ln MSD and the share of four-fold silicon too high by an amount."""

    def change(key: str, x: Array, rows: Array) -> Array:
        if kind_of(key) == "msd":
            return rows * np.exp(amount)
        if key == "coordination_SiO":
            moved = rows.copy()
            moved[:, 4] += amount * rows.sum(axis=1)
            moved[:, 5] -= amount * rows.sum(axis=1)
            return moved
        return rows

    return change


def _mapped(at: Array, x: Array, rows: Array) -> Array:
    return np.array([np.interp(at, x, row) for row in rows])


@dataclass(frozen=True)
class Response:
    """What planted runs have in excess of honest ones, by array name: (grid, curve)."""

    curves: Mapping[str, tuple[Array, Array]]

    def times(self, amount: float) -> Change:
        """So many times the planted fault."""

        def change(key: str, x: Array, rows: Array) -> Array:
            if key not in self.curves or not amount:
                return rows
            grid, curve = self.curves[key]
            added = np.interp(x, grid, curve, right=0.0) if len(x) == rows.shape[1] else curve
            return from_linear(key, to_linear(key, rows) + amount * added)

        return change


def response(evidence: Evidence, *, faulty: str, honest: str) -> Response:
    """Mean of one product's curves less another's; empty where there are no such runs."""
    try:
        runs = {name: evidence.observables(name) for name in (faulty, honest)}
    except UNAVAILABLE:
        return Response({})
    curves = {}
    for key in runs[honest][0].arrays:
        if not (kind := kind_of(key)):
            continue
        if kind == "coordination":
            means = [
                np.mean([to_linear(key, run[key]).mean(axis=0) for run in found], axis=0)
                for found in runs.values()
            ]
            curves[key] = (np.arange(float(len(means[0]))), means[0] - means[1])
            continue
        wrong, right = common(*(read_curves(found, GRIDS[kind], key) for found in runs.values()))
        means = [
            np.mean([to_linear(key, np.mean(group, axis=0)) for group in part.groups], axis=0)
            for part in (wrong, right)
        ]
        curves[key] = (right.x, means[0] - means[1])
    return Response(curves)


def difference_of_means(evidence: Evidence, *, size: int) -> Response:
    """BKS less AIMD, from the same frames: the direction in which rankings come to a tie."""
    return response(evidence, faulty=f"paired-{size}-bks", honest=f"paired-{size}-aimd")


def _drawn(run: Observation, arrays: Mapping[str, Array]) -> Observation:
    """A run with other arrays."""
    made = Observation(Path())
    vars(made).update(facts=run.facts, arrays={**run.arrays, **arrays})
    return made


@dataclass
class Simulator:
    """Draws campaigns from a body of evidence."""

    evidence: Evidence
    labels: frozenset[str]
    """What the checks read: nothing else is drawn."""
    about: frozenset[str] = frozenset()
    """Pairs, angles and species that they read, or nothing for all."""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(2020))

    def campaign(
        self,
        network: Sequence[Change] = (),
        *,
        other: Sequence[Change] = (),
        noise: float = 1.0,
    ) -> Evidence:
        """One campaign with an honest NNP, its curves then changed.

        Args:
            network: faults of the NNP, in every product whose atoms it moves.
            other: faults of the other NNP of a pair instead, or of the glass beside the liquid.
            noise: how much units scatter; with a thousandth, values are those of infinite data.
        """
        drawn: dict[str, list[Observation]] = {}
        for size in SIZES:
            drawn |= self._pairs(size, network, other, noise)
            drawn |= self._unpaired(size, network, other, noise)
        return self.evidence.with_drawn(drawn)

    def _read(self, label: str) -> list[Observation] | None:
        if label not in self.labels:
            return None
        try:
            return self.evidence.observables(label)
        except UNAVAILABLE:
            return None

    def _keys(self, runs: Sequence[Observation]) -> list[str]:
        """The arrays of runs to draw. Curves over time are as long as a run: of unequal runs they stay."""
        return [
            key
            for key in runs[0].arrays
            if (kind := kind_of(key))
            and (not self.about or kind in ("tr", "sq") or key.split("_", 1)[1] in self.about)
            and len({run[key].shape[-1] if key in run else 0 for run in runs}) == 1
        ]

    def _mixture(self, runs: Sequence[Observation], *, alike: float) -> Array:
        """Weights (runs, runs) that make new deviations of old ones: normal, with their covariance.

        Runs of one thermostat noise are drawn `alike`, from 0 (not at all) to 1.
        """
        n = len(runs)
        weights = self.rng.standard_normal((n, n))
        common: dict[int, Array] = {}
        for place, run in enumerate(runs):
            if (draw := shared_noise().get(run.facts.get("aimd_run") or "")) is not None:
                one = common.setdefault(draw, self.rng.standard_normal(n))
                weights[place] = np.sqrt(1 - alike) * weights[place] + np.sqrt(alike) * one
        return weights / np.sqrt(max(n - 1, 1))

    def _pairs(
        self, size: int, network: Sequence[Change], other: Sequence[Change], noise: float
    ) -> dict[str, list[Observation]]:
        aimd = self._read(f"paired-{size}-aimd")
        if aimd is None:
            return {}
        sides = {who: self._read(f"paired-{size}-{who}") for who in ("nnp", "other", "bks")}
        # One for all sides: a pair is a unit. Their noise is on both sides and leaves the difference.
        mixture = noise * self._mixture(aimd, alike=0.0)
        drawn: dict[str, list[Observation]] = {f"paired-{size}-aimd": aimd}
        for who, runs in sides.items():
            if runs is None:
                continue
            changes = {"nnp": network, "other": other}.get(who, ())
            made = []
            keys = self._keys([*runs, *aimd])
            for mine, theirs, weights in zip(runs, aimd, mixture, strict=True):
                arrays = {}
                for key in keys:
                    excess = self._excess(size, who, key)
                    honest = excess.mean(axis=0) if who == "bks" else 0.0
                    deviation = weights @ (excess - excess.mean(axis=0))
                    rows = to_linear(key, theirs[key]) + honest + deviation
                    arrays[key] = _changed(key, mine, from_linear(key, rows), changes)
                made.append(_drawn(mine, arrays))
            drawn[f"paired-{size}-{who}"] = made
        return drawn

    def _excess(self, size: int, who: str, key: str) -> Array:
        """Excess of a side of the pairs over AIMD: (pairs, points)."""

        def make() -> Array:
            means = [
                np.array([to_linear(key, run[key].mean(axis=0)) for run in found])
                for found in (self.evidence.observables(f"paired-{size}-{name}") for name in (who, "aimd"))
            ]
            return means[0] - means[1]

        return self.evidence.once(("simulated excess", size, who, key), make)

    def _unpaired(
        self, size: int, network: Sequence[Change], other: Sequence[Change], noise: float
    ) -> dict[str, list[Observation]]:
        references = {
            label: self._read(label) for label in (f"reference-{size}-nnp", f"reference-{size}-bks")
        }
        known = {label: runs for label, runs in references.items() if runs is not None}
        truth = [run for runs in known.values() for run in runs]
        drawn: dict[str, list[Observation]] = {}
        label = f"reference-{size}-reweighted"
        if (best := best_overlap(self._read(label) or [])) is not None:
            truth = [best]
            drawn[label] = [self._melts_drawn(best, noise)]
        for label in (*(template.format(size=size) for template in UNPAIRED), LONG[size]):
            if (runs := self._read(label)) is not None:
                known[label] = runs
        alike = {f"liquid-{size}-{what}" for what in ("nvt", "nvt-96", "hdnnp")}
        honest = {*alike, *references, f"motion-{size}-nvt"}
        # Without AIMD an honest NNP is what the others are: all of them have the mean of all.
        truth = truth or [run for label in sorted(alike & set(known)) for run in known[label]]
        for label, runs in known.items():
            glass = label == f"glass-{size}"
            own_size = glass or label in (f"liquid-{size}-nvt", f"motion-{size}-nvt", LONG[size])
            moved = own_size or (size == 96 and label == "liquid-216-nvt-96")
            changes = (*(network if moved else ()), *(other if glass else ()))
            mixture = noise * self._mixture(runs, alike=ALIKE)
            made = []
            keys = self._keys(runs)
            for weights, run in zip(mixture, runs, strict=True):
                arrays = {}
                for key in keys:
                    rows = to_linear(key, run[key]) if _positive(key, run) else None
                    if rows is None:
                        continue
                    own = self._mean(label, runs, key)
                    target = own
                    if truth and label in honest:
                        target = self._truth(size, truth, key, own)
                    deviation = weights @ self._deviations(label, runs, key)
                    blocks = noise * (rows - rows.mean(axis=0))
                    new = from_linear(key, target + deviation + blocks)
                    arrays[key] = _changed(key, run, new, changes)
                made.append(_drawn(run, arrays))
            drawn[label] = made
        return drawn

    def _melts_drawn(self, run: Observation, noise: float) -> Observation:
        """A reweighted reference of other melts, its blocks: normal, with their covariance."""
        arrays = {}
        n = run.facts["blocks"]
        weights = noise * self.rng.standard_normal((n, n)) / np.sqrt(n - 1)
        for key in self._keys([run]):
            mean = run[key].mean(axis=0)
            arrays[key] = mean + weights @ (run[key] - mean)
        return _drawn(run, arrays)

    def _mean(self, label: str, runs: Sequence[Observation], key: str) -> Array:
        def make() -> Array:
            found: Array = np.mean([to_linear(key, run[key]).mean(axis=0) for run in runs], axis=0)
            return found

        return self.evidence.once(("simulated mean", label, key), make)

    def _deviations(self, label: str, runs: Sequence[Observation], key: str) -> Array:
        """Deviation of each run's mean from that of all: (runs, points)."""

        def make() -> Array:
            means = np.array([to_linear(key, run[key]).mean(axis=0) for run in runs])
            return means - self._mean(label, runs, key)

        return self.evidence.once(("simulated deviations", label, key), make)

    def _truth(self, size: int, truth: Sequence[Observation], key: str, own: Array) -> Array:
        """The mean of what is true, where it was observed on the run's grid; else the run's own."""
        observed = [run for run in truth if key in run and run[key].shape[1:] == own.shape]
        return self._mean(f"true at {size}, {len(own)} points", observed, key) if observed else own


def _positive(key: str, run: Observation) -> bool:
    return kind_of(key) != "msd" or bool((run[key] > 0).all())


def _changed(key: str, run: Observation, rows: Array, changes: Sequence[Change]) -> Array:
    grid = GRIDS.get(kind_of(key))
    x = np.asarray(run[grid]) if grid else np.arange(float(rows.shape[1]))
    for change in changes:
        rows = change(key, x, rows)
    return rows
