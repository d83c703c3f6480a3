"""Curves of several runs on one grid, and the rule that the result must not depend on the start of AIMD."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from jobs.reference.paper import shared_noise
from suite.judging.checks import Check
from suite.judging.distances import rooted
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import REPLICA_UNITS, Array, Estimate, Groups, estimate
from suite.judging.verdict import Band, Verdict, decide

SAMPLE_FRACTION = 0.1  # a reweighted reference with fewer effective samples decides nothing
SAMPLE_MELTS = 10  # the delta-method errors of a weighted mean cover 95 % only with about that many units
# To first order, intervals of 24 melts hold the truth in 94 of 100 simulated cases, of 12 in 91.
FIRST_ORDER_MELTS = 24
# What lies beyond the first order is taken from fewer atoms: how much farther the energies of the many may be
# off, for each atom, than those of the few. The spread is known to a seventh of itself from 24 melts.
LARGEST_SPREAD_RATIO = 1.25
MELT_GROUPS = 8
SEEDS = 4
BKS_TOO = "BKS is within the band too"
NO_AIMD = "no AIMD of 216 atoms as a reference: how far BKS is from DeePMD-216 is the yardstick"
# A trajectory that was cut too early is still on its way from its start's energy to its temperature. Of 120
# steps of 2 fs and 96 atoms the mean is good to 2 %; 10 % more is a fault that claims must catch.
TEMPERATURE_TOLERANCE = 0.05
DENSITY_TOLERANCE = 0.005  # 0.2 % of the box's length; bonds change by less

Distance = Callable[[Groups, Groups], float]
Difference = Callable[["Curves", "Curves"], Estimate]


class Square(Protocol):
    """A squared distance of two sets of curves: unbiased, or plain (`biased`)."""

    def __call__(self, first: Groups, second: Groups, *, biased: bool = False) -> float:
        """The square."""


Reader = Callable[[Sequence[Observation]], "Curves"]


@dataclass(frozen=True)
class Curves:
    """Curves of several replicas on one grid: x (points,), groups of shape (blocks, points)."""

    x: Array
    groups: list[Array]

    def between_fs(self, low_fs: float, high_fs: float) -> Curves:
        """The part within [low, high] of curves over time.

        Raises:
            NotTested: the grid ends before `high_fs`, or has fewer than two points there.
        """
        inside = (self.x >= low_fs - 1e-9) & (self.x <= high_fs + 1e-9)
        if np.count_nonzero(inside) < 2 or self.x[-1] < 0.9 * high_fs:
            known = f"from {self.x[0]:.4g} to {self.x[-1]:.4g} fs"
            raise NotTested(f"the curve is known {known}, not from {low_fs:g} to {high_fs:g} fs")
        return Curves(self.x[inside], [group[:, inside] for group in self.groups])


def read_curves(observations: Sequence[Observation], x_key: str, y_key: str) -> Curves:
    """One curve from each run, cut to what all of them cover."""
    parts = []
    for observation in observations:
        y = np.atleast_2d(observation[y_key])
        known = np.isfinite(y).all(axis=0)
        parts.append(Curves(observation[x_key][known], [y[:, known]]))
    cut = common(*parts)
    return Curves(cut[0].x, [part.groups[0] for part in cut])


def common(*curves: Curves) -> list[Curves]:
    """The curves on the points of the coarsest of their grids, as far as all of them reach.

    AIMD of a user may have another time between frames; the finer grid must then contain the coarser one.

    Raises:
        NotTested: no point of a curve is known, or a finer grid lacks points of the coarsest.
    """
    if not all(len(part.x) for part in curves):
        raise NotTested("no point of a curve is known")
    if all(np.array_equal(part.x, curves[0].x) for part in curves[1:]):
        return list(curves)
    end = min(part.x[-1] for part in curves) * (1 + 1e-9)
    points = min((part.x[part.x <= end] for part in curves), key=len)
    found = []
    for part in curves:
        places = np.abs(part.x[:, None] - points).argmin(axis=0)
        if not np.allclose(part.x[places], points, rtol=1e-6, atol=1e-6):
            raise NotTested(
                f"grids: found {part.x[:3]} beside {points[:3]}, expected the coarser's points in the finer"
            )
        found.append(Curves(points, [group[:, places] for group in part.groups]))
    return found


def difference(distance: Distance, first: Curves, second: Curves) -> Estimate:
    """A distance between two independent sets of curves of systems that are alike, with its interval."""
    return estimate(
        lambda samples: distance(samples["first"], samples["second"]),
        {"first": first.groups, "second": second.groups},
        scatter_donors=("first", "second"),
    )


def root_of(square: Square, first: Curves, second: Curves) -> Estimate:
    """Root of a squared distance between two independent sets of curves of systems that are alike."""
    plain = difference(lambda a, b: math.sqrt(square(a, b, biased=True)), first, second)
    return rooted(difference(square, first, second), _of_the_smaller(plain, first.groups, second.groups))


def _of_the_smaller(found: Estimate, *sets: Groups) -> Estimate:
    """An estimate with the degrees of freedom of the smallest set that has enough replicas.

    Scatter enters a square twice: with those of both sets, distances on the edge of their band passed in 5 to
    7 % of simulated campaigns in place of 2.5 %.
    """
    enough = [len(groups) - 1 for groups in sets if len(groups) >= REPLICA_UNITS]
    return Estimate.from_error(
        found.value,
        standard_error=found.standard_error,
        degrees_of_freedom=min([found.degrees_of_freedom, *enough]),
    )


def farther(square: Square, *, far: Groups, near: Groups, reference: Groups) -> Estimate:
    """How much farther `far` is from the reference than `near` is; three sets of curves, of systems alike.

    The signed root of the difference of the squared distances.
    """
    return estimate(
        lambda s: square(s["far"], s["reference"]) - square(s["near"], s["reference"]),
        {"far": far, "near": near, "reference": reference},
        scatter_donors=("far", "near"),
    ).root()


def beyond_a_third(
    square: Square, first: Groups, second: Groups, *, far: Groups, reference: Groups
) -> Estimate:
    """Whether two sets of curves are farther apart than a third of what `far` is from the reference.

    The signed root of the difference of the squared distances: at most 0 is "almost the same". All systems
    are alike; the reference may be one of the two sets. The upper end counts noise as distance, as `rooted`.
    """
    own = reference is second
    samples = {"first": first, "second": second, "far": far} | ({} if own else {"reference": reference})

    def excess(s: Mapping[str, Groups], *, biased: bool = False) -> float:
        apart = square(s["first"], s["second"], biased=biased)
        return apart - square(s["far"], s["second" if own else "reference"]) / 9

    def found(biased: bool) -> Estimate:
        return estimate(lambda s: excess(s, biased=biased), samples, scatter_donors=("first", "second"))

    plain = _of_the_smaller(found(biased=True), first, second)
    return rooted(found(biased=False), plain.root())


def by_draw(groups: Sequence[Array], runs: Sequence[Observation]) -> list[Array]:
    """Groups, one of each AIMD run, in which runs that share a draw of their thermostat's noise are one."""
    joined: dict[Any, list[Array]] = {}
    for number, (group, run) in enumerate(zip(groups, runs, strict=True)):
        draw = shared_noise().get(run.facts.get("aimd_run") or "")
        joined.setdefault(("run", number) if draw is None else ("draw", draw), []).append(group)
    return [np.concatenate(parts) for parts in joined.values()]


