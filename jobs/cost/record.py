"""The cost record: measured points with their provenance, the fits through them, and what they mean.

`cost.json` has `points` (one object each), `fits`, `speed_ups`, `aimd_year`, `nanosecond_a_day`,
`not_measured`, and the `machine`. An NNP's point says its `kernel`: `deepmd` (DeePMD-kit) or `native`. A
point's `us_per_step_atom` are its samples: wall microseconds of all the cores it uses, per MD step and atom;
times `cores` they are core-seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.paths import REFERENCE
from jobs.cost import scaling

SCHEMA = 1
DEPOSITED = REFERENCE / "cost"
AIMD = ("cp2k", "espresso")
NNP, HDNNP, CLASSICAL = "deepmd", "hdnnp", ("bks", "tersoff")
CURVES = ("tuned", "plain")  # settings of a point that lie on a curve of their engine
NATIVE_CURVE = ", native kernel"
SECONDS_PER_YEAR = 365.25 * 86_400
SECONDS_PER_DAY = 86_400
FS_PER_NS = 1_000_000
KEYS = ("engine", "setting", "precision", "n_atoms", "cores", "gpus", "timestep_fs", "us_per_step_atom")


def cost_record(
    points: Iterable[Mapping[str, Any]],
    *,
    machine: Mapping[str, Any],
    conditions: Mapping[str, Any],
    not_measured: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """A whole record: medians and intervals added to the points, and every fit that they allow."""
    summarised = [_summarised(point, machine) for point in points]
    good = [point for point in summarised if point["us_per_step_atom"]]
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "conditions": dict(conditions),
        "points": summarised,
        "fits": fits(good),
        "speed_ups": speed_ups(good),
        "aimd_year": aimd_year(good),
        "nanosecond_a_day": nanosecond_a_day(good),
        "not_measured": [
            *not_measured,
            *(
                {"what": f"{point['engine']} ({point['setting']}) of {point['n_atoms']} atoms", "why": why}
                for point in summarised
                for why in point["failed"][:1]
                if not point["us_per_step_atom"]
            ),
        ],
    }


def _summarised(point: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    samples = point["us_per_step_atom"]
    middle = scaling.median_interval(samples) if samples else None
    known = middle is not None and middle.low == middle.low
    return {
        **point,
        "median": middle.value if middle is not None else None,
        "ci_low": middle.low if middle is not None and known else None,
        "ci_high": middle.high if middle is not None and known else None,
        "provenance": {
            key: machine[key] for key in ("type", "cpu", "gpus", "driver", "software", "image", "measured")
        },
    }


def read_cost(path: Path) -> dict[str, Any]:
    """A cost record from its file.

    Raises:
        SuiteError: it is not one.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        for point in record["points"]:
            if missing := [key for key in KEYS if key not in point]:
                raise KeyError(missing[0])
    except FileNotFoundError:
        raise SuiteError(
            f"{path}: not found, expected a cost record; python -m jobs cost makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SuiteError(
            f"{path}: found {type(error).__name__} {error} on reading, expected a cost record"
        ) from None
    return record


def deposited_costs(folder: Path = DEPOSITED) -> dict[Path, dict[str, Any]]:
    """The deposited records by their files, one for each machine type."""
    return {path: read_cost(path) for path in sorted(folder.glob("*.json"))}


def judging_record(folder: Path = DEPOSITED) -> Path | None:
    """The deposited record that is judged where nothing is timed, or None.

    The one that has both AIMD and DeePMD-kit at the most sizes. Only one: between two machines a ratio says
    nothing of methods.
    """

    def shared_sizes(record: Mapping[str, Any]) -> int:
        timed = [point for point in record["points"] if point["us_per_step_atom"] and not is_native(point)]
        aimd, nnp = (
            {point["n_atoms"] for point in timed if point["engine"] in engines} for engines in (AIMD, (NNP,))
        )
        return len(aimd & nnp)

    records = deposited_costs(folder)
    return max(records, key=lambda path: shared_sizes(records[path]), default=None)


def deposited_aimd() -> tuple[list[dict[str, Any]], str]:
    """AIMD's measured points of the deposited record that is judged, and the type of its machine."""
    if (path := judging_record()) is None:
        return [], ""
    record = read_cost(path)
    points = [one for one in record["points"] if one["engine"] in AIMD and one["us_per_step_atom"]]
    return points, record["machine"]["type"]


def is_native(point: Mapping[str, Any]) -> bool:
    """Whether an NNP's point was run by the native kernel; older records are all of DeePMD-kit."""
    return point.get("kernel") == "native"


def core_seconds(point: Mapping[str, Any]) -> list[float]:
    """Core-seconds of one step of one system, a value per sample."""
    return [1e-6 * us * point["n_atoms"] * point["cores"] for us in point["us_per_step_atom"]]


def step_seconds(point: Mapping[str, Any]) -> list[float]:
    """Seconds of a step, a value per sample; of runs side by side, their time divided by their number.

    So points of all sizes use the same cores and lie on one curve, whatever their ranks.
    """
    return [1e-6 * us * point["n_atoms"] for us in point["us_per_step_atom"]]


