"""The published power of each check: what it sees at a tier, by simulation on the suite's own data.

`python -m suite.power` writes `reference/power.yml`; this module reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE
from suite.judging.checks import TIERS, Check

POWER_FILE = REFERENCE / "power.yml"
EFFECTS = ("stretch_percent", "force_percent", "temperature_percent", "angle_deg")
"""Distances too long, forces too small, too hot, angles too large: what a check is asked to see."""
MOST_FALSE_PASS = 0.05  # twice what is nominal


@dataclass(frozen=True)
class Power:
    """What a check does in simulated campaigns.

    `judged` is the share of campaigns whose data let it judge. Of these, `false_fail` is how often it fails
    an honest potential, `false_pass` how often it passes one that lies on the edge of its band (None where no
    fault reaches the edge), and `sees` has the smallest of each effect that it fails in 80%, None beyond the
    largest tried. All are None where a fifth of the campaigns or fewer judge, or where the NNP's own value
    lies outside the band. `passes` is how often it passes an honest potential, of all campaigns.
    """

    judged: float
    false_fail: float | None
    false_pass: float | None
    passes: float
    sees: Mapping[str, float | None]

    @property
    def blind(self) -> bool:
        """Whether it sees none of the effects."""
        return all(value is None for value in self.sees.values())


@cache
def read_power(path: Path = POWER_FILE) -> dict[str, dict[str, Power]]:
    """Checks by tier and id; empty where nothing was published."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = parse_yaml(path.read_text())
    return {
        tier: {check: Power(**row) for check, row in entry["checks"].items()}
        for tier, entry in content["tiers"].items()
    }


def power_of(check_id: str, *, comparison_kind: str, tier: str) -> Power | None:
    """The published power of a check at a tier, or None.

    Pairs are the same AIMD runs at every tier of the suite, so one tier's simulation stands for all.
    """
    table = read_power()
    if (found := table.get(tier, {}).get(check_id)) is not None:
        return found
    if comparison_kind != "paired" or tier not in TIERS:
        return None
    return next((rows[check_id] for rows in table.values() if check_id in rows), None)


def lacks_power(check: Check, tier: str) -> str:
    """Why a PASS of a check proves nothing at a tier; empty if it does, or if it was not simulated.

    Checks against a number prove what they say: the effects that are tried are not what makes a plateau or a
    coordination number wrong.
    """
    found = power_of(check.id, comparison_kind=check.comparison_kind, tier=tier)
    if found is not None and (found.false_pass or 0) > MOST_FALSE_PASS:
        return (
            f"passes too easily at this tier: {found.false_pass:.1%} of simulated potentials on the edge of "
            f"the band, {MOST_FALSE_PASS:.0%} at most may"
        )
    if found is None or check.comparison_kind == "alone":
        return ""
    if found.false_fail is None:
        return f"unknown power at this tier: only {found.judged:.0%} of simulated campaigns could judge"
    if not found.blind:
        return ""
    return "no power at this tier: not even the largest faults tried (reference/power.yml) would fail here"
