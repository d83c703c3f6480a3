"""`python -m jobs cost`: what to measure within a budget, and the stage that measures it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.cost.estimates import aimd_core_seconds
from jobs.cost.points import Point, ranks_of
from jobs.cost.record import AIMD, CLASSICAL, HDNNP, NNP, is_native, read_cost
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.lammps.kernel import DEEPMD, NATIVE
from jobs.store.stage import Stage

ENGINES = (NNP, HDNNP, *CLASSICAL, *AIMD)
# Measured unless others are named.
DEFAULT_ENGINES = (NNP, HDNNP, *CLASSICAL, "cp2k")
PRECISION = "float32"
SIZES = (96, 216, 648, 1296, 2592, 5832, 12288)
PLAIN_SIZES = (96, 216, 2592)
AIMD_SIZES = (24, 48, 96, 216)  # up to the sizes of the paper
AIMD_STEPS = 3
DUMPED_SIZE, STRONG_SIZE, WEAK_SIZE_PER_RANK = 216, 2592, 1296
LAUNCHES = 6
TEMPERATURE_K, DENSITY_G_CM3, TIMESTEP_FS = 3000.0, 2.20, 1.0
# Named settings, where they are not `default`: those of deposited trajectories, which leave AIMD cheap.
AIMD_SETTINGS = {"cp2k": "md"}
AIMD_TIMESTEP_FS = 2.0
# Rough seconds on two idle cores of a 2020s server: core-seconds per atom and step, start of a process.
ATOM_STEP_S = {NNP: 1.3e-4, NATIVE: 5.0e-6, HDNNP: 1.5e-5, "plain": 5.0e-4, "bks": 1.0e-5, "tersoff": 2.0e-6}
GPU_ATOM_STEP_S = 3e-6  # of the NNP; a guess, since no GPU was timed
START_S = {NNP: 2.5, NATIVE: 0.5, HDNNP: 0.5, "bks": 0.5, "tersoff": 0.4}
WARM_UP_SHARE = 1.3
LIQUIDS_S, MODELS_S = 30.0, 90.0


@dataclass
class Plan:
    """What a measurement consists of, and what was left out of it and why."""

    points: list[Point] = field(default_factory=list)
    launches: int = LAUNCHES
    aimd: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget_minutes: float | None = None
    not_measured: list[dict[str, str]] = field(default_factory=list)

    @property
    def times_hdnnp(self) -> bool:
        """Whether HDNNP-96 is needed."""
        return any(point.engine == HDNNP for point in self.points)

    def seconds(self, cores: int) -> float:
        """Rough wall time."""
        aimd = sum(
            aimd_seconds(size, about["steps"]) for about in self.aimd.values() for size in about["sizes"]
        )
        prepare = LIQUIDS_S + MODELS_S * any(point.setting == "plain" for point in self.points)
        return prepare + aimd + sum(point_seconds(point, self.launches, cores) for point in self.points)

    def parameters(self) -> dict[str, Any]:
        """Parameters of a `cost` stage that measures it."""
        return {
            "points": [asdict(point) for point in self.points],
            "launches": self.launches,
            "timestep_fs": TIMESTEP_FS,
            "temperature_K": TEMPERATURE_K,
            "density_g_cm3": DENSITY_G_CM3,
            "aimd": self.aimd,
            "budget_minutes": self.budget_minutes,
            "not_measured": self.not_measured,
        }


def point_seconds(point: Point, launches: int, cores: int) -> float:
    """Rough wall time of all launches of a point."""
    ours = point.engine == NNP and point.kernel == NATIVE
    kind = NATIVE if ours else "plain" if point.setting == "plain" else point.engine
    # On two ranks at least, as the rates were measured.
    ranks = point.ranks or max(ranks_of(point.n_atoms, cores), min(cores, 2))
    rate = ATOM_STEP_S[kind] / (cores if kind == "plain" else ranks)
    if point.gpus:
        rate = GPU_ATOM_STEP_S / point.gpus
    return launches * (
        START_S[NATIVE if ours else point.engine] + WARM_UP_SHARE * point.steps * point.n_atoms * rate
    )


def program(point: Mapping[str, Any]) -> str:
    """What runs a point, of a plan or a record."""
    return f"{point['engine']}-native" if is_native(point) else str(point["engine"])


def aimd_seconds(n_atoms: int, steps: int) -> float:
    """Rough time of a short AIMD run on one core: the first SCF takes as long as four steps."""
    return (steps + 1 + 4) * aimd_core_seconds(n_atoms)


def tuned(engine: str, n_atoms: int, *, precision: str, gpus: int = 0, **options: Any) -> Point:
    """A point with the suite's settings; `options` are other fields of it."""
    if engine == NNP:
        options |= {"precision": precision, "compressed": True, "gpus": gpus, "kernel": DEEPMD}
    if engine == HDNNP:
        options |= {"kernel": NATIVE}
    return Point(engine=engine, n_atoms=n_atoms, **{"setting": "tuned", **options})


