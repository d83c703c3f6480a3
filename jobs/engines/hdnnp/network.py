"""A potential of symmetry functions and element networks, as plain arrays.

The energy of an atom is a small feedforward network of the symmetry functions of its surroundings
(Behler, J. Chem. Phys. 134, 074106 (2011)); n2p2 numbers the functions "2" and "3":

    G2 = sum_j exp(-eta (r_ij - rs)^2) fc(r_ij)
    G3 = 2^(1-zeta) sum_{j<k} (1 + lambda cos theta_jik)^zeta exp(-eta (r_ij^2 + r_ik^2 + r_jk^2))
         fc(r_ij) fc(r_ik) fc(r_jk)
    fc(r) = (cos(pi r / rc) + 1) / 2 below rc, else 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

ATOMIC_NUMBERS = {"O": 8, "Si": 14}
ACTIVATIONS = ("tanh", "softplus")  # of hidden layers
# How n2p2 turns function values into inputs: less what, over what; the keywords of input.nn that say so.
SCALINGS = {
    "sigma": frozenset({"scale_symmetry_functions_sigma"}),
    "range": frozenset({"scale_symmetry_functions"}),
    "centre-range": frozenset({"scale_symmetry_functions", "center_symmetry_functions"}),
    "centre": frozenset({"center_symmetry_functions"}),
    "none": frozenset[str](),
}


@dataclass(frozen=True)
class Radial:
    """A function of type 2; `eta` in bohr^-2, `shift` (rs) and `cutoff` in bohr."""

    neighbour: str
    eta: float
    shift: float
    cutoff: float

    @property
    def order(self) -> tuple[object, ...]:
        """Where n2p2 sorts it among the functions of one element."""
        return (2, self.cutoff, self.eta, self.shift, 0.0, 0.0, ATOMIC_NUMBERS[self.neighbour])


@dataclass(frozen=True)
class Angular:
    """A function of type 3; its two neighbours stand in the order of their atomic numbers.

    `eta` in bohr^-2, `cutoff` in bohr; `sign` is lambda, +1 or -1; `zeta` is a whole number.
    """

    neighbours: tuple[str, str]
    eta: float
    sign: int
    zeta: int
    cutoff: float

    @property
    def order(self) -> tuple[object, ...]:
        """Where n2p2 sorts it among the functions of one element."""
        numbers = [ATOMIC_NUMBERS[symbol] for symbol in self.neighbours]
        return (3, self.cutoff, self.eta, 0.0, self.zeta, self.sign, *numbers)


Function: TypeAlias = Radial | Angular


@dataclass(frozen=True)
class ElementNetwork:
    """What gives the energy of the atoms of one element.

    Attributes:
        functions: symmetry functions in n2p2's order, so radial ones first.
        minimum: (n,) smallest value of each function in the training data.
        maximum: (n,) largest value.
        mean: (n,) mean value.
        sigma: (n,) standard deviation.
        weights: of each layer (inputs, outputs); the last has one output, hartree.
        biases: of each layer (outputs,).
        activation: of the hidden layers, one of `ACTIVATIONS`; the last layer is linear.
        scaling: one of `SCALINGS`.
    """

    functions: tuple[Function, ...]
    minimum: Array
    maximum: Array
    mean: Array
    sigma: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str = "tanh"
    scaling: str = "sigma"

    @property
    def offset(self) -> Array:
        """(n,) what is taken off each function's value to make it an input."""
        if self.scaling == "none":
            return np.zeros_like(self.mean)
        return self.minimum if self.scaling == "range" else self.mean

    @property
    def factor(self) -> Array:
        """(n,) what the rest is multiplied by."""
        if self.scaling == "sigma":
            return 1 / self.sigma
        return 1 / (self.maximum - self.minimum) if "range" in self.scaling else np.ones_like(self.mean)

    def scaled(self, values: Array) -> Array:
        """Inputs (..., n) of the network for function values (..., n)."""
        return (values - self.offset) * self.factor

    def energies(self, values: Array) -> tuple[Array, Array]:
        """Energies (m,) in hartree and their derivatives (m, n) by the values (m, n) of the functions."""
        outputs, slopes = self.scaled(values), []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            outputs, slope = activate(self.activation, outputs @ weight + bias)
            slopes.append(slope)
        energies = (outputs @ self.weights[-1] + self.biases[-1])[:, 0]
        gradient = np.broadcast_to(self.weights[-1][:, 0], outputs.shape)
        for weight, slope in zip(self.weights[-2::-1], slopes[::-1], strict=True):
            gradient = (gradient * slope) @ weight.T
        return energies, gradient * self.factor

    def extrapolations(self, values: Array) -> int:
        """How many function values (m, n) leave the range of the training data, as n2p2 warns of them."""
        margin = 1000 * np.finfo(float).eps
        return int(((values + margin < self.minimum) | (values - margin > self.maximum)).sum())


@dataclass(frozen=True)
class Network:
    """A whole potential: element networks by symbol in the order of atomic numbers, and atoms' energies.

    `atom_energies` (hartree, by symbol) are added to what the networks give.
    """

    elements: Mapping[str, ElementNetwork]
    atom_energies: Mapping[str, float]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements in the order of their atomic numbers."""
        return tuple(self.elements)

    @property
    def cutoff(self) -> float:
        """The largest cut-off of a function, bohr."""
        return max(function.cutoff for one in self.elements.values() for function in one.functions)


def activate(name: str, inputs: Array) -> tuple[Array, Array]:
    """Values of an activation function and its derivatives."""
    if name == "tanh":
        values = np.tanh(inputs)
        return values, 1 - values**2
    return np.logaddexp(0, inputs), 1 / (1 + np.exp(-inputs))


def in_order(functions: Sequence[Function]) -> tuple[Function, ...]:
    """Functions of one element as n2p2 sorts them."""
    return tuple(sorted(functions, key=lambda function: function.order))


def function_set(
    *,
    radial_eta: Sequence[float],
    angular_eta: Sequence[float],
    zeta: Sequence[int],
    sign: Sequence[int],
    cutoff: float,
    symbols: Sequence[str] = ("O", "Si"),
) -> tuple[Function, ...]:
    """The same functions for every neighbour and every pair of neighbours; etas in bohr^-2, cut-off in bohr.

    Args:
        radial_eta: one radial function, not shifted, for each and each neighbour.
        angular_eta: with each `zeta` and `sign`, one angular function for each pair of neighbours.
        zeta: exponents.
        sign: of the cosine (lambda), +1 or -1.
        cutoff: of all of them.
        symbols: elements in the order of atomic numbers.
    """
    pairs = [(one, other) for n, one in enumerate(symbols) for other in symbols[n:]]
    radial = [Radial(symbol, eta, 0.0, cutoff) for eta in radial_eta for symbol in symbols]
    angular = [
        Angular(pair, eta, s, z, cutoff) for eta in angular_eta for z in zeta for s in sign for pair in pairs
    ]
    return in_order([*radial, *angular])