def aimd_reference(
    evidence: Evidence,
    *,
    size: int,
    read: Reader,
    start_difference: Difference,
    band: Band,
    static: bool,
    unit: str = "",
) -> Curves:
    """AIMD as a reference for `liquid-SIZE-nvt`, of motion `motion-SIZE-nvt`, at its temperature and density.

    A static property may come from PBE single points reweighted to PBE (`reference-SIZE-reweighted`)
    if they lack nothing (`overlap_lacks`), of several sets from the best (`best_overlap`). Otherwise
    AIMD started from NNP and from BKS configurations must both be there, at least four runs of one and two
    of the other, at their temperature, and agree within `band` (the 95% interval of `start_difference`
    inside it), because short AIMD keeps the bond network that it started from.
    Both are then the reference together; runs that share a thermostat's noise are one unit. `unit` is that of
    the difference, for the message.

    Raises:
        NotTested: no reference, one of another state or too few runs, or the start decides.
        Pending, SuiteError: a reference is not there yet, or making it failed; no other replaces it.
    """
    liquid = evidence.observables(f"{'liquid' if static else 'motion'}-{size}-nvt")[0].facts
    thin = ""
    reweighted = f"reference-{size}-reweighted"
    if static and evidence.expects(reweighted):
        found = [
            observation
            for observation in evidence.observables(reweighted)
            if not _state_differs(observation.facts, liquid)
        ]
        if (best := best_overlap(found)) is not None:
            curves = read([best])
            # Its blocks are independent melts, so groups of blocks can stand for replicas.
            parts = [part for group in curves.groups for part in np.array_split(group, MELT_GROUPS)]
            return Curves(curves.x, parts)
        if found:
            thin = f"; {_all_lack(found)}"
    starts = [f"reference-{size}-{start}" for start in ("nnp", "bks")]
    missing = [label for label in starts if not evidence.expects(label)]
    if missing:
        raise NotTested(
            f"no AIMD of {size} atoms as a reference ({' and '.join(missing)} not deposited): without both "
            f"starts the start would decide{thin}"
        )
    runs = {label: evidence.observables(label) for label in starts}
    require_runs(runs)
    for label in starts:
        if differs := _state_differs(runs[label][0].facts, liquid):
            raise NotTested(f"{label} is not of the liquid's state: {differs}")
        _require_temperature(label, runs[label])
    both = common(*(read(runs[label]) for label in starts))
    from_nnp, from_bks = (
        replace(curves, groups=by_draw(curves.groups, runs[label]))
        for label, curves in zip(starts, both, strict=True)
    )
    apart = start_difference(from_nnp, from_bks)
    verdict, why = decide(apart, band)
    if verdict is not Verdict.PASS:
        known = "the start decides" if verdict is Verdict.FAIL else "whether the start decides is not known"
        raise NotTested(
            f"{known}: AIMD from NNP and from BKS configurations are {apart.value:.3g} apart "
            f"({apart.ci_low:.3g} to {apart.ci_high:.3g}{unit and f' {unit}'}); {why}{thin}"
        )
    # A draw may have runs of both starts.
    every = [run for label in starts for run in runs[label]]
    return Curves(from_nnp.x, by_draw(both[0].groups + both[1].groups, every))


