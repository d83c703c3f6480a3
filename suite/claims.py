"""The claims as data: `reference/claims.yml` read, checked and unfolded into atoms, and how one is judged.

A claim in the file has a list of atoms; an atom with `each: {pair: [Si-O, O-O]}` stands for one atom per
combination, and `{pair}` in its text, needs and id is filled in. A band may be one `[low, high]` for all or
a mapping from the values of one of these names to bands. null is an open end. `class` (whose claim it is) and
`comparison_kind` (with what it compares) are of the claim, or of an atom that differs, and may be such a
mapping too. An entry `changes` is the dated list of changes of bands. An atom with
`same_as: ID` is the comparison of an atom above it under another claim of the paper: it has its verdict, and
is not counted a second time.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE
from suite.power_table import lacks_power
from suite.reasons import NotTested, Pending
from suite.verdict import (
    CLASSES,
    COMPARISONS,
    PAPER,
    SUPPLEMENTARY,
    Band,
    Result,
    Verdict,
    decide,
    p_value,
)

if TYPE_CHECKING:
    from jobs.campaign.plan import Campaign
    from suite.evidence import Evidence
    from suite.statistics import Estimate

CLAIMS_FILE = REFERENCE / "claims.yml"
REWEIGHTED = "-reweighted"  # ends the label that stands for AIMD from both starts, where a claim can use it
TIERS = ("smoke", "laptop", "overnight", "paper")
_CLAIM_KEYS = {"id", "where", "paper", "class", "comparison_kind", "atoms"}
_ATOM_KEYS = {"id", "statement", "comparison", "distance", "band", "unit", "why_band", "tiers", "needs"}
_OPTIONAL_KEYS = {"each", "measure", "class", "comparison_kind"}
_SAME_KEYS, _OPTIONAL_SAME_KEYS = {"id", "statement", "same_as"}, {"each"}
_CHANGE_KEYS = {"date", "claims", "change", "known"}

ClaimFunction = TypeVar("ClaimFunction", bound=Callable[..., None])
REGISTRY: dict[str, Callable[..., None]] = {}


class Judge(Protocol):
    """What a claim's function hands its number to."""

    def __call__(self, estimate: Estimate, remark: str = "") -> None:
        """Take the estimate, once; `remark` is what a reader of the verdict must know, in plain words."""


@dataclass(frozen=True)
class Atom:
    """One comparison, one number, one band.

    `values` are what `each` chose (`size`, `pair`, ...); `measure` tells the claim's function which number.
    `same_as` is the id of the atom whose comparison, band and verdict it shares, or nothing.
    """

    id: str
    claim: str
    category: str
    comparison_kind: str
    where: str
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
    same_as: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@cache
def load_claims(path: Path = CLAIMS_FILE) -> tuple[Atom, ...]:
    """Every atom of the file, in its order.

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
    atoms: dict[str, Atom] = {}
    for claim in content:
        try:
            if isinstance(claim, dict) and set(claim) == {"changes"}:
                _check_changes(claim["changes"], path)
                continue
            for atom in _claim_atoms(claim, path, atoms):
                if atom.id in atoms:
                    raise SuiteError(f"{path}: found the atom {atom.id} twice, expected each id once")
                atoms[atom.id] = atom
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            name = claim.get("id", "?") if isinstance(claim, dict) else claim
            said = " ".join(f"{type(error).__name__} {error}".split())
            raise SuiteError(
                f"{path}: claim {name}: found {said}, expected a claim's keys and values"
            ) from None
    return tuple(atoms.values())


def _check_changes(changes: Any, path: Path) -> None:
    """The dated list of changes of bands, as `.ci/bands-apart` reads it."""
    for change in changes if isinstance(changes, list) else [changes]:
        if not isinstance(change, dict) or set(change) != _CHANGE_KEYS:
            raise SuiteError(
                f"{path}: changes: found {change!r}, expected the keys {', '.join(sorted(_CHANGE_KEYS))}"
            )


def atoms_of(claim_id: str) -> list[Atom]:
    """The atoms of one claim.

    Raises:
        SuiteError: the file has no such claim.
    """
    found = [atom for atom in load_claims() if atom.claim == claim_id]
    if not found:
        raise SuiteError(f"{CLAIMS_FILE}: found no claim {claim_id}, expected one for each claim function")
    return found


def band_of(atom_id: str) -> Band:
    """The band of one atom, for claims that lean on another's tolerance."""
    return next(atom.band for atom in load_claims() if atom.id == atom_id)


