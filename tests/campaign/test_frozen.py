"""Stage identities are promises: what was made must not be made again because somebody moved code.

`frozen_stages.json` has, for every tier and start, how many stages of each kind there are and a hash of their
names. A change that is meant is written by `python tests/campaign/test_frozen.py`, and said in its commit.
"""

import hashlib
import json
import sys
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.campaign.build import build_campaign
from jobs.campaign.tier import STARTS, TIERS

FROZEN = Path(__file__).with_name("frozen_stages.json")


def stage_names(tier, start_from):
    """Names of all stages by kind; nothing where there is nothing to start from."""
    try:
        campaign = build_campaign(tier, start_from=start_from)
    except SuiteError:
        return {}
    planned = [*campaign.labels.values(), *campaign.runs.values()]
    needed = {stage.name: stage.kind for stages in planned for one in stages for stage in one.walk()}
    kinds = {}
    for name, kind in needed.items():
        kinds.setdefault(kind, []).append(name)
    return kinds


def summary():
    tiers = sorted(path.stem for path in TIERS.glob("*.yml"))
    return {
        f"{tier} from {start}": {
            kind: f"{len(names)} {hashlib.sha256(' '.join(sorted(names)).encode()).hexdigest()[:12]}"
            for kind, names in sorted(stage_names(tier, start).items())
        }
        for tier in tiers
        for start in STARTS
    }


def test_identities_are_what_they_were():
    assert summary() == json.loads(FROZEN.read_text())


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(summary(), indent=1) + "\n")
    print(f"written: {FROZEN}", file=sys.stderr)
