"""Makes what is timed (models, liquids), and times one launch of it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import EngineError, NotInstalled, SuiteError
from jobs.base.files import file_sha256, finite, write_json, write_whole
from jobs.base.silica import (
    Configuration,
    check_cell_width,
    lattice_start,
    read_data,
    replicate,
    write_data,
)
from jobs.base.units import FS_PER_PS
from jobs.cost.points import Point, ranks_of
from jobs.cost.record import AIMD, CLASSICAL, HDNNP, NNP
from jobs.engines.deepmd import program as deepmd
from jobs.engines.deepmd.precision import in_precision
from jobs.engines.first_principles.registry import load_engine
from jobs.engines.first_principles.types import Dynamics
from jobs.engines.hdnnp.n2p2_files import FOLDER
from jobs.engines.lammps.kernel import DEEPMD, MODEL_FILE, NATIVE, native_potential
from jobs.engines.lammps.potential import (
    Potential,
    box_commands,
    builtin_potential,
    interaction_commands,
    read_potential,
)
from jobs.engines.lammps.program import DAMPING_FS, evaluate_all, run_lammps
from jobs.engines.lammps.timing import LAMMPS_SKIN_ANGSTROM, Layout, time_launch
from jobs.reference.potentials import potential_sha256
from jobs.store.machine_settings import Tuning
from jobs.store.workspace import Workspace

DUMP_EVERY = 10
# Liquids that larger systems are copies of, by their number of atoms.
LIQUIDS = (24, 48, 96, 216)
MELT_STEPS, LIQUID_STEPS = 4000, 500
MELT_K = 5000.0
# SiO.tersoff does not conserve energy at 1 fs and 3000 K: measured, 25 meV/atom/ps.
TERSOFF_STEP_FS = 0.5


class Bench:
    """Models, starting liquids and launches of one measurement, kept in its checkpoints."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.given = workspace.parameters
        self.product = workspace.inputs.get("potential")
        self.folder = workspace.checkpoints
        self.launches = self.folder / "launches"
        self.launches.mkdir(exist_ok=True)
        self.tuning = workspace.tuning or Tuning()
        self.lacking: dict[str, str] = {}  # variants of the model that cannot be made, and why

    # -- potentials -----------------------------------------------------------------------------

    def potential(self, point: Point) -> Potential:
        """The interaction of a point."""
        if point.engine in CLASSICAL:
            return builtin_potential(point.engine)
        if point.engine == HDNNP:
            if (trained := self.workspace.inputs.get(HDNNP)) is None:
                raise SuiteError("cost: found no HDNNP, expected one as input for hdnnp")
            return read_potential(trained)
        if self.product is None:
            raise SuiteError("cost: found no potential, expected one as input for deepmd")
        given = read_potential(self.product)
        if given.family == "deepmd" and point.kernel == NATIVE:
            return native_potential(given, self.product / MODEL_FILE, scratch=self.folder)
        if given.family != "deepmd" or point.precision is None:
            return given
        model = self._model(point)
        return Potential(
            given.name,
            given.family,
            (f'pair_style deepmd "{model.resolve()}"', "pair_coeff * * Si O"),
            None,
            deepmd.CUTOFF_ANGSTROM,
        )

    def as_it_can_be(self, point: Point, left_out: list[dict[str, str]]) -> Point | None:
        """A point, or, of a model without that precision or a tabulated form, the model as MD runs it.

        None where the native kernel cannot run it.
        """
        if point.model not in self.lacking:
            try:
                self.potential(point)
                return point
            except SuiteError as error:
                if not isinstance(error, EngineError) and point.kernel != NATIVE:
                    raise
                self.lacking[point.model] = str(error)
        why = self.lacking[point.model]
        if point.kernel == NATIVE:
            left_out.append({"what": point.key, "why": why})
            return None
        left_out.append({"what": f"{point.key} as {point.model}, timed as given", "why": why})
        return replace(point, precision=None, compressed=None)

    def _model(self, point: Point) -> Path:
        """The potential's model in a point's precision, compressed or not, made once; or as given."""
        assert self.product is not None
        if point.kernel == NATIVE:
            return self.product / MODEL_FILE
        if point.precision is None:
            quick = self.product / "compressed.pb"
            return quick if quick.is_file() else self.product / "model.pb"
        record = self.product / "train.json"
        if record.is_file() and json.loads(record.read_text())["precision"] == point.precision:
            return self.product / ("compressed.pb" if point.compressed else "model.pb")
        folder = self.folder / "models"
        folder.mkdir(exist_ok=True)
        full = folder / f"{point.precision}.pb"
        if not full.is_file():
            self.workspace.progress(0.0, f"the model in {point.precision}")
            in_precision(self.product / "model.pb", full, precision=point.precision, directory=folder)
        if not point.compressed:
            return full
        compressed = folder / f"{point.precision}-compressed.pb"
        if not compressed.is_file():
            deepmd.compress(full, compressed, directory=folder)
        return compressed

    def compression_error(self, point: Point) -> float | None:
        """Rms force difference (eV/A) of a compressed model to the full one on the liquid of 216 atoms."""
        if not point.compressed:
            return None
        path = self.folder / f"{point.model}.error"
        if not path.is_file():
            liquid = read_data(self.liquid(NNP, 216))
            full = replace(point, n_atoms=216, compressed=False)
            cases = [(liquid, self.potential(one)) for one in (point, full)]
            quick, right = (one.forces for one in evaluate_all(cases, directory=self.folder))
            write_whole(path, str(float(np.sqrt(np.mean((quick - right) ** 2)))))
        return float(path.read_text())

    # -- starts ---------------------------------------------------------------------------------

    def liquid(self, engine: str, n_atoms: int) -> Path:
        """A data file of the engine's liquid near equilibrium; larger ones are copies of a small one."""
        path = self.folder / f"{engine}-{n_atoms}.data"
        if not path.is_file():
            if n_atoms in LIQUIDS:
                self._melt(engine, n_atoms, path)
            else:
                unit = max((size for size in LIQUIDS if n_atoms % size == 0), default=None)
                if unit is None:
                    raise SuiteError(f"cost: found {n_atoms} atoms, expected a multiple of 24")
                small = read_data(self.liquid(engine, unit))
                _write(path, replicate(small, near_cubic(n_atoms // unit)))
        return path

    def _melt(self, engine: str, n_atoms: int, path: Path) -> None:
        """A random lattice melted by Tersoff, a BKS liquid of it, then the engine's own.

        An NNP that starts in Tersoff's melt meets pairs that are not in its training data.
        """
        self.workspace.progress(0.0, f"a liquid of {n_atoms} atoms for {engine}")
        lattice = lattice_start(n_atoms, density_g_cm3=self.given["density_g_cm3"], seed=n_atoms)
        melt = self.folder / f"melt-{n_atoms}.data"
        if not melt.is_file():
            write_data(self.folder / f"lattice-{n_atoms}.data", lattice)
            self._relax("tersoff", f"lattice-{n_atoms}", melt.stem, MELT_K, MELT_STEPS)
        if engine == "tersoff":
            self._relax(engine, melt.stem, path.stem, self.given["temperature_K"], MELT_STEPS)
        elif engine == "bks":
            self._relax(engine, melt.stem, f"hot-{n_atoms}", MELT_K, MELT_STEPS // 2)
            self._relax(engine, f"hot-{n_atoms}", path.stem, self.given["temperature_K"], MELT_STEPS)
        elif engine in AIMD:
            _write(path, read_data(self.liquid(NNP, n_atoms)))
        else:
            start = self.liquid("bks", n_atoms).stem
            self._relax(engine, start, path.stem, self.given["temperature_K"], LIQUID_STEPS)

    def _relax(self, engine: str, start: str, end: str, kelvin: float, steps: int) -> None:
        precision, kernel = ("float32", DEEPMD) if engine == NNP else (None, None)
        point = Point(engine, "tuned", LIQUIDS[-1], precision, compressed=False, kernel=kernel)
        potential = self.potential(self.as_it_can_be(point, []) or point)
        # Relaxed first: states of another potential have pairs so close that atoms would fly apart.
        script = f"""{box_commands(potential)}
boundary p p p
read_data {start}.data
{interaction_commands(potential)}
minimize 0 1.0 200 2000
reset_timestep 0
velocity all create {kelvin} 1 mom yes dist gaussian
timestep {self.timestep_fs(engine) / FS_PER_PS}
fix integrate all nvt temp {kelvin} {kelvin} 0.05
thermo {steps // 4}
run {steps}
write_data {end}.tmp nocoeff
"""
        run_lammps(script, directory=self.folder, name=f"relax-{end}", own=potential.own)
        (self.folder / f"{end}.tmp").replace(self.folder / f"{end}.data")

    def timestep_fs(self, engine: str) -> float:
        """The time step of an engine, fs."""
        return TERSOFF_STEP_FS if engine == "tersoff" else float(self.given["timestep_fs"])

    # -- launches -------------------------------------------------------------------------------

    def layout(self, point: Point) -> Layout:
        """How a point uses the machine.

        Raises:
            SuiteError: it asks for more cores than there are.
        """
        cores = self.workspace.cores
        if point.setting == "plain":
            return Layout(ranks=1, threads=cores, gpus=point.gpus, skin_angstrom=LAMMPS_SKIN_ANGSTROM)
        replicas, threads = 1, 1
        if point.ranks is not None:
            ranks = point.ranks
        elif point.gpus:
            ranks, threads = point.gpus, max(1, cores // point.gpus)
        else:
            slots, threads = self.tuning.split(cores, point.kernel or point.engine)
            ranks = ranks_of(point.n_atoms, slots)
            replicas = slots // ranks
        skin = self.tuning.skin_angstrom
        layout = Layout(replicas, ranks, threads, gpus=point.gpus, skin_angstrom=skin)
        layout.check(cores)
        return layout

    def launch(self, point: Point, potential: Potential, number: int) -> dict[str, Any]:
        """One launch, or what it left before; a failed one is kept as its reason."""
        path = self.launches / f"{point.key}-{number}.json"
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        start = self.liquid(point.engine, point.n_atoms)
        begun = time.monotonic()
        try:
            check_cell_width(read_data(start).cell, potential.cutoff_angstrom)
            found = time_launch(
                potential,
                start,
                self.layout(point),
                steps=point.steps,
                timestep_fs=self.timestep_fs(point.engine),
                temperature_K=self.given["temperature_K"],
                seed=1000 * number + 1,
                name=point.key,
                dump_every=DUMP_EVERY if point.setting == "dumps" else None,
                planted_slowdown=self.given.get("planted_slowdown", 1.0),
            )
            result: dict[str, Any] = found.as_json()
        except SuiteError as error:
            result = {"failed": str(error)}
        result["seconds"] = time.monotonic() - begun
        write_json(path, result)
        return result

    def point_record(
        self, point: Point, potential: Potential, launches: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """A measured point; summary figures are added to it by `cost_record`."""
        good = [one for one in launches if "failed" not in one]
        failed = [one["failed"] for one in launches if "failed" in one]
        if not launches:
            failed = ["the budget was spent before its first launch"]
        error = self.compression_error(point)
        if error is not None and not error <= deepmd.COMPRESSION_FORCE_LIMIT_EV_A:
            failed.append(f"found {error:.2e} eV/A rms between compressed and full forces")
            good = []
        layout = self.layout(point)
        by_deepmd = potential.family == "deepmd" and point.kernel != NATIVE
        return {
            "engine": potential.family,
            "setting": point.setting,
            "kernel": point.kernel if potential.family in (NNP, HDNNP) else None,
            "model": potential.name,
            "model_sha256": self._sha256(point, potential.family),
            "precision": point.precision,
            "compressed": point.compressed,
            "sel": self._sel(point) if by_deepmd else None,
            "n_atoms": point.n_atoms,
            "timestep_fs": self.timestep_fs(point.engine),
            "cores": layout.cores,
            **asdict(layout),
            "samples_are": "launches",
            "us_per_step_atom": [one["us_per_step_atom"] for one in good],
            "core_us_per_step_atom": [one["core_us_per_step_atom"] for one in good],
            "steps": point.steps,
            "checks": {
                "temperature_K": [round(one["temperature_K"], 1) for one in good],
                "conserved_drift_meV_atom": [round(one["conserved_drift_meV_atom"], 4) for one in good],
                "dangerous_builds": sum(one["dangerous_builds"] for one in good),
                "mpi_ranks_together": layout.ranks,
                "compressed_vs_full_force_rms_eV_A": error,
            },
            "failed": failed,
            "seconds": round(sum(one["seconds"] for one in launches), 2),
        }

    def _sha256(self, point: Point, family: str) -> str | None:
        """Of an NNP's files."""
        if family == HDNNP:
            product = self.workspace.inputs[HDNNP if point.engine == HDNNP else "potential"]
            return potential_sha256(product / FOLDER)
        return file_sha256(self._model(point)) if family == NNP else None

    def _sel(self, point: Point) -> list[int] | None:
        """Neighbours that the NNP has room for (Si, O), from the training script in its model."""
        found = re.search(rb'"sel": ?\[([\d, ]+)\]', self._model(point).read_bytes())
        return None if found is None else [int(number) for number in found[1].split(b",")]

    # -- first principles -----------------------------------------------------------------------

    def first_principles(self, engine: str, n_atoms: int) -> dict[str, Any]:
        """One short AIMD run on one core, its steps after the first timed by the program itself."""
        path = self.launches / f"{engine}-{n_atoms}.json"
        if not path.is_file():
            begun = time.monotonic()
            record = self._first_principles(engine, n_atoms)
            write_json(path, {**record, "seconds": round(time.monotonic() - begun, 2)})
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept

    def _first_principles(self, engine: str, n_atoms: int) -> dict[str, Any]:
        if engine not in AIMD:
            raise SuiteError(f"cost: found engine {engine!r}, expected one of {', '.join(AIMD)}")
        about, program = self.given["aimd"][engine], load_engine(engine)
        start: Configuration = read_data(self.liquid(engine, n_atoms))
        dynamics = Dynamics(
            steps=about["steps"] + 1,
            timestep_fs=about["timestep_fs"],
            temperature_K=self.given["temperature_K"],
            thermostat="csvr",
            damping_fs=DAMPING_FS,
            seed=1,
        )
        failed: list[str] = []
        samples: list[float] = []
        checks: dict[str, Any] = {}
        try:
            found = program.run_dynamics(
                program.read_settings(about["settings"]),
                replace(start, types=start.types.astype(np.int8)),
                dynamics,
                directory=self.folder / f"{engine}-{n_atoms}",
                threads=1,
            )
            # Step 0 is the start itself, and the first step still has a poor guess of the wave function.
            timed = (found.steps > 1) & found.converged
            failed = [f"step {step}: SCF not converged" for step in found.steps[~found.converged]]
            samples = [float(seconds) * 1e6 / n_atoms for seconds in found.seconds[timed]]
            drift_meV = finite(round(float(np.ptp(found.conserved_eV[found.steps > 0])) * 1000 / n_atoms, 4))
            checks = {
                "temperature_K": [round(float(kelvin), 1) for kelvin in found.temperatures_K[timed]],
                # An engine may give no conserved quantity under a thermostat.
                "conserved_drift_meV_atom": drift_meV,
                "scf_steps": found.scf_steps[timed].tolist(),
            }
        except NotInstalled:
            raise
        except SuiteError as error:
            failed = [str(error)]
        return {
            "engine": engine,
            "setting": "aimd",
            "model": "PBE, " + ", ".join(f"{key} {value}" for key, value in about["settings"].items()),
            "model_sha256": None,
            "precision": "float64",
            "compressed": None,
            "sel": None,
            "n_atoms": n_atoms,
            "timestep_fs": about["timestep_fs"],
            "cores": 1,
            **asdict(Layout()),
            "samples_are": "steps",
            "us_per_step_atom": samples,
            "core_us_per_step_atom": samples,
            "steps": len(samples),
            "checks": checks,
            "failed": failed,
        }


def near_cubic(copies: int) -> tuple[int, int, int]:
    """Three factors of a number of copies, as equal as they get."""
    best = min(
        (
            (a, b, copies // (a * b))
            for a in range(1, copies + 1)
            if copies % a == 0
            for b in range(a, copies // a + 1)
            if (copies // a) % b == 0 and copies // (a * b) >= b
        ),
        key=lambda factors: factors[2] - factors[0],
    )
    return best


def _write(path: Path, configuration: Configuration) -> None:
    temporary = path.with_suffix(".tmp")
    write_data(temporary, configuration)
    temporary.replace(path)
