"""PBE single points on configurations of a fixed sampler, reweighted to PBE: a reference without AIMD.

AIMD of a few hundred steps keeps the bond network that it started from. Here a deposited potential, the
sampler, has walked a hundred times as long, and each configuration has its PBE energy. Weights make the
ensemble PBE's, as far as the sampler's own was in equilibrium: exp(-(E_PBE - E_sampler)/kT), or their first
order, which leaves more frames. `jobs.observables.reweighting` has the formulas, how many are left, and when
the first order is enough. The effective fraction and the effective number of melts are in the product;
`suite/judging/against_aimd.py` decides which are too few.

Only what one configuration shows (g(r), angles, coordination) can be had, no dynamics. The product has
the format of `observe`, with one block for each melt: weighted means of the blocks are built in
(`weighted_ratio_blocks`, `first_order_blocks`), so the same claims judge it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.frames import Frames
from jobs.base.silica import density_g_cm3
from jobs.base.units import BOLTZMANN_EV_K
from jobs.engines.hdnnp.n2p2_files import FOLDER, is_n2p2_folder
from jobs.engines.lammps.kernel import MODEL_FILE
from jobs.engines.lammps.potential import read_potential
from jobs.observables import angles, coordination, rdf
from jobs.observables.neighbours import find_neighbours
from jobs.observables.reweighting import (
    boltzmann_weights,
    effective_fraction,
    first_order_blocks,
    first_order_weights,
    second_order_term,
    weighted_ratio_blocks,
)
from jobs.reference.potentials import potential_sha256
from jobs.reference.sets import DepositedSet, iter_runs, read_set
from jobs.stages.observations.observe import block_summary
from jobs.stages.potentials.parity import rerun
from jobs.store.workspace import Workspace

CODE_VERSION = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Estimator:
    """Weights of energy differences, blocks of ratios, and the fraction that a spread s/kT leaves."""

    weights: Callable[..., Floats]
    blocks: Callable[..., Floats]
    expected_fraction: Callable[[float], float]


ESTIMATORS: Mapping[str, _Estimator] = {
    "weights": _Estimator(boltzmann_weights, weighted_ratio_blocks, lambda s: math.exp(-(s**2))),
    "first-order": _Estimator(first_order_weights, first_order_blocks, lambda s: 1 / (1 + s**2)),
}


@dataclass(frozen=True)
class _Sample:
    """Frames of a set: `units` (n,) numbers their melts; all in one orthorhombic `cell` (3,) A."""

    types: NDArray[np.int64]
    positions: Floats
    cell: Floats
    energies_eV: Floats
    temperature_K: float
    units: NDArray[np.int64]

    @property
    def thermal_eV(self) -> float:  # noqa: N802 - the unit
        """Its k T in eV."""
        return BOLTZMANN_EV_K * self.temperature_K


def run(workspace: Workspace, *, root: Path | None = None) -> None:
    """Write `observables.npz` and `observe.json`; `root` is another deposit than the project's.

    Parameters: reference (set, sha256), estimator (a key of `ESTIMATORS`), rdf_bin_angstrom,
    angle_bin_degree, angle_cutoffs_angstrom.
    Input: potential, the sampler.

    Raises:
        SuiteError: a set that is not single points of this sampler to judge with, or of several temperatures,
            boxes or only one melt.
        EngineError: LAMMPS refused the sampler.
    """
    given = workspace.parameters
    deposited = _open(given["reference"], workspace.inputs["potential"], root)
    sample = _read(deposited)
    workspace.progress(0.2, "energies of the sampler")
    energies = _sampler_energies(workspace, sample)
    difference = sample.energies_eV - energies
    estimator = ESTIMATORS[given["estimator"]]
    weights = estimator.weights(difference, thermal_eV=sample.thermal_eV)
    workspace.progress(0.5, "structure")
    arrays, counts, means = _structure(given, sample, weights)
    np.savez_compressed(workspace.directory / "observables.npz", **arrays)  # type: ignore[arg-type]
    facts = _facts(deposited, sample, difference, weights) | {
        "estimator": given["estimator"],
        "expected_fraction": estimator.expected_fraction(float(difference.std(ddof=1)) / sample.thermal_eV),
        "counts": counts,
        "sampler_energy_meV_atom": _by_melt(sample, energies),
        "second_order": {
            name: dict(
                zip(
                    ("value", "standard_error"),
                    second_order_term(values, difference, thermal_eV=sample.thermal_eV),
                    strict=True,
                )
            )
            for name, values in means.items()
        },
    }
    write_json(workspace.directory / "observe.json", facts, indent=1)
    workspace.record(effective_fraction=facts["effective_fraction"], frames=facts["frames"])


def _open(reference: Mapping[str, Any], potential: Path, root: Path | None) -> DepositedSet:
    """The set, checked to be single points with use `judge`, drawn by this sampler."""
    deposited = read_set(reference["set"], **({} if root is None else {"root": root}))
    path = deposited.directory / "set.yml"
    if deposited.sha256 != reference["sha256"]:
        raise SuiteError(f"{path}: found sha256 {deposited.sha256}, expected {reference['sha256']}")
    if (deposited.kind, deposited.use) != ("singlepoints", "judge") or deposited.sampler is None:
        raise SuiteError(
            f"{path}: found {deposited.kind} to {deposited.use}, sampler {deposited.sampler}, "
            "expected single points to judge, with their sampler"
        )
    model = potential / FOLDER if is_n2p2_folder(potential / FOLDER) else potential / MODEL_FILE
    found = potential_sha256(model)
    if found != deposited.sampler["sha256"]:
        raise SuiteError(
            f"{model}: found sha256 {found[:12]}..., "
            f"expected the sampler of {deposited.name}, {deposited.sampler['sha256'][:12]}..."
        )
    return deposited


def _read(deposited: DepositedSet) -> _Sample:
    parts = [(run.melt, part) for run, part in iter_runs(deposited)]
    melts = sorted({melt for melt, _ in parts})
    cells = np.concatenate([part.cells for _, part in parts])
    temperatures = np.concatenate([part.temperatures_K for _, part in parts])
    if len(melts) < 2:
        raise SuiteError(
            f"{deposited.directory}: found {len(melts)} melt, expected at least 2: one has no error bar"
        )
    if len(set(temperatures)) > 1:
        found = ", ".join(f"{kelvin:g}" for kelvin in sorted(set(temperatures)))
        raise SuiteError(f"{deposited.directory}: found frames at {found} K, expected one temperature")
    edges = np.diag(cells[0])
    if not np.allclose(cells, np.diag(edges), rtol=0, atol=1e-9):
        raise SuiteError(f"{deposited.directory}: expected one orthogonal box in all frames")
    return _Sample(
        types=deposited.types.astype(np.int64),
        positions=np.concatenate([part.positions for _, part in parts]),
        cell=edges.copy(),
        energies_eV=np.concatenate([part.energies_eV for _, part in parts]),
        temperature_K=float(temperatures[0]),
        units=np.concatenate([np.full(len(part), melts.index(melt)) for melt, part in parts]),
    )


def _sampler_energies(workspace: Workspace, sample: _Sample) -> Floats:
    """Energies (n,) eV as MD with the sampler has them: through LAMMPS, a DeePMD model compressed."""
    n = len(sample.energies_eV)
    frames = Frames(
        types=sample.types.astype(np.int8),
        positions=sample.positions,
        cells=np.tile(np.diag(sample.cell), (n, 1, 1)),
        energies_eV=sample.energies_eV,
        forces=np.zeros_like(sample.positions),
    )
    potential = read_potential(workspace.inputs["potential"])
    (found,) = rerun(potential, [frames], directory=workspace.checkpoints)
    energies: Floats = found.energies
    return energies


def _by_melt(sample: _Sample, energies: Floats) -> list[float]:
    """The sampler's energy of each melt about their mean, meV/atom, in the order of the melts' names."""
    counts = np.bincount(sample.units)
    of_melts = 1000 * np.bincount(sample.units, energies - energies.mean()) / counts / len(sample.types)
    return [float(energy) for energy in of_melts]


def _structure(
    given: Mapping[str, Any], sample: _Sample, weights: Floats
) -> tuple[dict[str, Floats], dict[str, Any], dict[str, Floats]]:
    """Weighted curves by block, counts by block, and each frame's means over its atoms."""
    rdf_bin, angle_bin = given["rdf_bin_angstrom"], given["angle_bin_degree"]
    cutoffs: Mapping[str, float] = given["angle_cutoffs_angstrom"]
    types, cell = sample.types, sample.cell
    n_si, n_o = int((types == 0).sum()), int((types == 1).sum())
    reach = max(*cutoffs.values(), coordination.CLOSE_SILICON_ANGSTROM)
    g, turned, bonds = [], [], []
    for frame in sample.positions:
        pairs = rdf.pair_counts(frame[None], types, cell, bin_angstrom=rdf_bin)
        g.append(rdf.partial_rdf(pairs, n_si=n_si, n_o=n_o, n_frames=1, cell=cell, bin_angstrom=rdf_bin))
        near = find_neighbours(frame[None], types, cell, cutoff_angstrom=reach)
        turned.append(angles.angle_counts(near, cutoffs, bin_degree=angle_bin))
        bonds.append(coordination.count_bonds(near, cutoff_si_o_angstrom=cutoffs["Si-O"]))
    ones = np.ones(len(weights))

    estimator = ESTIMATORS[given["estimator"]]

    def blocks(numerator: Any, denominator: Floats = ones) -> Floats:
        return estimator.blocks(weights, np.array(numerator, float), denominator, sample.units)

    arrays: dict[str, Floats] = {
        "rdf_r": rdf.bin_centres(cell, bin_angstrom=rdf_bin),
        "angle_deg": (np.arange(round(180 / angle_bin)) + 0.5) * angle_bin,
    }
    for row, pair in enumerate(rdf.PAIRS):
        arrays[f"rdf_{pair}"] = blocks([curves[row] for curves in g])
    means = {}
    for row, triplet in enumerate(angles.TRIPLETS):
        counted = np.array([counts[row] for counts in turned], float)
        total = counted.sum(axis=1)
        if total.any():
            arrays[f"badf_{triplet}"] = blocks(counted / angle_bin, total)
        if total.all():
            means[f"mean {triplet} (deg)"] = counted @ arrays["angle_deg"] / total
    si, o = (np.array([getattr(one, name) for one in bonds], float) for name in ("si", "o"))
    arrays["coordination_SiO"], arrays["coordination_OSi"] = blocks(si / n_si), blocks(o / n_o)
    means["silicon without four oxygens (%)"] = 100 * (1 - si[:, 4] / n_si)
    rings, close = (
        np.array([[getattr(one, name)] for one in bonds]) for name in ("two_rings", "close_silicon")
    )
    counts = {
        "two_rings": block_summary(blocks(rings)[:, 0]),
        "sisi_below_2.5": block_summary(blocks(close)[:, 0]),
        "defects_si": block_summary(1 - arrays["coordination_SiO"][:, 4]),
        "defects_o": block_summary(1 - arrays["coordination_OSi"][:, 2]),
    }
    return arrays, counts, means


def _facts(deposited: DepositedSet, sample: _Sample, difference: Floats, weights: Floats) -> dict[str, Any]:
    thermal_eV = sample.thermal_eV
    spread = float(difference.std(ddof=1))
    n_si = int((sample.types == 0).sum())
    assert deposited.sampler is not None
    return {
        "n_atoms": len(sample.types),
        "n_si": n_si,
        "n_o": len(sample.types) - n_si,
        "cell_angstrom": sample.cell.tolist(),
        "density_g_cm3": density_g_cm3(deposited.types, np.diag(sample.cell)),
        "temperature_K": sample.temperature_K,
        "frames": len(weights),
        "blocks": int(sample.units.max()) + 1,
        "potential": deposited.facts["functional"],
        "ensemble": "nvt",
        "stretch": 1.0,
        "sampler": dict(deposited.sampler),
        "effective_fraction": effective_fraction(weights),
        "effective_frames": effective_fraction(weights) * len(weights),
        "effective_melts": 1 / float((np.bincount(sample.units, weights) ** 2).sum()),
        "largest_weight": float(weights.max()),
        "energy_difference_sd_meV_atom": 1000 * spread / len(sample.types),
        "energy_difference_sd_kT": spread / thermal_eV,
        "warnings": [],
    }
