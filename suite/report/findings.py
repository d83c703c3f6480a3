"""What a run found of the paper, figure by figure: what holds, what does not, what it could not see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.judging.against_aimd import BKS_TOO
from suite.judging.verdict import PAPER, SUPPLEMENTARY, Verdict

# What the paper's claims are about, in the few words of a sentence. Where checks of one claim say different
# things, by the part of their ids that tells them apart.
SUBJECTS = {
    "rdf-nnp-aimd": "the NNP's g(r) against AIMD's",
    "rdf-paired": "the NNP's g(r) against AIMD's from the same frames",
    "rdf-bks/same-qualitatively": "BKS's g(r), qualitatively AIMD's",
    "rdf-bks/farther": "BKS's g(r), farther off than the NNP's",
    "rdf-bks-paired/same-qualitatively": "BKS's g(r) from the same frames, qualitatively AIMD's",
    "rdf-bks-paired/farther": "BKS's g(r) from the same frames, farther off than the NNP's",
    "rdf-96-216/same": "the two NNPs' g(r), almost the same",
    "rdf-96-216/216-closer": "DeePMD-216's g(r), closer to AIMD than DeePMD-96's",
    "rdf-96-216/most-for-Si-Si": "a gain that is largest for Si-Si",
    "rdf-96-216-paired": "the two NNPs' distributions from the same frames, almost the same",
    "strong-interaction": "the strong Si-O bond in g(r)",
    "badf-nnp-aimd": "the NNP's bond angles against AIMD's",
    "badf-paired": "the NNP's bond angles against AIMD's from the same frames",
    "badf-tetrahedron": "the tetrahedron's angles",
    "badf-96-216": "the two NNPs' bond angles, almost the same",
    "glass-neutron": "the glass against neutron diffraction",
    "glass-partials": "the glass against RMC's partials",
    "glass-216-better": "DeePMD-216's glass, nearer to experiment than DeePMD-96's",
    "network-kept": "a bond network that cooling does not change",
    "vaf-nnp-aimd": "the NNP's VAF against AIMD's",
    "vaf-paired": "the NNP's VAF against AIMD's from the same frames",
    "vaf-bks/same-qualitatively": "BKS's VAF, qualitatively AIMD's",
    "vaf-bks/farther": "BKS's VAF, farther off than the NNP's",
    "vaf-bks-paired/same-qualitatively": "BKS's VAF from the same frames, qualitatively AIMD's",
    "vaf-bks-paired/farther": "BKS's VAF from the same frames, farther off than the NNP's",
    "vaf-nve-nvt": "a thermostat that does not matter",
    "vdos-nnp-aimd": "the NNP's VDOS against AIMD's from the same frames",
    "vdos-size": "a less noisy VDOS from 2592 atoms",
    "msd-nnp-aimd": "the NNP's MSD against AIMD's",
    "msd-bks/same-qualitatively": "BKS's MSD, qualitatively AIMD's",
    "msd-bks/farther": "BKS's MSD, farther off than the NNP's",
    "msd-paired": "MSD to 0.1 ps from the same frames",
    "msd-paired/bks-farther": "BKS's MSD to 0.1 ps, farther off than the NNP's",
    "msd-regimes": "plateau, bump and diffusion",
    "msd-reach": "what AIMD's length reaches",
    "transport-accuracy": "how well D is known",
    "cost-ratio": "orders of magnitude cheaper than AIMD",
    "cost-scaling": "thousands of atoms for nanoseconds",
    "small-data": "a small training set that is enough",
    "iterate/liquid": "a child that leaves the liquid as it was",
    "iterate/glass": "a child that improves the glass",
    "n2p2-same": "symmetry-function potentials that give the same",
    "n2p2-stability/broken-runs": "symmetry-function potentials that break more often",
    "n2p2-stability/out-of-range": "symmetry-function potentials that leave the range of their data",
}
TITLES = {
    "Fig. 1": "Fig. 1, radial distribution",
    "Fig. 2": "Fig. 2, bond angles",
    "Fig. 3": "Fig. 3, glass",
    "Fig. 4": "Fig. 4, velocities and vibrations",
    "Fig. 5": "Fig. 5, displacements",
}
ELSEWHERE = "Elsewhere (cost, data, iteration, n2p2)"


@dataclass(frozen=True)
class Finding:
    """A figure: verdicts of the paper's checks, three sentences on them, one on our checks (or nothing)."""

    title: str
    counts: Counter[str]
    holds: str
    fails: str
    unseen: str
    beside: str


