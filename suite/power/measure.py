"""`python -m suite.power`: what each check of a finished run sees, by simulation; writes reference/power.yml.

For every check that gave a number and reads g(r), T(r), angles, coordination, VAF or MSD of an NNP: how often
it fails an honest potential, how often it passes one that lies on the edge of its band, how often it passes
an honest one, and the smallest stretch, softness, heat and shift of angles that it fails in 80% of campaigns
that judge (docs/notes/power.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import suite.claims  # noqa: F401 - fills REGISTRY
from jobs.base.files import parse_yaml, write_whole
from jobs.campaign.build import build_campaign
from jobs.campaign.tier import STARTS
from jobs.cli.options import DEPOSITED_TIER
from jobs.observables.rdf import PAIRS
from jobs.store.store import Store
from suite.judging.checks import Check, load_claims
from suite.judging.evaluate import REGISTRY, evaluate
from suite.judging.evidence import Evidence
from suite.judging.power_table import POWER_FILE
from suite.judging.verdict import COMPARISONS, PAPER, SUPPLEMENTARY, Verdict
from suite.power.simulation import (
    Change,
    Response,
    Simulator,
    difference_of_means,
    raised,
    response,
    slowed,
    steeper,
    stretched,
    turned,
)

CAMPAIGNS, TRIALS = 500, 25  # of an honest NNP and of one on the edge; of one with a fault
SEEN = 0.8
LEAST_JUDGED = 0.2  # of the campaigns, 100 of 500 and 5 of 25: of fewer no rate is given
LADDERS: Mapping[str, tuple[float, ...]] = {
    "stretch_percent": (0.25, 0.5, 1, 1.5, 2, 3, 5, 10),
    "force_percent": (2, 5, 10, 20, 30, 50),
    "temperature_percent": (2, 5, 10, 20, 30, 50),
    "angle_deg": (0.5, 1, 1.5, 2, 3, 5, 10, 20),
}
PLANTED_PERCENT = 10.0  # of the planted runs whose response is scaled
EDGE_STEPS = 15
WITHOUT_NNP = ("same-qualitatively", "inherited")  # read BKS or AIMD only: no fault of the NNP reaches them
ANGLES = ("O-O-O", "O-Si-O", "Si-O-Si", "Si-Si-Si")
CURVES = ("liquid", "motion", "glass", "msd", "paired", "reference")  # how drawn products' names begin
QUIET = 1e-3  # of the scatter: next to none, and yet an error bar


@dataclass(frozen=True)
class Faults:
    """The effects as changes of the NNP's curves."""

    hot: Response
    soft: Response
    towards_bks: Mapping[int, Response]

    def change(self, effect: str, amount: float) -> list[Change]:
        """The fault of one rung."""
        match effect:
            case "stretch_percent":
                return [stretched(amount)]
            case "angle_deg":
                return [turned(amount)]
            case "force_percent":
                return [self.soft.times(amount / PLANTED_PERCENT)]
            case "temperature_percent":
                return [self.hot.times(amount / PLANTED_PERCENT)]
        raise ValueError(effect)


def checks_with_numbers(evidence: Evidence, *, kinds: Sequence[str]) -> list[Check]:
    """The paper's and supplementary checks that read curves of an NNP and give a number on the evidence.

    Of `kinds` of comparison (`suite.judging.verdict.COMPARISONS`).
    """
    found = []
    for check in load_claims():
        if check.category not in (PAPER, SUPPLEMENTARY) or check.same_as or check.claim == "parity":
            continue
        if check.comparison_kind not in kinds or any(part in check.id for part in WITHOUT_NNP):
            continue
        curves = [label for label in check.needs if label.split("-")[0] in CURVES]
        if curves and _judged(check, evidence).value is not None:
            found.append(check)
    return found


def _judged(check: Check, evidence: Evidence) -> Any:
    # A tier without name: neither a published power nor a short training changes the verdict then.
    # Only the products that the check needs: remarks on BKS are left out.
    needed = {label: paths for label, paths in evidence.products.items() if label in check.needs}
    asked = replace(evidence, products=needed, short_training={}, _kept={}, tier="simulated")
    return evaluate(REGISTRY[check.claim], check, asked)


def rate(verdicts: Sequence[Verdict], wanted: Verdict) -> float:
    """Share of campaigns with a verdict."""
    return round(sum(verdict is wanted for verdict in verdicts) / len(verdicts), 4)


def rate_of_judged(verdicts: Sequence[Verdict], wanted: Verdict) -> float | None:
    """The same of the campaigns that judge; None if fewer than `LEAST_JUDGED` of all do.

    The data of the others refuse the check, as where AIMD's starts disagree: nothing can fail there.
    """
    judged = [verdict for verdict in verdicts if verdict is not Verdict.NOT_TESTED]
    return rate(judged, wanted) if len(judged) >= LEAST_JUDGED * len(verdicts) else None


