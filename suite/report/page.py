"""The report: one self-contained HTML page from `claims.json` and the run's observables."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_whole
from suite.judging.evidence import Evidence
from suite.judging.power_table import EFFECTS, Power, power_of
from suite.judging.verdict import CLASSES, PAPER, PRECONDITION, Verdict
from suite.report.findings import findings

if TYPE_CHECKING:
    from jinja2 import Template

SCHEMA = 1
RESULTS_FILE = "claims.json"
REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
NO_NUMBER = "–"


@dataclass(frozen=True)
class State:
    """How a verdict is shown: its word, a sign for those who see no colour, and what it means."""

    word: Verdict
    sign: str
    meaning: str

    @property
    def css(self) -> str:
        """Class name, e.g. `not-tested`."""
        return self.word.lower().replace(" ", "-")


STATES: Mapping[str, State] = {
    state.word: state
    for state in (
        State(Verdict.PASS, "✓", "the 95% interval lies inside the band"),
        State(Verdict.FAIL, "✗", "the 95% interval lies outside the band"),
        State(Verdict.TOO_SHORT, "◔", "outside the band, but by this tier's own short training"),
        State(
            Verdict.INCONCLUSIVE,
            "≈",
            "the 95% interval straddles an end of the band, or the check has no power",
        ),
        State(Verdict.NOT_TESTED, "○", "this tier or these data cannot test it"),
        State(Verdict.ERROR, "!", "something broke before a number came out"),
        State(Verdict.PENDING, "…", "its jobs have not finished"),
    )
}


@dataclass(frozen=True)
class Bar:
    """An interval against its band, as fractions of a small drawing's width."""

    band_start: float
    band_end: float
    band_open_low: bool
    band_open_high: bool
    low: float
    high: float
    value: float
    text: str


def number(value: float | None, half_width: float | None = None) -> str:
    """A number to two significant digits of its half width, or to four digits without one."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    if half_width is None or not math.isfinite(half_width) or half_width <= 0:
        return f"{value:.4g}"
    decimals = 1 - math.floor(math.log10(half_width))
    if 0 <= decimals <= 6:
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if -3 < decimals < 0 else f"{value:.3g}"


def tally(outcomes: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """Verdicts by class, the paper's claims first; outcomes are (class, verdict) of checks."""
    counts: dict[str, Counter[str]] = {category: Counter() for category in CLASSES}
    for category, verdict in outcomes:
        counts[category][verdict] += 1
    return counts


def counts_text(counts: Counter[str]) -> str:
    """Verdicts and their numbers in one order, e.g. `38 PASS, 2 FAIL`."""
    return ", ".join(f"{counts[word]} {word}" for word in STATES if counts[word])


def headline(outcomes: Iterable[tuple[str, str]]) -> str:
    """The counts in one line, apart: a precondition or a caught fault is no claim of the paper that holds."""
    return "; ".join(
        f"{CLASSES[category]}: {counts_text(found)}" for category, found in tally(outcomes).items() if found
    )