def _claim_atoms(claim: Any, path: Path, above: Mapping[str, Atom]) -> Iterator[Atom]:
    if not isinstance(claim, dict) or set(claim) != _CLAIM_KEYS:
        name = claim.get("id", "?") if isinstance(claim, dict) else claim
        raise SuiteError(f"{path}: claim {name}: expected the keys {', '.join(sorted(_CLAIM_KEYS))}")
    for template in claim["atoms"]:
        where = f"{path}: claim {claim['id']}: atom {template.get('id', '?')}"
        keys, optional = (
            (_SAME_KEYS, _OPTIONAL_SAME_KEYS) if "same_as" in template else (_ATOM_KEYS, _OPTIONAL_KEYS)
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
            yield _atom(claim, template, dict(zip(each, combination, strict=True)), where, above)


def _atom(
    claim: Mapping[str, Any],
    template: Mapping[str, Any],
    values: dict[str, Any],
    where: str,
    above: Mapping[str, Atom],
) -> Atom:
    try:
        text = {
            key: " ".join(str(template[key]).split()).format(**values)
            for key in ("id", "statement", "same_as", "comparison", "distance", "unit", "why_band")
            if key in template
        }
        measure = str(template.get("measure", "")).format(**values)
        needs = tuple(str(label).format(**values) for label in template.get("needs", ()))
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
            raise SuiteError(f"{where}: found same_as {same}, expected the id of an atom of a claim above")
        about = {"claim": claim["id"], "where": str(claim["where"]), "category": kinds["category"]}
        return replace(above[same], id=text["id"], statement=text["statement"], same_as=same, **about)
    tiers = tuple(template["tiers"])
    if not tiers or set(tiers) - set(TIERS):
        raise SuiteError(f"{where}: found tiers {list(tiers)}, expected some of {', '.join(TIERS)}")
    return Atom(
        **text,
        **kinds,
        claim=claim["id"],
        where=str(claim["where"]),
        band=_band(template["band"], values, where),
        tiers=tiers,
        needs=needs,
        measure=measure,
        values=values,
    )


def _chosen(
    template: Mapping[str, Any], claim: Mapping[str, Any], key: str, values: Mapping[str, Any]
) -> Any:
    """What an atom says under a key, or else its claim; of a mapping what belongs to one of its values."""
    said = template.get(key, claim[key])
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


def claim(claim_id: str) -> Callable[[ClaimFunction], ClaimFunction]:
    """Make a function `(atom, evidence, judge)` the judge of a claim: one pytest case for each atom.

    Every case carries `pytest.mark.needs(*labels)` with the labels of its atom.
    """
    import pytest

    atoms = atoms_of(claim_id)
    cases = [
        pytest.param(atom, id=atom.id.removeprefix(f"{claim_id}/"), marks=pytest.mark.needs(*atom.needs))
        for atom in atoms
    ]

    def decorate(function: ClaimFunction) -> ClaimFunction:
        REGISTRY[claim_id] = function
        marked: ClaimFunction = pytest.mark.parametrize("atom", cases)(function)
        return marked

    return decorate


def _out_of_reach(atom: Atom, tier: str, labels: Collection[str]) -> str | None:
    """Why a tier that has these labels is not for an atom, or None; a tier of one's own is for all.

    A larger tier is only named where it could decide: what is not built, and AIMD that is not deposited, is
    missing in each.
    """
    if tier not in TIERS or tier in atom.tiers:
        return None
    return _nowhere(atom, labels) or (
        f"the {tier} tier is too small for it; {' or '.join(atom.tiers)} can decide it"
    )


def _nowhere(atom: Atom, labels: Collection[str]) -> str | None:
    """What an atom needs and no tier has today, or None."""
    missing = [label for label in atom.needs if label.startswith("reference-") and label not in labels]
    aimd = [label for label in missing if not label.endswith(REWEIGHTED)]
    if not aimd or any(label.endswith(REWEIGHTED) and label in labels for label in atom.needs):
        return None
    size = aimd[0].split("-")[1]
    return f"no AIMD of {size} atoms that may judge ({' and '.join(aimd)} not deposited)"


def foreseen(atom: Atom, campaign: Campaign) -> str | None:
    """Why an atom is certain to be NOT TESTED in a campaign, before anything is computed; None if it is not.

    What the data themselves will say (a start that decides, too few frames) cannot be foreseen.
    """
    if why := _out_of_reach(atom, campaign.tier, campaign.labels) or _nowhere(atom, campaign.labels):
        return why
    for label in atom.needs:
        if label not in campaign.labels and not label.startswith("reference-"):
            return campaign.unavailable.get(label, f"this tier has no {label}")
    return None


CLAIM_MODULES = (
    "preconditions",
    "parity",
    "fig1_rdf",
    "fig2_badf",
    "fig3_glass",
    "fig4_vaf",
    "fig5_msd",
    "pairs",
    "cost",
    "method",
)


def import_claims() -> None:
    """Fill `REGISTRY` with the judges of all claims but the planted faults'."""
    for module in CLAIM_MODULES:
        import_module(f"suite.test_{module}")


def honest_result(evidence: Evidence, atom: Atom) -> Result:
    """An atom's outcome on evidence as it is, kept: faults, and what a short training excuses, ask again."""
    import_claims()
    return evidence.once(("result", atom.id), lambda: evaluate(REGISTRY[atom.claim], atom, evidence))


# Whose forces a label shows, where its name does not end in them.
_MOVED_BY = {
    "liquid-216-nvt-96": "96",
    "glass-96-at-5832": "96",
    "vdos-2592": "96",
    "vdos-96": "96",
    "msd-long": "96",
    "paired-96-other": "216",
    "paired-216-other": "96",
}


def _networks(atom: Atom) -> list[str]:
    """The networks (`96`, `216`) whose MD an atom reads."""
    found = []
    for label in atom.needs:
        own = re.fullmatch(r"(?:liquid|glass|paired)-(96|216)(?:-nvt|-nve|-nnp)?(?:@\d+)?", label)
        if moved := _MOVED_BY.get(label, own[1] if own else None):
            found.append(moved)
    return found


def too_short(atom: Atom, evidence: Evidence) -> str:
    """Why a value outside the band says nothing of the paper, or nothing: the tier's own training was short.

    It is what held-out errors measure. For anything else it counts where these errors show it: the network's
    forces are not known to be within their band.
    """
    if not evidence.short_training or atom.category not in (PAPER, SUPPLEMENTARY):
        return ""
    if atom.claim == "parity":
        return f"this measures the training, which was short: {evidence.short_training}"
    for network in _networks(atom):
        force = next(one for one in load_claims() if one.id == f"parity/{network}/force")
        if force.id != atom.id and (held_out := honest_result(evidence, force)).verdict is not Verdict.PASS:
            return (
                f"the training was short ({evidence.short_training}), and {force.id} shows it "
                f"({held_out.verdict})"
            )
    return ""


def evaluate(function: Callable[..., None], atom: Atom, evidence: Evidence) -> Result:
    """Judge one atom: call `function(atom=, evidence=, judge=)` and say what came of it.

    Whatever breaks becomes ERROR with its message, so that one broken claim does not hide the others.
    """
    tier = evidence.tier
    started = time.perf_counter()
    estimates: list[Estimate] = []
    remarks: list[str] = []

    def judge(estimate: Estimate, remark: str = "") -> None:
        estimates.append(estimate)
        remarks.append(remark)

    verdict, reason = Verdict.ERROR, ""
    read = replace(evidence, borrowed=[])
    try:
        labels = {*evidence.products, *evidence.pending, *evidence.broken}
        if why := _out_of_reach(atom, tier, labels):
            raise NotTested(why)
        function(atom=atom, evidence=read, judge=judge)
        if len(estimates) != 1:
            raise SuiteError(f"{atom.id}: found {len(estimates)} judgements, expected one")
        verdict, reason = decide(estimates[0], atom.band)
        if verdict is Verdict.PASS and (why := lacks_power(atom.id, tier)):
            verdict, reason = Verdict.INCONCLUSIVE, why
        elif verdict is Verdict.FAIL and (why := too_short(atom, evidence)):
            verdict, reason = Verdict.TOO_SHORT, why
        reason = "; ".join(filter(None, (reason, *remarks)))
    except NotTested as missing:
        verdict, reason, estimates = Verdict.NOT_TESTED, str(missing), []
    except Pending as waiting:
        verdict, reason, estimates = Verdict.PENDING, str(waiting), []
    except Exception as error:
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {' '.join(str(error).split())}"
    if atom.same_as:
        reason = "; ".join(filter(None, (f"same as {atom.same_as}, counted there", reason)))
    found = estimates[0] if len(estimates) == 1 else None
    numbers: dict[str, float] = {}
    if found is not None:
        names = ("value", "standard_error", "ci_low", "ci_high", "n_eff")
        numbers = {name: getattr(found, name) for name in names}
        if verdict is not Verdict.ERROR:
            numbers["p"] = p_value(found, atom.band)
    return Result(
        id=atom.id,
        claim=atom.claim,
        category=atom.category,
        comparison_kind=atom.comparison_kind,
        where=atom.where,
        same_as=atom.same_as,
        statement=atom.statement,
        comparison=atom.comparison,
        distance=atom.distance,
        band_low=atom.band[0],
        band_high=atom.band[1],
        unit=atom.unit,
        tier=tier,
        needs=atom.needs,
        verdict=verdict,
        reason=reason,
        why_band=atom.why_band,
        deviations=(*evidence.deviations, *read.borrowed),
        seconds=time.perf_counter() - started,
        **numbers,
    )
