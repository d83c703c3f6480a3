"""Which reweighted PBE single points can stand for AIMD at equilibrium."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from suite.judging.evidence import Observation
from suite.judging.reasons import NotTested

SAMPLE_FRACTION = 0.1  # a reweighted reference with fewer effective samples decides nothing
SAMPLE_MELTS = 10  # errors of a weighted mean cover 95 % only with about that many units
# To first order alone, intervals of 24 melts hold the truth in 94 of 100 simulated cases, of 12 in 91.
FIRST_ORDER_MELTS = 24
# Part of the first order and all that lies beyond are of fewer atoms: how differently the energies of many
# and of few may be off, for each atom. Of 24 melts a spread is known to a seventh of itself.
LARGEST_SPREAD_RATIO = 1.25
MELT_GROUPS = 8


def best_overlap(found: Sequence[Observation]) -> Observation | None:
    """Of reweighted sets that can be a reference the one with most effective melts, if any.

    One by weights goes before one to first order, which needs a second set.
    """
    usable = [one for one in found if not overlap_lacks(one.facts)]
    return max(
        usable,
        key=lambda one: (one.facts["estimator"] == "weights", float(one.facts["effective_melts"])),
        default=None,
    )


def judging_reference(found: Sequence[Observation]) -> Observation:
    """The reweighted set that judges (`best_overlap`).

    Raises:
        NotTested: none can; it says what each lacks.
    """
    if (best := best_overlap(found)) is None:
        raise NotTested(lacks(found))
    return best


def lacks(found: Sequence[Observation]) -> str:
    """What each of some reweighted sets lacks, for a reason."""
    each = (f"{one.facts['estimator']}: {overlap_lacks(one.facts)}" for one in found)
    return f"the reweighted reference decides nothing ({'; '.join(each)})"


def overlap_lacks(facts: Mapping[str, Any]) -> str:
    """What a reweighted reference lacks to be used (`facts` of its observe.json), or nothing.

    n frames have an effective fraction of at least 1/n, however bad the overlap, so besides the fraction
    the melts that carry the weight are counted, and the fraction that the spread of the energy difference
    lets expect must reach the bound too. To first order melts are counted, and the set of fewer atoms must
    itself be one whose weights can be used, and neither better nor worse for each atom.
    """
    if facts["estimator"] == "first-order":
        smaller = facts["fewer"]
        per_atom = [one["energy_difference_sd_kT"] / math.sqrt(one["n_atoms"]) for one in (facts, smaller)]
        if lacks := overlap_lacks(smaller):
            return f"its set of {smaller['n_atoms']} atoms {lacks}"
        ratio = per_atom[0] / per_atom[1]
        if not 1 / LARGEST_SPREAD_RATIO <= ratio <= LARGEST_SPREAD_RATIO:
            return (
                f"its spread per root of the number of atoms is {ratio:.2f} times that of "
                f"{smaller['n_atoms']} atoms, needs {1 / LARGEST_SPREAD_RATIO} to {LARGEST_SPREAD_RATIO}"
            )
        if facts["blocks"] < FIRST_ORDER_MELTS:
            return f"has {facts['blocks']} melts, needs {FIRST_ORDER_MELTS}"
        return ""
    measured, expected = facts["effective_fraction"], facts["expected_fraction"]
    if measured < SAMPLE_FRACTION:
        return f"has an effective sample fraction of {measured:.2g}, needs {SAMPLE_FRACTION:g}"
    if expected < SAMPLE_FRACTION:
        return (
            f"has energies whose spread leaves an effective fraction of {expected:.2g}, needs "
            f"{SAMPLE_FRACTION:g} (its few frames show {measured:.2g})"
        )
    if facts["effective_melts"] < SAMPLE_MELTS:
        return f"has its weight on {facts['effective_melts']:.1f} melts, needs {SAMPLE_MELTS}"
    return ""
