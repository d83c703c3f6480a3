"""VASP: decks after the paper (Sec. II A), single points, molecular dynamics that resumes, and its output.

Not run for this suite (VASP is licensed): decks are checked against the paper, and reading against files as
VASP 5.4 writes them. `VASP_COMMAND` names the command, for example `mpirun -np {cores} vasp_gam`; without
it `vasp_gam` or `vasp_std` must be on PATH. POTCAR is put together from the user's own library in
`VASP_PP_PATH` (`potpaw_PBE/Si/POTCAR` or `Si/POTCAR` in it) and never kept with a product.

The paper gives PBE, PAW, 500 eV, Gamma, a Nose-Hoover thermostat and the time steps. The rest is chosen:

- no spin, no symmetry (ISPIN 1, ISYM 0): silica has closed shells, a liquid has no symmetry;
- Gaussian smearing of 0.05 eV (ISMEAR 0): liquid silica keeps a gap, so the entropy term all but vanishes;
- EDIFF 1e-5 eV: tighter than VASP's default, since MD needs forces, not energies alone;
- LREAL off: projection in real space would add force errors to save time that is not short here;
- SMASS from the time constant t of the thermostat as LAMMPS and this suite define it: Nose's mass
  Q = g kT t^2 with g = 3N - 3, the same Q as of the NNP runs (t = 100 fs), in VASP's unit amu L^2 with L the
  first edge of the cell. VASP's OUTCAR prints the period that follows, 2 pi t / sqrt(2) = 444 fs.

Convergence of an SCF is read from the numbers in OUTCAR (`vasp_scf.py`), never from one phrase.

Energies are TOTEN (the free energy), which the forces belong to, never the one extrapolated to sigma = 0.
"""

from __future__ import annotations

import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import EngineError, SuiteError
from jobs.base.frames import NOT_KNOWN, UNCONVERGED
from jobs.base.silica import MASSES_AMU, SPECIES, Configuration
from jobs.base.streams import blocks
from jobs.base.units import BOLTZMANN_EV_K, EV_PER_AMU_A2_FS2
from jobs.engines.first_principles import vasp_scf
from jobs.engines.first_principles.types import (
    Dynamics,
    Label,
    Run,
    check_thermostat,
    command,
    draw_velocities,
    kinetic_temperatures_K,
    read_fields,
)
from jobs.engines.process import LogCounter, run_program, thread_environment

THERMOSTATS = ("nose-hoover",)
DECKS = {"INCAR": ".INCAR", "KPOINTS": ".KPOINTS", "POSCAR": ".POSCAR"}
KPOINTS = "Gamma\n0\nGamma\n1 1 1\n0 0 0\n"
LOG = "vasp.log"
_LIBRARIES = ("potpaw_PBE", "potpaw_PBE.54", "potpaw_PBE.52", ".")
_OUTPUTS = ("vasprun.xml", "OUTCAR")

_TOTEN = b"free  energy   TOTEN"


@dataclass(frozen=True)
class Settings:
    """How well the electrons are solved: PBE, PAW, Gamma, no spin.

    `encut_eV` cuts off the plane waves; `ediff_eV` is the SCF's target, reached in fewer than `nelm` steps
    or not at all; `sigma_eV` the Gaussian smearing; `potcar` maps Si and O to folders of the library.
    """

    encut_eV: float
    ediff_eV: float
    nelm: int
    sigma_eV: float
    potcar: Mapping[str, str]

    @property
    def basis(self) -> str:
        """The level of theory beside the functional: total energies of two of them have different zeros."""
        return f"PAW {self.encut_eV:g} eV {'+'.join(self.potcar[species] for species in SPECIES)}"


def read_settings(values: Mapping[str, Any]) -> Settings:
    """See `Engine`."""
    settings = read_fields("VASP", Settings, values)
    if not isinstance(settings.potcar, Mapping) or set(settings.potcar) != set(SPECIES):
        raise SuiteError(
            f"VASP settings: found potcar {settings.potcar!r}, expected a folder of the library for each of "
            f"{' and '.join(SPECIES)}"
        )
    return settings


