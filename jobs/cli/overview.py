"""What `run --dry-run` and `pytest suite/ --dry-run` print, and how the state of a stage is told."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobs.base.errors import SuiteError
from jobs.campaign.plan import Campaign
from jobs.cost.estimates import beyond_aimd_estimate, disk_bytes, not_counted
from jobs.engines.lammps.kernel import DEEPMD, NATIVE
from jobs.running import batch, scheduler
from jobs.running.site import Site
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import in_order, plan


def console() -> Any:
    """Where tables are printed."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h"


def state(stage: Stage, store: Store, images: Mapping[str, str] | None = None) -> str:
    """done, STALE, CHANGED, begun or missing; `images` are today's digests by name, where a site has any."""
    if store.is_done(stage.name):
        try:
            return "STALE" if store.is_stale(stage.name, images) else "done"
        except SuiteError:
            return "CHANGED"
    if store.part(stage.name).is_dir():
        fraction, _ = store.progress(stage.name)
        return f"begun, {fraction:.0%}"
    return "missing"


def kernel_at(site: Site | None) -> Callable[[Stage], str | None]:
    """What will run the NNP of an MD stage at a site; None where this environment decides.

    Images of LAMMPS bring the native kernel, whatever this machine has.
    """

    def kernel(md: Stage) -> str | None:
        if site is None:
            return None
        request = scheduler.request_of(site, md)
        return DEEPMD if request.gpus else NATIVE if request.image else None

    return kernel


def dry_run(campaign: Campaign, wanted: Iterable[Stage], store: Store, *, site: Site | None = None) -> None:
    """Print every stage with its command, resources and estimated cost, inputs first; of a site, its jobs."""
    wanted = list(wanted)
    stages, todo = in_order(wanted), plan(wanted, store)
    if site is not None:
        _dry_run_jobs(site, store, todo.to_do)
    names = {stage.name for stage in todo.to_do}
    for stage in stages if site is None else ():
        word = state(stage, store)
        if word == "missing" and stage.name not in names:
            word = "deleted, not needed"
        wall = f"about {duration(stage.core_seconds / stage.cores)}"
        about = wall if scheduler.is_estimated(stage, site) else "not estimated"
        print(f"{stage.label}  [{word}; {stage.cores} core(s), {about}]")
        print(f"    python -m jobs make {stage.name} --store {store.root}")
        print(f"    {json.dumps(dict(stage.parameters), sort_keys=True)}")
    known = sum(stage.core_seconds for stage in todo.to_do if scheduler.is_estimated(stage, site))
    print(
        f"\ntier {campaign.tier} from {campaign.start_from}: {len(stages)} stages, "
        f"about {duration(known)} of one core still to do"
    )
    for line in [*not_counted(todo.to_do), *beyond_aimd_estimate(stages)]:
        print(line)
    if campaign.deviations:
        print("departs from the paper's protocol:")
        for line in campaign.deviations:
            print(f"  - {line}")


def _dry_run_jobs(site: Site, store: Store, to_do: Sequence[Stage]) -> None:
    """Every job with its script, in the order of submission; node-hours by kind of stage, and disk.

    Jobs that are not estimated are in no node-hours.
    """
    node_hours: defaultdict[str, float] = defaultdict(float)
    jobs: Counter[str] = Counter()
    disk = 0.0
    for note in site.notes:
        print(f"# {note}")
    waits = {stage.name for stage in to_do}
    for number, stage in enumerate([*batch.planned_probes(site, to_do), *to_do], start=1):
        kind, request = stage.kind, scheduler.request_of(site, stage)
        nodes, cores = scheduler.nodes_and_cores(site, stage)
        length = batch.chain_length(site, stage)
        wall_s = scheduler.wall_seconds(site, stage)
        about = "not estimated"
        if scheduler.is_estimated(stage, site):
            about = f"about {duration(wall_s)}"
            node_hours[kind] += nodes * wall_s / 3600
        jobs[kind] += length
        disk += disk_bytes(stage)
        image = scheduler.image_of(site, stage)
        digest = None if image is None else "DIGEST-OF-THE-IMAGE"
        chain = f", a chain of {length} jobs" if length > 1 else ""
        after = ", ".join(needed.label for needed in stage.inputs.values() if needed.name in waits)
        print(
            f"# {number}. {stage.label}: {nodes} node(s) x {cores} core(s), {request.gpus} GPU(s), "
            f"{about}{chain}{f', after {after}' if after else ''}"
        )
        directory = scheduler.job_root(store, stage.name) / "1"
        submission = scheduler.prepare_job(site, store, stage, directory, image_digest=digest)
        print(scheduler.script_text(submission))
    print(f"{'kind':<10}{'jobs':>6}{'node-hours':>12}")
    for kind, count in jobs.items():
        hours = f"{node_hours[kind]:.1f}" if kind in node_hours else "unknown"
        print(f"{kind:<10}{count:>6}{hours:>12}")
    print(
        f"{'all':<10}{jobs.total():>6}{sum(node_hours.values()):>12.1f}\n"
        f"disk: about {disk / 1e9:.1f} GB in {store.root}. "
        "Estimates are for cores of a 2020s server; jobs with GPUs are not estimated, since none was timed."
    )