def native(n_atoms: int, **options: Any) -> Point:
    """The NNP by the native kernel, on cores."""
    return Point(
        NNP, n_atoms=n_atoms, precision=PRECISION, **{"setting": "tuned", "kernel": NATIVE, **options}
    )


def tier_plan(about: Mapping[str, Any], *, precision: str) -> Plan:
    """The plan of a tier's `cost` section, which names every point."""
    plan = Plan(launches=about["launches"])
    plan.points = [
        tuned(engine, size, precision=precision) for engine, sizes in about["sizes"].items() for size in sizes
    ]
    plan.points += [native(size) for size in about["sizes"].get(NNP, ())]
    plan.points += [plain(size) for size in about.get("plain", ())]
    plan.aimd = {
        engine: _aimd(engine, given["sizes"], given["steps"])
        for engine, given in about.get("aimd", {}).items()
    }
    return plan


def plain(n_atoms: int, *, gpus: int = 0) -> Point:
    """DeePMD's plain default."""
    return Point(NNP, "plain", n_atoms, "float64", compressed=False, gpus=min(gpus, 1), kernel=DEEPMD)


def _aimd(engine: str, sizes: Iterable[int], steps: int) -> dict[str, Any]:
    if engine not in AIMD:
        raise SuiteError(f"cost: found engine {engine}, expected one of {', '.join(AIMD)}")
    return {
        "sizes": list(sizes),
        "steps": steps,
        "timestep_fs": AIMD_TIMESTEP_FS,
        "settings": named_settings(engine, AIMD_SETTINGS.get(engine, "default")),
    }


