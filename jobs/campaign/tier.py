"""A tier: how much of everything, as a file of plain numbers that a person copies and edits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.schema import (
    ANYTHING,
    COUNT,
    FLAG,
    POSITIVE,
    TEXT,
    Table,
    Value,
    list_of,
    one_of,
    or_null,
    read_keys,
)
from jobs.cost.points import NNP
from jobs.cost.record import AIMD
from jobs.engines.deepmd.precision import PRECISIONS
from jobs.engines.first_principles.registry import ENGINES, load_engine
from jobs.engines.lammps.kernel import KERNELS
from jobs.stages.md import THERMOSTATS, check_schedule
from jobs.stages.quench import check_quench

TIERS = Path(__file__).parent / "tiers"
STARTS = ("trajectories", "potentials", "frames", "nothing")
NNPS = ("deepmd-96", "deepmd-216")
# The other kind of network (Sec. II B), n2p2's, on the frames of the first.
HDNNP, HDNNP_DATA = "hdnnp-96", "deepmd-96"
DISPLAY_NAMES = {"deepmd-96": "DeePMD-96", "deepmd-216": "DeePMD-216", HDNNP: "HDNNP-96"}
CLASSICAL = ("bks", "tersoff")
DEFAULT_ENGINE = "cp2k"
DUMP_EVERY = THERMO_EVERY = 10  # steps, of a run that does not say

_NAME = Value("a name for a folder", lambda v: isinstance(v, str) and bool(re.fullmatch(r"\w[\w.-]*", v)))
# Two networks of one seed are one network, and no second measurement.
_SEEDS = Value(
    "a list of different positive integers",
    lambda v: isinstance(v, list) and all(map(COUNT.allows, v)) and 0 < len(v) == len(set(v)),
)
_ATOMS = Value("a multiple of 3 (SiO2)", lambda v: COUNT.allows(v) and v % 3 == 0)
_SIZES = list_of(Value("", lambda v: COUNT.allows(v) and v % 24 == 0), "multiples of 24", least=1)
_KELVINS = list_of(POSITIVE, "temperatures in K", least=1)
_SEGMENT = Value(
    "", lambda v: isinstance(v, list) and len(v) == 2 and POSITIVE.allows(v[0]) and COUNT.allows(v[1])
)
_FRACTION = Value("a number from 0 to below 1", lambda v: type(v) in (int, float) and 0 <= v < 1)
_SHARE = Value("", lambda v: POSITIVE.allows(v) and v <= 1)

_FRAMES: Table = {"*": COUNT}  # of a deposited set, every n-th frame
_OBSERVABLES: Table = {
    "skip_fraction?": _FRACTION,
    "blocks?": COUNT,
    "dynamics_max_fs?": or_null(POSITIVE),
    "structure_factor?": FLAG,
    "stretch?": POSITIVE,
}
_RUN: Table = {
    "potential": one_of(*CLASSICAL, *NNPS, HDNNP),
    "start": TEXT,
    "replicas": COUNT,
    "atoms?": _ATOMS,
    "share_melts?": FLAG,  # replicas beyond melt.configurations start from the first ones again
    "replicate?": Value("three positive integers", lambda v: list_of(COUNT, "").allows(v) and len(v) == 3),
    "density_g_cm3?": POSITIVE,
    "ranks?": COUNT,
    "dump_every?": COUNT,
    "thermo_every?": COUNT,
    "checkpoint_every?": COUNT,
    "observe?": FLAG,
    "observables?": _OBSERVABLES,
}
_QUENCH: Table = {
    "rate_K_per_s": POSITIVE,
    "from_K": POSITIVE,
    "to_K": POSITIVE,
    "switch_K": POSITIVE,
    "timestep_above_fs": POSITIVE,
    "timestep_below_fs": POSITIVE,
    "anneal_steps": COUNT,
}
_RUNS: tuple[Table, ...] = (
    {"again": TEXT, "observables?": _OBSERVABLES},
    {"quench": _QUENCH, **_RUN},
    {
        "schedule": list_of(_SEGMENT, "[K, steps]", least=1),
        "timestep_fs": POSITIVE,
        "ensemble?": one_of("nvt", "nve"),
        "thermostat?": one_of(*THERMOSTATS),
        **_RUN,
    },
)
_AIMD: tuple[Table, ...] = (
    {
        "temperatures_K": _KELVINS,
        "mode": one_of("stepwise"),
        "atoms": _ATOMS,
        "relaxation_steps": COUNT,
        "collection_steps": COUNT,
        "timestep_fs": POSITIVE,
        "density_g_cm3": or_null(POSITIVE),
    },
    {
        "starts": {"*": POSITIVE},  # runs and their temperatures in K
        "mode": one_of("short"),
        "configurations": COUNT,
        "steps": COUNT,
        "timestep_fs": POSITIVE,
        "density_g_cm3": or_null(POSITIVE),
    },
)
_TIER: Table = {
    "name": _NAME,
    "start_from": one_of(*STARTS),
    "density_g_cm3": POSITIVE,
    "seeds": _SEEDS,
    "deposit?": TEXT,
    "frames": dict.fromkeys(NNPS, _FRAMES),
    "training": {
        "precision": one_of(*PRECISIONS),
        "steps": COUNT,
        "start_lr": POSITIVE,
        "stop_lr": POSITIVE,
        "decay_steps": COUNT,
        "checkpoint_every": COUNT,
        "batch_size?": COUNT,
        "axis_neuron?": COUNT,
        "type_one_side?": FLAG,
    },
    "hdnnp?": {
        "seeds": _SEEDS,
        "updates": COUNT,
        "checkpoint_every": COUNT,
        # Of further networks, one for each seed: from every frame of deepmd-216, held-out ones too.
        "sampler_updates?": COUNT,
    },
    "learning_curve?": {
        "seeds": _SEEDS,
        "shares": list_of(_SHARE, "numbers above 0, up to 1", least=1),
        "precisions": list_of(one_of(*PRECISIONS), f"some of {', '.join(PRECISIONS)}", least=1),
        "steps": list_of(COUNT, "positive integers", least=1),
    },
    "md?": {"kernel": one_of(*KERNELS)},  # demanded; without it the fastest that can run
    "melt": {
        "duration_ps": POSITIVE,
        "configurations": COUNT,
        "temperature_K?": POSITIVE,
        "timestep_fs?": POSITIVE,
    },
    "aimd?": {
        "engine?": one_of(*ENGINES),
        "settings": {"*": ANYTHING},
        "cores": COUNT,
        **dict.fromkeys(NNPS, _AIMD),
    },
    "cost?": {
        "launches": COUNT,
        "sizes": {f"{engine}?": _SIZES for engine in (NNP, *CLASSICAL)},
        "plain?": _SIZES,
        "aimd?": {f"{engine}?": {"sizes": _SIZES, "steps": COUNT} for engine in AIMD},
    },
    "paired?": FLAG,  # MD from a frame of each AIMD run that judges
    "runs": {"*": _RUNS},
}


def read_tier(tier: str) -> dict[str, Any]:
    """A tier file's content, by name or by path; `deposit` as an absolute path.

    Raises:
        SuiteError: no such tier, or something in it that no tier has.
    """
    path = Path(tier) if tier.endswith((".yml", ".yaml")) else TIERS / f"{tier}.yml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in TIERS.glob("*.yml")))
        raise SuiteError(f"tier {tier}: not found, expected one of {known}, or the path of a tier file")
    content = read_keys(path, _TIER)
    for label, run in content["runs"].items():
        _check_run(f"{path}: runs.{label}", run)
        if run.get("potential") == HDNNP and "hdnnp" not in content:
            raise SuiteError(f"{path}: runs.{label}: found {HDNNP}, expected a section hdnnp that trains it")
    if "aimd" in content:
        _check_aimd(path, content)
    if "deposit" in content:
        content["deposit"] = str((path.parent / content["deposit"]).resolve())
        if not Path(content["deposit"]).is_dir():
            raise SuiteError(
                f"{path}: deposit {content['deposit']}: found no such folder, expected a deposit"
            )
    return content


def wanted_kernel(about: Mapping[str, Any]) -> str | None:
    """The kernel that a tier demands for MD of DeePMD networks, or None."""
    kernel: str | None = about.get("md", {}).get("kernel")
    return kernel


def _check_run(where: str, run: dict[str, Any]) -> None:
    """As its stage would find it, but before what the run starts from is made."""
    written = {
        "dump_every": run.get("dump_every", DUMP_EVERY),
        "thermo_every": run.get("thermo_every", THERMO_EVERY),
    }
    try:
        if "schedule" in run:
            steps = [steps for _, steps in run["schedule"]]
            check_schedule(steps, ensemble=run.get("ensemble", "nvt"), **written)
        elif "quench" in run:
            where += ".quench"
            check_quench(run["quench"] | written)
    except SuiteError as error:
        raise SuiteError(f"{where}.{error}") from None


def _check_aimd(path: Path, content: dict[str, Any]) -> None:
    """Settings must be the engine's; starts come from runs that do not need what is computed from them."""
    aimd, runs = content["aimd"], content["runs"]
    try:
        load_engine(aimd.get("engine", DEFAULT_ENGINE)).read_settings(aimd["settings"])
    except SuiteError as error:
        raise SuiteError(f"{path}: aimd.settings: {error}") from None
    labels = list(runs)
    for nnp in NNPS:
        first = next((n for n, run in enumerate(runs.values()) if run.get("potential") == nnp), len(runs))
        for label in aimd[nnp].get("starts", ()):
            if label not in labels[:first]:
                raise SuiteError(
                    f"{path}: aimd.{nnp}.starts: found {label}, expected runs above the first of {nnp}"
                )
