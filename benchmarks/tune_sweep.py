"""Every setting of the NNP side by side: how good is what `python -m jobs tune` chose?

    python benchmarks/tune_sweep.py [--launches 3] [--store store] [--out results/cost/sweep.json]

Round robin over all combinations of precision, compression, layout and skin; then, because the lowest of
many noisy medians flatters itself, the best of them, the tuned setting and DeePMD's plain default run again
together, and only those fresh launches are compared. Killed, the same command goes on.
Takes about 12 minutes on 2 idle cores; needs `python -m jobs tune` first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.base.machine import available_cores, machine
from jobs.cost.scaling import median_interval, ratio
from jobs.cost.tune import Meter, Setting, every_setting, plain_default, potential_stage
from jobs.engines.lammps.timing import Layout
from jobs.store.machine_settings import FOLDER, tuning_file
from jobs.store.store import Store

AGAIN = 8
LEAST_SPEED_UP, WITHIN = 2.5, 1.05


def main() -> None:
    """Sweep, compare, write, and say whether the tuned setting holds what is promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launches", type=int, default=3, help="launches of each setting (default 3)")
    parser.add_argument("--again", type=int, default=AGAIN, help=f"of the three compared (default {AGAIN})")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--out", type=Path, default=Path("results/cost/sweep.json"))
    arguments = parser.parse_args()
    cores, store = available_cores(), Store(arguments.store)
    answer = tuning_file(store.root, machine()["type"])
    if not answer.is_file():
        sys.exit(f"error: {answer}: not found, expected what python -m jobs tune writes")
    tuned = setting_of(json.loads(answer.read_text())["recommended"])
    meter = Meter(store.path(potential_stage(None).name), store.root / FOLDER / "work", cores=cores)
    meter.prepare()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    kept = arguments.out.with_suffix(".jsonl")
    done = {
        tuple(row["key"]): row["us"] for row in map(json.loads, kept.read_text().splitlines())
    } if kept.is_file() else {}  # fmt: skip

    def taken(stage: str, settings: list[Setting], launches: int) -> dict[Setting, list[float]]:
        """Samples by setting, those that an earlier attempt took among them."""
        samples: dict[Setting, list[float]] = {setting: [] for setting in settings}
        begun, fresh, left = time.monotonic(), 0, 0
        for number in range(launches):
            for setting in settings:
                key = (stage, setting.text, number)
                if key not in done:
                    done[key] = meter.measure(setting)
                    with kept.open("a") as stream:
                        stream.write(json.dumps({"key": key, "us": done[key]}) + "\n")
                    fresh += 1
                    left = sum((stage, s.text, n) not in done for n in range(launches) for s in settings)
                    minutes = (time.monotonic() - begun) / fresh * left / 60
                    print(
                        f"{stage} {done[key]:7.1f} {setting.text} (about {minutes:.1f} min left)", flush=True
                    )
                samples[setting].append(done[key])
        return samples

    sweep = taken("sweep", every_setting(cores), arguments.launches)
    best = min(sweep, key=lambda setting: statistics.median(sweep[setting]))
    plain = plain_default(cores)
    last = taken("again", list(dict.fromkeys([tuned, best, plain])), arguments.again)
    speed_up, to_best = ratio(last[plain], last[tuned]), ratio(last[tuned], last[best])
    if best == tuned:
        to_best = ratio([1.0], [1.0])
    for name, setting in (("plain", plain), ("tuned", tuned), ("best of sweep", best)):
        middle = median_interval(last[setting])
        print(
            f"{name:14s} {middle.value:7.1f} us/step/atom [{middle.low:.1f}, {middle.high:.1f}]  "
            f"{setting.text}"
        )
    print(
        f"tuned is {speed_up.value:.2f} [{speed_up.low:.2f}, {speed_up.high:.2f}] times the plain default "
        f"(wanted {LEAST_SPEED_UP}) and takes {to_best.value:.3f} [{to_best.low:.3f}, {to_best.high:.3f}] of "
        f"the best setting's time (wanted at most {WITHIN})"
    )
    result = {
        "machine": machine(),
        "n_atoms": meter.n_atoms,
        "sweep": [{**setting.as_json(), "samples": samples} for setting, samples in sweep.items()],
        "compared": {
            name: {**setting.as_json(), "samples": last[setting]}
            for name, setting in (("plain", plain), ("tuned", tuned), ("best", best))
        },
        "speed_up": speed_up.as_json(),
        "tuned_to_best": to_best.as_json(),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if speed_up.value >= LEAST_SPEED_UP and to_best.value <= WITHIN else 1)


def setting_of(recorded: dict) -> Setting:
    """A setting as `Setting.as_json` wrote it."""
    layout = {key: recorded[key] for key in ("replicas", "ranks", "threads", "gpus", "skin_angstrom")}
    return Setting(recorded["kernel"], recorded["precision"], recorded["compressed"], Layout(**layout))


if __name__ == "__main__":
    main()
