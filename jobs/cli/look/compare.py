"""`python -m jobs compare`: two results or two stores side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import read_text
from jobs.store.store import Store

HELP = "what moved between two results, or two stores, by more than its error"
DESCRIPTION = """\
Compares two claims.json, check by check, and names what moved by more than 3 combined standard errors; ends
with 1 if a PASS became a FAIL. A folder that has a claims.json stands for it. Or compares what the same
stages observed in two stores, and ends with 1 if a value differs by more than chance makes one of so many
differ in one comparison of twenty."""
EXAMPLES = (
    ("compare before results/laptop", "what a change did to the verdicts"),
    ("compare store ../other/store", "the same stages on two machines"),
)
_CLAIMS = "claims.json"
_OF_A_CHECK = ("verdict", "value", "standard_error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs compare`."""
    parser.add_argument("first", type=Path, metavar="FIRST", help="a claims.json, its folder, or a store")
    parser.add_argument("second", type=Path, metavar="SECOND", help="another of the same kind")
    parser.add_argument(
        "--agree",
        action="store_true",
        help="also end with 1 unless every value agrees and something was decided in both",
    )


def main(arguments: argparse.Namespace) -> int:
    """Compare.

    Raises:
        SuiteError: not two claims.json, and not two stores with an observation in common.
    """
    return compare(arguments.first, arguments.second, agree=arguments.agree)


def compare(first: Path, second: Path, *, agree: bool = False) -> int:
    """Print what differs between two results (claims.json) or two stores; 1 if a PASS became a FAIL.

    With `agree`, 1 also if a value is more than 3 combined standard errors apart, or nothing was decided in
    both.

    Raises:
        SuiteError: not two claims.json, and not two stores with an observation in common.
    """
    first, second = _results(first), _results(second)
    if first.is_dir() and second.is_dir():
        return _compare_stores(Store(first), Store(second))
    sides = [_checks(first), _checks(second)]
    worse = moved = apart = decided = 0
    for check in sorted(sides[0] | sides[1]):
        before, after = sides[0].get(check), sides[1].get(check)
        if before is None or after is None:
            print(f"{check}: only in {second if before is None else first}")
            continue
        distance = _combined_errors(before, after)
        if before["verdict"] != after["verdict"] or (distance is not None and distance > 3):
            moved += 1
            errors = "" if distance is None else f", {distance:.1f} combined standard errors apart"
            change = " -> ".join(f"{row['verdict']} {row['value']}" for row in (before, after))
            print(f"{check}: {change}{errors}")
        apart += distance is not None and distance > 3
        decided += all(row["verdict"] in ("PASS", "FAIL") for row in (before, after))
        worse += before["verdict"] == "PASS" and after["verdict"] == "FAIL"
    print(
        f"{moved} checks moved, {worse} from PASS to FAIL, {apart} by more than 3 combined standard errors; "
        f"{decided} decided in both"
    )
    return 1 if worse or (agree and (apart or not decided)) else 0


def _results(path: Path) -> Path:
    """The claims.json of a folder that has one; any other path as it is."""
    return path / _CLAIMS if (path / _CLAIMS).is_file() else path


def _checks(path: Path) -> dict[str, dict[str, Any]]:
    """What is compared of each check, by its id.

    Raises:
        SuiteError: not a claims.json.
    """
    try:
        rows = json.loads(read_text(path, expected=f"a {_CLAIMS}"))["claims"]
        return {row["id"]: {key: row[key] for key in _OF_A_CHECK} for row in rows}
    except OSError as error:
        found = f"nothing to read ({error.strerror})"
    except ValueError:
        found = "no JSON"
    except (KeyError, TypeError):
        found = "JSON without verdicts"
    raise SuiteError(f"{path}: found {found}, expected a {_CLAIMS}")


_FALSE_ALARMS = 0.05  # of comparisons of two stores that are alike
# Series over blocks that every observation has; of a distribution, its largest value.
_COMPARED = ("temperature_K", "rdf_Si-O", "rdf_O-O", "rdf_Si-Si", "badf_O-Si-O", "badf_Si-O-Si")


def _compare_stores(first: Store, second: Store) -> int:
    """Compare what the same stages observed in two stores, block averages with their errors."""
    import numpy as np
    from scipy.stats import false_discovery_control, ttest_ind

    common = [name for name in first.finished() if name.startswith("observe-") and second.is_done(name)]
    if not common:
        raise SuiteError(
            f"{second.root}: found no observation that {first.root} has too, expected at least one"
        )
    lines: list[str] = []
    chances: list[float] = []
    for name in common:
        sides = [np.load(store.path(name) / "observables.npz") for store in (first, second)]
        for key in _COMPARED:
            blocks = [side[key].reshape(len(side[key]), -1).max(axis=1) for side in sides if key in side]
            if len(blocks) < 2:
                continue
            label = first.manifest(name)["label"]
            lines.append(f"{label}: {key} {blocks[0].mean():.5g} -> {blocks[1].mean():.5g}")
            alike = bool((blocks[0] == blocks[1]).all())
            chances.append(1.0 if alike else float(ttest_ind(*blocks, equal_var=False).pvalue))
    # Benjamini and Hochberg's correction: of values that are alike, all together rarely raise an alarm.
    adjusted = false_discovery_control(chances)
    apart = np.flatnonzero(adjusted < _FALSE_ALARMS)
    for row in apart:
        print(f"{lines[row]}, p = {chances[row]:.2g}")
    print(
        f"{len(lines)} values of {len(common)} observations: {len(apart)} differ by more than chance, "
        f"the least likely with p = {min(chances):.2g}"
    )
    return 1 if len(apart) else 0


def _combined_errors(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Difference of two values in combined standard errors; None without both values and an error."""
    if before["value"] is None or after["value"] is None:
        return None
    combined = float(sum((row["standard_error"] or 0.0) ** 2 for row in (before, after)) ** 0.5)
    return abs(before["value"] - after["value"]) / combined if combined > 0 else None
