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

POWER_FILE = REFERENCE / "power.yml"
EFFECTS = ("stretch_percent", "force_percent", "temperature_percent", "angle_deg")
"""Distances too long, forces too small, too hot, angles too large: what a check is asked to see."""


@dataclass(frozen=True)
class Power:
    """What a check does in simulated campaigns.

    `false_fail` is how often it fails an honest potential, `false_pass` how often it passes one that lies on
    the edge of its band (None where no fault reaches the edge), `passes` how often it passes an honest one;
    `sees` has the smallest of each effect that it fails in 80% of campaigns, None beyond the largest tried.
    """

    false_fail: float
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


def lacks_power(check_id: str, tier: str) -> str:
    """Why a PASS of a check proves nothing at a tier; empty if it does, or if its power is not known."""
    found = read_power().get(tier, {}).get(check_id)
    if found is None or not found.blind:
        return ""
    return "no power at this tier: not even the largest faults tried (reference/power.yml) would fail here"