def edge_changes(check: Check, faults: Faults) -> list[Callable[[float], tuple[list[Change], list[Change]]]]:
    """Ways to move a check's value, by an amount from 0 on: changes of the NNP and of the other NNP."""
    size = int(str(check.values.get("size", 96)))
    towards = faults.towards_bks.get(size, Response({}))
    if check.claim == "network-kept" and "liquid" not in check.measure:
        return [
            lambda a: ([], [stretched(10 * a)]),
            lambda a: ([], [turned(20 * a)]),
            lambda a: ([], [raised(-0.5 * a)]),
        ]
    if "farther" in check.id:
        return [lambda a: ([towards.times(2 * a)], [])]
    if check.claim in ("rdf-96-216-paired", "iterate"):
        return [lambda a: ([], [towards.times(a)])]
    return [
        lambda a: ([stretched(10 * a)], []),
        lambda a: ([turned(20 * a)], []),
        lambda a: ([slowed(40 * a)], []),
        lambda a: ([raised(0.5 * a)], []),
        lambda a: ([steeper(-a)], []),
        lambda a: ([steeper(a)], []),
        lambda a: ([faults.hot.times(10 * a)], []),
    ]


def simulator_of(evidence: Evidence, checks: Sequence[Check]) -> Simulator:
    """A simulation that draws campaigns for some checks, with only the products that they read."""
    values = {str(value) for check in checks for value in check.values.values()}
    known = values & {*PAIRS, *ANGLES, "Si", "O"}
    counting = any(check.claim in ("coordination-paired", "network-kept") for check in checks)
    everything = any(not set(map(str, check.values.values())) & known for check in checks)
    return Simulator(
        evidence,
        labels=frozenset(label for check in checks for label in check.needs),
        about=frozenset() if counting or everything else frozenset(known),
    )


def within_band(check: Check, simulator: Simulator) -> bool:
    """Whether the honest NNP's value lies in the band; against a number it may truly lie outside."""
    value = _judged(check, simulator.campaign(noise=QUIET)).value
    return value is not None and _beyond_band(check, value) <= 0


def _beyond_band(check: Check, value: float) -> float:
    """How far a value lies beyond its band; below 0 inside."""
    low, high = check.band
    return max(value - high if high is not None else -np.inf, low - value if low is not None else -np.inf)


def on_the_edge(
    check: Check, simulator: Simulator, faults: Faults
) -> tuple[list[Change], list[Change]] | None:
    """The changes that put a check's value without scatter on the edge of its band, or None."""

    def beyond(amount: float, way: Callable[[float], tuple[list[Change], list[Change]]]) -> float | None:
        network, other = way(amount)
        value = _judged(check, simulator.campaign(network, other=other, noise=QUIET)).value
        return None if value is None else _beyond_band(check, value)

    for way in edge_changes(check, faults):
        low, high = 0.0, 1.0
        first, last = beyond(low, way), beyond(high, way)
        if first is None or last is None or first > 0 or last <= 0:
            continue
        for _ in range(EDGE_STEPS):
            middle = (low + high) / 2
            at = beyond(middle, way)
            if at is None:
                break
            low, high = (middle, high) if at <= 0 else (low, middle)
        return way(low)
    return None