def network_against_aimd(
    check: Check,
    evidence: Evidence,
    *,
    size: int,
    read: Reader,
    apart: Difference,
    aimd: Curves,
    run: str = "liquid",
) -> Estimate:
    """How far `RUN-SIZE-nvt` is from AIMD. The remark says so where BKS would pass too."""

    def of(label: str) -> Estimate:
        return apart(*common(read(evidence.observables(label)), aimd))

    classical = f"{run}-{size}-bks"
    return beside_bks(
        check, of(f"{run}-{size}-nvt"), bks=lambda: of(classical) if classical in evidence else None
    )


def beside_bks(check: Check, nnp: Estimate, *, bks: Callable[[], Estimate | None]) -> Estimate:
    """The NNP's estimate. Its remark says so where the same comparison of BKS passes too.

    `bks` is asked only where the NNP passes. Without BKS (None or NotTested) the NNP's verdict stands.
    """

    def passes(found: Estimate) -> bool:
        return decide(found, check.band)[0] is Verdict.PASS

    with suppress(NotTested):
        if passes(nnp) and (other := bks()) is not None and passes(other):
            return nnp.with_remark(
                f"{BKS_TOO} ({other.value:.2g} [{other.ci_low:.2g}, {other.ci_high:.2g}]): "
                "this does not tell the two apart"
            )
    return nnp


def best_overlap(found: Sequence[Observation]) -> Observation | None:
    """Of reweighted sets that can be a reference the one with most effective melts, if any.

    One by weights goes before one to first order, which needs a second set.
    """
    usable = [one for one in found if not overlap_lacks(one.facts)]
    return max(
        usable,
        key=lambda one: (one.facts["estimator"] == "weights", float(one.facts["effective_melts"])),
        default=None,
    )


def judging_reference(found: Sequence[Observation]) -> Observation:
    """The reweighted set that judges (`best_overlap`).

    Raises:
        NotTested: none can; it says what each lacks.
    """
    if (best := best_overlap(found)) is None:
        raise NotTested(_all_lack(found))
    return best


def _all_lack(found: Sequence[Observation]) -> str:
    lacks = (f"{one.facts['estimator']}: {overlap_lacks(one.facts)}" for one in found)
    return f"the reweighted reference decides nothing ({'; '.join(lacks)})"


def overlap_lacks(facts: Mapping[str, Any]) -> str:
    """What a reweighted reference lacks to be used (`facts` of its observe.json), or nothing.

    n frames have an effective fraction of at least 1/n, however bad the overlap, so besides the fraction
    the melts that carry the weight are counted, and the fraction that the spread of the energy difference
    lets expect must reach the bound too. To first order melts are counted, and the set from which the rest
    comes must itself be one whose weights can be used, and as good for each atom.
    """
    if facts["estimator"] == "first-order":
        smaller = facts["beyond"]
        per_atom = [one["energy_difference_sd_kT"] / math.sqrt(one["n_atoms"]) for one in (facts, smaller)]
        if lacks := overlap_lacks(smaller):
            return f"its set of {smaller['n_atoms']} atoms {lacks}"
        if per_atom[0] > LARGEST_SPREAD_RATIO * per_atom[1]:
            return (
                f"its spread per root of the number of atoms is {per_atom[0] / per_atom[1]:.2f} times that "
                f"of {smaller['n_atoms']} atoms, needs at most {LARGEST_SPREAD_RATIO}"
            )
        if facts["blocks"] < FIRST_ORDER_MELTS:
            return f"has {facts['blocks']} melts, needs {FIRST_ORDER_MELTS}"
        return ""
    measured, expected = facts["effective_fraction"], facts["expected_fraction"]
    if measured < SAMPLE_FRACTION:
        return f"has an effective sample fraction of {measured:.2g}, needs {SAMPLE_FRACTION:g}"
    if expected < SAMPLE_FRACTION:
        return (
            f"has energies whose spread leaves an effective fraction of {expected:.2g}, needs "
            f"{SAMPLE_FRACTION:g} (its few frames show {measured:.2g})"
        )
    if facts["effective_melts"] < SAMPLE_MELTS:
        return f"has its weight on {facts['effective_melts']:.1f} melts, needs {SAMPLE_MELTS}"
    return ""


