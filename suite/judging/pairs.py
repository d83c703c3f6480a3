"""Sides of a paired comparison: MD and AIMD from the same frames on, run by run.

A unit is an AIMD run with everything that starts from it: all sides of a run are thinned together. AIMD runs
that share a draw of their thermostat's noise count as separate units here, unlike at equilibrium: the heat is
replayed on the MD side, so it drops out of the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from suite.judging.curves import Curves, Reader, common
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, estimate

LEAST_UNITS = 4
Sides: TypeAlias = Mapping[str, Groups]
"""By name of the side, one array (1, points) for each pair."""


@dataclass(frozen=True)
class Paired:
    """Curves of several sides on one grid: x (points,), and for each pair an array (1, points)."""

    x: Array
    sides: dict[str, list[Array]]

    def mapped(self, change: Callable[[Groups], list[Array]]) -> Paired:
        """The same pairs with every side's curves changed."""
        return Paired(self.x, {name: change(groups) for name, groups in self.sides.items()})

    def estimate(self, function: Callable[[Sides], float]) -> Estimate:
        """Value and interval of a function of all sides, whose pairs are thinned on all sides at once.

        Raises:
            NotTested: fewer than four pairs.
        """
        names = list(self.sides)
        units = len(self.sides[names[0]])
        if units < LEAST_UNITS:
            raise NotTested(f"{units} pairs: an error bar needs at least {LEAST_UNITS}")
        edges = np.cumsum([0, *(self.sides[name][0].shape[1] for name in names)])
        joined = [np.hstack([self.sides[name][unit] for name in names]) for unit in range(units)]

        def apart(samples: Mapping[str, Groups]) -> float:
            return function(
                {
                    name: [group[:, edges[i] : edges[i + 1]] for group in samples["pairs"]]
                    for i, name in enumerate(names)
                }
            )

        return estimate(apart, {"pairs": joined})


def read_pairs(evidence: Evidence, *, size: int, sides: Sequence[str], read: Reader) -> Paired:
    """Curves of `paired-SIZE-aimd` and of other sides (`nnp`, `bks`, `other`) of its runs.

    Raises:
        NotTested: an AIMD run has no partner on a side.
    """
    names = ("aimd", *sides)
    observations = {name: evidence.observables(f"paired-{size}-{name}") for name in names}
    curves = dict(zip(names, common(*(read(observations[name]) for name in names)), strict=True))
    runs = [run.facts["aimd_run"] for run in observations["aimd"]]
    found: dict[str, list[Array]] = {}
    for name in names:
        of_run = {
            run.facts["aimd_run"]: np.mean(group, axis=0, keepdims=True)
            for group, run in zip(curves[name].groups, observations[name], strict=True)
        }
        if lacking := [run for run in runs if run not in of_run]:
            raise NotTested(f"paired-{size}-{name} has no run that starts from {lacking[0]}")
        found[name] = [of_run[run] for run in runs]
    return Paired(curves["aimd"].x, found)


def scalars(key: Callable[[Observation], Array]) -> Reader:
    """Reads one number (or a row of them) of each block as a curve of few points."""

    def read(observations: Sequence[Observation]) -> Curves:
        rows = [np.atleast_2d(key(run)) for run in observations]
        return Curves(np.arange(rows[0].shape[1], dtype=float), rows)

    return read