def page_template(name: str) -> Template:
    """A page's template of this folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def bar(claim: Mapping[str, Any]) -> Bar | None:
    """The small drawing of a claim, or None without a value."""
    value = _finite(claim["value"])
    if value is None:
        return None
    low, high = _finite(claim["ci_low"]), _finite(claim["ci_high"])
    low, high = (value if low is None else low), (value if high is None else high)
    band_low, band_high = _finite(claim["band_low"]), _finite(claim["band_high"])
    ends = [end for end in (low, high, value, band_low, band_high) if end is not None]
    first, last = min(ends), max(ends)
    air = 0.2 * (last - first) or 0.2 * abs(value) or 1.0
    first, last = first - air, last + air

    def place(at: float) -> float:
        return round((at - first) / (last - first), 4)

    return Bar(
        band_start=0.0 if band_low is None else place(band_low),
        band_end=1.0 if band_high is None else place(band_high),
        band_open_low=band_low is None,
        band_open_high=band_high is None,
        low=place(low),
        high=place(high),
        value=place(value),
        text=f"{interval_text(claim)}, band {band_text(claim)}",
    )


def interval_text(claim: Mapping[str, Any]) -> str:
    """Value and 95% interval, e.g. `1.612 [1.608, 1.616]`, no line break inside; a count has none."""
    value, low, high = claim["value"], claim["ci_low"], claim["ci_high"]
    if _finite(value) is None:
        return NO_NUMBER
    if _finite(low) is None or _finite(high) is None:
        return number(value)
    half = (high - low) / 2
    if half == 0:
        return number(value)
    return f"{number(value, half)} [{number(low, half)},\u00a0{number(high, half)}]"


def band_text(claim: Mapping[str, Any]) -> str:
    """The band in words: `1.60 to 1.65`, `≤ 0.02`, `≥ 4`; a dash when it has none."""
    low, high = _finite(claim["band_low"]), _finite(claim["band_high"])
    if low is not None and high is not None:
        return f"{low:.6g} to {high:.6g}"
    if high is not None:
        return f"≤ {high:.6g}"
    return NO_NUMBER if low is None else f"≥ {low:.6g}"


def _row(claim: Mapping[str, Any], shared_deviations: Sequence[str]) -> dict[str, Any]:
    if claim["verdict"] not in STATES:
        raise SuiteError(
            f"{RESULTS_FILE}: check {claim['id']} has verdict {claim['verdict']!r}, expected one of "
            f"{', '.join(STATES)}"
        )
    seconds = _finite(claim["seconds"])
    words = ("statement", "comparison", "distance", "why_band", "reason")
    return {
        **claim,
        **{key: re.sub(r"(?<=\d )A\b", "Å", claim[key]) for key in words},
        "unit": re.sub(r"\bA\b", "Å", claim["unit"]).replace("deg", "°"),
        "shown": STATES[claim["verdict"]],
        "doubted": False,
        "own_deviations": [text for text in claim["deviations"] if text not in shared_deviations],
        "interval": interval_text(claim),
        "band": band_text(claim),
        "bar": bar(claim),
        "n_eff": number(claim["n_eff"]) if claim["n_eff"] is None else f"{claim['n_eff']:.3g}",
        "p": NO_NUMBER if _finite(claim["p_family"]) is None else f"{claim['p_family']:.2g}",
        "time": NO_NUMBER if seconds is None else f"{seconds:.{0 if seconds >= 10 else 1}f}",
    }


def _doubts(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], Counter[str]]]:
    """Preconditions that failed, each with the verdicts that rest on it, counted by claim and marked."""
    found = []
    for row in rows:
        if row["class"] == PRECONDITION and row["verdict"] == Verdict.FAIL:
            rests = [other for other in rows if row["id"] in other.get("doubts", ())]
            for other in rests:
                other["doubted"] = True
            found.append((row, Counter(str(other["claim"]) for other in rests)))
    return found


def _groups(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by class and claim, as in the file: the paper's, supplementary, preconditions, faults."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: list(CLASSES).index(row["class"])):
        groups.setdefault((row["class"], row["claim"]), []).append(row)
    return [
        {
            "name": name,
            "class": CLASSES[category],
            "where": members[0]["where"],
            "paper": members[0]["paper"] if category == PAPER else "",
            "rows": members,
            "counts": [
                (state, sum(row["shown"] is state for row in members))
                for state in STATES.values()
                if any(row["shown"] is state for row in members)
            ],
        }
        for (category, name), members in groups.items()
    ]


def untested(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Reason -> checks, the most frequent reason first; those that differ in a measured number are one."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"] in (Verdict.NOT_TESTED, Verdict.PENDING, Verdict.ERROR):
            reason = re.sub(r"-?\d+\.\d+(e-\d+)?|\d+(?= times the data)", "…", row["reason"])
            reasons.setdefault(reason, []).append(row["id"])
    return sorted(reasons.items(), key=lambda item: -len(item[1]))


def _conclusions(
    rows: Sequence[Mapping[str, Any]], *, tier: str, deviations: Sequence[str], doubted: bool
) -> dict[str, list[str]]:
    """What the verdicts on the paper's claims allow a reader to say, and what they do not."""
    rows = [row for row in rows if row["class"] == PAPER]
    checks = Counter(str(row["claim"]) for row in rows)
    found = {
        word: Counter(str(row["claim"]) for row in rows if row["verdict"] == word)
        for word in (Verdict.PASS, Verdict.FAIL)
    }
    passed, failed = found[Verdict.PASS], found[Verdict.FAIL]

    def named(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{claim} ({count} of {checks[claim]})" for claim, count in counts.items())

    may, may_not = [], []
    if unfailed := {claim: count for claim, count in passed.items() if claim not in failed}:
        may.append(f"Some checks pass and none fails, of: {named(unfailed)}.")
    if failed:
        may.append(f"Some checks fail, of: {named(failed)}.")
    if may:
        may.append("All of it is about what this run made or was given, with the deviations listed here.")
    else:
        may.append("Nothing was decided: the page shows the path, not the paper.")
    if doubted:
        may_not.append("Anything from a run whose physical preconditions failed: listed above, marked below.")
    if failed and deviations:
        may_not.append("That a FAIL refutes the paper, where one of the deviations could be its cause.")
    if passed and tier != "paper":
        may_not.append(f"That a PASS at the {tier} tier is one at the paper's lengths and sizes.")
    undecided = len(rows) - passed.total() - failed.total()
    if undecided:
        may_not.append(f"Anything, either way, about what is not PASS or FAIL ({undecided} of {len(rows)}).")
    may_not.append(
        "That a whole claim of the paper holds because one of its checks does, or that a few failures "
        "among many 95% intervals mean more than chance: the family-wise p is in the table."
    )
    return {"may": may, "may_not": may_not}


def _fault_matrix(faults: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Checks that had something to say about a fault, against the faults."""
    ordinary = {row["id"]: row["verdict"] for row in rows}
    lines, silent = [], 0
    for identity in ordinary:
        cells = []
        for fault in faults:
            verdict = fault["verdicts"].get(identity)
            cells.append({"verdict": verdict, "caught": identity in fault["caught_by"]})
        if any(cell["caught"] or cell["verdict"] not in (None, Verdict.NOT_TESTED) for cell in cells):
            lines.append({"id": identity, "ordinary": ordinary[identity], "cells": cells})
        else:
            silent += 1
    lines.sort(key=lambda line: not any(cell["caught"] for cell in line["cells"]))
    return {"faults": faults, "lines": lines, "silent": silent}


def _power_rows(rows: Sequence[Mapping[str, Any]], tier: str) -> list[tuple[str, ...]]:
    """What each check of this run sees, by simulation: a row for each that has an entry in the table."""

    def cells(found: Power) -> tuple[str, ...]:
        rates = [found.judged, found.false_fail, found.false_pass, found.passes]
        seen = [found.sees.get(effect) for effect in EFFECTS]
        return (
            *(NO_NUMBER if rate is None else f"{100 * rate:.1f}%" for rate in rates),
            *(NO_NUMBER if value is None else f"{value:g}" for value in seen),
        )

    known = [
        (row["id"], power_of(row["id"], comparison_kind=row["comparison_kind"], tier=tier)) for row in rows
    ]
    return [(identity, *cells(found)) for identity, found in known if found is not None]


def _flat(value: Any) -> str:
    """A provenance entry as text."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return "\n".join(_flat(entry) for entry in value)
    return NO_NUMBER if value is None else str(value)


def write_report(results_directory: Path, evidence: Evidence) -> Path:
    """Write `report.html` and `figures/*.svg` beside `claims.json`; returns the page's path.

    Raises SuiteError when `claims.json` is missing, of another schema or carries an unknown verdict.
    """
    from suite.report.figures import draw_all
    from suite.report.plotting import INKS, METHODS
    from suite.report.tables import diffusion_table, glass_table, reference_table

    source = results_directory / RESULTS_FILE
    if not source.is_file():
        raise SuiteError(f"{source}: no such file, expected the verdicts of a run")
    results = json.loads(source.read_text())
    if results.get("schema") != SCHEMA:
        raise SuiteError(f"{source}: found schema {results.get('schema')!r}, expected {SCHEMA}")
    rows = [_row(claim, results["deviations"]) for claim in results["claims"]]
    counted = [row for row in rows if not row.get("same_as")]
    counts = Counter(row["verdict"] for row in counted)
    kinds = tally((row["class"], row["verdict"]) for row in counted)
    doubts = _doubts(counted)
    drawings = draw_all(evidence)
    folder = results_directory / FIGURES_FOLDER
    folder.mkdir(exist_ok=True)
    for drawing in drawings:
        for panel in drawing.panels:
            (folder / f"{panel.name}.svg").write_text(panel.standalone)
    provenance = results["provenance"]
    page = page_template("report.html.j2").render(
        tier=results["tier"],
        start_from=results["start_from"],
        deviations=results["deviations"],
        broken=results["broken"],
        date=results["date"],
        machine=", ".join(f"{key} {value}" for key, value in provenance["hardware"].items()),
        verdicts=[(state, counts[word]) for word, state in STATES.items()],
        scored=[state for word, state in STATES.items() if kinds[PAPER][word]],
        apart=[
            (name, counts_text(kinds[category]))
            for category, name in CLASSES.items()
            if kinds[category] and category != PAPER
        ],
        totals=[(CLASSES[category], found.total()) for category, found in kinds.items() if found],
        findings=findings(results["claims"]),
        power=_power_rows(counted, results["tier"]),
        doubts=doubts,
        conclusions=_conclusions(
            counted, tier=results["tier"], deviations=results["deviations"], doubted=bool(doubts)
        ),
        groups=_groups(rows),
        untested=untested(rows),
        matrix=_fault_matrix(results["faults"], rows),
        drawings=drawings,
        reference=reference_table(evidence, number),
        diffusion=diffusion_table(evidence),
        glass=glass_table(evidence, number),
        inks=INKS,
        methods=METHODS,
        provenance=[(key.replace("_", " "), _flat(value)) for key, value in provenance.items()],
    )
    target = results_directory / REPORT_FILE
    write_whole(target, page)
    return target
