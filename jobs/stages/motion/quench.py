"""Quench at a constant rate with the paper's two time steps, then the anneal that is dumped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import lcm
from typing import Any

from jobs.base.errors import SuiteError
from jobs.engines.lammps.dynamics import FINAL, Protocol, check_segments, nose_hoover, run_dynamics
from jobs.engines.lammps.potential import potential_of
from jobs.stages.motion.md import finish, start_of
from jobs.store.workspace import Workspace

CODE_VERSION = 1

FS_PER_S = 1e15


def run(workspace: Workspace) -> None:
    """Cool from `from_K` to `to_K`, anneal there, and write the products of an MD run.

    Each part of the ramp is linear in the absolute step, so a resumed quench has the same temperatures. The
    thermo table follows temperature, energy and the mean Si-O coordination on the way.

    Raises:
        SuiteError: temperatures out of order, a cell narrower than the cut-off.
        EngineError: LAMMPS failed.
    """
    given = workspace.parameters
    hot, switch, cold = given["from_K"], given["switch_K"], given["to_K"]
    check_quench(given)
    every = lcm(given["dump_every"], given["thermo_every"])
    segments = []
    for upper, lower, timestep_fs in (
        (hot, max(switch, cold), given["timestep_above_fs"]),
        (min(switch, hot), cold, given["timestep_below_fs"]),
    ):
        if upper <= lower:
            continue
        steps = (upper - lower) / given["rate_K_per_s"] * FS_PER_S / timestep_fs
        # To the nearest multiple of what is written, which changes the rate by less than one part in `steps`.
        whole = max(every, round(steps / every) * every)
        segments.append(
            nose_hoover(upper, lower, steps=whole, timestep_fs=timestep_fs, damping_fs=given["damping_fs"])
        )
    anneal = nose_hoover(
        cold,
        cold,
        steps=given["anneal_steps"],
        timestep_fs=given["timestep_below_fs"],
        damping_fs=given["damping_fs"],
    )
    segments.append(replace(anneal, dumped=True))
    facts = run_dynamics(
        workspace,
        potential=potential_of(workspace),
        start=start_of(workspace),
        protocol=Protocol(
            tuple(segments),
            given["dump_every"],
            given["thermo_every"],
            given["checkpoint_every"],
            coordination_cutoff_angstrom=given["coordination_cutoff_angstrom"],
        ),
        first_temperature_K=hot,
        relax_first=not (workspace.inputs["start"] / FINAL).exists(),
        ranks=given["ranks"],
    )
    ramp = sum(segment.steps * segment.timestep_fs for segment in segments[:-1])
    facts |= {
        "ensemble": "nvt",
        "thermostat": "nose-hoover",
        "temperature_K": cold,
        "quench": {
            "from_K": hot,
            "to_K": cold,
            "rate_K_per_s": (hot - cold) / ramp * FS_PER_S,
            "steps": [segment.steps for segment in segments[:-1]],
            "timesteps_fs": [segment.timestep_fs for segment in segments[:-1]],
        },
    }
    finish(workspace, facts)


def check_quench(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be run; a tier asks this before anything is made.

    Raises:
        SuiteError: temperatures out of order, or an anneal that ends on a step that is not written.
    """
    if not given["from_K"] > given["to_K"]:
        raise SuiteError(f"from_K: found {given['from_K']} K to {given['to_K']} K, expected cooling")
    check_segments(
        [given["anneal_steps"]],
        dump_every=given["dump_every"],
        thermo_every=given["thermo_every"],
        key="anneal_steps",
    )
