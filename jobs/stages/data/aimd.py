"""First-principles data (PBE): single-point labels and the paper's two kinds of AIMD runs.

`mode` says which:

- `labels`: energy and forces of each start, a single point each.
- `stepwise`: one run from one start through `temperatures_K` in turn, the last state of each being the
  first of the next; at each, `relaxation_steps` and then `collection_steps` (Sec. II A, first dataset).
- `short`: an independent run of `steps` steps from each start (second dataset, and reference runs).

Starts come from the input `start` (a melt's configuration number `frames[0]`, or frames of an md
product) or from an extended XYZ `file` of the parameters. Product: `frames.xyz` (extended XYZ as
`jobs.base.frames` reads and `jobs deposit` takes it), `aimd.json`, `decks/`. A step or a label whose SCF did
not converge is left out of `frames.xyz` and listed in `aimd.json`. `engine` names the program, one of
`jobs.engines.first_principles.registry.ENGINES`, and `settings` are that program's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, finite, write_json
from jobs.base.frames import UNCONVERGED, VELOCITIES, format_extxyz
from jobs.base.silica import FUSED_ANGSTROM, SPECIES, Configuration, read_data, rescale
from jobs.base.trajectory import open_trajectory
from jobs.base.units import FS_PER_PS
from jobs.engines.first_principles.registry import load_engine
from jobs.engines.first_principles.types import FUNCTIONAL, Dynamics, Engine
from jobs.store.workspace import Workspace

if TYPE_CHECKING:
    from ase import Atoms

CODE_VERSION = 6

MODES = ("labels", "stepwise", "short")
# The bond network of a viscous liquid outlives the 20 ps between two starts of one trajectory (Sec. II A):
# on both sides of a split into training and held-out frames they would be nearly the same.
STARTS_PER_MELT = 10
FRAMES_FILE = "frames.xyz"
RECORD_FILE = "aimd.json"


@dataclass(frozen=True)
class _Task:
    """A start and what names it: `replica` is the melt or MD run that it descends from."""

    name: str
    replica: int
    temperature_K: float
    source: str
    start: Configuration


@dataclass(frozen=True)
class _Program:
    """An engine and its settings."""

    engine: Engine
    settings: Any


def run(workspace: Workspace) -> None:
    """Compute all tasks, each kept when it is done, and write the product.

    Raises:
        SuiteError: wrong parameters or starts; every frame was refused.
        EngineError: the engine is missing or failed.
    """
    parameters = workspace.parameters
    if parameters["mode"] not in MODES:
        raise SuiteError(f"aimd: found mode {parameters['mode']!r}, expected one of {', '.join(MODES)}")
    engine = load_engine(parameters["engine"])
    settings = engine.read_settings(parameters["settings"])
    tasks = _tasks(workspace)
    engine.check(settings, None if parameters["mode"] == "labels" else _thermostat(parameters))
    program = _Program(engine, settings)
    if parameters["mode"] == "stepwise":
        if len(tasks) != 1:
            raise SuiteError(f"aimd: found {len(tasks)} starts of a stepwise run, expected 1")
        records = _stepwise(workspace, program, tasks[0])
    else:
        records = _independent(workspace, program, tasks)
    _finish(workspace, program, records)


def _thermostat(parameters: Mapping[str, Any]) -> str | None:
    ensemble = parameters["ensemble"]
    if ensemble not in ("nvt", "nve"):
        raise SuiteError(f"aimd: found ensemble {ensemble!r}, expected nvt or nve")
    return parameters["thermostat"] if ensemble == "nvt" else None


# Starts -------------------------------------------------------------------------------------------


def _tasks(workspace: Workspace) -> list[_Task]:
    parameters = workspace.parameters
    if "start" in workspace.inputs:
        tasks = list(_product_tasks(workspace.inputs["start"], parameters))
    else:
        tasks = list(_file_tasks(Path(parameters["file"]), parameters))
    if not tasks:
        raise SuiteError("aimd: found no start, expected at least one")
    return tasks


def _product_tasks(product: Path, parameters: Mapping[str, Any]) -> Iterator[_Task]:
    """Starts from a melt's configurations, or from an md product's frames: ten in a row count as one melt."""
    density = parameters["density_g_cm3"]
    for index, frame in enumerate(parameters["frames"]):
        name = f"start-{index}"
        if (product / "md.json").is_file():
            start = _trajectory_frame(product, frame)
        else:
            start = read_data(product / f"config-{frame}.data")
        yield _Task(
            name=name,
            replica=int(parameters["replica"]) + index // STARTS_PER_MELT,
            temperature_K=_temperature(parameters),
            source=parameters["source"],
            start=_at_density(start, density, where=f"aimd: {name}"),
        )


def _trajectory_frame(product: Path, frame: int) -> Configuration:
    trajectory = open_trajectory(product)
    if not 0 <= frame < trajectory.n_frames:
        raise SuiteError(f"{product}: found no frame {frame}, expected 0 to {trajectory.n_frames - 1}")
    positions, velocities = trajectory.positions(frame, frame + 1), trajectory.velocities(frame, frame + 1)
    types = np.asarray(trajectory.types, np.int8)
    return Configuration(types, positions[0], np.diag(trajectory.cell), velocities[0])


def _temperature(parameters: Mapping[str, Any]) -> float:
    key = "temperatures_K" if parameters["mode"] == "stepwise" else "temperature_K"
    value = parameters[key]
    return float(value[0] if key == "temperatures_K" else value)


def _file_tasks(path: Path, parameters: Mapping[str, Any]) -> Iterator[_Task]:
    """Starts from an extended XYZ file with `replica` (and, for labels, `temperature_K`) per frame."""
    from ase.io import iread

    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected an extended XYZ file of starts")
    if (found := file_sha256(path)) != parameters["sha256"]:
        raise SuiteError(f"{path}: found sha256 {found}, expected {parameters['sha256']}")
    labels = parameters["mode"] == "labels"
    for index, atoms in enumerate(iread(path, format="extxyz")):
        where = f"{path}: frame {index + 1}"
        for key in ("replica", "temperature_K") if labels else ("replica",):
            if key not in atoms.info:
                raise SuiteError(f"{where}: found no {key}=, expected it in the comment line")
        yield _Task(
            name=f"start-{index}",
            replica=int(atoms.info["replica"]),
            temperature_K=float(atoms.info["temperature_K"]) if labels else _temperature(parameters),
            source=str(atoms.info.get("source", parameters["source"])),
            start=start_of(atoms, where, density=parameters["density_g_cm3"]),
        )


def start_of(atoms: Atoms, where: str, *, density: float | None) -> Configuration:
    """A start from ASE's atoms, scaled to a density in g/cm3 unless None; `where` names it in messages.

    Raises:
        SuiteError: other species than Si and O, no cell, or two atoms in one place.
    """
    symbols = atoms.get_chemical_symbols()
    if unknown := sorted(set(symbols) - set(SPECIES)):
        raise SuiteError(f"{where}: found species {unknown[0]}, expected only {' and '.join(SPECIES)}")
    if not abs(atoms.cell.volume) > 0:
        raise SuiteError(f"{where}: found no cell, expected Lattice= with three vectors that span one")
    types = np.array([SPECIES.index(symbol) for symbol in symbols], np.int8)
    start = Configuration(types, atoms.get_positions(), np.array(atoms.cell), atoms.arrays.get(VELOCITIES))
    return _at_density(start, density, where=where)


def _at_density(start: Configuration, density: float | None, *, where: str) -> Configuration:
    """Positions and cell scaled alike to a density in g/cm3; None keeps them as they are."""
    if density is not None:
        start = rescale(start, density)
    closest = start.closest_pair_angstrom()
    if not closest >= FUSED_ANGSTROM:  # NaN too
        raise SuiteError(f"{where}: found atoms {closest:.2f} A apart, expected at least {FUSED_ANGSTROM} A")
    return start


# Work ---------------------------------------------------------------------------------------------


def _independent(workspace: Workspace, program: _Program, tasks: Sequence[_Task]) -> list[dict[str, Any]]:
    """Labels or short runs side by side, one thread each: cheaper than one task on several threads."""
    parameters = workspace.parameters
    labels = parameters["mode"] == "labels"
    steps_each = 1 if labels else int(parameters["steps"])
    steps_done = dict.fromkeys((task.name for task in tasks), 0)
    lock, stopped = threading.Lock(), threading.Event()

    def report(name: str, steps: int) -> None:
        if stopped.is_set():
            raise SuiteError("another start of this stage failed")
        with lock:
            steps_done[name] = min(steps, steps_each)
            done = sum(steps_done.values())
            workspace.progress(done / (steps_each * len(tasks)), f"{done} of {steps_each * len(tasks)}")

    def work(index: int, task: _Task) -> dict[str, Any]:
        if labels:
            record = _label(workspace, program, task, watch=lambda: report(task.name, 0))
        else:
            record, _ = _dynamics(
                workspace,
                program,
                task,
                steps=steps_each,
                threads=1,
                seed=_noise_seed(workspace.seed, task, index),
                watch=lambda steps: report(task.name, steps),
            )
        report(task.name, steps_each)
        return record

    with ThreadPoolExecutor(max_workers=workspace.cores) as pool:
        futures = [pool.submit(work, index, task) for index, task in enumerate(tasks)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()  # each program dies within a second, when its progress is asked for
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _noise_seed(seed: int, task: _Task, index: int = 0) -> int:
    """A seed for each run, also of one melt: with one noise, temperatures would rise and fall together."""
    words = np.random.SeedSequence([seed, task.replica, round(task.temperature_K), index]).generate_state(1)
    return int(words[0] >> 1)  # programs read signed integers of 32 bits


def _stepwise(workspace: Workspace, program: _Program, task: _Task) -> list[dict[str, Any]]:
    parameters = workspace.parameters
    temperatures = [float(value) for value in parameters["temperatures_K"]]
    relaxation = int(parameters["relaxation_steps"])
    steps = relaxation + int(parameters["collection_steps"])
    if any(next_one >= this for this, next_one in pairwise(temperatures)):
        raise SuiteError(f"aimd: found temperatures_K {temperatures}, expected a falling sequence")
    records: list[dict[str, Any]] = []
    start, guess = task.start, None
    for index, temperature in enumerate(temperatures):

        def report(done: int, index: int = index) -> None:
            total = steps * len(temperatures)
            workspace.progress((index * steps + done) / total, f"{temperatures[index]:g} K, step {done}")

        segment = _Task(f"{temperature:g}K", task.replica, temperature, task.source, start)
        record, last = _dynamics(
            workspace,
            program,
            segment,
            steps=steps,
            threads=workspace.cores,
            seed=_noise_seed(workspace.seed, segment),
            relaxation_steps=relaxation,
            # The first state of a later segment is the last one of the segment before.
            skip_start=index > 0,
            guess=guess,
            watch=report,
        )
        records.append(record)
        start, guess = last, program.engine.wave_function(workspace.checkpoints / segment.name)
    return records


def _label(
    workspace: Workspace, program: _Program, task: _Task, *, watch: Callable[[], None]
) -> dict[str, Any]:
    directory = workspace.checkpoints / task.name
    if (done := _read_record(directory)) is not None:
        return done
    label = program.engine.single_point(
        program.settings, task.start, directory=directory, threads=1, watch=watch
    )
    record = _new_record(program, task, directory)
    facts: dict[str, Any] = {"scf_steps": label.scf_steps}
    if label.gap_eV is not None:
        facts["gap_eV"] = label.gap_eV
    record.update(seconds=label.seconds, **facts)
    text = ""
    if label.refusal is None:
        text = _frame_text(task, task.start.positions, label.forces, label.energy_eV, None, facts)
        record["frames"] = 1
    else:
        record["refused"].append({"start": task.name, "reason": label.refusal})
    _write_record(directory, record, text)
    return record


def _dynamics(
    workspace: Workspace,
    program: _Program,
    task: _Task,
    *,
    steps: int,
    threads: int,
    seed: int,
    relaxation_steps: int = 0,
    skip_start: bool = False,
    guess: Path | None = None,
    watch: Callable[[int], None],
) -> tuple[dict[str, Any], Configuration]:
    """One run; its record and its last state."""
    parameters = workspace.parameters
    directory = workspace.checkpoints / task.name
    dynamics = Dynamics(
        steps=steps,
        timestep_fs=float(parameters["timestep_fs"]),
        temperature_K=task.temperature_K,
        thermostat=_thermostat(parameters),
        damping_fs=float(parameters["damping_fs"]),
        seed=seed,
    )
    # Of a finished run this only reads the files.
    run = program.engine.run_dynamics(
        program.settings, task.start, dynamics, directory=directory, threads=threads, guess=guess, watch=watch
    )
    last = Configuration(task.start.types, run.positions[-1], task.start.cell, run.velocities[-1])
    if (done := _read_record(directory)) is not None:
        return done, last
    record = _new_record(program, task, directory)
    time_ps = steps * dynamics.timestep_fs / FS_PER_PS
    record.update(
        seconds=finite(float(run.seconds.sum())),
        scf_steps=int(run.scf_steps.sum()),
        mean_temperature_K=float(run.temperatures_K.mean()),
    )
    drift_eV = float(run.conserved_eV[-1] - run.conserved_eV[0])
    if np.isfinite(drift_eV):
        record["conserved_drift_meV_atom_ps"] = 1000 * drift_eV / len(task.start.types) / time_ps
    pieces = []
    for index, step in enumerate(run.steps):
        if skip_start and step == 0:
            continue
        if not run.converged[index]:
            record["refused"].append({"start": task.name, "step": int(step), "reason": UNCONVERGED})
            continue
        record["frames"] += 1
        pieces.append(
            _frame_text(
                task,
                run.positions[index],
                run.forces[index],
                run.energies_eV[index],
                run.velocities[index],
                {
                    "step": int(step),
                    "time_fs": f"{step * dynamics.timestep_fs:g}",
                    "kinetic_temperature_K": f"{run.temperatures_K[index]:.2f}",
                    "scf_steps": int(run.scf_steps[index]),
                    "relaxation": "T" if step <= relaxation_steps and relaxation_steps else "F",
                },
            )
        )
    _write_record(directory, record, "".join(pieces))
    return record, last


# Product ------------------------------------------------------------------------------------------


def _new_record(program: _Program, task: _Task, directory: Path) -> dict[str, Any]:
    return {
        "start": task.name,
        "replica": task.replica,
        "temperature_K": task.temperature_K,
        "density_g_cm3": task.start.density_g_cm3,
        "n_atoms": len(task.start.types),
        "engine_version": program.engine.version(directory),
        "frames": 0,
        "refused": [],
    }


def _write_record(directory: Path, record: Mapping[str, Any], frames: str) -> None:
    """Keep a finished task; the record, written last and whole, is what marks it as done."""
    (directory / FRAMES_FILE).write_text(frames)
    write_json(directory / RECORD_FILE, record)


def _read_record(directory: Path) -> dict[str, Any] | None:
    path = directory / RECORD_FILE
    return json.loads(path.read_text()) if path.is_file() else None


def _frame_text(
    task: _Task,
    positions: NDArray[np.float64],
    forces: NDArray[np.float64],
    energy_eV: float,
    velocities: NDArray[np.float64] | None,
    facts: Mapping[str, Any],
) -> str:
    """One frame of an extended XYZ file: A, eV, eV/A, A/fs."""
    moving = {} if velocities is None else {VELOCITIES: velocities}
    source = task.source if velocities is None else f"aimd start={task.source}"
    return format_extxyz(
        task.start.types,
        {"pos": positions, **moving, "forces": forces},
        cell=task.start.cell,
        comment=f"source={source} replica={task.replica} temperature_K={task.temperature_K:g}"
        f" energy={energy_eV:.10f}" + "".join(f" {key}={value}" for key, value in facts.items()),
    )


def _finish(workspace: Workspace, program: _Program, records: Sequence[Mapping[str, Any]]) -> None:
    parameters = workspace.parameters
    refused = [refusal for record in records for refusal in record["refused"]]
    frames = sum(record["frames"] for record in records)
    if frames == 0:
        raise SuiteError(
            f"aimd: found all {len(refused)} frames refused ({refused[0]['reason']}), expected a good one"
        )
    decks = workspace.directory / "decks"
    decks.mkdir(exist_ok=True)
    with (workspace.directory / FRAMES_FILE).open("w") as out:
        for record in records:
            directory = workspace.checkpoints / record["start"]
            out.write((directory / FRAMES_FILE).read_text())
            if parameters["mode"] != "labels" or record is records[0]:
                # All decks of labels differ in their coordinates only.
                for name, ending in program.engine.DECKS.items():
                    (decks / f"{record['start']}{ending}").write_text((directory / name).read_text())
    about = {
        "mode": parameters["mode"],
        "source": parameters["source"],
        "engine": parameters["engine"],
        "engine_version": records[0]["engine_version"],
        "functional": FUNCTIONAL,
        "settings": dict(parameters["settings"]),
        "timestep_fs": parameters.get("timestep_fs"),
        "ensemble": parameters.get("ensemble"),
        "thermostat": parameters.get("thermostat"),
        "damping_fs": parameters.get("damping_fs"),
        "frames": frames,
        "refused": len(refused),
        "refusals": refused,
        "runs": [{k: v for k, v in record.items() if k != "refused"} for record in records],
    }
    write_json(workspace.directory / RECORD_FILE, about, indent=1)
    workspace.record(engine_version=records[0]["engine_version"], frames=frames, refused=len(refused))
