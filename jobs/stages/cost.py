"""What molecular dynamics costs on the machine that this runs on: us/step/atom by engine and size.

Launches are the samples. They go round robin over all points, so that a machine that gets busier slows every
point alike and does not look like scaling; each is kept when it is done, so a killed measurement goes on.
A first-principles point is one run, its samples the steps after the first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jobs.base.errors import EngineError, NotInstalled, SuiteError
from jobs.base.files import require_sha256, write_json
from jobs.base.machine import machine, require_gpus
from jobs.cost.bench import Bench
from jobs.cost.points import COST_FILE, Point
from jobs.cost.record import CLASSICAL, HDNNP, NNP, cost_record
from jobs.engines.lammps.program import own_lammps
from jobs.store.workspace import Workspace

CODE_VERSION = 2


def run(workspace: Workspace) -> None:
    """Measure every point of the parameters and write `cost.json`.

    Parameters: `points`, `launches`, `timestep_fs`, `temperature_K`, `density_g_cm3`, `aimd` (engine ->
    sizes, steps, timestep_fs, settings), `budget_minutes` (no new round of launches begins after it; None is
    no limit) and `not_measured` (what the plan left out, and why). Input: `potential`. Or, of a deposited
    record that stands in for a measurement: `file` and `sha256`.

    Raises:
        SuiteError: unknown engine or size, or GPUs that cannot be used here.
        EngineError: no launch of any point succeeded.
    """
    given = workspace.parameters
    if "file" in given:
        require_sha256(Path(given["file"]), given["sha256"], record="the plan")
        shutil.copyfile(given["file"], workspace.directory / COST_FILE)
        return
    points = [Point(**point) for point in given["points"]]
    for point in points:
        if point.engine not in (NNP, HDNNP, *CLASSICAL):
            raise SuiteError(
                f"cost: found engine {point.engine!r}, expected one of {NNP}, {HDNNP}, bks, tersoff"
            )
    require_gpus(max((point.gpus for point in points), default=0))
    bench = Bench(workspace)
    rounds, left_out = given["launches"], list(given["not_measured"])
    points = [found for point in points if (found := bench.as_it_can_be(point, left_out)) is not None]
    models = {point.model: bench.potential(point) for point in points}
    aimd = [(engine, size) for engine, about in given["aimd"].items() for size in about["sizes"]]
    for engine, size in [*((point.engine, point.n_atoms) for point in points), *aimd]:
        bench.liquid(engine, size)
    total = len(aimd) * rounds + len(points) * rounds
    done = 0
    records = []
    for engine, size in aimd:
        workspace.progress(done / total, f"{engine} of {size} atoms")
        try:
            records.append(bench.first_principles(engine, size))
        except NotInstalled as error:
            left_out.append({"what": f"{engine} of {size} atoms", "why": str(error)})
        done += rounds
    spent = sum(record["seconds"] for record in records)
    kept: dict[Point, list[dict[str, Any]]] = {point: [] for point in points}
    for number in range(rounds):
        if given["budget_minutes"] is not None and spent > 60 * given["budget_minutes"]:
            left_out.append(
                {"what": f"launches {number + 1} to {rounds} of every point", "why": "the budget was spent"}
            )
            break
        for point in points:
            workspace.progress(done / total, f"launch {number + 1} of {rounds}: {point.key}")
            kept[point].append(bench.launch(point, models[point.model], number))
            spent += kept[point][-1]["seconds"]
            done += 1
    timed = [bench.point_record(point, models[point.model], launches) for point, launches in kept.items()]
    # Where the budget was spent before the first launch, nothing was tried.
    if any(kept.values()) and not any(record["us_per_step_atom"] for record in timed):
        raise EngineError(f"cost: no launch succeeded; the first said: {timed[0]['failed'][0]}")
    records += timed
    record = cost_record(
        records,
        machine=machine(),
        conditions={key: given[key] for key in ("temperature_K", "density_g_cm3", "timestep_fs")},
        not_measured=left_out,
    )
    write_json(workspace.directory / COST_FILE, record, indent=1)
    workspace.record(points=len(records), launches=rounds)
    if any(model.own for model in models.values()):
        workspace.record(lammps=own_lammps(bench.folder, logs=f"relax-{NNP}-*.log"))
