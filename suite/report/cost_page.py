"""The cost page: us/step/atom against N with its fits, from one cost record; one self-contained file.

python -m suite.report.cost_page [results/cost/cost.json] [--out PAGE.html]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.base.errors import ERROR_EXIT, SuiteError
from jobs.base.files import parse_yaml, write_whole
from jobs.base.paths import REFERENCE
from jobs.cost.record import AIMD, deposited_aimd, read_cost
from suite.report.page import number, page_template

ANCHORS = REFERENCE / "cost_anchors.yml"
PAGE_FILE = "cost.html"
PAGE_INCHES = (7.2, 4.6)


def read_anchors(path: Path = ANCHORS) -> list[dict[str, Any]]:
    """Published figures of other machines, each with its source."""
    rows: list[dict[str, Any]] = parse_yaml(path.read_text())["anchors"]
    return rows


def write_cost_page(
    record: Mapping[str, Any], target: Path, *, nights: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write the page of a record; AIMD is taken from the deposited record where it has none of its own."""
    from suite.report.cost_figure import draw_cost
    from suite.report.plotting import INKS, METHODS

    points = [point for point in record["points"] if point["us_per_step_atom"]]
    borrowed: list[dict[str, Any]] = []
    if not any(point["engine"] in AIMD for point in points):
        borrowed, _ = deposited_aimd()
    anchors = read_anchors()
    drawing = draw_cost(
        [*points, *borrowed],
        anchors=[(row["n_atoms"], row["us_per_step_atom"]) for row in anchors],
        size_inches=PAGE_INCHES,
    )
    page = page_template("cost.html.j2").render(
        machine=record["machine"],
        conditions=record["conditions"],
        points=[_row(point) for point in (*record["points"], *borrowed)],
        fits=[_fit(fit) for fit in record["fits"]],
        speed_ups=[_speed_up(row) for row in record["speed_ups"]],
        years=record["aimd_year"],
        days=record["nanosecond_a_day"],
        not_measured=record["not_measured"],
        borrowed=bool(borrowed),
        anchors=anchors,
        nights=nights,
        drawing=drawing,
        inks=INKS,
        methods=METHODS,
        three=_three,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page)
    return target


def _interval(value: Mapping[str, float | None]) -> str:
    low, high = value["ci_low"], value["ci_high"]
    middle = value["value"]
    if middle is None or low is None or high is None or not math.isfinite(low):
        return number(middle)
    return f"{_three(middle)} [{_three(low)}, {_three(high)}]"


def _three(value: float) -> str:
    """Three significant digits, thousands written out."""
    return f"{float(f'{value:.3g}'):g}"


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    middle = {"value": point["median"], "ci_low": point["ci_low"], "ci_high": point["ci_high"]}
    gpus = f", {point['gpus']} GPU" if point["gpus"] else ""
    return {
        **point,
        "kernel": point.get("kernel"),  # AIMD has none
        "interval": _interval(middle) if point["median"] is not None else "",
        "samples": f"{len(point['us_per_step_atom'])} {point['samples_are']}",
        "layout": f"{point['replicas']} x {point['ranks']} x {point['threads']}{gpus}",
        "machine": point["provenance"]["type"],
    }


def _fit(fit: Mapping[str, Any]) -> dict[str, Any]:
    if fit["form"] == "t = a + b N":
        text = f"a = {_scaled(fit['a_s'], 1e3)} ms, b = {_scaled(fit['b_s_per_atom'], 1e6)} µs per atom"
    else:
        text = f"p = {_interval(fit['p'])}, c = {_interval(fit['c_s'])} s"
    return {**fit, "text": text}


def _scaled(value: Mapping[str, float], factor: float) -> str:
    return _interval({key: number_ * factor for key, number_ in value.items()})


def _speed_up(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "interval": _interval(row["ratio"])}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page of a record."""
    parser = argparse.ArgumentParser(
        prog="python -m suite.report.cost_page", description="The page of a cost record."
    )
    parser.add_argument("record", type=Path, nargs="?", default=Path("results/cost/cost.json"))
    parser.add_argument("--out", type=Path, help="default: cost.html beside the record")
    arguments = parser.parse_args(argv)
    try:
        record = read_cost(arguments.record)
        print(write_cost_page(record, arguments.out or arguments.record.with_name(PAGE_FILE)))
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return ERROR_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main())
