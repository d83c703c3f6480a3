"""The native kernel beside DeePMD-kit on two busy cores: two runs of one rank each, and one run of two ranks.

    python benchmarks/replicas.py [--turns 3] [--store store]

Every turn launches each setting once at N = 96, 216 and 2592. A ratio is taken within a turn: a machine that
gets busier then favours none. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.cost.tune import Meter, Setting, plain_default, potential_stage
from jobs.engines.lammps.kernel import DEEPMD, NATIVE
from jobs.engines.lammps.timing import Layout
from jobs.running import local
from jobs.store.store import Store

SIZES = (96, 216, 2592)
PLAIN = plain_default(1)
SETTINGS = {
    "native, two runs": Setting(NATIVE, "float32", False, Layout(replicas=2)),
    "DeePMD-kit, compressed float32, two runs": Setting(DEEPMD, "float32", True, Layout(replicas=2)),
    "DeePMD-kit as it comes (float64), two runs": replace(PLAIN, layout=replace(PLAIN.layout, replicas=2)),
    "native, one run alone": Setting(NATIVE, "float32", False, Layout()),
    "native, two ranks": Setting(NATIVE, "float32", False, Layout(ranks=2)),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path("store"))
    arguments = parser.parse_args()
    store, stage = Store(arguments.store), potential_stage(None)
    local.run([stage], store).raise_for_failures()
    first, *others, alone, ranks = SETTINGS
    for n_atoms in SIZES:
        meter = Meter(store.path(stage.name), store.root / "replicas", cores=2, n_atoms=n_atoms)
        meter.prepare()
        taken = [{name: meter.measure(one) for name, one in SETTINGS.items()} for _ in range(arguments.turns)]
        for name, setting in SETTINGS.items():
            core_us = setting.layout.cores * statistics.median(turn[name] for turn in taken)
            print(f"N = {n_atoms:5}  {name:44} {core_us:8.2f} core-us per step and atom", flush=True)
        for name in others:
            print(f"            {name}: {_ratio(taken, name, first)} times {first}", flush=True)
        print(f"            {ranks}: {_ratio(taken, alone, ranks)} times as fast as {alone}", flush=True)


def _ratio(taken: list[dict[str, float]], above: str, below: str) -> str:
    ratios = sorted(turn[above] / turn[below] for turn in taken)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