def check(settings: Settings, thermostat: str | None) -> None:
    """See `Engine`; also that the POTCARs are there and are PBE's."""
    check_thermostat("VASP", thermostat, THERMOSTATS)
    _command(1)
    for folder in settings.potcar.values():
        _potcar(folder)


def _command(cores: int) -> list[str]:
    return command("VASP_COMMAND", ("vasp_gam", "vasp_std"), cores=cores, name="VASP")


def _potcar(folder: str) -> str:
    """The POTCAR of one species from the user's library.

    Raises:
        SuiteError: no library, no such folder, or not a PBE one.
    """
    root = os.environ.get("VASP_PP_PATH")
    if not root:
        raise SuiteError(
            "VASP_PP_PATH: found nothing, expected the folder of your own POTCAR library (it is not shipped)"
        )
    for library in _LIBRARIES:
        path = Path(root) / library / folder / "POTCAR"
        if path.is_file():
            text = path.read_text(errors="replace")
            if not text.lstrip().startswith("PAW_PBE"):
                raise SuiteError(f"{path}: found {text.lstrip()[:20]!r}, expected a PAW_PBE potential")
            return text if text.endswith("\n") else text + "\n"
    raise SuiteError(
        f"{root}: found no {folder}/POTCAR, expected it there or in {', '.join(_LIBRARIES[:-1])} of it"
    )


def smass(dynamics: Dynamics, start: Configuration) -> float:
    """VASP's Nose mass in amu L^2 for the thermostat's time constant (see the top of this file)."""
    degrees_of_freedom = 3 * len(start.types) - 3
    mass = degrees_of_freedom * BOLTZMANN_EV_K * dynamics.temperature_K * dynamics.damping_fs**2
    return mass / EV_PER_AMU_A2_FS2 / float(start.cell[0] @ start.cell[0])


def write_incar(
    settings: Settings, start: Configuration, *, dynamics: Dynamics | None, first_step: int = 0
) -> str:
    """The INCAR of a single point (`dynamics` None) or of the steps from `first_step` on."""
    tags: dict[str, Any] = {
        "SYSTEM": "silica",
        "GGA": "PE",
        "ENCUT": f"{settings.encut_eV:g}",
        "PREC": "Normal",
        "LREAL": ".FALSE.",
        "ISPIN": 1,
        "ISYM": 0,
        "ISMEAR": 0,
        "SIGMA": f"{settings.sigma_eV:g}",
        "EDIFF": f"{settings.ediff_eV:g}",
        "NELM": settings.nelm,
        "LWAVE": ".FALSE.",
        "LCHARG": ".FALSE.",
        "ISIF": 2,
    }
    if dynamics is None:
        tags |= {"IBRION": -1, "NSW": 0}
    else:
        tags |= {
            "IBRION": 0,
            # VASP counts the evaluation of the start.
            "NSW": dynamics.steps + 1 - first_step,
            "POTIM": f"{dynamics.timestep_fs:g}",
            "TEBEG": f"{dynamics.temperature_K:g}",
            "TEEND": f"{dynamics.temperature_K:g}",
            "NBLOCK": 1,
        }
        if dynamics.thermostat is None:
            tags |= {"MDALGO": 0, "SMASS": -3}
        else:
            tags |= {"MDALGO": 2, "SMASS": f"{smass(dynamics, start):.6g}"}
    return "".join(f"{tag} = {value}\n" for tag, value in tags.items())


def _order(types: NDArray[np.integer]) -> NDArray[np.int64]:
    """Atoms as POSCAR has them: Si first, then O."""
    return np.argsort(types, kind="stable")


def write_poscar(path: Path, start: Configuration) -> None:
    """POSCAR, with velocities in A/fs where the start has them; Si first."""
    from ase import Atoms
    from ase.io import write

    order = _order(start.types)
    symbols = [SPECIES[index] for index in start.types[order]]
    atoms = Atoms(symbols, positions=start.positions[order], cell=start.cell, pbc=True)
    write(path, atoms, format="vasp", direct=True, vasp5=True, sort=False)
    if start.velocities is not None:
        rows = "".join(" ".join(f"{v:.12e}" for v in row) + "\n" for row in start.velocities[order])
        path.write_text(path.read_text() + "Cartesian\n" + rows)