def full_plan(
    *,
    engines: Sequence[str],
    sizes: Sequence[int],
    budget_minutes: float,
    cores: int,
    gpus: int = 0,
    launches: int = LAUNCHES,
) -> Plan:
    """Everything that fits into a budget, the most wanted first.

    First the curves of all engines, small sizes before large ones, AIMD to 96 atoms and the plain default;
    then the row with dumps, scaling with ranks, the largest sizes and larger AIMD. What does not fit is
    listed with that reason.

    Raises:
        SuiteError: unknown engine, or not even the first points fit.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise SuiteError(f"--engines: found {engine}, expected some of {', '.join(ENGINES)}")
    for size in sizes:
        if size < 24 or size % 24:
            raise SuiteError(f"--sizes: found {size}, expected multiples of 24")
    md = [engine for engine in (NNP, HDNNP, *CLASSICAL) if engine in engines]
    aimd = [engine for engine in AIMD if engine in engines]
    curve = sorted(size for size in sizes if size <= 5832)
    wanted: list[Point | tuple[str, int]] = []
    for size in curve:
        wanted += [tuned(engine, size, precision=PRECISION, gpus=gpus) for engine in md]
        wanted += [native(size)] * (NNP in md)
    wanted += [(engine, size) for engine in aimd for size in AIMD_SIZES if size <= 96]
    if NNP in md:
        wanted += [plain(size, gpus=gpus) for size in PLAIN_SIZES if size in sizes]
    for size in (size for size in sizes if size > 5832):
        wanted += [tuned(engine, size, precision=PRECISION, gpus=gpus) for engine in md]
        wanted += [native(size)] * (NNP in md)
    if NNP in md:
        wanted.append(tuned(NNP, DUMPED_SIZE, precision=PRECISION, gpus=gpus, setting="dumps"))
        wanted += _scaling(cores, gpus)
    wanted += [(engine, size) for engine in aimd for size in AIMD_SIZES if size > 96]
    plan = Plan(launches=launches, budget_minutes=budget_minutes)
    sizes_of: dict[str, list[int]] = {}
    seconds = LIQUIDS_S + MODELS_S
    for one in wanted:
        if isinstance(one, Point):
            cost, what = (
                point_seconds(one, launches, cores),
                f"{program(vars(one))} ({one.setting}) of {one.n_atoms} atoms",
            )
        else:
            cost, what = aimd_seconds(one[1], AIMD_STEPS), f"{one[0]} of {one[1]} atoms"
        if seconds + cost > 60 * budget_minutes:
            left = f"{budget_minutes - seconds / 60:.1f} of the budget's {budget_minutes:g} min are left"
            plan.not_measured.append({"what": what, "why": f"takes about {cost / 60:.1f} min, {left}"})
            continue
        seconds += cost
        if isinstance(one, Point):
            plan.points.append(one)
        else:
            sizes_of.setdefault(one[0], []).append(one[1])
    if not plan.points and not sizes_of:
        raise SuiteError(f"--minutes: found {budget_minutes:g} minutes, expected more: nothing fits")
    plan.aimd = {engine: _aimd(engine, found, AIMD_STEPS) for engine, found in sizes_of.items()}
    if not gpus:
        plan.not_measured.append({"what": "every GPU", "why": "none was asked for (--gpus)"})
    return plan


def _scaling(cores: int, gpus: int) -> list[Point]:
    """Strong and weak scaling, where there is more than one rank's worth of hardware."""
    most = gpus or cores
    counts = [2**k for k in range(most.bit_length()) if 2**k <= most]
    if len(counts) < 2:
        return []

    def one(setting: str, n_atoms: int, ranks: int) -> Point:
        return tuned(
            NNP, n_atoms, precision=PRECISION, gpus=ranks if gpus else 0, setting=setting, ranks=ranks
        )

    strong = [one("strong", STRONG_SIZE, ranks) for ranks in counts]
    weak = [one("weak", WEAK_SIZE_PER_RANK * ranks, ranks) for ranks in counts]
    if gpus:
        return strong + weak
    ours = [native(STRONG_SIZE, setting="strong", ranks=ranks) for ranks in counts]
    return strong + weak + ours


def _as_md_runs(points: Iterable[Point], kernel: str | None) -> Iterator[Point]:
    """Points without those that differ by DeePMD-kit's settings only; `kernel` runs what is in its place."""
    for point in points:
        if point.engine != NNP:
            yield point
        elif point.kernel == DEEPMD and point.setting != "plain":
            yield replace(point, precision=None, compressed=None, kernel=kernel)


