"""Molecular dynamics in LAMMPS that survives a kill: segments cut into chunks, one process for all of them.

A chunk is one `run` with its own log (thermo) and its own binary dump; it ends by writing a restart file
under a temporary name and renaming it, so a chunk is finished exactly if its restart was renamed. After a
kill, unfinished chunks are forgotten and LAMMPS goes on from the last restart; at the end the dumps and the
thermo tables of the chunks are joined.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.files import finite, write_json
from jobs.base.machine import NATIVE_KERNEL, native_kernel
from jobs.base.silica import SPECIES, Configuration, check_cell_width, read_data, write_data
from jobs.base.trajectory import DUMP_COLUMNS, THERMO_FILE, TRAJECTORY_FILE, DumpTrajectory
from jobs.base.units import FS_PER_PS
from jobs.engines.lammps.kernel import MIXED, NATIVE, choose_kernel
from jobs.engines.lammps.potential import Potential, box_commands, interaction_commands
from jobs.engines.lammps.program import own_lammps, read_log, run_lammps
from jobs.store.machine_settings import SKIN_ANGSTROM
from jobs.store.workspace import Workspace

FINAL = "final.data"
KERNELS = "kernels.json"  # beside the checkpoints: what ran each attempt
THERMO_COLUMNS = {
    "step": "Step",
    "temperature_K": "Temp",
    "potential_eV": "PotEng",
    "kinetic_eV": "KinEng",
    "total_eV": "TotEng",
    "conserved_eV": "Econserve",
    "pressure_bar": "Press",
    "volume_A3": "Volume",
}
# Total force norm at which a relaxed start is good enough: thermal forces at 5000 K are far above.
RELAXED_FORCE_EV_A = 1.0
COORDINATION_COLUMN = "coordination_SiO"


@dataclass(frozen=True)
class Segment:
    """A stretch of steps under one integrator.

    `integrator` are LAMMPS commands that define the fixes named in `fixes`. A ramp in them is linear in the
    absolute step over the whole segment, wherever it was interrupted.
    """

    steps: int
    timestep_fs: float
    integrator: tuple[str, ...]
    fixes: tuple[str, ...]
    dumped: bool


def check_segments(
    steps: Sequence[int], *, dump_every: int, thermo_every: int, key: str = "schedule"
) -> None:
    """Segments must end on a step that is written; `key` is where their steps are given.

    Raises:
        SuiteError: one does not.
    """
    every = math.lcm(dump_every, thermo_every)
    for count in steps:
        if count <= 0 or count % every:
            raise SuiteError(
                f"{key}: found a segment of {count} steps, expected a positive multiple of {every} "
                f"(dump_every {dump_every}, thermo_every {thermo_every})"
            )


@dataclass(frozen=True)
class Protocol:
    """What one run does after its start: segments and how often it writes.

    With a `coordination_cutoff_angstrom` the thermo table has the mean number of O around Si.
    """

    segments: tuple[Segment, ...]
    dump_every: int
    thermo_every: int
    checkpoint_every: int
    coordination_cutoff_angstrom: float | None = None

    def __post_init__(self) -> None:
        check_segments(
            [segment.steps for segment in self.segments],
            dump_every=self.dump_every,
            thermo_every=self.thermo_every,
        )

    @property
    def total_steps(self) -> int:
        """Steps of all segments."""
        return sum(segment.steps for segment in self.segments)

    def chunks(self) -> list[Chunk]:
        """All chunks in order; a checkpoint falls on steps that are written, and on ends of segments."""
        every = math.lcm(self.dump_every, self.thermo_every)
        length = max(every, self.checkpoint_every // every * every)
        chunks = []
        first = 0
        for segment in self.segments:
            last = first + segment.steps
            for start in range(first, last, length):
                chunks.append(Chunk(segment, first, last, start, min(start + length, last)))
            first = last
        return chunks


@dataclass(frozen=True)
class Chunk:
    """Steps `start` to `stop` of a segment that spans `first` to `last`; all steps are absolute."""

    segment: Segment
    first: int
    last: int
    start: int
    stop: int

    @property
    def dump(self) -> str:
        """Name of its dump."""
        return f"part-{self.start}.bin"  # the suffix that makes LAMMPS write binary

    @property
    def log(self) -> str:
        """Name of its log."""
        return f"part-{self.start}.log"


def nose_hoover(
    start_K: float, stop_K: float, *, steps: int, timestep_fs: float, damping_fs: float
) -> Segment:
    """NVT by a Nose-Hoover chain, not dumped; the target runs from `start_K` to `stop_K`."""
    command = f"fix nvt all nvt temp {start_K} {stop_K} {damping_fs / FS_PER_PS}"
    return Segment(steps, timestep_fs, (command,), ("nvt",), dumped=False)


def run_dynamics(
    workspace: Workspace,
    *,
    potential: Potential,
    start: Configuration,
    protocol: Protocol,
    first_temperature_K: float | None,
    relax_first: bool,
    ranks: int,
) -> dict[str, Any]:
    """Run a protocol to its end, going on from the last restart if there is one.

    Velocities are fresh ones of `first_temperature_K`, or with None those that the start has.

    `ranks` is how many to start, at most one on each core, where the job (`Workspace.ranks`) and what was
    tuned (`Workspace.tuning`) do not say otherwise.

    `relax_first` minimises the start's energy before: a state of another potential has pairs so close
    that this one throws atoms across the cell.

    Writes `trajectory.lmpbin` (segments that are dumped), `thermo.csv` (all) and `final.data`; returns the
    facts that every MD product records. The trajectory has one frame at the start of the first dumped
    segment and one every `dump_every` steps after it.

    Raises:
        SuiteError: the cell is narrower than the cut-off, or a start without velocities is to keep them.
        EngineError: LAMMPS failed, lost atoms, left finite numbers or did not write all frames.
    """
    if first_temperature_K is None and start.velocities is None:
        raise SuiteError("start: found no velocities, expected those that the run goes on with")
    warning = check_cell_width(start.cell, potential.cutoff_angstrom)
    folder = workspace.checkpoints
    choice = choose_kernel(
        potential, workspace.inputs.get("potential"), wanted=workspace.wanted_kernel, scratch=folder
    )
    chunks = protocol.chunks()
    ranks = workspace.ranks or min(ranks, workspace.cores)
    threads, skin_angstrom = max(1, workspace.cores // ranks), SKIN_ANGSTROM
    if workspace.tuning is not None:
        skin_angstrom = workspace.tuning.skin_angstrom
        if workspace.ranks is None:
            ranks, threads = workspace.tuning.split(workspace.cores, choice.kernel)
    done = _resume_step(folder)
    # Another attempt may have run elsewhere.
    kernels = json.loads((folder / KERNELS).read_text()) if done and (folder / KERNELS).is_file() else []
    if (done < protocol.total_steps or not kernels) and choice.kernel not in kernels:
        kernels.append(choice.kernel)
        write_json(folder / KERNELS, kernels)
    if NATIVE in kernels or potential.family == "hdnnp":
        workspace.software[NATIVE_KERNEL] = native_kernel()
    if done < protocol.total_steps:
        left = [chunk for chunk in chunks if chunk.start >= done]
        for chunk in left:
            (folder / chunk.dump).unlink(missing_ok=True)
            (folder / chunk.log).unlink(missing_ok=True)
        if done == 0:
            write_data(folder / "start.data", start)
        script = _script(
            choice.potential,
            protocol,
            left,
            resume=done,
            seed=workspace.seed,
            first_temperature_K=first_temperature_K,
            relax_first=relax_first,
            skin_angstrom=skin_angstrom,
        )

        def watch() -> None:
            step = max((chunk.start for chunk in left if (folder / chunk.log).exists()), default=done)
            workspace.progress(step / protocol.total_steps, f"step {step} of {protocol.total_steps}")

        run_lammps(
            script,
            directory=folder,
            name=f"from-{done}",
            ranks=ranks,
            threads=threads,
            own=potential.own,
            watch=watch,
        )
    if potential.own:
        workspace.record(lammps=own_lammps(folder))
    facts = _assemble(workspace.directory, folder, protocol, chunks, n_atoms=start.n_atoms)
    final = read_data(workspace.directory / FINAL)
    lost = start.n_atoms - final.n_atoms
    if lost:
        raise EngineError(f"lmp: {lost} of {start.n_atoms} atoms were lost, expected none")
    slower = None if kernels == [NATIVE] else choice.warning
    warnings = [text for text in (warning, slower, *facts.pop("log_warnings")) if text]
    return {
        "potential": potential.name,
        "kernel": kernels[0] if len(kernels) == 1 else MIXED,
        "n_atoms": start.n_atoms,
        "n_si": int((start.types == 0).sum()),
        "n_o": int((start.types == 1).sum()),
        "types": start.types.tolist(),
        "species": list(SPECIES),
        "cell_angstrom": start.edges.tolist(),
        "density_g_cm3": start.density_g_cm3,
        "timestep_fs": protocol.segments[-1].timestep_fs,
        "dump_every": protocol.dump_every,
        "ranks": ranks,
        "threads": threads,
        "skin_angstrom": skin_angstrom,
        "seed": workspace.seed,
        "warnings": warnings,
        **facts,
    }


def _resume_step(folder: Path) -> int:
    """Step of the newest whole restart, 0 without one."""
    steps = [
        int(path.name.removeprefix("restart-"))
        for path in folder.glob("restart-*")
        if path.name[8:].isdigit()
    ]
    return max(steps, default=0)


def _script(
    potential: Potential,
    protocol: Protocol,
    chunks: Sequence[Chunk],
    *,
    resume: int,
    seed: int,
    first_temperature_K: float | None,
    relax_first: bool,
    skin_angstrom: float,
) -> str:
    """The LAMMPS script for the chunks that are left."""
    lines = [box_commands(potential), "boundary p p p"]
    lines.append(f"read_restart restart-{resume}" if resume else "read_data start.data")
    lines.append(interaction_commands(potential, skin_angstrom=skin_angstrom))
    if not resume:
        if relax_first:
            lines += [f"minimize 0 {RELAXED_FORCE_EV_A} 200 2000", "reset_timestep 0"]
        if first_temperature_K is not None:
            velocities_seed = seed % 900_000_000 + 1  # LAMMPS takes positive ones only
            lines.append(f"velocity all create {first_temperature_K} {velocities_seed} mom yes dist gaussian")
    lines.append(f"thermo {protocol.thermo_every}")
    columns = "step temp pe ke etotal econserve press vol"
    if protocol.coordination_cutoff_angstrom is not None:
        lines.append("group silicon type 1")
        lines.append(f"compute oxygens silicon coord/atom cutoff {protocol.coordination_cutoff_angstrom} 2")
        lines.append("compute coordination silicon reduce ave c_oxygens")
        columns += " c_coordination"
    lines.append(f"thermo_style custom {columns}")
    lines.append("thermo_modify format float %.12g lost error flush yes")
    previous: Chunk | None = None
    for chunk in chunks:
        segment = chunk.segment
        if previous is None or previous.first != chunk.first:
            lines += [f"timestep {segment.timestep_fs / FS_PER_PS}", *segment.integrator]
        lines.append(f"log {chunk.log}")
        if segment.dumped:
            lines.append(f"dump part all custom {protocol.dump_every} {chunk.dump} {DUMP_COLUMNS}")
            # The frame at the border of two chunks belongs to the earlier one.
            first = chunk.start if chunk.start == chunk.first else chunk.start + 1
            lines.append(f"dump_modify part sort id delay {first}")
        lines.append(f"run {chunk.stop - chunk.start} start {chunk.first} stop {chunk.last}")
        if segment.dumped:
            lines.append("undump part")
        if chunk is chunks[-1]:
            lines.append(f"write_data ../{FINAL} nocoeff")
        if chunk.stop == chunk.last:
            # Not in the restart: the next segment's fix of that name would take up its state.
            lines += [f"unfix {name}" for name in segment.fixes]
        lines += ["log none", "write_restart restart.tmp", f"shell mv restart.tmp restart-{chunk.stop}"]
        lines.append(f"shell rm -f restart-{chunk.start}")
        previous = chunk
    return "\n".join(lines)


def _require_frames(folder: Path, chunk: Chunk, protocol: Protocol) -> None:
    """Refuse a dump that lacks frames; the last restart goes with it, so that the next attempt runs anew."""
    expected = (chunk.stop - chunk.start) // protocol.dump_every + (chunk.start == chunk.first)
    path = folder / chunk.dump
    try:
        dump = DumpTrajectory(path, time_step_fs=chunk.segment.timestep_fs, facts={})
        reason = f"{path}: found {dump.n_frames} frames, expected {expected}"
    except SuiteError as error:
        reason = str(error)
    else:
        if dump.n_frames == expected:
            return
    (folder / f"restart-{protocol.total_steps}").unlink(missing_ok=True)
    raise EngineError(f"{reason}; the next attempt runs from step 0")


def _assemble(
    product: Path, folder: Path, protocol: Protocol, chunks: Sequence[Chunk], *, n_atoms: int
) -> dict[str, Any]:
    """Join dumps and thermo tables of the chunks; facts of the last segment."""
    import pandas as pd

    dumped = [chunk for chunk in chunks if chunk.segment.dumped]
    for chunk in dumped:
        _require_frames(folder, chunk, protocol)
    joined = folder / "joined.lmpbin"
    with joined.open("wb") as out:
        for chunk in dumped:
            with (folder / chunk.dump).open("rb") as part:
                shutil.copyfileobj(part, out)
    joined.replace(product / TRAJECTORY_FILE)
    tables = []
    loop_seconds, steps_timed, dangerous = 0.0, 0, 0
    extrapolations: int | None = None
    warnings: list[str] = []
    elapsed_fs = 0.0
    for chunk in chunks:
        log = read_log(folder / chunk.log)
        if len(log.thermo) != 1 or len(log.loops) != 1:
            raise EngineError(f"{folder / chunk.log}: found {len(log.loops)} finished runs, expected 1")
        table = pd.DataFrame({name: log.thermo[0][column] for name, column in THERMO_COLUMNS.items()})
        if protocol.coordination_cutoff_angstrom is not None:
            table[COORDINATION_COLUMN] = log.thermo[0]["c_coordination"]
        table["step"] = table["step"].astype(int)
        table.insert(
            1, "time_ps", (elapsed_fs + (table["step"] - chunk.start) * chunk.segment.timestep_fs) / FS_PER_PS
        )
        elapsed_fs += (chunk.stop - chunk.start) * chunk.segment.timestep_fs
        # The first row repeats the last one of the chunk before.
        tables.append(table if chunk.start == 0 else table.iloc[1:])
        dangerous += log.dangerous_builds
        warnings += [text for text in log.warnings if text not in warnings]
        if chunk.last == protocol.total_steps:
            loop_seconds += log.loops[0].seconds
            steps_timed += log.loops[0].steps
            if log.extrapolation_warnings is not None:
                extrapolations = (extrapolations or 0) + log.extrapolation_warnings
    thermo = pd.concat(tables, ignore_index=True)
    thermo.to_csv(product / THERMO_FILE, index=False, float_format="%.12g")
    last = thermo[thermo["step"] > protocol.total_steps - protocol.segments[-1].steps]
    drift = float(np.polyfit(last["time_ps"], last["conserved_eV"], 1)[0]) if len(last) > 1 else math.nan
    return {
        "production_steps": protocol.segments[-1].steps,
        "frames": protocol.segments[-1].steps // protocol.dump_every + 1,
        "mean_temperature_K": float(last["temperature_K"].mean()),
        "mean_pressure_GPa": float(last["pressure_bar"].mean()) * 1e-4,
        "conserved_drift_meV_atom_ps": finite(drift * 1000 / n_atoms),
        "dangerous_builds": dangerous,
        "loop_seconds": loop_seconds,
        "steps_timed": steps_timed,
        # Function values outside the training data, at each step of the last segment.
        **(
            {}
            if extrapolations is None
            else {"extrapolation_warnings_per_step": extrapolations / steps_timed}
        ),
        "log_warnings": [re.sub(r"\s*\(src/.*\)$", "", text) for text in warnings],
    }
