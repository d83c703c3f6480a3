"""The suite's own speed: start-up, planning, status, and judging with the report."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 6


def seconds_of(*command):
    """Wall seconds of a command, several times."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return {"samples": taken, "number": 1}


def track_import():
    """`import jobs.cli.main, suite.plugin` with Python's own start."""
    return seconds_of("-c", "import jobs.cli.main, suite.plugin")


def track_status():
    """`python -m jobs status` of the laptop tier."""
    return seconds_of("-m", "jobs", "status", "--store", "store")


def track_planning():
    """The largest tier, planned: `python -m jobs run --tier paper --dry-run`."""
    return seconds_of("-m", "jobs", "run", "--tier", "paper", "--dry-run", "--store", "store")


def track_report():
    """Report of a run with every figure of the liquid."""
    import suite.claims  # noqa: F401 - fills REGISTRY
    from suite.judging.checks import load_claims
    from suite.judging.evaluate import REGISTRY, evaluate
    from suite.judging.evidence import Evidence
    from suite.report.page import write_report
    from tests.helpers.synthetic_evidence import cost_point, replicas, write_cost

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        labels = ("liquid-96-nvt", "liquid-96-nve", "liquid-96-bks", "liquid-216-nvt", "liquid-216-bks")
        products = {
            label: replicas(root, label, 4, seed=10 * number, n_atoms=int(label.split("-")[1]))
            for number, label in enumerate(labels)
        }
        products["cost"] = [write_cost(root / "cost", [cost_point("deepmd", 96, core_us=[100.0, 101.0])])]
        evidence = Evidence(products, tier="laptop")
        claims = [
            evaluate(REGISTRY[a.claim], a, evidence).as_json() for a in load_claims() if a.claim in REGISTRY
        ]
        content = {
            "schema": 1, "tier": "laptop", "start_from": "frames", "date": "", "deviations": [], "broken": {},
            "claims": claims, "faults": [], "provenance": {"hardware": {}},
        }  # fmt: skip
        (root / "claims.json").write_text(json.dumps(content))
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            write_report(root, evidence)
            taken.append(time.perf_counter() - started)
    return {"samples": taken, "number": 1}


for _track in (track_import, track_status, track_planning, track_report):
    _track.unit = "s"
    _track.version = "1"
    _track.timeout = 300