def cost_stage(
    plan: Plan,
    potential: Stage,
    *,
    hdnnp: Stage | None = None,
    label: str,
    cores: int,
    machine_type: str | None,
) -> Stage:
    """The stage of a plan. It takes all cores, so that nothing runs beside it.

    `hdnnp` is HDNNP-96, where the plan times it. `cores` are this machine's; at a site it gets a node of that
    (`running/scheduler.py`), whatever they are.

    With `machine_type` the kind of node is part of what is measured: in a store that several kinds share,
    each has its own. A tier leaves it out, so that a campaign can be planned on another node than it runs on.

    Of a potential that is no DeePMD model each size is timed once, as MD runs it.
    """
    family = potential.parameters.get("family", NNP)
    if family != NNP:
        plan = replace(plan, points=list(_as_md_runs(plan.points, NATIVE if family == HDNNP else None)))
    parameters = plan.parameters()
    if machine_type is not None:
        parameters["machine_type"] = machine_type
    inputs = {"potential": potential} | ({} if hdnnp is None else {HDNNP: hdnnp})
    return Stage(
        "cost",
        label,
        parameters,
        inputs=inputs,
        cores=cores,
        core_seconds=plan.seconds(cores) * cores,
    )


def seconds_of(stage: Stage, cores: int) -> float:
    """Rough wall time of a planned cost stage on so many cores."""
    given = stage.parameters
    points = [Point(**point) for point in given["points"]]
    return Plan(points, launches=given["launches"], aimd=dict(given["aimd"])).seconds(cores)


def describe(plan: Plan, cores: int) -> str:
    """What a plan measures, how long it takes, and what it leaves out."""
    by_curve: dict[str, list[str]] = {}
    for point in plan.points:
        by_curve.setdefault(f"{program(vars(point))} ({point.setting})", []).append(str(point.n_atoms))
    for engine, about in plan.aimd.items():
        by_curve[f"{engine} ({about['steps']} steps)"] = [str(size) for size in about["sizes"]]
    lines = [f"  {name}: N = {', '.join(sizes)}" for name, sizes in by_curve.items()]
    lines.insert(
        0,
        f"{len(plan.points)} points, {plan.launches} launches each: about {plan.seconds(cores) / 60:.0f} min "
        f"on {cores} idle cores; killed, the same command goes on",
    )
    lines += [f"  not measured: {left['what']}: {left['why']}" for left in plan.not_measured]
    return "\n".join(lines)


def summary(record: Mapping[str, Any]) -> str:
    """A table of points and the fits, for a terminal."""
    lines = [f"{'engine':13s} {'setting':7s} {'atoms':>6s}  us/step/atom [95% interval]        launches"]
    for point in record["points"]:
        runs = program(point)
        if point["median"] is None:
            lines.append(f"{runs:13s} {point['setting']:7s} {point['n_atoms']:6d}  {point['failed'][0]}")
            continue
        interval = f"[{point['ci_low']:.4g}, {point['ci_high']:.4g}]" if point["ci_low"] is not None else ""
        lines.append(
            f"{runs:13s} {point['setting']:7s} {point['n_atoms']:6d}  {point['median']:10.4g} "
            f"{interval:24s} {len(point['us_per_step_atom'])} {point['samples_are']}"
        )
    for fit in record["fits"]:
        if fit["form"] == "t = c N^p":
            p = fit["p"]
            lines.append(f"{fit['engine']} ({fit['setting']}): t ~ N^{p['value']:.2f} "
                         f"[{p['ci_low']:.2f}, {p['ci_high']:.2f}]")  # fmt: skip
    for row in record["speed_ups"]:
        value, (fast, slow) = row["ratio"], (row["fast"], row["slow"])
        lines.append(
            f"{row['n_atoms']} atoms: {program(fast)} ({fast['setting']}) "
            f"{fast['cost']:.3g} "
            f"{row['resource']}, {slow['engine']} ({slow['setting']}) {slow['cost']:.3g}: "
            f"ratio {value['value']:.3g} [{value['ci_low']:.3g}, {value['ci_high']:.3g}]"
            f"{', extrapolated' if row['extrapolated_from'] else ''}"
        )
    return "\n".join(lines)


def deposit(record: Path, folder: Path) -> Path:
    """Put a record under `reference/cost/`, named by its kind of node.

    Raises:
        SuiteError: it is not a cost record.
    """
    content = read_cost(record)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{content['machine']['type']}.json"
    write_json(target, content, indent=1)
    return target
