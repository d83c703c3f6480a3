"""PBE single points on configurations of a fixed sampler, reweighted to PBE: a reference without AIMD.

AIMD of a few hundred steps keeps the bond network that it started from. Here a deposited potential, the
sampler, has walked a hundred times as long, and each configuration has its PBE energy. Two estimators make
means of them PBE's, as far as the sampler's own ensemble was in equilibrium. `weights` are
exp(-(E_PBE - E_sampler)/kT). `first-order` takes the draws' means from a large system, PBE's first order from
it and a small one, and what lies beyond from the small one. `jobs.observables.reweighting` has the formulas.
The effective fraction and the effective number of melts are in the product; `suite/judging/reweighted.py`
decides which are too few.

Only what one configuration shows (g(r), angles, coordination) can be had, no dynamics. The product has
the format of `observe`, with one block for each melt: weighted means of the blocks are built in
(`weighted_ratio_blocks`, `first_order_blocks`), so the same claims judge it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
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
    in_units,
    weighted_ratio_blocks,
)
from jobs.reference.potentials import potential_sha256
from jobs.reference.sets import DepositedSet, read_run, read_set
from jobs.stages.observations.observe import block_summary
from jobs.stages.potentials.parity import rerun
from jobs.store.workspace import Workspace

CODE_VERSION = 5

Floats = NDArray[np.float64]
Ratios = dict[str, tuple[Floats, Floats]]
"""By name, a numerator (n, m) and a denominator (n,) of each frame: means are ratios of weighted sums."""


@dataclass(frozen=True)
class _Sample:
    """Frames of a set: `units` (n,) are places of their melts in `melts`; one orthorhombic `cell` (3,) A."""

    types: NDArray[np.int64]
    positions: Floats
    cell: Floats
    energies_eV: Floats
    temperature_K: float
    units: NDArray[np.int64]
    melts: list[str]

    @property
    def thermal_eV(self) -> float:  # noqa: N802 - the unit
        """Its k T in eV."""
        return BOLTZMANN_EV_K * self.temperature_K


@dataclass(frozen=True)
class _Drawn:
    """A set with its sampler's energies (n,) eV and what its frames show."""

    deposited: DepositedSet
    sample: _Sample
    energies_eV: Floats
    ratios: Ratios

    @property
    def difference_eV(self) -> Floats:  # noqa: N802 - the unit
        """E_PBE - E (n,) of the frames."""
        return self.sample.energies_eV - self.energies_eV

    @cached_property
    def weights(self) -> Floats:
        """exp(-dE/kT) of the frames, (n,)."""
        return boltzmann_weights(self.difference_eV, thermal_eV=self.sample.thermal_eV)

    def first_order_weights(self, share: float) -> Floats:
        """1 - share dE/kT of the frames, (n,)."""
        return first_order_weights(self.difference_eV, thermal_eV=self.sample.thermal_eV, share=share)

    @cached_property
    def reweighted(self) -> dict[str, Floats]:
        """What `ratios` has, by weights, as blocks (melts, m)."""
        return self._blocks(weighted_ratio_blocks, self.weights)

    @cached_property
    def linear(self) -> dict[str, Floats]:
        """The same to first order."""
        return self.towards_first_order(1.0)

    @cached_property
    def draws(self) -> dict[str, Floats]:
        """The same of the draws as they are."""
        return self.towards_first_order(0.0)

    def towards_first_order(self, share: float) -> dict[str, Floats]:
        """The same with a share of the first order; of ratios no sum of the two above."""
        return self._blocks(first_order_blocks, self.first_order_weights(share))

    def _blocks(self, make: Callable[..., Floats], weights: Floats) -> dict[str, Floats]:
        return {
            name: make(weights, numerator, denominator, self.sample.units)
            for name, (numerator, denominator) in self.ratios.items()
        }


