"""Energies and forces in plain numpy: slow, and the reference that the fast ones are compared with.

Every function is written in distances alone (the angle too, by the law of cosines), one function after the
other, so that it shares neither its algebra nor its loops with `kernels.py` and the pair style.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.hdnnp.neighbours import periodic_pairs
from jobs.engines.hdnnp.network import Angular, Array, Network, Radial


def energy_and_forces(
    network: Network, positions_angstrom: Array, cell_angstrom: Array, symbols: Sequence[str]
) -> tuple[float, Array, int]:
    """Energy (eV), forces (N, 3) in eV/A and the number of extrapolation warnings of one configuration.

    Args:
        network: the potential.
        positions_angstrom: (N, 3), wrapped or not.
        cell_angstrom: (3, 3), rows are the cell vectors.
        symbols: element of each atom.
    """
    positions, cell = positions_angstrom / BOHR_ANGSTROM, cell_angstrom / BOHR_ANGSTROM
    centre, other, vector = periodic_pairs(positions, cell, cutoff=network.cutoff)
    distance = np.linalg.norm(vector, axis=1)
    element = np.array(symbols)
    warnings, forces = 0, np.zeros_like(positions)
    energy = 0.0
    for k, symbol in enumerate(symbols):
        mine = centre == k
        j, r, x = other[mine], distance[mine], vector[mine]
        between = x[None, :] - x[:, None]
        apart = np.linalg.norm(between, axis=2)
        one = network.elements[symbol]
        values, by_r, by_apart = [], [], []
        for function in one.functions:
            if isinstance(function, Radial):
                of_each, slope = _radial(function, r, element[j])
                values.append(float(of_each.sum()))
                by_r.append(slope)
                by_apart.append(np.zeros_like(apart))
            else:
                value, slope, slope_apart = _angular(function, r, apart, element[j])
                values.append(value)
                by_r.append(slope)
                by_apart.append(slope_apart)
        energies, gradient = one.energies(np.array([values]))
        energy += float(energies[0]) + network.atom_energies[symbol]
        warnings += one.extrapolations(np.array([values]))
        along = (np.tensordot(gradient[0], np.array(by_r), 1) / r)[:, None] * x
        safe = np.where(apart > 0, apart, 1.0)
        pull = (np.tensordot(gradient[0], np.array(by_apart), 1) / safe)[:, :, None] * between
        # The energy's derivative by the neighbour's position, and the opposite by the centre's.
        on_neighbour = along + pull.sum(axis=0) - pull.sum(axis=1)
        np.add.at(forces, j, -on_neighbour)
        forces[k] += on_neighbour.sum(axis=0)
    return energy * HARTREE_EV, forces * HARTREE_EV / BOHR_ANGSTROM, warnings


def _cutoff(r: Array, rc: float) -> tuple[Array, Array]:
    """The cosine cut-off function and its derivative."""
    inside = r < rc
    value = np.where(inside, 0.5 * (np.cos(np.pi * r / rc) + 1), 0.0)
    return value, np.where(inside, -0.5 * np.pi / rc * np.sin(np.pi * r / rc), 0.0)


def _radial(function: Radial, r: Array, element: NDArray[np.str_]) -> tuple[Array, Array]:
    """Each neighbour's part of a radial function and its derivative by the distance."""
    fc, slope = _cutoff(r, function.cutoff)
    gauss = np.where(element == function.neighbour, np.exp(-function.eta * (r - function.shift) ** 2), 0.0)
    return gauss * fc, gauss * (slope - 2 * function.eta * (r - function.shift) * fc)


def _angular(
    function: Angular, r: Array, apart: Array, element: NDArray[np.str_]
) -> tuple[float, Array, Array]:
    """An angular function, its derivatives by the distances r (n,) from the centre and those between (n, n).

    Each triple stands in the arrays twice, as (j, k) and (k, j): half of it is taken each time.
    """
    first, second = (element == symbol for symbol in function.neighbours)
    fits = np.outer(first, second) | np.outer(second, first)
    np.fill_diagonal(fits, False)
    a, b = r[:, None], r[None, :]
    cosine = (a**2 + b**2 - apart**2) / (2 * a * b)
    base = np.maximum(1 + function.sign * cosine, 0.0)
    power = base**function.zeta
    power_slope = function.sign * function.zeta * base ** (function.zeta - 1)
    gauss = np.where(fits, np.exp(-function.eta * (a**2 + b**2 + apart**2)), 0.0)
    gauss *= 0.5 * 2.0 ** (1 - function.zeta)
    (fa, da), (fb, _), (fab, dab) = (_cutoff(x, function.cutoff) for x in (a, b, apart))
    value = power * gauss * fa * fb * fab
    by_a = (
        gauss
        * fb
        * fab
        * (power_slope * (1 / b - cosine / a) * fa + power * (da - 2 * function.eta * a * fa))
    )
    by_apart = (
        gauss
        * fa
        * fb
        * (-power_slope * apart / (a * b) * fab + power * (dab - 2 * function.eta * apart * fab))
    )
    # By symmetry the derivative by the second distance, summed over the first, is the same again.
    return float(value.sum()), 2 * by_a.sum(axis=1), by_apart