def write_decks(
    directory: Path,
    settings: Settings,
    start: Configuration,
    *,
    dynamics: Dynamics | None,
    first_step: int = 0,
) -> None:
    """INCAR, KPOINTS and POTCAR, and the POSCAR of a run's or a single point's beginning.

    Raises:
        SuiteError: a POTCAR is lacking.
    """
    species = [name for index, name in enumerate(SPECIES) if (start.types == index).any()]
    (directory / "POTCAR").write_text("".join(_potcar(settings.potcar[name]) for name in species))
    (directory / "INCAR").write_text(write_incar(settings, start, dynamics=dynamics, first_step=first_step))
    (directory / "KPOINTS").write_text(KPOINTS)
    if first_step == 0:
        write_poscar(directory / "POSCAR", start)


def _run(directory: Path, *, threads: int, watch: Callable[[], None] | None = None) -> None:
    # The cores are ranks, as VASP_COMMAND says.
    run_program(
        _command(threads),
        directory=directory,
        log=directory / LOG,
        environment=thread_environment(1),
        watch=watch,
        append=True,
    )


def version(directory: Path) -> str:
    """See `Engine`; e.g. `5.4.4.18Apr17-6-g9f103f2a35`."""
    for path in sorted(directory.glob("vasprun*.xml")):
        if match := re.search(r'name="version"[^>]*>\s*(\S+)', path.read_text(errors="replace")[:5000]):
            return match.group(1)
    raise SuiteError(f"{directory}: found no version in a vasprun.xml, expected VASP's output")


def wave_function(directory: Path) -> None:
    """See `Engine`; VASP starts each run from its own guess."""


# Reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One ionic step, atoms in the order of POSCAR: positions in fractions, forces eV/A, energies eV."""

    fractions: NDArray[np.float64]
    forces: NDArray[np.float64]
    energy_eV: float
    total_eV: float
    converged: bool | None
    scf_steps: int
    seconds: float


def read_scf(outcar: Path) -> dict[int, tuple[int, bool | None]]:
    """(electronic steps, converged) by ionic step from 1; None where the file lacks the numbers that tell."""
    record: dict[int, tuple[int, bool | None]] = {}
    nelm: int | None = None
    ediff_eV: float | None = None
    for index, (block, _) in enumerate(blocks(outcar, _TOTEN)):
        if index == 0:
            nelm, ediff_eV = vasp_scf.limits(block.partition(b"- Iteration")[0].decode(errors="replace"))
        scf = vasp_scf.outcar_step(block, nelm=nelm, ediff_eV=ediff_eV)
        if scf.ionic_step is not None:
            record[scf.ionic_step] = (scf.steps or 0, scf.converged)
    return record


def _read_steps(vasprun: Path, outcar: Path) -> list[_Step]:
    """The whole ionic steps of one attempt; what a kill cut off is left out."""
    scf = read_scf(outcar) if outcar.is_file() else {}
    steps: list[_Step] = []
    try:
        for _, element in ElementTree.iterparse(vasprun):
            if element.tag == "calculation":
                steps.append(_step(element, *scf.get(len(steps) + 1, (0, None)), vasprun))
                element.clear()
    except ElementTree.ParseError:
        pass  # killed while it was written: the steps before are whole
    return steps


def _step(element: ElementTree.Element, scf_steps: int, converged: bool | None, vasprun: Path) -> _Step:
    def table(path: str) -> NDArray[np.float64]:
        rows = [(row.text or "").split() for row in element.iterfind(f"{path}/v")]
        return np.array(rows, dtype=np.float64)

    energies = {item.get("name"): float(item.text or "nan") for item in element.iterfind("energy/i")}
    times = [(item.text or "").split() for item in element.iterfind("time[@name='totalsc']")]
    positions = table("structure/varray[@name='positions']")
    forces = table("varray[@name='forces']")
    if "e_fr_energy" not in energies or not len(forces) or forces.shape != positions.shape:
        raise EngineError(
            f"{vasprun}: found a step with {len(positions)} positions, {len(forces)} forces and energies "
            f"{sorted(map(str, energies))}, expected positions, forces and e_fr_energy"
        )
    return _Step(
        fractions=positions,
        forces=forces,
        energy_eV=energies["e_fr_energy"],
        total_eV=energies.get("total", float("nan")),
        converged=converged,
        scf_steps=scf_steps,
        seconds=float(times[0][-1]) if times and times[0] else float("nan"),
    )


