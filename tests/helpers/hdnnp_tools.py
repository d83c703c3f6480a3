"""Symmetry-function networks for tests: random weights, scaled by what silica's surroundings are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from jobs.base.silica import Configuration, cristobalite
from jobs.base.units import BOHR_ANGSTROM
from jobs.engines.hdnnp.kernels import FunctionTables, describe
from jobs.engines.hdnnp.n2p2_files import unflatten
from jobs.engines.hdnnp.network import (
    Angular,
    ElementNetwork,
    Function,
    Network,
    Radial,
    function_set,
    in_order,
)

PLAIN = function_set(
    radial_eta=[0.01, 0.1], angular_eta=[0.0001, 0.02], zeta=[1, 4], sign=[1, -1], cutoff=6 / BOHR_ANGSTROM
)
# Two cut-offs, shifted functions, a high power, more shapes than go through together, elements unlike.
VARIED = {
    "O": in_order(
        [
            Radial("O", 0.05, 2.0, 10.0),
            Radial("Si", 0.3, 3.0, 11.0),
            Radial("Si", 0.02, 0.0, 10.0),
            *(Angular(("O", "Si"), eta, 1, 2, 10.0) for eta in (0.001, 0.01, 0.03, 0.05)),
            Angular(("Si", "Si"), 0.01, -1, 16, 9.0),
            Angular(("O", "O"), 0.02, -1, 3, 9.0),
        ]
    ),
    "Si": in_order([Radial("O", 0.1, 0.0, 11.0), Angular(("O", "O"), 0.005, 1, 1, 11.0)]),
}
SYMBOLS = ("Si", "O")


def symbols_of(configuration: Configuration) -> list[str]:
    return [SYMBOLS[index] for index in configuration.types]


def liquid_like(*, seed: int = 1, repeats: int = 1) -> Configuration:
    """Cristobalite far off its sites; one cell of 24 atoms is 7.16 A wide, below twice any cut-off here."""
    return cristobalite(repeats, displacement_angstrom=0.25, seed=seed)


def random_network(
    functions: Mapping[str, tuple[Function, ...]] | None = None, *, seed: int = 1, activation: str = "tanh"
) -> Network:
    """A potential with forces of about 1 eV/A and its atoms' energies far from zero."""
    functions = functions or {"O": PLAIN, "Si": PLAIN}
    random = np.random.default_rng(seed)
    tables = FunctionTables(functions)
    seen = []
    for number in range(4):
        atoms = liquid_like(seed=100 + number)
        elements = np.array([tables.symbols.index(symbol) for symbol in symbols_of(atoms)])
        found = describe(tables, atoms.positions / BOHR_ANGSTROM, atoms.cell / BOHR_ANGSTROM, elements)
        seen.append((elements, found.values))
    networks = {}
    for number, (symbol, of_one) in enumerate(functions.items()):
        values = np.concatenate([table[elements == number, : len(of_one)] for elements, table in seen])
        nodes = [len(of_one), 8, 6, 1]
        parts = [
            random.normal(scale=inputs**-0.5, size=(inputs + 1) * outputs)
            for inputs, outputs in pairwise(nodes)
        ]
        weights, biases = unflatten(np.concatenate(parts), nodes)
        weights[-1][:] *= 0.05
        networks[symbol] = ElementNetwork(
            of_one,
            values.min(axis=0),
            values.max(axis=0),
            values.mean(axis=0),
            values.std(axis=0),
            weights,
            biases,
            activation,
        )
    return Network(networks, {"O": -16.0, "Si": -4.0})


def with_scaling(network: Network, scaling: str) -> Network:
    return replace(
        network, elements={symbol: replace(one, scaling=scaling) for symbol, one in network.elements.items()}
    )
