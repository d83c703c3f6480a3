"""Train element networks on energies and forces by the Kalman filter.

Every update draws some frames and looks at all their energies, and at force components drawn from them.
Energies in every update hold the mean energy, which forces say nothing about.

What is drawn, and the first weights, follow from the seed and the number of the update alone: a training that
was killed goes on from its checkpoint as if nothing had happened.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.engines.hdnnp.kalman import Schedule, first_covariance, update
from jobs.engines.hdnnp.kernels import FunctionTables, describe
from jobs.engines.hdnnp.n2p2_files import flatten, unflatten
from jobs.engines.hdnnp.network import Array, ElementNetwork, Function, Network

CHECKPOINT_FILE = "kalman.npz"
# Derivatives of so many frames are kept in memory (4 MB for each of 96 atoms); of others they are computed
# again whenever they are drawn.
KEPT_BYTES = 3 * 2**29
Watch = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """How long and with what weights is trained.

    Attributes:
        nodes: of the two hidden layers (tanh).
        updates: of the filter.
        frames_per_update: whose energies are looked at.
        forces_per_update: force components.
        energy_weight: of the error of an energy per atom (eV) beside that of a force component (eV/A).
        schedule: of the filter.
        checkpoint_every: updates between checkpoints.
    """

    nodes: tuple[int, int]
    updates: int
    frames_per_update: int
    forces_per_update: int
    energy_weight: float
    schedule: Schedule
    checkpoint_every: int


@dataclass(frozen=True)
class Labelled:
    """One labelled frame, A, eV and eV/A; `elements` (N,) number the symbols, `cell` (3, 3) has its rows."""

    positions: Array
    cell: Array
    elements: NDArray[np.intp]
    energy_eV: float
    forces_eV_A: Array


class _Described:
    """A frame's symmetry functions; derivatives, per A, are kept or made again when asked for."""

    def __init__(self, tables: FunctionTables, frame: Labelled, *, keep: bool) -> None:
        self.tables, self.frame = tables, frame
        found = describe(tables, frame.positions / BOHR_ANGSTROM, frame.cell / BOHR_ANGSTROM, frame.elements)
        self.values = found.values
        self.row_centre = found.row_centre
        self.rows_by_atom = np.argsort(found.row_atom, kind="stable")
        self.starts = np.searchsorted(found.row_atom[self.rows_by_atom], np.arange(len(frame.elements) + 1))
        self.kept = (found.slopes / BOHR_ANGSTROM).astype(np.float32) if keep else None

    def rows_of(self, atom: int) -> NDArray[np.intp]:
        """Rows of the derivatives by an atom's position."""
        return self.rows_by_atom[self.starts[atom] : self.starts[atom + 1]]

    def slopes(self) -> NDArray[np.float32]:
        """(R, 3, F) derivatives of the functions of `row_centre`."""
        if self.kept is not None:
            return self.kept
        frame = self.frame
        found = describe(
            self.tables, frame.positions / BOHR_ANGSTROM, frame.cell / BOHR_ANGSTROM, frame.elements
        )
        return (found.slopes / BOHR_ANGSTROM).astype(np.float32)


@dataclass(frozen=True)
class _Statistics:
    """Of each function of one element over the training data."""

    minimum: Array
    maximum: Array
    mean: Array
    sigma: Array


