"""Symmetry functions of every atom of a frame and their derivatives, compiled by numba.

Derivatives are kept as rows: one for each centre and each atom that its functions depend on (neighbours, all
images of an atom together, and the centre itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from jobs.engines.hdnnp.neighbours import periodic_pairs
from jobs.engines.hdnnp.network import Angular, Array, Function, Radial


@dataclass(frozen=True)
class Descriptors:
    """Symmetry functions of one frame of N atoms and R rows of derivatives; bohr.

    Attributes:
        values: (N, F); columns beyond an element's own functions are zero.
        slopes: (R, 3, F) derivatives of the functions of atom `row_centre` by the position of `row_atom`.
        row_centre: (R,) in rising order.
        row_atom: (R,).
    """

    values: Array
    slopes: Array
    row_centre: NDArray[np.intp]
    row_atom: NDArray[np.intp]


class FunctionTables:
    """The functions of all elements as arrays for the kernel; elements are numbered in the order given."""

    def __init__(self, functions: Mapping[str, tuple[Function, ...]]) -> None:
        self.symbols = tuple(functions)
        self.cutoff = max(f.cutoff for of_one in functions.values() for f in of_one)
        self.width = max(map(len, functions.values()))
        number = {symbol: n for n, symbol in enumerate(self.symbols)}
        # What angular functions share: exp(-eta r^2) fc(r) of one eta and cut-off.
        shapes = sorted(
            {(f.eta, f.cutoff) for one in functions.values() for f in one if isinstance(f, Angular)}
        )
        self.shapes = np.array(shapes, dtype=float).reshape(-1, 2)
        n_elements = len(functions)
        # Functions of a centre with a neighbour, and with a pair of neighbours: how many, and which.
        self.radial_count = np.zeros((n_elements,) * 2, dtype=np.int64)
        self.radial = np.zeros((*(n_elements,) * 2, self.width), dtype=np.int64)
        self.angular_count = np.zeros((n_elements,) * 3, dtype=np.int64)
        self.angular = np.zeros((*(n_elements,) * 3, self.width), dtype=np.int64)
        # Of a radial function eta, shift and cut-off; of an angular one shape, zeta, sign and prefactor.
        self.numbers = np.zeros((n_elements, self.width, 4))
        for e, of_one in enumerate(functions.values()):
            for n, f in enumerate(of_one):
                if isinstance(f, Radial):
                    at = (e, number[f.neighbour])
                    self.radial[(*at, self.radial_count[at])] = n
                    self.radial_count[at] += 1
                    self.numbers[e, n, :3] = f.eta, f.shift, f.cutoff
                else:
                    self.numbers[e, n] = shapes.index((f.eta, f.cutoff)), f.zeta, f.sign, 2.0 ** (1 - f.zeta)
                    for pair in {f.neighbours, f.neighbours[::-1]}:
                        place = (e, number[pair[0]], number[pair[1]])
                        self.angular[(*place, self.angular_count[place])] = n
                        self.angular_count[place] += 1


def describe(
    tables: FunctionTables, positions: Array, cell: Array, elements: NDArray[np.intp]
) -> Descriptors:
    """Symmetry functions of a frame.

    Args:
        tables: of the functions.
        positions: (N, 3) bohr.
        cell: (3, 3) bohr, rows are the cell vectors.
        elements: (N,) indices into `tables.symbols`.
    """
    n_atoms = len(elements)
    centre, other, vector = periodic_pairs(positions, cell, cutoff=tables.cutoff)
    keys = np.concatenate([centre * n_atoms + other, np.arange(n_atoms) * (n_atoms + 1)])
    rows, of_pair = np.unique(keys, return_inverse=True)
    starts = np.searchsorted(centre, np.arange(n_atoms + 1))
    values = np.zeros((n_atoms, tables.width))
    slopes = np.zeros((len(rows), 3, tables.width))
    _describe(
        starts,
        vector,
        elements[other],
        of_pair[: len(centre)],
        of_pair[len(centre) :],
        elements,
        tables.radial_count,
        tables.radial,
        tables.angular_count,
        tables.angular,
        tables.numbers,
        tables.shapes,
        values,
        slopes,
    )
    return Descriptors(values, slopes, rows // n_atoms, rows % n_atoms)


@numba.njit(nogil=True)
def _describe(
    starts: Any,
    vector: Any,
    neighbour: Any,
    row: Any,
    own_row: Any,
    element: Any,
    radial_count: Any,
    radial: Any,
    angular_count: Any,
    angular: Any,
    numbers: Any,
    shapes: Any,
    values: Any,
    slopes: Any,
) -> None:
    n_shapes = len(shapes)
    between = np.zeros((n_shapes, 2))
    for i in range(len(element)):
        e, first, own = element[i], starts[i], own_row[i]
        n = starts[i + 1] - first
        distance = np.zeros(n)
        near = np.zeros((n, n_shapes, 2))
        for j in range(n):
            x, t = vector[first + j], neighbour[first + j]
            r = np.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
            distance[j] = r
            for s in range(n_shapes):
                near[j, s] = _shape(r, 0.0, shapes[s, 0], shapes[s, 1])
            for m in range(radial_count[e, t]):
                f = radial[e, t, m]
                value, slope = _shape(r, numbers[e, f, 1], numbers[e, f, 0], numbers[e, f, 2])
                values[i, f] += value
                for a in range(3):
                    slopes[row[first + j], a, f] += slope / r * x[a]
                    slopes[own, a, f] -= slope / r * x[a]
        for j in range(n):
            xj, rj, tj, row_j = vector[first + j], distance[j], neighbour[first + j], row[first + j]
            for k in range(j + 1, n):
                xk, rk, tk, row_k = vector[first + k], distance[k], neighbour[first + k], row[first + k]
                apart = np.sqrt((xk[0] - xj[0]) ** 2 + (xk[1] - xj[1]) ** 2 + (xk[2] - xj[2]) ** 2)
                cosine = (xj[0] * xk[0] + xj[1] * xk[1] + xj[2] * xk[2]) / (rj * rk)
                for s in range(n_shapes):
                    between[s] = _shape(apart, 0.0, shapes[s, 0], shapes[s, 1])
                for m in range(angular_count[e, tj, tk]):
                    f = angular[e, tj, tk, m]
                    s = int(numbers[e, f, 0])
                    if between[s, 0] == 0.0:
                        continue
                    zeta, sign, lower = int(numbers[e, f, 1]), numbers[e, f, 2], numbers[e, f, 3]
                    base = max(1 + sign * cosine, 0.0)
                    for _ in range(zeta - 1):
                        lower *= base
                    power = lower * base
                    pj, pk, pjk = near[j, s, 0], near[k, s, 0], between[s, 0]
                    values[i, f] += power * pj * pk * pjk
                    # d/d cos, and d/d r over r of the three distances.
                    turn = lower * zeta * sign * pj * pk * pjk / (rj * rk)
                    by_j = power * near[j, s, 1] * pk * pjk / rj
                    by_k = power * pj * near[k, s, 1] * pjk / rk
                    by_jk = power * pj * pk * between[s, 1] / apart
                    # Derivatives by the two neighbours are combinations of their two vectors.
                    both = turn - by_jk
                    own_j = by_j + by_jk - turn * cosine * rk / rj
                    own_k = by_k + by_jk - turn * cosine * rj / rk
                    for a in range(3):
                        on_j = own_j * xj[a] + both * xk[a]
                        on_k = own_k * xk[a] + both * xj[a]
                        slopes[row_j, a, f] += on_j
                        slopes[row_k, a, f] += on_k
                        slopes[own, a, f] -= on_j + on_k


@numba.njit(nogil=True)
def _shape(r: float, shift: float, eta: float, cutoff: float) -> Any:
    """exp(-eta (r - shift)^2) fc(r) and its derivative."""
    if r >= cutoff:
        return 0.0, 0.0
    gauss = np.exp(-eta * (r - shift) ** 2)
    fc = 0.5 * (np.cos(np.pi * r / cutoff) + 1)
    slope = -0.5 * np.pi / cutoff * np.sin(np.pi * r / cutoff)
    return gauss * fc, gauss * (slope - 2 * eta * (r - shift) * fc)
