"""Abstract: nearly ab initio accuracy on configurations that were not used in training."""

from __future__ import annotations

import math

import numpy as np

from jobs.base.silica import SPECIES
from suite.judging.checks import Check
from suite.judging.evaluate import claim
from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import NotTested
from suite.judging.statistics import Array, Estimate, Groups, estimate, mean_of

# Frames of one melt resemble each other: the spread of energies needs several melts of a temperature.
ENERGY_MELTS = 4


def _frame_sums(heldout: Observation, values: Array) -> Array:
    """Sum of per-atom values over the atoms of each frame."""
    return np.bincount(heldout["frame"], weights=values, minlength=len(heldout["melt"]))


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
def parity(check: Check, evidence: Evidence) -> Estimate:
    """Held-out errors against PBE; units are melts, seeds are averaged frame by frame."""
    seeds = evidence.heldout(f"parity-{check['potential']}")
    melt = np.asarray(seeds[0]["melt"])
    chosen = np.ones(len(melt), dtype=bool)
    if "temperature" in check.values:
        chosen = np.isclose(seeds[0]["temperature_K"], check["temperature"])
    else:
        own = np.asarray(seeds[0]["n_atoms"]) == int(check["potential"])
        # DeePMD-216 learns from, and is tested on, more frames of 96 atoms than of its own size.
        if len(np.unique(melt[own])) >= ENERGY_MELTS:
            chosen = own
    if not chosen.any():
        raise NotTested("no held-out frame there: the test melts do not cover it")

    def by_melt(table: Array) -> dict[str, Groups]:
        """Rows of a table (frames, k) in groups of one melt: the melt is what was held out."""
        return {"melts": [table[chosen & (melt == name)] for name in np.unique(melt[chosen])]}

    if check.measure == "energy":
        errors = [
            (seed["energy_predicted_eV"] - seed["energy_reference_eV"]) / seed["n_atoms"] for seed in seeds
        ]
        samples = by_melt(np.stack(errors, axis=1))
        melts = len(samples["melts"])
        found = f"{melts} held-out melt{'s' * (melts > 1)}"
        if "temperature" in check.values and melts < ENERGY_MELTS:
            raise NotTested(f"{found} of {check['temperature']} K: a spread needs at least {ENERGY_MELTS}")

        def spread(groups: Groups) -> float:
            # Each training has its own zero of energy, so a constant offset of a column is no error.
            return 1000 * math.sqrt(np.concatenate(groups).var(axis=0).mean())

        return estimate(lambda s: spread(s["melts"]), samples).with_remark(f"decided by {found}")

    if check.measure == "force-scale":
        rows = [_squares(seed, species=SPECIES.index(check["species"])) for seed in seeds]

        def scale(groups: Groups) -> float:
            _, _, product, predicted = mean_of(groups)
            return float(product / predicted)

        return estimate(lambda s: scale(s["melts"]), by_melt(np.mean(rows, axis=0)))

    if check.measure == "bks-ratio":
        bks = evidence.heldout(f"parity-{check['potential']}-bks")[0]
        _same_frames(seeds[0], bks)
        rows = [np.stack([_squares(bks)[:, 0], _squares(seed)[:, 0]], axis=1) for seed in seeds]

        def ratio(groups: Groups) -> float:
            classical, network = mean_of(groups)
            return math.sqrt(classical / network)

        # BKS in place of the NNP is exactly as good as BKS.
        return estimate(lambda s: ratio(s["melts"]), by_melt(np.mean(rows, axis=0)), counted=True)

    def relative(groups: Groups) -> float:
        error, reference, _, _ = mean_of(groups)
        return math.sqrt(error / reference)

    rows = [_squares(seed) for seed in seeds]
    return estimate(lambda s: relative(s["melts"]), by_melt(np.mean(rows, axis=0)))