class Trainer:
    """Networks in training; their energies are eV and their weights one vector, element by element.

    Raises:
        SuiteError: a function has one value in all frames, or an update's frames have too few forces.
    """

    def __init__(
        self,
        functions: Mapping[str, tuple[Function, ...]],
        frames: Sequence[Labelled],
        settings: Settings,
        *,
        seed: int,
        watch: Watch,
    ) -> None:
        self.functions, self.settings, self.seed = functions, settings, seed
        tables = FunctionTables(functions)
        self.data: list[_Described] = []
        kept = 0
        for number, frame in enumerate(frames, start=1):
            self.data.append(_Described(tables, frame, keep=kept < KEPT_BYTES))
            slopes = self.data[-1].kept
            kept += 0 if slopes is None else slopes.nbytes
            watch(number / len(frames), f"symmetry functions of {number} of {len(frames)} frames")
        fewest = min(len(frame.elements) for frame in frames) * min(settings.frames_per_update, len(frames))
        if settings.forces_per_update > 3 * fewest:
            raise SuiteError(
                f"forces_per_update: found {settings.forces_per_update}, expected at most {3 * fewest}: "
                "that many are in an update's frames"
            )
        self.statistics = [self._statistics(e, len(of_one)) for e, of_one in enumerate(functions.values())]
        self.atom_energy = float(np.mean([frame.energy_eV / len(frame.elements) for frame in frames]))
        self.nodes = [(len(of_one), *settings.nodes, 1) for of_one in functions.values()]
        self.sizes = [sum((i + 1) * o for i, o in itertools.pairwise(n)) for n in self.nodes]
        self.done = 0
        # What each update found: rms errors of the energies per atom (eV) and of the forces (eV/A).
        self.errors = np.zeros((settings.updates, 2))
        self.weights = self._first_weights()
        self.covariance = first_covariance(sum(self.sizes), settings.schedule)

    def _statistics(self, element: int, count: int) -> _Statistics:
        values = np.concatenate([one.values[one.frame.elements == element, :count] for one in self.data])
        found = _Statistics(values.min(axis=0), values.max(axis=0), values.mean(axis=0), values.std(axis=0))
        if not (found.sigma > 0).all():
            symbol, worst = list(self.functions)[element], int(found.sigma.argmin())
            raise SuiteError(
                f"symmetry function {worst + 1} of {symbol}: found one value in all training frames, "
                "expected different ones"
            )
        return found

    def _first_weights(self) -> Array:
        """Normal, of a width at which every layer's sums have about the width of its inputs; biases zero."""
        random = np.random.default_rng([self.seed, 0])
        parts = []
        for nodes in self.nodes:
            for inputs, outputs in itertools.pairwise(nodes):
                parts += [random.normal(scale=inputs**-0.5, size=inputs * outputs), np.zeros(outputs)]
        return np.concatenate(parts)

    # -- going on ---------------------------------------------------------------------------------

    def resume(self, folder: Path) -> int | None:
        """Take up the checkpoint in a folder; the update it was written after, or None without one."""
        path = folder / CHECKPOINT_FILE
        if not path.is_file():
            return None
        with np.load(path) as found:
            self.done = int(found["done"])
            for name, array in self._state().items():
                array[:] = found[name]
        return self.done

    def save(self, folder: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        temporary = folder / "kalman.tmp.npz"
        np.savez(temporary, allow_pickle=False, done=np.array(self.done), **self._state())
        os.replace(temporary, folder / CHECKPOINT_FILE)

    def _state(self) -> dict[str, Array]:
        return {"weights": self.weights, "covariance": self.covariance, "errors": self.errors}

    def run(self, folder: Path, watch: Callable[[int], None]) -> None:
        """Train to the last update, with checkpoints in a folder; `watch` gets the number of updates done."""
        settings = self.settings
        while self.done < settings.updates:
            derivatives, residuals = self.observe(self.draw(self.done))
            share = self.done / settings.updates
            n = len(residuals) - settings.forces_per_update
            energies, forces = (np.sqrt(np.mean(part**2)) for part in (residuals[:n], residuals[n:]))
            self.errors[self.done] = energies / settings.energy_weight, forces
            update(
                self.weights,
                self.covariance,
                derivatives,
                residuals,
                eta=settings.schedule.eta_at(share),
                q=settings.schedule.q_at(share),
            )
            self.done += 1
            watch(self.done)
            if self.done % settings.checkpoint_every == 0:
                self.save(folder)

    # -- one update -------------------------------------------------------------------------------

    def draw(self, number: int) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Frames of an update, and its force components as (place among these frames, atom, axis)."""
        random = np.random.default_rng([self.seed, 1, number])
        count = min(self.settings.frames_per_update, len(self.data))
        frames = random.choice(len(self.data), count, replace=False)
        atoms = np.array([len(self.data[frame].frame.elements) for frame in frames])
        starts = np.concatenate([[0], np.cumsum(3 * atoms)])
        picked = random.choice(starts[-1], self.settings.forces_per_update, replace=False)
        place = np.searchsorted(starts, picked, side="right") - 1
        within = picked - starts[place]
        components = np.stack([place, within // 3, within % 3], axis=1)
        return frames.tolist(), [(int(p), int(i), int(a)) for p, i, a in components]

    def observe(self, drawn: tuple[list[int], list[tuple[int, int, int]]]) -> tuple[Array, Array]:
        """Derivatives (weights, observations) and residuals: energies per atom, weighted, then forces."""
        frames, components = drawn
        data = [self.data[frame] for frame in frames]
        slopes = [one.slopes() for one in data]
        rows = [data[p].rows_of(i) for p, i, _ in components]
        derivatives = np.zeros((sum(self.sizes), len(frames) + len(components)), order="F")
        predicted = np.zeros(derivatives.shape[1])
        start = 0
        for element, size in enumerate(self.sizes):
            block, predictions = derivatives[start : start + size], np.zeros_like(predicted)
            net = _Forward(self, element, data, self.weights[start : start + size])
            net.energies(block[:, : len(frames)], predictions[: len(frames)])
            net.forces(components, rows, slopes, block[:, len(frames) :], predictions[len(frames) :])
            predicted += predictions
            start += size
        scale = np.array([self.settings.energy_weight / len(one.frame.elements) for one in data])
        derivatives[:, : len(frames)] *= scale
        wanted = [one.frame.energy_eV - self.atom_energy * len(one.frame.elements) for one in data]
        energies = scale * (np.array(wanted) - predicted[: len(frames)])
        labels = np.array([data[p].frame.forces_eV_A[i, a] for p, i, a in components])
        return derivatives, np.concatenate([energies, labels - predicted[len(frames) :]])

    # -- what comes out ---------------------------------------------------------------------------

    def network(self) -> Network:
        """The networks as they are now, in hartree."""
        elements, start = {}, 0
        for number, symbol in enumerate(self.functions):
            size, found = self.sizes[number], self.statistics[number]
            weights, biases = unflatten(self.weights[start : start + size].copy(), self.nodes[number])
            weights[-1][:] /= HARTREE_EV
            biases[-1][:] /= HARTREE_EV
            start += size
            elements[symbol] = ElementNetwork(
                self.functions[symbol],
                found.minimum,
                found.maximum,
                found.mean,
                found.sigma,
                weights,
                biases,
            )
        return Network(elements, dict.fromkeys(elements, self.atom_energy / HARTREE_EV))


class _Forward:
    """The atoms of one element in the drawn frames, passed through their network."""

    def __init__(self, trainer: Trainer, element: int, data: Sequence[_Described], weights: Array) -> None:
        nodes, found = trainer.nodes[element], trainer.statistics[element]
        (self.w1, self.w2, w3), (b1, b2, b3) = unflatten(weights, nodes)
        self.w3 = w3[:, 0]
        self.element, self.data, self.sigma = element, data, found.sigma
        self.places = []  # of each frame's atoms among the atoms here, -1 for other elements
        counts = [0]
        for one in data:
            mine = one.frame.elements == element
            self.places.append(np.where(mine, counts[-1] + np.cumsum(mine) - 1, -1))
            counts.append(counts[-1] + int(mine.sum()))
        self.counts = counts
        values = np.concatenate([one.values[one.frame.elements == element, : nodes[0]] for one in data])
        self.x = (values - found.mean) / found.sigma
        self.a1 = np.tanh(self.x @ self.w1 + b1)
        self.a2 = np.tanh(self.a1 @ self.w2 + b2)
        self.d1, self.d2 = 1 - self.a1**2, 1 - self.a2**2
        self.outputs = self.a2 @ self.w3 + b3[0]

    def energies(self, derivatives: Array, predictions: Array) -> None:
        """Fill in the frames' energies of this element and their derivatives by its weights."""
        back2 = self.d2 * self.w3
        back1 = (back2 @ self.w2.T) * self.d1
        for n, (first, last) in enumerate(zip(self.counts, self.counts[1:], strict=False)):
            part = slice(first, last)
            predictions[n] = self.outputs[part].sum()
            derivatives[:, n] = flatten(
                (self.x[part].T @ back1[part], self.a1[part].T @ back2[part], self.a2[part].sum(axis=0)),
                (back1[part].sum(axis=0), back2[part].sum(axis=0), np.array([last - first])),
            )

    def forces(
        self,
        components: Sequence[tuple[int, int, int]],
        rows: Sequence[NDArray[np.intp]],
        slopes: Sequence[NDArray[np.float32]],
        derivatives: Array,
        predictions: Array,
    ) -> None:
        """Fill in this element's share of force components, and its derivatives by the weights.

        A component is the derivative of the energy along one direction of the inputs: the networks are
        followed along it (u, s), and that is differentiated by the weights backwards.
        """
        width = self.x.shape[1]
        directions, places, counts = [], [], [0]
        for (p, _, a), of_atom in zip(components, rows, strict=True):
            place = self.places[p][self.data[p].row_centre[of_atom]]
            mine = place >= 0
            places.append(place[mine])
            directions.append(slopes[p][of_atom[mine], a, :width])
            counts.append(counts[-1] + int(mine.sum()))
        v = np.concatenate(directions) / -self.sigma  # minus: a force
        at = np.concatenate(places)
        x, a1, d1, a2, d2 = self.x[at], self.a1[at], self.d1[at], self.a2[at], self.d2[at]
        u1 = v @ self.w1
        s1 = d1 * u1
        u2 = s1 @ self.w2
        s2 = d2 * u2
        on_u2 = d2 * self.w3
        on_z2 = -2 * a2 * s2 * self.w3
        on_s1 = on_u2 @ self.w2.T
        on_u1 = d1 * on_s1
        on_z1 = -2 * a1 * s1 * on_s1 + d1 * (on_z2 @ self.w2.T)
        shares = s2 @ self.w3
        for n, (first, last) in enumerate(itertools.pairwise(counts)):
            part = slice(first, last)
            predictions[n] = shares[part].sum()
            derivatives[:, n] = flatten(
                (
                    v[part].T @ on_u1[part] + x[part].T @ on_z1[part],
                    s1[part].T @ on_u2[part] + a1[part].T @ on_z2[part],
                    s2[part].sum(axis=0),
                ),
                (on_z1[part].sum(axis=0), on_z2[part].sum(axis=0), np.zeros(1)),
            )