def require_runs(runs: Mapping[str, Sequence[Observation]]) -> None:
    """Refuse to compare starts on fewer runs than show how far runs of one start lie apart.

    Raises:
        NotTested: fewer than four runs of each start, or fewer than two of one.
    """
    counts = {label: len(found) for label, found in runs.items()}
    if max(counts.values()) < REPLICA_UNITS or min(counts.values()) < 2:
        found = " and ".join(
            f"{label} has {count} run{'s' * (count != 1)}" for label, count in counts.items()
        )
        raise NotTested(f"{found}: needs at least {REPLICA_UNITS} of one and 2 of the other")


def _state_differs(facts: Mapping[str, Any], liquid: Mapping[str, Any]) -> str:
    """How a reference's declared temperature and density differ from those of the liquid compared with it."""
    # A planted stretch is a fault of the observed distances, not another state.
    density = liquid["density_g_cm3"] * liquid["stretch"] ** 3
    if abs(facts["temperature_K"] - liquid["temperature_K"]) > 1:
        return f"{facts['temperature_K']:g} K, not {liquid['temperature_K']:g} K"
    if abs(facts["density_g_cm3"] / density - 1) > DENSITY_TOLERANCE:
        return f"{facts['density_g_cm3']:.3f} g/cm3, not {density:.3f} g/cm3"
    return ""


def _require_temperature(label: str, runs: Sequence[Observation]) -> None:
    # Without velocities (VASP's files) the temperature is not known.
    known = [np.asarray(run["temperature_K"]) for run in runs if "temperature_K" in run]
    if not known:
        return
    target = runs[0].facts["temperature_K"]
    early, late = zip(*(np.array_split(blocks, 2) for blocks in known), strict=True)
    parts = {
        label: known,
        **{f"run {i} of {label}": [blocks] for i, blocks in enumerate(known, start=1)},
        f"the first half of {label}": early,
        f"the second half of {label}": late,
    }
    for name, blocks in parts.items():
        found = float(np.concatenate(blocks).mean())
        # A part has half the data or less: its mean scatters more, so twice the deviation is allowed.
        allowed = TEMPERATURE_TOLERANCE * (1 if name == label else 2)
        if abs(found - target) > allowed * target:
            raise NotTested(
                f"{name} ran at {found:.0f} K on average, not within {allowed:.0%} of {target:g} K: "
                "its start is not forgotten"
            )


def require_216_atom_data(evidence: Evidence) -> None:
    """Refuse to compare 96 with 216 where DeePMD-216 saw no 216-atom PBE data.

    Raises:
        NotTested: no 216-atom frame was held out with its training data, so none is in them.
    """
    sizes = {
        int(size) for heldout in evidence.heldout("parity-216") for size in np.unique(heldout["n_atoms"])
    }
    if 216 not in sizes:
        raise NotTested(
            "no 216-atom PBE set exists: DeePMD-216 was trained on frames of "
            f"{', '.join(str(size) for size in sorted(sizes))} atoms, with its own loss"
        )


def require_pair(evidence: Evidence) -> None:
    """Refuse to compare the liquids of 96 with those of 216 where the potentials are not two.

    Raises:
        NotTested: one potential of the user replaces both, or no 216-atom PBE data.
    """
    require_216_atom_data(evidence)
    if evidence.directories("liquid-216-nvt") == evidence.directories("liquid-216-nvt-96"):
        raise NotTested("one potential stands for both: there is nothing to compare")


def require_seeds(evidence: Evidence, *labels: str) -> None:
    """Refuse to rank potentials on fewer seeds than tell a difference from chance.

    Raises:
        NotTested: a label has fewer than four trainings.
    """
    for label in labels:
        seeds = len(evidence.train(label))
        if seeds < SEEDS:
            raise NotTested(f"{label} has {seeds} seed{'s' * (seeds > 1)}: a ranking needs at least {SEEDS}")