# Single points ------------------------------------------------------------------------------------


def single_point(
    settings: Settings,
    start: Configuration,
    *,
    directory: Path,
    threads: int,
    watch: Callable[[], None] | None = None,
) -> Label:
    """Energy and forces of one configuration, computed in `directory`.

    An SCF that did not converge is returned as such, never dropped here.

    Raises:
        EngineError: VASP is missing, failed, or left no energy or forces.
        SuiteError: a POTCAR is lacking.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_decks(directory, settings, start, dynamics=None)
    _run(directory, threads=threads, watch=watch)
    return read_single_point(start, directory=directory)


def read_single_point(start: Configuration, *, directory: Path) -> Label:
    """The result of a single point from `vasprun.xml` and `OUTCAR`.

    Raises:
        EngineError: the output does not hold one evaluation of this many atoms.
    """
    steps = _read_steps(*(directory / name for name in _OUTPUTS))
    if len(steps) != 1 or len(steps[0].forces) != len(start.types):
        raise EngineError(
            f"{directory}: found {len(steps)} evaluations, expected one of {len(start.types)} atoms "
            f"(log: {directory / LOG})"
        )
    step, forces = steps[0], np.empty_like(start.positions)
    forces[_order(start.types)] = step.forces
    refusal = None if step.converged else UNCONVERGED if step.converged is False else NOT_KNOWN
    return Label(step.energy_eV, forces, refusal, step.scf_steps, step.seconds)


# Molecular dynamics -------------------------------------------------------------------------------


def run_dynamics(
    settings: Settings,
    start: Configuration,
    dynamics: Dynamics,
    *,
    directory: Path,
    threads: int,
    guess: Path | None = None,
    watch: Callable[[int], None] | None = None,
) -> Run:
    """A run in `directory`; what a killed attempt left there is gone on from its CONTCAR.

    CONTCAR has positions, velocities and the thermostat's variables after each step, so the step that VASP
    was at is lost. `watch` is told about once a second how many steps are done; `guess` is not used.

    Raises:
        EngineError: VASP is missing, failed, or its output does not hold all steps.
        SuiteError: a POTCAR is lacking, or a thermostat that VASP does not have.
    """
    check_thermostat("VASP", dynamics.thermostat, THERMOSTATS)
    directory.mkdir(parents=True, exist_ok=True)
    if start.velocities is None:
        drawn = draw_velocities(start.types, dynamics.temperature_K, dynamics.seed)
        start = Configuration(start.types, start.positions, start.cell, drawn)
    run = read_run(start, dynamics, directory=directory)
    while (done := len(run.steps)) <= dynamics.steps:
        _put_by(directory, n_atoms=len(start.types))
        write_decks(directory, settings, start, dynamics=dynamics, first_step=done)

        made = LogCounter(directory / "OUTCAR", "TOTAL-FORCE (eV/Angst)")

        def report(done: int = done, made: LogCounter = made) -> None:
            if watch is not None:
                watch(done + made())

        _run(directory, threads=threads, watch=report)
        run = read_run(start, dynamics, directory=directory)
        if len(run.steps) <= done:
            raise EngineError(
                f"{directory}: found {len(run.steps)} states after VASP ended, expected "
                f"{dynamics.steps + 1} (log: {directory / LOG})"
            )
    return run


def _attempts(directory: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("vasprun-")) for path in directory.glob("vasprun-*.xml"))


def _put_by(directory: Path, *, n_atoms: int) -> None:
    """Keep the output of an attempt that made steps, and make its CONTCAR the next POSCAR.

    Raises:
        EngineError: its CONTCAR is cut off.
    """
    if not _read_steps_if_any(directory):
        return
    contcar = directory / "CONTCAR"
    lines = contcar.read_text().splitlines() if contcar.is_file() else []
    # Title, scale, cell, species, counts, mode; positions; a line; velocities.
    if len(lines) < 8 + 2 * n_atoms + 1:
        raise EngineError(
            f"{contcar}: found {len(lines)} lines, expected positions and velocities of {n_atoms} atoms; "
            f"delete {directory} to begin this run again"
        )
    shutil.copyfile(contcar, directory / "POSCAR")
    number = len(_attempts(directory))
    if (directory / "OUTCAR").is_file():  # not where a kill came between the two
        os.replace(directory / "OUTCAR", directory / f"OUTCAR-{number}")
    # Last: an attempt counts once its vasprun has a number.
    os.replace(directory / "vasprun.xml", directory / f"vasprun-{number}.xml")


def _read_steps_if_any(directory: Path) -> list[_Step]:
    vasprun = directory / "vasprun.xml"
    return _read_steps(vasprun, directory / "OUTCAR") if vasprun.is_file() else []


def read_run(start: Configuration, dynamics: Dynamics, *, directory: Path) -> Run:
    """All whole steps of a run's attempts, unwrapped; atoms in the order of `start`.

    VASP prints no velocities. They are those of velocity Verlet between neighbouring states,
    displacement / dt -+ acceleration dt / 2, the mean of both sides where there are two; the thermostat's
    friction is left out of them, which changes them by less than dt / t of the thermal velocity.
    """
    attempts = [
        _read_steps(directory / f"vasprun-{number}.xml", directory / f"OUTCAR-{number}")
        for number in _attempts(directory)
    ]
    steps: list[_Step] = []
    for attempt in [*attempts, _read_steps_if_any(directory)]:
        # Should a CONTCAR hold the state that was done last, the new attempt begins with it again.
        again = bool(steps and attempt and np.allclose(steps[-1].fractions, attempt[0].fractions, atol=1e-7))
        steps.extend(attempt[again:])
    count, n_atoms = len(steps), len(start.types)
    shape = (count, n_atoms, 3)
    back = np.argsort(_order(start.types))
    if any(step.forces.shape != start.positions.shape for step in steps):
        raise EngineError(
            f"{directory}: found {len(steps[0].forces)} atoms in vasprun.xml, expected {n_atoms}"
        )
    forces = np.array([step.forces[back] for step in steps]).reshape(shape)
    fractions = np.array([step.fractions[back] for step in steps]).reshape(shape)
    first = start.positions @ np.linalg.inv(start.cell)
    before = np.concatenate([first[None], fractions])[:-1] if count else fractions
    moved = fractions - before
    moved -= np.rint(moved)
    positions = (first + np.cumsum(moved, axis=0)) @ start.cell
    velocities = _velocities(start, positions, forces, timestep_fs=dynamics.timestep_fs)
    return Run(
        steps=np.arange(count),
        positions=positions,
        velocities=velocities,
        forces=forces,
        energies_eV=np.array([step.energy_eV for step in steps]),
        conserved_eV=np.array([step.total_eV for step in steps]),
        temperatures_K=kinetic_temperatures_K(start.types, velocities),
        converged=np.array([bool(step.converged) for step in steps], dtype=np.bool_),
        scf_steps=np.array([step.scf_steps for step in steps], dtype=np.int64),
        seconds=np.array([step.seconds for step in steps]),
    )


def _velocities(
    start: Configuration, positions: NDArray[np.float64], forces: NDArray[np.float64], *, timestep_fs: float
) -> NDArray[np.float64]:
    if len(positions) < 2:
        assert start.velocities is not None
        return np.broadcast_to(start.velocities, positions.shape).copy()
    halves = np.diff(positions, axis=0) / timestep_fs
    kicks = forces / np.asarray(MASSES_AMU)[start.types][:, None] / EV_PER_AMU_A2_FS2 * timestep_fs / 2
    velocities = np.empty_like(positions)
    velocities[0] = halves[0] - kicks[0]
    velocities[1:-1] = (halves[:-1] + halves[1:]) / 2
    velocities[-1] = halves[-1] + kicks[-1]
    return velocities
