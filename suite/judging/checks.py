"""The claims as data: `reference/claims.yml` read, validated and unfolded into checks.

A claim in the file has a list of checks; a check with `each: {pair: [Si-O, O-O]}` stands for one check per
combination, and `{pair}` in its text, needs and id is filled in. A band may be one `[low, high]` for all or
a mapping from the values of one of these names to bands. null is an open end. `class` (whose claim it is),
`comparison_kind` (with what it compares) and `where` (in the paper) are of the claim, or of a check that
differs; they, `unit` and `tiers` may be such a mapping too. `needs` are the products that a check reads,
`may_use` those that it reads where they are there. An entry `changes` is the dated list of changes of bands.
A check with `same_as: ID` is the comparison of a check above it under another claim of the paper: it has its
verdict, and is not counted a second time.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE
from suite.judging.verdict import (
    CLASSES,
    COMPARISONS,
    Band,
)

if TYPE_CHECKING:
    from jobs.campaign.plan import Campaign

CLAIMS_FILE = REFERENCE / "claims.yml"
REWEIGHTED = "-reweighted"  # ends the name of the product that can replace AIMD
TIERS = ("smoke", "laptop", "overnight", "paper")
_CLAIM_KEYS = {"id", "where", "paper", "class", "comparison_kind", "checks"}
_CHECK_KEYS = {"id", "statement", "comparison", "distance", "band", "unit", "why_band", "tiers", "needs"}
_OPTIONAL_KEYS = {"each", "measure", "class", "comparison_kind", "may_use"}
_SAME_KEYS, _OPTIONAL_SAME_KEYS = {"id", "statement", "same_as"}, {"each"}
_CHANGE_KEYS = {"date", "claims", "change", "known"}


@dataclass(frozen=True)
class Check:
    """One comparison, one number, one band.

    `paper` is the sentence of the paper that it stands for, in our words, `where` its place.
    `values` are what `each` chose (`size`, `pair`, ...); `measure` tells the claim's function which number.
    `needs` has all products that it reads, `may_use` those of them that it can do without.
    `same_as` is the id of the check whose comparison, band and verdict it shares, or nothing.
    """

    id: str
    claim: str
    category: str
    comparison_kind: str
    where: str
    paper: str
    statement: str
    comparison: str
    distance: str
    band: Band
    unit: str
    why_band: str
    tiers: tuple[str, ...]
    needs: tuple[str, ...]
    measure: str
    values: Mapping[str, Any] = field(default_factory=dict)
    may_use: tuple[str, ...] = ()
    same_as: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@cache
def load_claims(path: Path = CLAIMS_FILE) -> tuple[Check, ...]:
    """Every check of the file, in its order.

    Raises:
        SuiteError: the file is not what this module's description says; one line names the place.
    """
    import yaml

    try:
        content = parse_yaml(path.read_text())
    except OSError:
        raise SuiteError(f"{path}: not found, expected the claims") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: found no YAML ({' '.join(str(error).split())}), expected claims") from None
    if not isinstance(content, list):
        raise SuiteError(f"{path}: found {type(content).__name__}, expected a list of claims")
    checks: dict[str, Check] = {}
    for claim in content:
        try:
            if isinstance(claim, dict) and set(claim) == {"changes"}:
                _check_changes(claim["changes"], path)
                continue
            for check in _checks_of_claim(claim, path, checks):
                if check.id in checks:
                    raise SuiteError(f"{path}: found the check {check.id} twice, expected each id once")
                checks[check.id] = check
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            name = claim.get("id", "?") if isinstance(claim, dict) else claim
            said = " ".join(f"{type(error).__name__} {error}".split())
            raise SuiteError(
                f"{path}: claim {name}: found {said}, expected a claim's keys and values"
            ) from None
    return tuple(checks.values())


def _check_changes(changes: Any, path: Path) -> None:
    """The dated list of changes of bands, as `.ci/bands-apart` reads it."""
    for change in changes if isinstance(changes, list) else [changes]:
        if not isinstance(change, dict) or set(change) != _CHANGE_KEYS:
            raise SuiteError(
                f"{path}: changes: found {change!r}, expected the keys {', '.join(sorted(_CHANGE_KEYS))}"
            )


def checks_of(claim_id: str) -> list[Check]:
    """The checks of one claim.

    Raises:
        SuiteError: the file has no such claim.
    """
    found = [check for check in load_claims() if check.claim == claim_id]
    if not found:
        raise SuiteError(f"{CLAIMS_FILE}: found no claim {claim_id}, expected one for each claim function")
    return found


def band_of(check_id: str) -> Band:
    """The band of one check, for claims that use another check's tolerance."""
    return next(check.band for check in load_claims() if check.id == check_id)


def _checks_of_claim(claim: Any, path: Path, above: Mapping[str, Check]) -> Iterator[Check]:
    if not isinstance(claim, dict) or set(claim) != _CLAIM_KEYS:
        name = claim.get("id", "?") if isinstance(claim, dict) else claim
        raise SuiteError(f"{path}: claim {name}: expected the keys {', '.join(sorted(_CLAIM_KEYS))}")
    for template in claim["checks"]:
        where = f"{path}: claim {claim['id']}: check {template.get('id', '?')}"
        keys, optional = (
            (_SAME_KEYS, _OPTIONAL_SAME_KEYS) if "same_as" in template else (_CHECK_KEYS, _OPTIONAL_KEYS)
        )
        missing, unknown = keys - set(template), set(template) - keys - optional
        if missing or unknown:
            problem = (
                f"missing {', '.join(sorted(missing))}"
                if missing
                else f"unknown {', '.join(sorted(unknown))}"
            )
            raise SuiteError(f"{where}: {problem}")
        each = template.get("each", {})
        for combination in itertools.product(*each.values()):
            yield _check(claim, template, dict(zip(each, combination, strict=True)), where, above)