def run(workspace: Workspace, *, root: Path | None = None) -> None:
    """Write `observables.npz` and `observe.json`; `root` is another deposit than the project's.

    Parameters: reference (set, sha256), estimator (`weights` or `first-order`), rdf_bin_angstrom,
    angle_bin_degree, angle_cutoffs_angstrom. To first order also `fewer` (set, sha256): a set of fewer atoms
    by the same sampler.
    Input: potential, the sampler.

    Raises:
        SuiteError: a set that is not single points of this sampler to judge with, or of several temperatures,
            boxes or only one melt.
        EngineError: LAMMPS refused the sampler.
    """
    given = workspace.parameters
    drawn = _load(workspace, given["reference"], root)
    workspace.progress(0.5, "reweighted")
    if given["estimator"] == "weights":
        blocks, facts = drawn.reweighted, _facts_by_weights(drawn)
    else:
        fewer = _load(workspace, given["fewer"], root)
        share = len(drawn.sample.melts) / (len(drawn.sample.melts) + len(fewer.sample.melts))
        blocks = _of_both_sizes(drawn, fewer, share=share)
        facts = _facts(
            drawn, drawn.first_order_weights(share), expected_fraction=lambda s: 1 / (1 + (share * s) ** 2)
        ) | {
            "blocks": len(blocks["rdf_Si-O"]),
            "own_share_of_first_order": share,
            "first_order": _shifts(given, drawn.draws, drawn.linear),
            "estimator": "first-order",
            "fewer": _facts_by_weights(fewer)
            | {
                "first_order": _shifts(given, fewer.draws, fewer.linear),
                "beyond": _shifts(given, fewer.linear, fewer.reweighted),
            },
        }
    n_si = facts["n_si"]
    facts |= {
        "counts": {
            "two_rings": block_summary(n_si * blocks.pop("two_rings")[:, 0]),
            "sisi_below_2.5": block_summary(n_si * blocks.pop("close_silicon")[:, 0]),
            "defects_si": block_summary(1 - blocks["coordination_SiO"][:, 4]),
            "defects_o": block_summary(1 - blocks["coordination_OSi"][:, 2]),
        },
    }
    arrays = {
        "rdf_r": rdf.bin_centres(drawn.sample.cell, bin_angstrom=given["rdf_bin_angstrom"]),
        "angle_deg": _angle_bins(given),
        **blocks,
    }
    np.savez_compressed(workspace.directory / "observables.npz", **arrays)  # type: ignore[arg-type]
    write_json(workspace.directory / "observe.json", facts, indent=1)
    workspace.record(effective_fraction=facts["effective_fraction"], frames=facts["frames"])


def _load(workspace: Workspace, reference: Mapping[str, str], root: Path | None) -> _Drawn:
    deposited = _open(reference, workspace.inputs["potential"], root)
    sample = _read(deposited)
    return _Drawn(
        deposited, sample, _sampler_energies(workspace, sample), _structure(workspace.parameters, sample)
    )


def _of_both_sizes(drawn: _Drawn, fewer: _Drawn, *, share: float) -> dict[str, Floats]:
    """Blocks of the larger system, with a share of the first order, and the rest of fewer atoms.

    Parts of both sets are put together in the order of their melts, so what lies between two preparations of
    each is in the errors, as if they went together.
    """
    exact = fewer.reweighted
    if lost := [name for name in drawn.linear if name not in exact]:
        raise SuiteError(f"{fewer.deposited.directory}: found no {lost[0]}, expected it as in the larger set")
    mine, theirs = (one.towards_first_order(share) for one in (drawn, fewer))
    count = min(len(drawn.sample.melts), len(fewer.sample.melts))
    blocks = {name: in_units(rows, count) for name, rows in drawn.linear.items()}
    for name in blocks:
        # A smaller box has the first part of a curve; the rest of it is of the larger system alone.
        points = min(mine[name].shape[1], exact[name].shape[1])
        rest = (exact[name] - theirs[name])[:, :points]
        blocks[name][:, :points] = in_units(mine[name][:, :points], count) + in_units(rest, count)
    return blocks


def _shifts(
    given: Mapping[str, Any], before: Mapping[str, Floats], after: Mapping[str, Floats]
) -> dict[str, dict[str, float]]:
    """Mean and standard error of what blocks gained: of mean angles (deg), and of defects of Si (%)."""
    angles_deg, width = _angle_bins(given), given["angle_bin_degree"]
    shifted = {
        triplet: (after[f"badf_{triplet}"] - before[f"badf_{triplet}"]) @ angles_deg * width
        for triplet in ("Si-O-Si", "Si-Si-Si", "O-O-O")
    }
    shifted["defects"] = 100 * (before["coordination_SiO"] - after["coordination_SiO"])[:, 4]
    return {
        name: {
            "value": float(blocks.mean()),
            "standard_error": float(blocks.std(ddof=1) / math.sqrt(len(blocks))),
        }
        for name, blocks in shifted.items()
    }