def findings(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Figure by figure from the entries of `claims.json`, shared ones left out.

    What the text says of the liquid (Sec. III A, III B) stands with its figure.
    """
    own: dict[str, list[Mapping[str, Any]]] = {title: [] for title in (*TITLES.values(), ELSEWHERE)}
    for row in rows:
        if row["class"] in (PAPER, SUPPLEMENTARY) and not row.get("same_as"):
            own[_title(row)].append(row)
    return [_finding(title, found) for title, found in own.items() if found]


def _title(row: Mapping[str, Any]) -> str:
    if named := re.search(r"Fig\. \d", row["where"]):
        return TITLES[named[0]]
    return {
        "strong-interaction": TITLES["Fig. 1"],
        "inherited": TITLES["Fig. 1"],
        "coordination-nnp-aimd": TITLES["Fig. 2"],
        "coordination-paired": TITLES["Fig. 2"],
        "network-kept": TITLES["Fig. 3"],
        "msd-reach": TITLES["Fig. 5"],
        "transport-accuracy": TITLES["Fig. 5"],
    }.get(row["claim"], ELSEWHERE)


def subject(row: Mapping[str, Any]) -> str:
    """What a check of the paper is about; one that has no words here goes by its claim."""
    claim, *parts = row["id"].split("/")
    keys = [key for part in parts if (key := f"{claim}/{part}") in SUBJECTS]
    return SUBJECTS.get(keys[0] if keys else claim, claim)


def _finding(title: str, rows: Sequence[Mapping[str, Any]]) -> Finding:
    paper = [row for row in rows if row["class"] == PAPER]
    beside = [row for row in rows if row["class"] == SUPPLEMENTARY]
    totals = Counter(map(subject, paper))

    def named(found: Sequence[Mapping[str, Any]]) -> str:
        both = Counter(subject(row) for row in found if BKS_TOO in row["reason"])
        return "; ".join(
            f"{of} ({count} of {totals[of]}{f', {both[of]} of which BKS passes too' if both[of] else ''})"
            for of, count in Counter(map(subject, found)).items()
        )

    passed = [row for row in paper if row["verdict"] == Verdict.PASS]
    failed = [row for row in paper if row["verdict"] == Verdict.FAIL]
    rest = [row for row in paper if row["verdict"] not in (Verdict.PASS, Verdict.FAIL)]
    tally = Counter(row["verdict"] for row in beside)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in tally.most_common())
    return Finding(
        title=title,
        counts=Counter(str(row["verdict"]) for row in paper),
        holds=f"{named(passed)}{_shared(passed)}." if passed else "Nothing of the paper was shown to hold.",
        fails=f"{named(failed)}." if failed else "Nothing of the paper was shown to fail.",
        unseen=f"{len(rest)} of {len(paper)} checks{_why(rest)}." if rest else "Nothing was left open.",
        beside=f"Our checks beside it: {counted}." if beside else "",
    )


def _shared(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the reader of most of these verdicts must also know, in brackets; preconditions have a place."""
    remarks = Counter(remark for row in rows for remark in row["reason"].split("; ") if remark)
    common = [remark for remark, count in remarks.items() if 2 * count > len(rows)]
    said = [remark for remark in common if not remark.startswith("preconditions")]
    return f" ({'; '.join(said)})" if said else ""


def _why(rows: Sequence[Mapping[str, Any]]) -> str:
    """The most frequent reasons, without their numbers."""
    reasons = Counter(_plain(row) for row in rows)
    return ": " + "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))


def _plain(row: Mapping[str, Any]) -> str:
    if "the data would" in row["reason"]:
        return "too little data to tell"
    if row["verdict"] == Verdict.TOO_SHORT:
        return "this tier's training was too short"
    said = row["reason"].removeprefix("the interval straddles the band: ")
    reason = re.split(r": |; | \(", said)[0]
    return reason or str(row["verdict"])
