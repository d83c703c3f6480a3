"""AIMD as a reference, and the rule that the result must not depend on its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from jobs.reference.paper import shared_noise
from suite.judging.checks import Check
from suite.judging.curves import Curves, Difference, Reader, common
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.reweighted import MELT_GROUPS, best_overlap, lacks
from suite.judging.statistics import REPLICA_UNITS, Array, Estimate
from suite.judging.verdict import Band, Verdict, decide

SEEDS = 4
BKS_TOO = "BKS is within the band too"
NO_AIMD = "no AIMD of 216 atoms as a reference: how far BKS is from DeePMD-216 is the yardstick"
# A trajectory that was cut too early is still on its way from its start's energy to its temperature. Of 120
# steps of 2 fs and 96 atoms the mean is good to 2 %; 10 % more is a fault that claims must catch.
TEMPERATURE_TOLERANCE = 0.05
DENSITY_TOLERANCE = 0.005  # 0.2 % of the box's length; bonds change by less


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
            thin = f"; {lacks(found)}"
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
