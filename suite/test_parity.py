"""Abstract: nearly ab initio accuracy on configurations that training never saw."""

from __future__ import annotations

import math

import numpy as np

from suite.claims import Atom, Judge, claim
from suite.evidence import Evidence, Observation
from suite.statistics import Array, Groups, estimate, mean_of
from suite.verdict import NotTested

SPECIES = {"Si": 0, "O": 1}


def _frame_sums(heldout: Observation, values: Array) -> Array:
    """Sum of per-atom values over the atoms of each frame."""
    return np.bincount(heldout["frame"], weights=values, minlength=len(heldout["melt"]))


def _by_melt(seeds: list[Observation], rows: list[Array], chosen: Array) -> list[Array]:
    """Rows (frames, k), averaged over seeds, grouped by melt: the melt is what was held out."""
    table = np.mean(rows, axis=0)
    melt = np.asarray(seeds[0]["melt"])
    if not chosen.any():
        raise NotTested("no held-out frame there: the test melts do not cover it")
    return [table[chosen & (melt == name)] for name in np.unique(melt[chosen])]


def _squares(heldout: Observation, *, species: int | None = None) -> Array:
    """Per frame: sums of error squared, reference squared, reference x predicted, predicted squared."""
    kept = np.ones(len(heldout["species"])) if species is None else heldout["species"] == species
    reference, predicted = heldout["forces_reference"], heldout["forces_predicted"]
    sums = ((predicted - reference) ** 2, reference**2, reference * predicted, predicted**2)
    return np.stack([_frame_sums(heldout, kept * part.sum(axis=1)) for part in sums], axis=1)


def _same_frames(first: Observation, second: Observation) -> None:
    if not np.array_equal(first["energy_reference_eV"], second["energy_reference_eV"]):
        raise NotTested("BKS was evaluated on other held-out frames than this potential")


@claim("parity")
def test_parity(atom: Atom, evidence: Evidence, judge: Judge) -> None:
    """Held-out errors against PBE; units are melts, seeds are averaged frame by frame."""
    seeds = evidence.heldout(f"parity-{atom['potential']}")
    first = seeds[0]
    everything = np.ones(len(first["melt"]), dtype=bool)

    if atom.measure == "energy":
        rows = []
        for seed in seeds:
            error = (seed["energy_predicted_eV"] - seed["energy_reference_eV"]) / seed["n_atoms"]
            rows.append(np.stack([error, error**2], axis=1))

        def spread(groups: Groups) -> float:
            mean, square = mean_of(groups)
            return 1000 * math.sqrt(max(square - mean**2, 0.0))

        judge(estimate(lambda s: spread(s["melts"]), {"melts": _by_melt(seeds, rows, everything)}))
        return

    if atom.measure == "force-scale":
        rows = [_squares(seed, species=SPECIES[atom["species"]]) for seed in seeds]

        def scale(groups: Groups) -> float:
            _, _, product, predicted = mean_of(groups)
            return float(product / predicted)

        judge(estimate(lambda s: scale(s["melts"]), {"melts": _by_melt(seeds, rows, everything)}))
        return

    if atom.measure == "bks-ratio":
        bks = evidence.heldout("parity-bks")[0]
        _same_frames(first, bks)
        rows = [np.stack([_squares(bks)[:, 0], _squares(seed)[:, 0]], axis=1) for seed in seeds]

        def ratio(groups: Groups) -> float:
            classical, network = mean_of(groups)
            return math.sqrt(classical / network)

        judge(estimate(lambda s: ratio(s["melts"]), {"melts": _by_melt(seeds, rows, everything)}))
        return

    chosen = (
        np.isclose(first["temperature_K"], atom["temperature"])
        if "temperature" in atom.values
        else everything
    )

    def relative(groups: Groups) -> float:
        error, reference, _, _ = mean_of(groups)
        return math.sqrt(error / reference)

    groups = _by_melt(seeds, [_squares(seed) for seed in seeds], chosen)
    judge(estimate(lambda s: relative(s["held-out frames"]), {"held-out frames": groups}))