def _angle_bins(given: Mapping[str, Any]) -> Floats:
    bin_degree = given["angle_bin_degree"]
    centres: Floats = (np.arange(round(180 / bin_degree)) + 0.5) * bin_degree
    return centres


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
    parts = []
    for run in deposited.runs:
        drawn = read_run(deposited, run.id).select(slice(run.unequilibrated_frames, None))
        if len(drawn):
            parts.append((run.melt, drawn))
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
        melts=melts,
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


def _by_melt(drawn: _Drawn) -> dict[str, float]:
    """The sampler's energy of each melt about their mean, meV/atom, in the order of the melts' names."""
    energies, units = drawn.energies_eV, drawn.sample.units
    sums = np.bincount(units, energies - energies.mean())
    of_melts = 1000 * sums / np.bincount(units) / len(drawn.sample.types)
    return dict(zip(drawn.sample.melts, of_melts.tolist(), strict=True))


def _structure(given: Mapping[str, Any], sample: _Sample) -> Ratios:
    """What each frame shows: curves by name, and rings and close pairs for each silicon."""
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
    ones = np.ones(len(sample.positions))
    ratios: Ratios = {
        f"rdf_{pair}": (np.array([curves[row] for curves in g]), ones) for row, pair in enumerate(rdf.PAIRS)
    }
    for row, triplet in enumerate(angles.TRIPLETS):
        counted = np.array([counts[row] for counts in turned], float)
        if (total := counted.sum(axis=1)).any():
            ratios[f"badf_{triplet}"] = (counted / angle_bin, total)
    ratios["coordination_SiO"] = (np.array([one.si for one in bonds]) / n_si, ones)
    ratios["coordination_OSi"] = (np.array([one.o for one in bonds]) / n_o, ones)
    for name in ("two_rings", "close_silicon"):
        ratios[name] = (np.array([[getattr(one, name)] for one in bonds]) / n_si, ones)
    return ratios


def _facts(drawn: _Drawn, weights: Floats, *, expected_fraction: Callable[[float], float]) -> dict[str, Any]:
    """Of a set with weights (n,); what fraction a spread of s kT lets expect."""
    sample = drawn.sample
    spread_kT = float(drawn.difference_eV.std(ddof=1)) / sample.thermal_eV
    n_si = int((sample.types == 0).sum())
    assert drawn.deposited.sampler is not None
    return {
        "n_atoms": len(sample.types),
        "n_si": n_si,
        "n_o": len(sample.types) - n_si,
        "cell_angstrom": sample.cell.tolist(),
        "density_g_cm3": density_g_cm3(drawn.deposited.types, np.diag(sample.cell)),
        "temperature_K": sample.temperature_K,
        "frames": len(weights),
        "blocks": int(sample.units.max()) + 1,
        "potential": drawn.deposited.facts["functional"],
        "ensemble": "nvt",
        "stretch": 1.0,
        "sampler": dict(drawn.deposited.sampler),
        "effective_fraction": effective_fraction(weights),
        "effective_frames": effective_fraction(weights) * len(weights),
        "effective_melts": 1 / float((np.bincount(sample.units, weights) ** 2).sum()),
        "largest_weight": float(weights.max()),
        "energy_difference_sd_meV_atom": 1000 * spread_kT * sample.thermal_eV / len(sample.types),
        "energy_difference_sd_kT": spread_kT,
        "expected_fraction": expected_fraction(spread_kT),
        "sampler_energy_meV_atom": _by_melt(drawn),
        "warnings": [],
    }


def _facts_by_weights(drawn: _Drawn) -> dict[str, Any]:
    facts = _facts(drawn, drawn.weights, expected_fraction=lambda s: math.exp(-(s**2)))
    return facts | {"estimator": "weights"}
