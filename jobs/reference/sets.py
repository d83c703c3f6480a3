"""A set of first-principles frames under `reference/aimd`: what is in it, and how it is read.

A set is a folder: `set.yml` (what it is, and the list of its runs with checksums), `runs/*.npz`,
`decks/*` and `SHA256SUMS`. A *run* is what one calculation produced: one trajectory at one temperature,
or all single points of one melt. Listing reads `set.yml` files only; iterating holds one part of one
run (at most 500 frames) in memory.

Storage. The whole deposit must stay below 60 MB with up to 10 000 frames of 96 to 216 atoms. Plain
float32 arrays of positions, velocities and forces take 36 bytes per atom and frame (78 MB for 10 000
frames of 216) and hardly compress. Here each array is a fixed-point integer of 32 bits in units of a
*quantum*, stored as four byte planes so that deflate sees the nearly empty upper planes in one piece:
20 bytes per atom and frame on real data (43 MB for the same frames). The quanta are 1e-5 A, 1e-6 A/fs
and 1e-4 eV/A. Rounding forces adds 0.03 meV/A rms, and rounding positions, at the 60 eV/A2 of a stiff
Si-O bond, changes the force that belongs to them by 0.2 meV/A; the labels' own noise is 8 meV/A.
Energies and cells are float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, parse_yaml
from jobs.base.frames import Frames
from jobs.base.paths import REFERENCE
from jobs.base.silica import SPECIES

DEPOSIT = REFERENCE / "aimd"
FORMAT = 1
# Labels of trajectories that claims read (Figs. 1, 2, 4, 5: 3000 K, and a start whose opposite there is too).
READ_REFERENCES = tuple(f"reference-{size}-{start}" for size in (96, 216) for start in ("nnp", "bks"))
# Settings of a set that belong to its level of theory.
GRID = ("method", "cutoff_Ry")
ELECTRONS = ("potcar", "pseudopotentials", "plus_U", "spin", "charge", "surroundings", "aspherical")
QUANTA = {"positions": 1e-5, "velocities": 1e-6, "forces": 1e-4}  # A, A/fs, eV/A


@dataclass(frozen=True)
class Run:
    """One entry of `set.yml`: a source run, its files and their checksums.

    `melt` names what the run descends from: two runs of one melt, in whatever set, are not independent.
    The first `unequilibrated_frames` of a trajectory still remember the start; of single points, they were
    drawn too early. `decorrelated_frames` is None where it was not assessed. `smallest_gap_eV` is between
    occupied and empty orbitals, over the frames, where the engine told it of all: near zero, a label depends
    on how its SCF began.
    """

    id: str
    melt: str
    frames: int
    temperatures_K: tuple[float, ...]
    unequilibrated_frames: int
    decorrelated_frames: int | None
    autocorrelation_frames: float | None
    parts: tuple[tuple[str, str], ...]  # (file relative to the set, sha256)
    smallest_gap_eV: float | None = None


@dataclass(frozen=True)
class DepositedSet:
    """A deposited set: where it is, what its `set.yml` says, and its runs."""

    name: str
    directory: Path
    sha256: str
    facts: Mapping[str, Any] = field(repr=False)
    types: NDArray[np.integer] = field(repr=False)
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def kind(self) -> str:
        """`trajectory` or `singlepoints`."""
        return str(self.facts["kind"])

    @property
    def use(self) -> str:
        """`train` or `judge`. Training data are never used as a reference."""
        return str(self.facts["use"])

    @property
    def held_out(self) -> bool:
        """Whether its frames may be held out of training, to measure errors: a sample of the liquid may."""
        return bool(self.facts.get("held_out", True))

    @property
    def sampler(self) -> Mapping[str, str] | None:
        """The deposited NNP that drew the configurations: `model` (its name) and `sha256`, or None."""
        found: Mapping[str, str] | None = self.facts.get("sampler")
        return found

    @property
    def level(self) -> tuple[str, ...]:
        """Engine, functional and basis, and what else moves energies, as far as the set says it.

        CP2K's grid does so by meV per atom; pseudopotentials, +U, spin and charge by more.
        """
        settings = self.facts["settings"]
        numbers = (str(settings[key]) for key in GRID if key in settings)
        rest = (f"{key} {settings[key]}" for key in ELECTRONS if key in settings)
        return (self.facts["engine"], self.facts["functional"], self.facts["basis"], *numbers, *rest)

    @property
    def level_line(self) -> str:
        """The level of theory for a person."""
        settings = self.facts["settings"]
        rest = (f"{key} {settings[key]}" for key in (*GRID, *ELECTRONS) if key in settings)
        said = (f"{self.facts['engine']} {self.facts['engine_version']}: {self.facts['functional']}",)
        return "; ".join((*said, self.facts["basis"], *rest))

    @property
    def reference_product(self) -> str:
        """The product of reference trajectories, named by start, and by temperature if not 3000 K."""
        return f"reference-{self.n_atoms}-{self.facts['start']}{self._at_temperature}"

    @property
    def reweighted_product(self) -> str:
        """The product of single points that a sampler drew, named by temperature if not 3000 K."""
        return f"reference-{self.n_atoms}-reweighted{self._at_temperature}"

    @property
    def _at_temperature(self) -> str:
        kelvins = self.facts["temperatures_K"]
        return "" if kelvins == [3000.0] else "@" + "-".join(f"{kelvin:g}" for kelvin in kelvins)

    @property
    def n_atoms(self) -> int:
        """Atoms per frame."""
        return len(self.types)

    @property
    def frames(self) -> int:
        """Frames of all runs."""
        return sum(run.frames for run in self.runs)

    @property
    def decorrelated_frames(self) -> int | None:
        """Frames that count as independent; None where no run was assessed."""
        assessed = [run.decorrelated_frames for run in self.runs if run.decorrelated_frames is not None]
        return sum(assessed) if assessed else None

    def run(self, run_id: str) -> Run:
        """The run of this name.

        Raises:
            SuiteError: the set has no such run.
        """
        for run in self.runs:
            if run.id == run_id:
                return run
        raise SuiteError(
            f"{self.directory}: found no run {run_id}, expected one of {', '.join(r.id for r in self.runs)}"
        )


def read_set(name: str, *, root: Path = DEPOSIT) -> DepositedSet:
    """What `set.yml` of a set says; reads no frame.

    Raises:
        SuiteError: no such set, or a `set.yml` that this code cannot read.
    """
    path = root / name / "set.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in root.glob("[!.]*/set.yml"))) or "none"
        raise SuiteError(f"{path}: found no such set, expected one of: {known}")
    import yaml

    content = path.read_bytes()
    expected = "expected a set.yml written by `python -m jobs deposit`"
    try:
        facts = _parse_index(content)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise SuiteError(f"{path}: found no 'format: {FORMAT}', {expected}")
        return _described(name, path.parent, hashlib.sha256(content).hexdigest(), facts)
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: found no YAML ({' '.join(str(error).split())}), {expected}") from None
    except (KeyError, TypeError) as error:
        raise SuiteError(f"{path}: found {type(error).__name__} {error}, {expected}") from None


def _described(name: str, directory: Path, sha256: str, facts: dict[str, Any]) -> DepositedSet:
    runs = tuple(
        Run(
            id=entry["id"],
            melt=entry["melt"],
            frames=entry["frames"],
            temperatures_K=tuple(entry["temperatures_K"]),
            unequilibrated_frames=entry["unequilibrated_frames"],
            decorrelated_frames=entry["decorrelated_frames"],
            autocorrelation_frames=entry["autocorrelation_frames"],
            parts=tuple((part["file"], part["sha256"]) for part in entry["parts"]),
            smallest_gap_eV=entry.get("smallest_gap_eV"),
        )
        for entry in facts["runs"]
    )
    types = np.repeat(np.arange(len(SPECIES), dtype=np.int8), [facts["atoms"][s] for s in SPECIES])
    return DepositedSet(name, directory, sha256, facts, types, runs)


@lru_cache(maxsize=64)
def _parse_index(content: bytes) -> Any:
    """The content of a set.yml; planning a campaign asks for the same ones dozens of times."""
    return parse_yaml(content)


def find_set(name: str, parameters: Mapping[str, Any]) -> DepositedSet:
    """A set that a tier or a stage names: of the user's deposit if it has it, else of the project's.

    Raises:
        SuiteError: neither has it.
    """
    own = deposit_root(parameters)
    if (own / name / "set.yml").is_file() or not (DEPOSIT / name / "set.yml").is_file():
        return read_set(name, root=own)
    return read_set(name)


def deposit_root(parameters: Mapping[str, Any]) -> Path:
    """Where a stage finds its deposited sets: a deposit of the user's (`deposit`), or the project's."""
    return Path(parameters["deposit"]) if "deposit" in parameters else DEPOSIT


def list_sets(*, root: Path = DEPOSIT) -> list[DepositedSet]:
    """Every deposited set by name; reads `set.yml` files only."""
    return [read_set(path.parent.name, root=root) for path in sorted(root.glob("[!.]*/set.yml"))]


def verify_set(deposited: DepositedSet) -> None:
    """Compare every file of a set with its checksum.

    Raises:
        SuiteError: a file is missing or its content is not what was deposited; the line names the file.
    """
    sums = deposited.directory / "SHA256SUMS"
    if not sums.is_file():
        raise SuiteError(f"{sums}: found no such file, expected the checksums of the set")
    lines = [line.split(maxsplit=1) for line in sums.read_text().splitlines()]
    if cut := [line for line in lines if len(line) != 2]:
        raise SuiteError(f"{sums}: found the line {' '.join(cut[0])!r}, expected a sha256 and a file")
    expected = {name: digest for digest, name in lines}
    if set(expected) != {"set.yml", *listed_files(deposited.facts)}:
        raise SuiteError(f"{sums}: found other files than set.yml lists, expected the same ones")
    for name, digest in expected.items():
        _check_file(deposited.directory / name, digest)
    for name, digest in listed_files(deposited.facts).items():
        if expected[name] != digest:
            raise SuiteError(f"{sums}: found another sha256 of {name} than set.yml has, expected {digest}")


def listed_files(facts: Mapping[str, Any]) -> dict[str, str]:
    """Decks and parts of runs that a `set.yml` lists, with their sha256."""
    files = {deck["file"]: deck["sha256"] for deck in facts["decks"]}
    files.update({part["file"]: part["sha256"] for run in facts["runs"] for part in run["parts"]})
    return files


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected sha256 {expected}")
    found = file_sha256(path)
    if found != expected:
        raise SuiteError(
            f"{path}: found sha256 {found}, expected {expected}: not the file that was deposited"
        )


def has_velocities(deposited: DepositedSet, run_id: str) -> bool:
    """Whether a run was deposited with velocities; reads no frame.

    Raises:
        SuiteError: no such run, or its file is not there.
    """
    name, digest = deposited.run(run_id).parts[0]
    path = deposited.directory / name
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected sha256 {digest}")
    with np.load(path, allow_pickle=False) as arrays:
        return "velocities" in arrays.files


def iter_run(deposited: DepositedSet, run_id: str) -> Iterator[Frames]:
    """The frames of one run, at most 500 at a time, each file compared with its checksum first.

    Raises:
        SuiteError: no such run, or a file that is not the deposited one.
    """
    first = 0
    for name, digest in deposited.run(run_id).parts:
        path = deposited.directory / name
        _check_file(path, digest)
        with np.load(path, allow_pickle=False) as arrays:
            yield Frames(
                types=deposited.types,
                positions=unpack(arrays["positions"], "positions"),
                forces=unpack(arrays["forces"], "forces"),
                velocities=unpack(arrays["velocities"], "velocities") if "velocities" in arrays else None,
                energies_eV=arrays["energies_eV"],
                cells=arrays["cells"],
                temperatures_K=arrays["temperatures_K"],
                first=first,
            )
            first += len(arrays["energies_eV"])


def iter_runs(deposited: DepositedSet) -> Iterator[tuple[Run, Frames]]:
    """All frames of a set, run after run, at most 500 frames at a time (see `iter_run`)."""
    for run in deposited.runs:
        for frames in iter_run(deposited, run.id):
            yield run, frames


def read_run(deposited: DepositedSet, run_id: str) -> Frames:
    """One whole run, with its unequilibrated first frames.

    Raises:
        SuiteError: no such run, or a file that is not the deposited one.
    """
    return Frames.joined(list(iter_run(deposited, run_id)))


def summary(deposited: DepositedSet) -> dict[str, Any]:
    """What `--list --json` prints of a set.

    `density_g_cm3` lists every density that occurs, `equilibrated_frames` those of each trajectory.
    """
    facts = deposited.facts
    return {
        "name": deposited.name,
        "engine": f"{facts['engine']} {facts['engine_version']}",
        "functional": facts["functional"],
        "level": deposited.level_line,
        "atoms": deposited.n_atoms,
        "frames": deposited.frames,
        "decorrelated_frames": deposited.decorrelated_frames,
        "temperatures_K": sorted({t for run in deposited.runs for t in run.temperatures_K}),
        "density_g_cm3": facts["densities_g_cm3"],
        "kind": deposited.kind,
        "use": deposited.use,
        "held_out": deposited.held_out,
        "start": facts["start"],
        "thermostat": facts["thermostat"],
        "equilibrated_frames": [run.frames - run.unequilibrated_frames for run in deposited.runs]
        if deposited.kind == "trajectory"
        else None,
        "sampler": deposited.sampler["model"] if deposited.sampler else None,
        "timestep_fs": facts["timestep_fs"],
        "runs": len(deposited.runs),
        "melts": len({run.melt for run in deposited.runs}),
        "licence": facts["licence"],
        "sha256": deposited.sha256,
    }


def pack(values: NDArray[np.float64], what: str) -> NDArray[np.uint8]:
    """Fixed-point 32-bit integers as byte planes (4, F, N, 3), least significant first.

    Raises:
        SuiteError: a value that 32 bits of its quantum cannot hold.
    """
    steps = np.rint(values / QUANTA[what])
    if not np.abs(steps).max() <= np.iinfo(np.int32).max:  # NaN too
        raise SuiteError(
            f"found {what} up to {np.abs(values).max():g}, expected less than {QUANTA[what] * 2**31:g}"
        )
    return np.ascontiguousarray(np.moveaxis(steps.astype("<i4")[..., None].view(np.uint8), -1, 0))


def unpack(planes: NDArray[np.uint8], what: str) -> NDArray[np.float64]:
    """The values (F, N, 3) that `pack` was given, in whole quanta."""
    steps = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<i4")[..., 0]
    return steps * QUANTA[what]
