"""What is given: the paper's protocol and the measured and computed numbers of silica, as data.

`reference/paper.yml` holds the protocol and its gaps, `reference/experiment/*.yml` the numbers with
their source and certainty: S read in the source, D computed from the source's data, M remembered. A row
marked M informs and never gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE

CERTAINTIES = ("S", "D", "M")


@dataclass(frozen=True)
class Gap:
    """Something the paper leaves open: what was chosen, why, and which other readings are run."""

    id: str
    section: str
    question: str
    chosen: str
    reason: str
    also_run: tuple[str, ...]


@dataclass(frozen=True)
class Stated:
    """A number of the paper's protocol as printed; None where it is not; `gap` names its resolution."""

    value: Any
    unit: str
    gap: str | None


@dataclass(frozen=True)
class Paper:
    """The protocol: `protocol[section][name]`, and the gaps by id."""

    protocol: dict[str, dict[str, Stated]]
    gaps: dict[str, Gap]


@dataclass(frozen=True)
class Row:
    """A number from outside.

    `uncertainty` is None where the source gives none, `value` where the row is a finding in words.
    """

    id: str
    quantity: str
    value: float | None
    uncertainty: float | None
    unit: str
    certainty: str
    may_gate: bool
    source: str


def _load(path: Path) -> Any:
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected a part of the reference")
    import yaml

    try:
        return parse_yaml(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise SuiteError(f"{path}: found no YAML ({said}), expected a part of the reference") from None


@contextmanager
def _laid_out(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file's keys and values into a line that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        said = " ".join(f"{type(error).__name__} {error}".split())
        raise SuiteError(f"{path}: found {said}, expected the keys that its other entries have") from None


@cache
def read_paper(path: Path = REFERENCE / "paper.yml") -> Paper:
    """The paper's protocol and gaps.

    Raises:
        SuiteError: a gap that is named and not resolved, or resolved and not named, or a value that is
            missing without a gap.
    """
    content = _load(path)
    with _laid_out(path):
        gaps = {
            entry["id"]: Gap(**{**entry, "also_run": tuple(entry["also_run"])}) for entry in content["gaps"]
        }
        protocol = {
            section: {name: Stated(v["value"], str(v["unit"]), v.get("gap")) for name, v in entries.items()}
            for section, entries in content["protocol"].items()
        }
    named = set()
    for section, entries in protocol.items():
        for name, stated in entries.items():
            if stated.value is None and stated.gap is None:
                raise SuiteError(f"{path}: {section}, {name}: found no value, expected one or a gap")
            if stated.gap is not None:
                named.add(stated.gap)
    if named != set(gaps):
        wrong = sorted(map(str, named ^ set(gaps)))
        raise SuiteError(f"{path}: found gaps {wrong} on one side only, expected each named and resolved")
    return Paper(protocol, gaps)


@cache
def read_experiment(directory: Path = REFERENCE / "experiment") -> dict[str, Row]:
    """Every row of `experiment/*.yml` by id.

    Raises:
        SuiteError: a row that is given twice, has an unknown certainty, or is remembered and may gate.
    """
    rows: dict[str, Row] = {}
    for path in sorted(directory.glob("*.yml")):
        with _laid_out(path):
            entries = [Row(**entry) for entry in _load(path)["rows"]]
        for row in entries:
            if row.id in rows:
                raise SuiteError(f"{path}: found {row.id} twice, expected each row once")
            if row.certainty not in CERTAINTIES:
                raise SuiteError(
                    f"{path}: {row.id}: found certainty {row.certainty}, expected one of S, D, M"
                )
            if row.may_gate and (row.certainty == "M" or row.value is None):
                raise SuiteError(
                    f"{path}: {row.id}: found may_gate, expected false for what is remembered or no number"
                )
            rows[row.id] = row
    return rows


def gating_value(row_id: str) -> float:
    """The value of a row that a verdict may rest on, in the row's unit.

    Raises:
        SuiteError: no such row, or one that must not gate.
    """
    rows = read_experiment()
    if row_id not in rows:
        raise SuiteError(
            f"reference/experiment: found no row {row_id}, expected one of {len(rows)} known ones"
        )
    value = rows[row_id].value
    if not rows[row_id].may_gate or value is None:
        raise SuiteError(
            f"reference/experiment: {row_id}: found may_gate: false, expected a row that may gate"
        )
    return value


@cache
def shared_noise(path: Path = REFERENCE / "shared_noise.yml") -> dict[str, int]:
    """The draw of thermostat noise of each AIMD run (`set/run`) that shares one; the others have their own.

    Raises:
        SuiteError: a run is named twice.
    """
    draws: dict[str, int] = {}
    for number, runs in enumerate(_load(path)["shared"]):
        for run in runs:
            if run in draws:
                raise SuiteError(f"{path}: found {run} twice, expected each run in one draw")
            draws[run] = number
    return draws