def curves(points: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, Mapping[str, Any]]]:
    """Points on a curve: (engine, setting) -> size -> point; GPUs and the native kernel have their own."""
    found: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for point in points:
        if point["setting"] in (*CURVES, "aimd") and point["us_per_step_atom"]:
            setting = point["setting"] + (f", {point['gpus']} GPU" if point["gpus"] else "")
            setting += NATIVE_CURVE if is_native(point) else ""
            found.setdefault((point["engine"], setting), {})[point["n_atoms"]] = point
    return {key: dict(sorted(sizes.items())) for key, sizes in found.items()}


def fits(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """T = a + b N (`step_seconds`) for short-ranged potentials, t = c N^p for all."""
    found = []
    for (engine, setting), sizes in curves(points).items():
        times = {size: step_seconds(point) for size, point in sizes.items()}
        about = {"engine": engine, "setting": setting, "sizes": list(sizes), "clock": "seconds a step"}
        if engine not in AIMD and len(sizes) >= 3:
            line = scaling.fit_line(times)
            found.append(
                {**about, "form": "t = a + b N", "a_s": line.a.as_json(), "b_s_per_atom": line.b.as_json()}
            )
        if len(sizes) >= 2:
            power = scaling.fit_power(times)
            found.append({**about, "form": "t = c N^p", "c_s": power.c.as_json(), "p": power.p.as_json()})
    return found


def speed_ups(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many times less the NNP costs than others, with both absolute costs and the resource.

    At each size that both were timed at and, from the fit through AIMD, at the NNP's larger ones
    (`extrapolated_from` then has the sizes of the fit). Per simulated femtosecond, so a longer time step of
    one side counts; core-seconds of core-only points, GPU-seconds of points with GPUs.
    """
    rows = []
    by_curve = curves(points)
    for (slow, slow_setting), slow_sizes in by_curve.items():
        for (fast, fast_setting), fast_sizes in by_curve.items():
            tuned = fast == NNP and fast_setting.startswith("tuned")
            if (
                not tuned
                or (slow, slow_setting) == (fast, fast_setting)
                or slow_setting.endswith(NATIVE_CURVE)
            ):
                continue
            largest = slow_sizes[max(slow_sizes)]
            both_gpu = bool(largest["gpus"])
            costs = {size: _per_fs(point, gpus=both_gpu) for size, point in slow_sizes.items()}
            fit = scaling.fit_power(costs) if slow in AIMD and len(costs) >= 2 else None
            for size, other in fast_sizes.items():
                if bool(other["gpus"]) != both_gpu:
                    continue
                cost = _per_fs(other, gpus=both_gpu)
                if size in costs:
                    slow_cost = scaling.median_interval(costs[size]).value
                    ratio = scaling.ratio(costs[size], cost)
                elif fit is not None and size > max(costs):
                    slow_cost, ratio = fit.at(size).value, fit.ratio(size, cost)
                else:
                    continue
                rows.append(
                    {
                        "n_atoms": size,
                        "slow": _side(slow_sizes.get(size, largest), slow_cost),
                        "fast": _side(other, scaling.median_interval(cost).value),
                        "resource": "GPU-seconds per fs" if both_gpu else "core-seconds per fs",
                        "ratio": ratio.as_json(),
                        "extrapolated_from": None if size in costs else list(costs),
                    }
                )
    return rows


def _per_fs(point: Mapping[str, Any], *, gpus: bool) -> list[float]:
    seconds = core_seconds(point)
    share = point["gpus"] / point["cores"] if gpus else 1.0
    return [share * one / point["timestep_fs"] for one in seconds]


def _side(point: Mapping[str, Any], cost: float) -> dict[str, Any]:
    return {
        **{key: point[key] for key in ("engine", "setting", "precision", "cores", "gpus", "timestep_fs")},
        "kernel": point.get("kernel"),
        "machine": point["provenance"]["type"],
        "cost": cost,
    }


def aimd_year(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Atoms whose nanosecond takes a core-year, and core-years of a nanosecond of the paper's sizes.

    By each first-principles engine, extrapolated from the sizes measured.
    """
    rows = []
    for (engine, _), sizes in curves(points).items():
        if engine not in AIMD or len(sizes) < 2:
            continue
        power = scaling.fit_power({size: core_seconds(point) for size, point in sizes.items()})
        steps = FS_PER_NS / next(iter(sizes.values()))["timestep_fs"]
        rows.append(
            {
                "engine": engine,
                "measured_up_to": max(sizes),
                "atoms_of_a_core_year_per_ns": power.atoms_within(SECONDS_PER_YEAR / steps).as_json(),
                "core_years_per_ns": {
                    str(size): {
                        key: value * steps / SECONDS_PER_YEAR
                        for key, value in power.at(size).as_json().items()
                    }
                    for size in (96, 216, 2592, 5832)
                },
            }
        )
    return rows


def nanosecond_a_day(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Atoms that each linear curve simulates for a nanosecond in a day, on the cores it was measured on."""
    rows = []
    for (engine, setting), sizes in curves(points).items():
        if engine in AIMD or len(sizes) < 3:
            continue
        line = scaling.fit_line({size: step_seconds(point) for size, point in sizes.items()})
        point = next(iter(sizes.values()))
        seconds = SECONDS_PER_DAY * point["timestep_fs"] / FS_PER_NS
        rows.append(
            {
                "engine": engine,
                "setting": setting,
                "cores": point["cores"],
                "gpus": point["gpus"],
                "atoms": round(line.atoms_within(seconds)),
            }
        )
    return rows