def _check(
    claim: Mapping[str, Any],
    template: Mapping[str, Any],
    values: dict[str, Any],
    where: str,
    above: Mapping[str, Check],
) -> Check:
    try:
        text = {
            key: " ".join(str(_chosen(template, {}, key, values)).split()).format(**values)
            for key in ("id", "statement", "same_as", "comparison", "distance", "unit", "why_band")
            if key in template
        }
        measure = str(template.get("measure", "")).format(**values)
        needs, may_use = (
            tuple(str(label).format(**values) for label in template.get(key, ()))
            for key in ("needs", "may_use")
        )
    except KeyError as error:
        raise SuiteError(
            f"{where}: found the placeholder {error}, expected one of {', '.join(values)}"
        ) from None
    kinds = {
        "category": _one_of(_chosen(template, claim, "class", values), tuple(CLASSES), where),
        "comparison_kind": _one_of(_chosen(template, claim, "comparison_kind", values), COMPARISONS, where),
    }
    empty = [key for key, content in text.items() if not content and key != "unit"]
    if empty:
        raise SuiteError(f"{where}: found nothing under {', '.join(empty)}, expected words")
    text["id"] = f"{claim['id']}/{text['id']}"
    if same := text.get("same_as"):
        if same not in above:
            raise SuiteError(f"{where}: found same_as {same}, expected the id of a check of a claim above")
        about = {"claim": claim["id"], "category": kinds["category"], **_said(template, claim, values)}
        return replace(above[same], id=text["id"], statement=text["statement"], same_as=same, **about)
    tiers = tuple(_chosen(template, {}, "tiers", values))
    if not tiers or set(tiers) - set(TIERS):
        raise SuiteError(f"{where}: found tiers {list(tiers)}, expected some of {', '.join(TIERS)}")
    return Check(
        **text,
        **kinds,
        **_said(template, claim, values),
        claim=claim["id"],
        band=_band(template["band"], values, where),
        tiers=tiers,
        needs=needs + may_use,
        may_use=may_use,
        measure=measure,
        values=values,
    )


def _said(template: Mapping[str, Any], claim: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Where the paper says what a check stands for, and what it says, in our words."""
    where = _chosen(template, claim, "where", values)
    return {"where": str(where), "paper": " ".join(str(claim["paper"]).split())}


def _chosen(
    template: Mapping[str, Any], claim: Mapping[str, Any], key: str, values: Mapping[str, Any]
) -> Any:
    """What a check says under a key, or else its claim; of a mapping what belongs to one of its values."""
    said = template[key] if key in template else claim[key]
    if isinstance(said, dict):
        found = [said[value] for value in values.values() if value in said]
        return found[0] if len(found) == 1 else said
    return said


def _one_of(found: Any, known: tuple[str, ...], where: str) -> str:
    if found not in known:
        raise SuiteError(f"{where}: found {found!r}, expected one of {', '.join(known)}")
    return str(found)


def _band(band: Any, values: Mapping[str, Any], where: str) -> Band:
    if isinstance(band, dict):
        chosen = [band[value] for value in values.values() if value in band]
        if len(chosen) != 1:
            raise SuiteError(
                f"{where}: found bands for {list(band)}, expected one for {list(values.values())}"
            )
        band = chosen[0]
    if not isinstance(band, list) or len(band) != 2 or band == [None, None]:
        raise SuiteError(f"{where}: found the band {band}, expected [low, high] with at most one null")
    if not all(
        edge is None or (isinstance(edge, int | float) and not isinstance(edge, bool)) for edge in band
    ):
        raise SuiteError(f"{where}: found the band {band}, expected numbers or null")
    if None not in band and band[0] >= band[1]:
        raise SuiteError(f"{where}: found the band {band}, expected its low end first")
    low, high = (None if edge is None else float(edge) for edge in band)
    return low, high


def out_of_reach(check: Check, tier: str, labels: Collection[str]) -> str | None:
    """Why a tier that has these products cannot decide a check, or None. A user's tier may decide all.

    A larger tier is only named where it could decide: products that no tier makes, and AIMD that is not
    deposited, are missing in every tier.
    """
    if tier not in TIERS or tier in check.tiers:
        return None
    return _nowhere(check, labels) or (
        f"the {tier} tier is too small for it; {' or '.join(check.tiers)} can decide it"
    )


def _nowhere(check: Check, labels: Collection[str]) -> str | None:
    """What a check needs and no tier has today, or None."""
    needs = [label for label in check.needs if label not in check.may_use]
    missing = [label for label in needs if label.startswith("reference-") and label not in labels]
    aimd = [label for label in missing if not label.endswith(REWEIGHTED)]
    if not aimd or any(label.endswith(REWEIGHTED) and label in labels for label in needs):
        return None
    size = aimd[0].split("-")[1]
    return f"no AIMD of {size} atoms as a reference ({' and '.join(aimd)} not deposited)"


def foreseen(check: Check, campaign: Campaign) -> str | None:
    """Why a check is certain to be NOT TESTED in a campaign, before anything is computed; None if it is not.

    What only the data show (AIMD that depends on its start, too few frames) cannot be foreseen.
    """
    if why := out_of_reach(check, campaign.tier, campaign.labels) or _nowhere(check, campaign.labels):
        return why
    for label in check.needs:
        if label not in campaign.labels and not label.startswith("reference-"):
            return campaign.unavailable.get(label, f"this tier has no {label}")
    return None
