"""MD at fixed volume: stepwise temperatures, the last of them dumped; NVT (Nose-Hoover) or NVE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.silica import Configuration, read_data, replicate, rescale
from jobs.engines.lammps.dynamics import FINAL, Protocol, Segment, check_segments, nose_hoover, run_dynamics
from jobs.engines.lammps.potential import potential_of
from jobs.store.workspace import Workspace

CODE_VERSION = 1

# Planted faults beside the real thermostat. `rescale` forces the exact temperature at every step, which
# has no canonical fluctuations; `nose-hoover-hot` regulates to 10 % above what it says.
THERMOSTATS = ("nose-hoover", "nose-hoover-hot", "rescale")
HOT_FACTOR = 1.1


def run(workspace: Workspace) -> None:
    """Run the schedule and write the trajectory, the thermo table, the final state and `md.json`.

    Raises:
        SuiteError: unknown ensemble or thermostat, an empty schedule, a cell narrower than the cut-off.
        EngineError: LAMMPS failed.
    """
    given = workspace.parameters
    if given["ensemble"] not in ("nvt", "nve"):
        raise SuiteError(f"ensemble: found {given['ensemble']!r}, expected 'nvt' or 'nve'")
    if given["thermostat"] not in THERMOSTATS:
        raise SuiteError(
            f"thermostat: found {given['thermostat']!r}, expected one of {', '.join(THERMOSTATS)}"
        )
    check_schedule(
        [entry["steps"] for entry in given["schedule"]],
        ensemble=given["ensemble"],
        dump_every=given["dump_every"],
        thermo_every=given["thermo_every"],
    )
    segments = [
        _thermostatted(workspace, entry["temperature_K"], entry["steps"]) for entry in given["schedule"]
    ]
    if given["ensemble"] == "nve":
        segments[-1] = replace(segments[-1], integrator=("fix nve all nve",), fixes=("nve",))
    segments[-1] = replace(segments[-1], dumped=True)
    facts = run_dynamics(
        workspace,
        potential=potential_of(workspace),
        start=start_of(workspace),
        protocol=Protocol(
            tuple(segments), given["dump_every"], given["thermo_every"], given["checkpoint_every"]
        ),
        first_temperature_K=given["schedule"][0]["temperature_K"],
        relax_first=not (workspace.inputs["start"] / FINAL).exists(),
        ranks=given["ranks"],
    )
    facts |= {
        "ensemble": given["ensemble"],
        "thermostat": given["thermostat"],
        "temperature_K": given["schedule"][-1]["temperature_K"],
    }
    finish(workspace, facts)


def finish(workspace: Workspace, facts: Mapping[str, Any]) -> None:
    """Write `md.json`, and into the manifest what was fast and what LAMMPS warned of."""
    write_json(workspace.directory / "md.json", facts, indent=1)
    workspace.record(loop_seconds=facts["loop_seconds"], kernel=facts["kernel"], warnings=facts["warnings"])


def check_schedule(steps: Sequence[int], *, ensemble: str, dump_every: int, thermo_every: int) -> None:
    """Refuse segments (their steps) that cannot be run; a tier asks this before anything is made.

    Raises:
        SuiteError: no segment, NVE from fresh velocities, or one that ends on a step that is not written.
    """
    if not steps:
        raise SuiteError("schedule: found no segment, expected at least one")
    if ensemble == "nve" and len(steps) < 2:
        raise SuiteError("schedule: found one segment, expected NVT segments before an NVE one")
    check_segments(steps, dump_every=dump_every, thermo_every=thermo_every)


def start_of(workspace: Workspace) -> Configuration:
    """What a run starts from, copied and scaled as its parameters say.

    It is one of a melt's configurations, or the final state of an MD or quench.

    Raises:
        SuiteError: the product has no such state.
    """
    given, product = workspace.parameters, workspace.inputs["start"]
    final = product / FINAL
    state = read_data(final if final.exists() else product / f"config-{given['configuration']}.data")
    nx, ny, nz = given["replicate"]
    return rescale(replicate(state, (nx, ny, nz)), given["density_g_cm3"])


def _thermostatted(workspace: Workspace, temperature_K: float, steps: int) -> Segment:
    """One segment at a constant temperature."""
    given = workspace.parameters
    timestep_fs, thermostat = given["timestep_fs"], given["thermostat"]
    if thermostat == "rescale":
        commands = (
            "fix nve all nve",
            f"fix rescale all temp/rescale 1 {temperature_K} {temperature_K} 0.0 1.0",
        )
        return Segment(steps, timestep_fs, commands, ("nve", "rescale"), dumped=False)
    target = temperature_K * (HOT_FACTOR if thermostat == "nose-hoover-hot" else 1.0)
    return nose_hoover(target, target, steps=steps, timestep_fs=timestep_fs, damping_fs=given["damping_fs"])
