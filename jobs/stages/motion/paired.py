"""MD from a frame of a deposited AIMD run, positions and velocities, as long and in the same ensemble.

Both sides have the same bond network from the same instant. In a viscous liquid the bond network causes most
of the scatter of a comparison at equilibrium; here it cancels from the difference. Both sides have one
thermostat with one noise. A thermostat that rescales velocities (CSVR, Nose-Hoover) does so by one factor for
all atoms. The energies of the AIMD give that factor step by step, so its heat is replayed. CSVR also draws
the kinetic energy back to its mean, by a share of the distance at each step: the MD side is drawn towards the
kinetic energy of the AIMD side. The forces are then all that differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.frames import Frames
from jobs.base.silica import MASSES_AMU, Configuration
from jobs.base.units import BOLTZMANN_EV_K, EV_PER_AMU_A2_FS2
from jobs.engines.lammps.dynamics import Protocol, Segment, run_dynamics
from jobs.engines.lammps.potential import potential_of
from jobs.observables.msd import remove_drift
from jobs.reference.sets import deposit_root, find_set, read_run
from jobs.stages.motion.md import finish
from jobs.store.workspace import Workspace

CODE_VERSION = 1


@dataclass(frozen=True)
class Fault:
    """What a planted fault does to a run. All are factors, and all are undeclared.

    `temperature` is of the start and the thermostat; `masses` of Si and O; `timestep`; `volume`. Forces
    scaled by f move atoms as masses over f do, with a thermostat at T / f for these masses.
    """

    temperature: float = 1.0
    masses: tuple[float, float] = (1.0, 1.0)
    forces: float = 1.0
    timestep: int = 1
    volume: float = 1.0


FAULTS = {
    "none": Fault(),
    "hot": Fault(temperature=1.1),
    "soft": Fault(forces=0.9),
    "mass": Fault(masses=(1.0, 18 / 15.999)),  # the heavy isotope of oxygen
    "time-step": Fault(timestep=3),
    "density": Fault(volume=1 / 1.02),
}


def run(workspace: Workspace) -> None:
    """Write the trajectory from the frame on (that frame first), the thermo table and `md.json`.

    Raises:
        SuiteError: no such run or frames, no velocities, or a cell narrower than the cut-off.
        EngineError: LAMMPS failed.
    """
    given = workspace.parameters
    if given.get("fault", "none") not in FAULTS:
        raise SuiteError(f"fault: found {given['fault']!r}, expected one of {', '.join(FAULTS)}")
    fault = FAULTS[given.get("fault", "none")]
    frames = frames_of(workspace)
    facts = run_dynamics(
        workspace,
        potential=potential_of(workspace),
        start=_start(frames, fault),
        protocol=Protocol(
            (_segment(workspace, frames, fault),), dump_every=1, thermo_every=1, checkpoint_every=1000
        ),
        first_temperature_K=None,
        relax_first=False,
        ranks=1,
    )
    facts |= {
        "ensemble": "nvt" if given["thermostatted"] else "nve",
        "thermostat": "AIMD's, replayed" if given["thermostatted"] else "none",
        "temperature_K": given["temperature_K"],
        "aimd_run": f"{given['reference']['set']}/{given['reference']['run']}",
        "first_frame": given["first_frame"],
    }
    finish(workspace, facts)


def frames_of(workspace: Workspace) -> Frames:
    """The frames of the AIMD run that the stage names, from the first to the last that it goes on with.

    Raises:
        SuiteError: the set was changed, has no such run or frames, no velocities, or a box that is tilted.
    """
    given = workspace.parameters
    reference, first = given["reference"], given["first_frame"]
    deposited = find_set(reference["set"], given)
    where = f"{deposit_root(given)}: run {reference['run']} of {reference['set']}"
    if deposited.sha256 != reference["sha256"]:
        raise SuiteError(f"{where}: found another set.yml than was planned with; plan again")
    frames = read_run(deposited, reference["run"])
    if not 0 <= first < first + given["steps"] < len(frames):
        raise SuiteError(f"{where}: found {len(frames)} frames, expected {first} to {first + given['steps']}")
    if frames.velocities is None:
        raise SuiteError(f"{where}: found no velocities, expected them: a pair starts from both")
    if not np.allclose(frames.cells, np.diag(np.diag(frames.cells[first]))):
        raise SuiteError(f"{where}: found a tilted box or one that changes, expected one orthogonal box")
    return frames.select(slice(first, first + given["steps"] + 1))


def heat(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The thermostat at each step (F - 1,): kinetic temperature before it, and by how much it rose; in K.

    Between two frames the total energy changes by what the rescaling at the end of the step gave, and by the
    discretisation's own ripple (a fifteenth of it at 2 fs, measured without a thermostat).
    """
    assert frames.velocities is not None
    masses = MASSES_AMU[frames.types]
    moving = remove_drift(frames.velocities, masses)
    kinetic = 0.5 * np.einsum("fnx,fnx,n->f", moving, moving, masses) * EV_PER_AMU_A2_FS2
    given = np.diff(kinetic + frames.energies_eV)
    to_kelvin = 1 / (1.5 * (len(masses) - 1) * BOLTZMANN_EV_K)
    return (kinetic[1:] - given) * to_kelvin, given * to_kelvin


def _start(frames: Frames, fault: Fault) -> Configuration:
    """The first frame, with the planted fault applied to it."""
    assert frames.velocities is not None
    edge = fault.volume ** (1 / 3)
    return Configuration(
        positions=frames.positions[0] * edge,
        types=frames.types.astype(np.int64),
        cell=frames.cells[0] * edge,
        velocities=frames.velocities[0] * math.sqrt(fault.temperature),
    )


def _segment(workspace: Workspace, frames: Frames, fault: Fault) -> Segment:
    """The whole run with AIMD's time step, and its heat where it had a thermostat."""
    given = workspace.parameters
    steps, timestep_fs = given["steps"] // fault.timestep, given["timestep_fs"] * fault.timestep
    masses = MASSES_AMU * fault.masses / fault.forces
    wrong = tuple(f"mass {kind} {mass:.10g}" for kind, mass in enumerate(masses, start=1))
    integrator: tuple[str, ...] = (*(wrong if fault != Fault() else ()), "fix nve all nve")
    if not given["thermostatted"]:
        return Segment(steps, timestep_fs, integrator, ("nve",), dumped=True)
    before, rise = (part[: steps * fault.timestep].reshape(steps, fault.timestep) for part in heat(frames))
    # CSVR's own share of the way back; another thermostat's heat is replayed as it is.
    back = timestep_fs / given["damping_fs"] if given["damping_fs"] else 0.0
    target = (back * before.mean(axis=1) + rise.sum(axis=1)) * fault.temperature / fault.forces
    integrator += (
        f"variable aimd vector [{','.join(f'{kelvin:.6f}' for kelvin in target)}]",
        "variable at equal step",
        f"variable target equal {1 - back:.9f}*c_thermo_temp+v_aimd[v_at]",
        "fix heat all temp/rescale 1 v_target 1.0 0.0 1.0",
    )
    return Segment(steps, timestep_fs, integrator, ("nve", "heat"), dumped=True)
