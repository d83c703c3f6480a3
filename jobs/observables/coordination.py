"""How silicon and oxygen are bonded: coordination shares, defects, edge-sharing tetrahedra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .neighbours import Neighbours

Integers = NDArray[np.int64]

MAX_COORDINATION = 9
CLOSE_SILICON_ANGSTROM = 2.5


@dataclass(frozen=True)
class Bonding:
    """Counts summed over frames.

    `si` and `o` (10,) are numbers of atoms with 0 to 9 partners (the last also holds more);
    `two_rings` counts Si pairs that share at least two O; `close_silicon` counts Si pairs nearer than
    2.5 A, the mark of trapped two-rings in PBE melts (row pbe-melt-trapped-Si-Si of reference/experiment).
    """

    si: Integers
    o: Integers
    two_rings: int
    close_silicon: int

    def __add__(self, other: Bonding) -> Bonding:
        return Bonding(
            self.si + other.si,
            self.o + other.o,
            self.two_rings + other.two_rings,
            self.close_silicon + other.close_silicon,
        )


def count_bonds(neighbours: Neighbours, *, cutoff_si_o_angstrom: float) -> Bonding:
    """Count Si-O partners within the cut-off, two-rings and close Si-Si pairs (see `Bonding`).

    `neighbours` were found with a cut-off that reaches the longer of `cutoff_si_o_angstrom` and
    `CLOSE_SILICON_ANGSTROM`: pairs beyond it are not seen, and would be missing without a warning.
    """
    types, centre, neighbour = neighbours.types, neighbours.centre, neighbours.neighbour
    of_centre, of_neighbour = types[centre], types[neighbour]
    bonded = (of_centre == 0) & (of_neighbour == 1) & (neighbours.distance < cutoff_si_o_angstrom)
    silicon, oxygen = centre[bonded], neighbour[bonded]

    def shares(atoms: Integers, species: int) -> Integers:
        number = np.bincount(atoms, minlength=len(types))[types == species]
        return np.bincount(np.minimum(number, MAX_COORDINATION), minlength=MAX_COORDINATION + 1)

    # Every O lists its Si; each pair of them is a bridge, and two bridges on one pair are a two-ring.
    order = np.lexsort((silicon, oxygen))
    silicon, oxygen = silicon[order], oxygen[order]
    bridges = []
    for apart in range(1, MAX_COORDINATION):
        same = np.flatnonzero(oxygen[:-apart] == oxygen[apart:])
        if len(same) == 0:
            break
        bridges.append(silicon[same] * len(types) + silicon[same + apart])
    if bridges:
        _, times = np.unique(np.concatenate(bridges), return_counts=True)
        two_rings = int((times >= 2).sum())
    else:
        two_rings = 0
    close = (of_centre == 0) & (of_neighbour == 0) & (neighbours.distance < CLOSE_SILICON_ANGSTROM)
    return Bonding(shares(silicon, 0), shares(oxygen, 1), two_rings, int(close.sum()) // 2)
