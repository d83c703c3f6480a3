"""Reduce a trajectory to the curves that claims compare: kilobytes out of gigabytes, in bounded memory.

Frames behind the skip are cut into equal consecutive blocks (a remainder joins the skip). Structure is
averaged over the frames of a block. The VAF uses every frame as an origin up to its longest lag before
the end, cut into equal blocks; MSD origins are cut into equal blocks lag by lag, so blocks of lags
longer than a block share frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.silica import GRAMS_PER_CM3, MASSES_AMU, SPECIES
from jobs.base.trajectory import Trajectory, open_trajectory
from jobs.base.units import BOLTZMANN_EV_K, FS_PER_PS
from jobs.observables import angles, coordination, correlation, msd, rdf, scattering, vdos
from jobs.observables.neighbours import find_neighbours
from jobs.reference.sets import deposit_root
from jobs.reference.trajectories import open_reference, open_thin
from jobs.store.workspace import Workspace

CODE_VERSION = 3

Floats = NDArray[np.float64]

Q_MAX_SUM = 10.0  # 1/A: past the fourth neutron peak of silica at 8
Q_BIN = 0.05  # 1/A
Q_MAX_GRIMLEY = 45.2  # 1/A, of the measurement that T(r) is broadened for (row neutron-qmax)
VDOS_MAX_CM = 2000.0  # the Si-O stretch ends near 1250 1/cm
SLOWEST_SAMPLING_FS = 10.0  # a dump slower than this folds the Si-O stretch

# Frames closer than this see the same structure (a Si-O stretch takes 30 fs).
_STRUCTURE_SPACING_FS = 8.0
# Work allowed per block: atoms x frames for structure, atoms x wave vectors x frames for S(q).
_STRUCTURE_WORK = 1_000_000
_WAVE_WORK = 2e10
_HELD_BYTES = 1 << 27
# Atoms whose neighbours are searched at once: tens of megabytes of pairs and angles.
_BATCH_ATOMS = 20_000
# Of 1 amu A2/fs2, cut where `units.EV_PER_AMU_A2_FS2` goes on: the products that are there have these digits.
_AMU_A2_FS2_EV = 103.642696


@dataclass(frozen=True)
class _Selection:
    """The frames that count: from `start` on, `blocks` blocks of `length` frames; boxes `stretch`ed."""

    trajectory: Trajectory
    start: int
    blocks: int
    length: int
    stretch: float

    @property
    def frames(self) -> int:
        return self.blocks * self.length

    @property
    def cell(self) -> Floats:
        return self.trajectory.cell * self.stretch

    @property
    def indices(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.trajectory.types == s) for s in (0, 1)]

    @property
    def masses(self) -> Floats:
        return MASSES_AMU[self.trajectory.types]

    def positions(self, start: int, stop: int, stride: int = 1) -> Floats:
        """Positions of selected frames, numbered from the first selected one."""
        return self.trajectory.positions(self.start + start, self.start + stop, stride) * self.stretch

    def velocities(self, start: int, stop: int) -> Floats:
        """Velocities likewise, without the drift of the centre of mass."""
        found = self.trajectory.velocities(self.start + start, self.start + stop)
        return msd.remove_drift(found, self.masses)

    def displacements(self, start: int, stop: int, stride: int) -> Floats:
        """Positions without the drift of the centre of mass."""
        return msd.remove_drift(self.positions(start, stop, stride), self.masses)


def run(workspace: Workspace) -> None:
    """Write `observables.npz` and `observe.json` of one trajectory.

    Raises:
        SuiteError: too few frames for the blocks, a cut-off longer than half the box, or a broken file.
    """
    parameters = workspace.parameters
    selection = _select(workspace)
    arrays: dict[str, Any] = {}
    facts = _facts(workspace, selection)

    structure, counted = _structure(workspace, selection)
    arrays.update(structure)
    facts.update(counted)
    if parameters["structure_factor"]:
        workspace.progress(0.6, "S(q)")
        arrays.update(_structure_factor(selection, stride=facts["structure_stride"]))
    arrays.update(_thermo(selection))
    if parameters["dynamics_max_fs"] is not None:
        workspace.progress(0.7, "velocities")
        n_lags = _velocity_lags(parameters["dynamics_max_fs"], selection)
        if not selection.trajectory.has_velocities:
            facts["warnings"].append("no velocities: neither VAF nor VDOS")
        elif n_lags > selection.frames - selection.blocks + 1:
            facts["warnings"].append(
                f"{selection.frames} frames are too few for {selection.blocks} blocks of time origins: "
                "neither VAF nor VDOS"
            )
        else:
            arrays.update(_velocity_correlation(workspace, selection, n_lags=n_lags))
            if selection.trajectory.time_between_frames_fs > SLOWEST_SAMPLING_FS:
                facts["warnings"].append(
                    f"a frame every {selection.trajectory.time_between_frames_fs:g} fs is too slow for the "
                    f"VDOS, which needs {SLOWEST_SAMPLING_FS:g} fs"
                )
    workspace.progress(0.85, "displacements")
    arrays.update(_displacements(selection))
    facts["diffusion"] = _diffusion(arrays, selection)

    np.savez_compressed(workspace.directory / "observables.npz", **arrays)
    write_json(workspace.directory / "observe.json", facts, indent=1)


def _select(workspace: Workspace) -> _Selection:
    parameters = workspace.parameters
    trajectory: Trajectory
    if "trajectory" in workspace.inputs:
        trajectory = open_trajectory(workspace.inputs["trajectory"])
        source, least = str(workspace.inputs["trajectory"]), 0
    elif "file" in parameters:
        trajectory = open_thin(Path(parameters["file"]), sha256=parameters["sha256"])
        source, least = parameters["file"], 0
    else:
        reference = parameters["reference"]
        trajectory = open_reference(reference["set"], reference["run"], root=deposit_root(parameters))
        source = f"reference set {reference['set']} run {reference['run']}"
        least = trajectory.facts["unequilibrated_frames"]
    if "skip_frames" in parameters:
        skip = parameters["skip_frames"]
    else:
        skip = round(parameters["skip_fraction"] * trajectory.n_frames)
    skip = max(skip, least)
    blocks = parameters["blocks"]
    length = (trajectory.n_frames - skip) // blocks
    if length < 2:
        raise SuiteError(
            f"{source}: found {trajectory.n_frames} frames, expected at least {skip + 2 * blocks} "
            f"({skip} to skip, {blocks} blocks of 2)"
        )
    selection = _Selection(
        trajectory, trajectory.n_frames - blocks * length, blocks, length, parameters["stretch"]
    )
    longest = max(parameters["angle_cutoffs_angstrom"].values())
    if longest > selection.cell.min() / 2:
        raise SuiteError(
            f"{source}: found a box of {selection.cell.min():.2f} A, "
            f"expected at least twice the longest angle cut-off, {longest} A"
        )
    return selection


def _facts(workspace: Workspace, selection: _Selection) -> dict[str, Any]:
    """What observe.json says of the run itself; what a reference does not have is null."""
    known = selection.trajectory.facts
    n_si, n_o = (len(atoms) for atoms in selection.indices)
    reference = "reference" in workspace.parameters
    # Of hdnnp/native only: what other potentials' observations say stays as it was.
    extrapolations = "extrapolation_warnings_per_step"
    given = workspace.parameters.get("reference", {})
    return {
        "n_atoms": selection.trajectory.n_atoms,
        "n_si": n_si,
        "n_o": n_o,
        "cell_angstrom": selection.cell.tolist(),
        "density_g_cm3": float(selection.masses.sum() / np.prod(selection.cell) * GRAMS_PER_CM3),
        "temperature_K": known["temperature_K"],
        "timestep_fs": known["timestep_fs"],
        "dump_every": known["steps_between_frames" if reference else "dump_every"],
        "time_between_frames_fs": selection.trajectory.time_between_frames_fs,
        "frames": selection.frames,
        "skip_frames": selection.start,
        "blocks": selection.blocks,
        "block_frames": selection.length,
        # Which AIMD run this is, or is paired with; of an equilibrium run nothing.
        "aimd_run": f"{given['set']}/{given['run']}" if reference else known.get("aimd_run"),
        "potential": known["functional"] if reference else known["potential"],
        "ensemble": ("nve" if known["thermostat"] == "none" else "nvt") if reference else known["ensemble"],
        "quench_rate_K_per_s": known.get("quench", {}).get("rate_K_per_s"),
        "stretch": selection.stretch,
        "conserved_drift_meV_atom_ps": known.get("conserved_drift_meV_atom_ps"),
        "dangerous_builds": known.get("dangerous_builds"),
        "vdos_window": "Hann",
        "structure_factor_convention": "Faber-Ziman",
        "tr_q_max_per_angstrom": Q_MAX_GRIMLEY,
        "warnings": list(known.get("warnings", [])),
        **({extrapolations: known[extrapolations]} if extrapolations in known else {}),
    }


def _structure_stride(selection: _Selection) -> int:
    spacing = np.ceil(_STRUCTURE_SPACING_FS / selection.trajectory.time_between_frames_fs - 1e-9)
    affordable = np.ceil(selection.length * selection.trajectory.n_atoms / _STRUCTURE_WORK)
    # Two frames of a block at the least.
    return int(min(max(spacing, affordable, 1), max(selection.length // 2, 1)))


def _structure(workspace: Workspace, selection: _Selection) -> tuple[dict[str, Floats], dict[str, Any]]:
    """g(r), angles, coordination, T(r), and the counts for observe.json."""
    parameters = workspace.parameters
    rdf_bin, angle_bin = parameters["rdf_bin_angstrom"], parameters["angle_bin_degree"]
    cutoffs: Mapping[str, float] = parameters["angle_cutoffs_angstrom"]
    reach = max(*cutoffs.values(), coordination.CLOSE_SILICON_ANGSTROM)
    types, cell = selection.trajectory.types, selection.cell
    n_si, n_o = (len(atoms) for atoms in selection.indices)
    stride = _structure_stride(selection)
    batch = max(1, _BATCH_ATOMS // len(types))

    g, densities, si_shares, o_shares, bonds = [], [], [], [], []
    for block in range(selection.blocks):
        workspace.progress(0.6 * block / selection.blocks, f"structure, block {block + 1}")
        first, end = block * selection.length, (block + 1) * selection.length
        pairs = np.zeros((3, len(rdf.bin_centres(cell, bin_angstrom=rdf_bin))), np.int64)
        turned = np.zeros((len(angles.TRIPLETS), round(180 / angle_bin)), np.int64)
        bonding = None
        n_frames = 0
        for start in range(first, end, batch * stride):
            frames = selection.positions(start, min(start + batch * stride, end), stride)
            pairs += rdf.pair_counts(frames, types, cell, bin_angstrom=rdf_bin)
            near = find_neighbours(frames, types, cell, cutoff_angstrom=reach)
            turned += angles.angle_counts(near, cutoffs, bin_degree=angle_bin)
            counted = coordination.count_bonds(near, cutoff_si_o_angstrom=cutoffs["Si-O"])
            bonding = counted if bonding is None else bonding + counted
            n_frames += len(frames)
        assert bonding is not None
        g.append(
            rdf.partial_rdf(pairs, n_si=n_si, n_o=n_o, n_frames=n_frames, cell=cell, bin_angstrom=rdf_bin)
        )
        densities.append(angles.angle_density(turned, bin_degree=angle_bin))
        si_shares.append(bonding.si / bonding.si.sum())
        o_shares.append(bonding.o / bonding.o.sum())
        bonds.append((bonding.two_rings / n_frames, bonding.close_silicon / n_frames))

    curves, badf, si, o = (np.array(x) for x in (g, densities, si_shares, o_shares))
    r = rdf.bin_centres(cell, bin_angstrom=rdf_bin)
    tr_r, tr = scattering.total_correlation(
        r, curves, n_si=n_si, n_o=n_o, volume_A3=float(np.prod(cell)), q_max=Q_MAX_GRIMLEY
    )
    arrays: dict[str, Floats] = {
        "rdf_r": r,
        **{f"rdf_{pair}": curves[:, row] for row, pair in enumerate(rdf.PAIRS)},
        "angle_deg": (np.arange(badf.shape[2]) + 0.5) * angle_bin,
        **{f"badf_{triplet}": badf[:, row] for row, triplet in enumerate(angles.TRIPLETS)},
        "coordination_SiO": si,
        "coordination_OSi": o,
        "tr_r": tr_r,
        "tr_neutron": tr,
    }
    rings, close = np.array(bonds).T
    counts = {
        "two_rings": block_summary(rings),
        "sisi_below_2.5": block_summary(close),
        "defects_si": block_summary(1 - si[:, 4]),
        "defects_o": block_summary(1 - o[:, 2]),
    }
    return arrays, {"structure_stride": stride, "counts": counts}


def block_summary(blocks: Floats) -> dict[str, Any]:
    """Mean and blocks: rings and close pairs are numbers per frame, defects are shares of the species."""
    return {"mean": float(blocks.mean()), "blocks": blocks.tolist()}


def _structure_factor(selection: _Selection, *, stride: int) -> dict[str, Floats]:
    types, cell = selection.trajectory.types, selection.cell
    n_si, n_o = (len(atoms) for atoms in selection.indices)
    work = len(types) * scattering.count_wave_vectors(cell, q_max=Q_MAX_SUM)
    frames = int(np.clip(_WAVE_WORK // work, 1, max(1, selection.length // stride)))
    blocks = []
    for block in range(selection.blocks):
        first = block * selection.length
        every = selection.length // frames
        held = selection.positions(first, first + selection.length, every)[:frames]
        products, vectors, q = scattering.structure_factor_sums(
            held, types, cell, q_max=Q_MAX_SUM, q_bin=Q_BIN
        )
        hit = vectors > 0
        blocks.append(scattering.faber_ziman(products[:, hit], vectors[hit], n_si=n_si, n_o=n_o))
    partials = np.array(blocks)
    names = (*(f"sq_{pair}" for pair in rdf.PAIRS), "sq_neutron")
    return {"sq_q": q[hit], **{name: partials[:, row] for row, name in enumerate(names)}}


def _kinetic_temperature(velocities: Floats, masses: Floats) -> Floats:
    """Temperature (F,) in K of velocities (F, N, 3) in A/fs without drift: 3 N - 3 degrees of freedom."""
    doubled = np.einsum("fnx,fnx,n->f", velocities, velocities, masses) * _AMU_A2_FS2_EV
    return doubled / (3 * (len(masses) - 1) * BOLTZMANN_EV_K)


def _thermo(selection: _Selection) -> dict[str, Floats]:
    """Temperature by block from the velocities; series from the engine's table, or from AIMD's frames."""
    trajectory = selection.trajectory
    arrays: dict[str, Floats] = {}
    if trajectory.has_velocities:
        stride = _structure_stride(selection)
        series = np.array(
            [
                [
                    _kinetic_temperature(selection.velocities(frame, frame + 1), selection.masses)[0]
                    for frame in range(block * selection.length, (block + 1) * selection.length, stride)
                ]
                for block in range(selection.blocks)
            ]
        )
        arrays["temperature_K"] = series.mean(axis=1)
    if thermo := trajectory.thermo(selection.start):
        arrays["thermo_time_fs"] = thermo["time_ps"] * FS_PER_PS
        arrays["thermo_temperature_K"] = thermo["temperature_K"]
        arrays["thermo_total_eV"] = thermo["total_eV"]
    elif trajectory.has_velocities:
        temperature = _kinetic_temperature(selection.velocities(0, selection.frames), selection.masses)
        potential = trajectory.facts["energies_eV"][selection.start :]
        kinetic = 1.5 * (trajectory.n_atoms - 1) * BOLTZMANN_EV_K * temperature
        arrays["thermo_time_fs"] = _times(selection, np.arange(selection.frames))
        arrays["thermo_temperature_K"] = temperature
        arrays["thermo_total_eV"] = potential + kinetic
    return arrays


def _times(selection: _Selection, frames: NDArray[np.int64]) -> Floats:
    times: Floats = np.asarray(frames * selection.trajectory.time_between_frames_fs)
    return times


def _velocity_lags(longest_fs: float, selection: _Selection) -> int:
    """How many lags of the VAF; the longest is at most five sixths of the frames.

    Short AIMD is as long as Fig. 4 and little more: 120 steps of 2 fs must reach its 0.2 ps, from few origins
    (the atoms are the average then).
    """
    step_fs = selection.trajectory.time_between_frames_fs
    return min(int(longest_fs / step_fs + 1e-9) + 1, selection.frames * 5 // 6)


def _velocity_correlation(workspace: Workspace, selection: _Selection, *, n_lags: int) -> dict[str, Floats]:
    """VAF of every block, normalised, and its VDOS."""
    step_fs = selection.trajectory.time_between_frames_fs
    origins = (selection.frames - n_lags + 1) // selection.blocks
    first = selection.frames - n_lags + 1 - origins * selection.blocks
    bytes_per_frame = 24 * selection.trajectory.n_atoms
    chunk = max(n_lags, _HELD_BYTES // bytes_per_frame - n_lags)

    sums = np.zeros((len(SPECIES), selection.blocks, n_lags))
    for block in range(selection.blocks):
        begin = first + block * origins
        for start in range(begin, begin + origins, chunk):
            stop = min(start + chunk, begin + origins)
            held = selection.velocities(start, stop + n_lags - 1)
            for row, atoms in enumerate(selection.indices):
                series = held[:, atoms].reshape(len(held), -1)
                # Columns by batches: spectra take six times the bytes of what they transform.
                batch = max(1, _HELD_BYTES // (48 * len(held)))
                for column in range(0, series.shape[1], batch):
                    sums[row, block] += correlation.correlation_sums(
                        series[:, column : column + batch],
                        n_origins=stop - start,
                        n_lags=n_lags,
                        workers=workspace.cores,
                    )
    arrays: dict[str, Floats] = {"vaf_time_fs": _times(selection, np.arange(n_lags))}
    for row, species in enumerate(SPECIES):
        vaf = sums[row] / sums[row, :, :1]
        wavenumber, density = vdos.vibrational_density(vaf, time_step_fs=step_fs)
        kept = wavenumber <= VDOS_MAX_CM
        arrays[f"vaf_{species}"] = vaf
        arrays["vdos_wavenumber_cm"] = wavenumber[kept]
        arrays[f"vdos_{species}"] = density[:, kept]
    return arrays


def _diffusion(arrays: Mapping[str, Floats], selection: _Selection) -> dict[str, dict[str, Any]]:
    """Log slope of the MSD and, only where that is 1, the diffusion coefficient, for each species.

    Over lags from a sixth to half of a block: there the blocks hardly share frames and are the units. Empty
    for a run of which that leaves fewer than three lags.
    """
    times = arrays["msd_time_fs"]
    last = 0.5 * selection.length * selection.trajectory.time_between_frames_fs
    used = times <= last
    if selection.blocks < 2 or np.count_nonzero(used & (times >= last / 3)) < 3:
        return {}
    found = {}
    for species in SPECIES:
        curves = arrays[f"msd_{species}"][:, used]
        if (curves > 0).all():
            fit = msd.diffusion(times[used], curves, from_fs=last / 3)
            found[species] = {"from_fs": last / 3, "to_fs": float(times[used][-1]), **asdict(fit)}
    return found


def _displacements(selection: _Selection) -> dict[str, Floats]:
    lags = msd.logarithmic_lags(selection.frames // 2)
    chunk = max(64, _HELD_BYTES // (48 * selection.trajectory.n_atoms))
    moved = msd.displacement_blocks(
        selection.displacements,
        n_frames=selection.frames,
        lags=lags,
        species=selection.indices,
        blocks=selection.blocks,
        chunk_frames=chunk,
    )
    arrays: dict[str, Floats] = {"msd_time_fs": _times(selection, lags)}
    arrays.update({f"msd_{species}": moved[row] for row, species in enumerate(SPECIES)})
    return arrays
