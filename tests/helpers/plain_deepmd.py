"""A deep potential in plain numpy, float64, from the exported text: slow, and close to the formulas."""

from itertools import product
from pathlib import Path

import numpy as np


class PlainDeepPotential:
    """Energy (eV) of a configuration; forces and virial by differences of it."""

    def __init__(self, path: Path):
        self.words = iter(path.read_text().split())
        assert self._take(2) == ["deepmd-native", "1"]
        assert self._take(1) == ["types"]
        self.n_types = int(next(self.words))
        self.types = self._take(self.n_types)
        assert self._take(1) == ["atom_energy"]
        self.atom_energy = self._numbers(self.n_types)
        self.descriptors = [self._descriptor("angular")]
        assert self._take(1) == ["radial_descriptors"]
        if next(self.words) == "1":
            self.descriptors.append(self._descriptor("radial"))
        assert self._take(1) == ["fitting"]
        self.fitting = [self._net() for _ in range(self.n_types)]
        assert self._take(1) == ["end"]

    def _take(self, n):
        return [next(self.words) for _ in range(n)]

    def _numbers(self, n):
        return np.array(self._take(n), dtype=float)

    def _descriptor(self, name):
        assert self._take(1) == [name]
        smooth, cutoff, axis, factor = self._numbers(4)
        n = self.n_types
        about = {"smooth": smooth, "cutoff": cutoff, "axis": int(axis), "factor": factor}
        about |= {key: self._numbers(n) for key in ("slots", "mean", "sd", "sd1")}
        about["nets"] = [[self._net() for _ in range(n)] for _ in range(n)]
        return about

    def _net(self):
        assert self._take(1) == ["net"]
        layers = []
        for _ in range(int(next(self.words))):
            assert self._take(1) == ["layer"]
            inputs, outputs, timesteps = map(int, self._take(3))
            weights = self._numbers(inputs * outputs).reshape(inputs, outputs)
            layers.append((weights, self._numbers(outputs), self._numbers(timesteps)))
        return layers

    def energy(self, positions, cell, types):
        """`positions` (N, 3) and `cell` (3, 3) in A, `types` (N,) of this model's elements."""
        return sum(self._atom_energy(i, positions, cell, types) for i in range(len(types)))

    def _atom_energy(self, i, positions, cell, types):
        shifts = np.array(list(product(range(-2, 3), repeat=3))) @ cell
        vectors = (positions[None] + shifts[:, None] - positions[i]).reshape(-1, 3)
        others = np.tile(types, len(shifts))
        r = np.linalg.norm(vectors, axis=1)
        inputs = []
        for about in self.descriptors:
            near = (r > 1e-9) & (r < about["cutoff"])
            rows = self._environment(about, types[i], vectors[near], r[near])
            inputs.append(self._describe(about, types[i], rows, others[near]))
        x = np.concatenate(inputs)
        layers = self.fitting[types[i]]
        for number, (weights, bias, timestep) in enumerate(layers[:-1]):
            y = np.tanh(x @ weights + bias)
            if len(timestep):
                y = y * timestep
            x = x + y if number and len(x) == len(y) else y
        weights, bias, _ = layers[-1]
        return float((x @ weights + bias)[0] + self.atom_energy[types[i]])

    @staticmethod
    def _environment(about, centre, vectors, r):
        u = np.clip((r - about["smooth"]) / (about["cutoff"] - about["smooth"]), 0, 1)
        s = (1 + u**3 * (-10 + 15 * u - 6 * u**2)) / r
        first = (s - about["mean"][centre]) / about["sd"][centre]
        return np.column_stack([first, (s / r)[:, None] * vectors / about["sd1"][centre]])

    def _describe(self, about, centre, rows, others):
        matrix, slots = 0.0, about["slots"].sum()
        for other in range(self.n_types):
            own = rows[others == other]
            empty = int(about["slots"][other]) - len(own)
            assert empty >= 0, "more neighbours than slots"
            filler = np.tile([-about["mean"][centre] / about["sd"][centre], 0, 0, 0], (empty, 1))
            own = np.concatenate([own, filler])
            x = own[:, :1]
            for weights, bias, _ in about["nets"][centre][other]:
                y = np.tanh(x @ weights + bias)
                width, before = y.shape[1], x.shape[1]
                x = y + (x if width == before else np.hstack([x, x]) if width == 2 * before else 0)
            matrix = matrix + (own.T @ x if about["axis"] else x.sum(axis=0))
        if about["axis"]:
            return about["factor"] * (matrix.T @ matrix[:, : about["axis"]]).ravel() / slots**2
        return about["factor"] * matrix / slots