@dataclass
class Measurement:
    """What some checks see of campaigns that are drawn from a body of evidence."""

    evidence: Evidence
    checks: Sequence[Check]
    campaigns: int
    """Of an honest NNP, and of one on the edge of its band."""
    trials: int
    """Campaigns for each size of each fault."""
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self.simulator = simulator_of(self.evidence, self.checks)
        self.faults = Faults(
            hot=response(self.evidence, faulty="paired-96-hot", honest="paired-96-nnp"),
            soft=response(self.evidence, faulty="paired-96-soft", honest="paired-96-nnp"),
            towards_bks={size: difference_of_means(self.evidence, size=size) for size in (96, 216)},
        )

    def honest(self) -> dict[str, list[Verdict]]:
        """Verdicts on an honest NNP, by check."""
        found: dict[str, list[Verdict]] = {check.id: [] for check in self.checks}
        for number in range(self.campaigns):
            drawn = self.simulator.campaign()
            for check in self.checks:
                found[check.id].append(_judged(check, drawn).verdict)
            if number % 50 == 49:
                self.tell(f"honest: {number + 1} of {self.campaigns}")
        return found

    def false_pass(self, check: Check) -> float | None:
        """How often a check passes an NNP whose value lies on the edge of its band, of those that judge."""
        simulator = simulator_of(self.evidence, [check])
        changes = on_the_edge(check, simulator, self.faults)
        if changes is None:
            return None
        network, other = changes
        drawn = (simulator.campaign(network, other=other) for _ in range(self.campaigns))
        return rate_of_judged([_judged(check, campaign).verdict for campaign in drawn], Verdict.PASS)

    def smallest_seen(self, checks: Sequence[Check]) -> dict[str, dict[str, float | None]]:
        """The smallest size of each effect that each check fails in `SEEN` of the campaigns that judge."""
        sees: dict[str, dict[str, float | None]] = {check.id: dict.fromkeys(LADDERS) for check in checks}
        for effect, ladder in LADDERS.items():
            blind = list(checks)
            for amount in ladder:
                change = self.faults.change(effect, amount)
                found: dict[str, list[Verdict]] = {check.id: [] for check in blind}
                for _ in range(self.trials):
                    drawn = self.simulator.campaign(change)
                    for check in blind:
                        found[check.id].append(_judged(check, drawn).verdict)
                for check in list(blind):
                    if (rate_of_judged(found[check.id], Verdict.FAIL) or 0) >= SEEN:
                        sees[check.id][effect] = amount
                        blind.remove(check)
                self.tell(f"{effect} {amount}: {len(checks) - len(blind)} of {len(checks)} see it")
        return sees


def simulate(
    evidence: Evidence,
    *,
    kinds: Sequence[str],
    campaigns: int,
    trials: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Rows of `reference/power.yml` by check id."""
    checks = checks_with_numbers(evidence, kinds=kinds)
    tell(f"{len(checks)} checks")
    measurement = Measurement(evidence, checks, campaigns, trials, tell)
    honest = measurement.honest()
    false_pass: dict[str, float | None] = {}
    for place, check in enumerate(checks, start=1):
        false_pass[check.id] = measurement.false_pass(check)
        tell(f"edge {place} of {len(checks)}: {check.id} {false_pass[check.id]}")
    able = [
        check
        for check in checks
        if rate_of_judged(honest[check.id], Verdict.FAIL) is not None
        and within_band(check, measurement.simulator)
    ]
    sees = measurement.smallest_seen(able)
    return {
        check.id: {
            "judged": round(1 - rate(honest[check.id], Verdict.NOT_TESTED), 4),
            "false_fail": rate_of_judged(honest[check.id], Verdict.FAIL) if check in able else None,
            "false_pass": false_pass[check.id],
            "passes": rate(honest[check.id], Verdict.PASS),
            "sees": sees.get(check.id, dict.fromkeys(LADDERS)),
        }
        for check in checks
    }


def evidence_of(tier: str, store_root: Path, *, start_from: str) -> Evidence:
    """The products of a tier that are there."""
    campaign, store = build_campaign(tier, start_from=start_from), Store(store_root)
    return Evidence(
        products={
            label: [store.path(stage.name) for stage in stages]
            for label, stages in campaign.labels.items()
            if all(store.is_done(stage.name) for stage in stages)
        },
        tier=tier,
        absent=campaign.unavailable,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and write the table."""
    import yaml

    parser = argparse.ArgumentParser(prog="python -m suite.power", description=__doc__)
    parser.add_argument("--tier", default=DEPOSITED_TIER, help="observed by pytest suite/")
    parser.add_argument("--start-from", choices=STARTS, default="trajectories")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=COMPARISONS,
        default=COMPARISONS,
        help="only these kinds of comparison; rows of the others stay",
    )
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS)
    parser.add_argument("--trials", type=int, default=TRIALS, help="campaigns for each size of each fault")
    given = parser.parse_args(arguments)
    rows = simulate(
        evidence_of(given.tier, given.store, start_from=given.start_from),
        kinds=given.kinds,
        campaigns=given.campaigns,
        trials=given.trials,
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if not rows:
        parser.error(f"{given.store}: found no observations of tier {given.tier}; pytest suite/ makes them")
    content = parse_yaml(POWER_FILE.read_text()) if POWER_FILE.is_file() else {"tiers": {}}
    there = content["tiers"].get(given.tier, {}).get("checks", {})
    known = {check.id for check in load_claims() if check.comparison_kind not in given.kinds}
    kept = {check_id: row for check_id, row in there.items() if check_id in known}
    content["tiers"][given.tier] = {
        "campaigns": given.campaigns,
        "trials": given.trials,
        "checks": {**kept, **rows},
    }
    head = "# Written by python -m suite.power (docs/notes/power.md); its columns: judging/power_table.py.\n"
    write_whole(
        POWER_FILE, head + yaml.safe_dump(content, sort_keys=False, width=118, default_flow_style=None)
    )
    print(POWER_FILE)
    return 0
