"""What `graph`, `status`, `run --dry-run`, `gc` and `compare` print."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.base.errors import SuiteError
from jobs.base.files import read_text
from jobs.campaign.build import build_campaign
from jobs.campaign.plan import Campaign
from jobs.campaign.tier import TIERS
from jobs.cost.estimates import beyond_aimd_estimate, disk_bytes
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import in_order

if TYPE_CHECKING:
    from jobs.running.batch import Standing
    from jobs.running.site import Site

# In no plan, and kept by `gc`: first-principles data of `python -m jobs aimd`, which cost hours and little
# disk, and what sites were found to be like, a kilobyte each.
KEPT_KINDS = ("aimd-", "probe-")
_PRODUCT = re.compile(r"[a-z_]+-[0-9a-f]{16}(\.part)?")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h"


def all_stages(campaign: Campaign) -> list[Stage]:
    """Those behind labels, and runs that no label observes."""
    return in_order(campaign.select([*campaign.labels, *campaign.runs]))


def graph(campaign: Campaign, *, dot: bool) -> None:
    """Print labels with the stages behind them, or the whole graph for Graphviz."""
    if dot:
        print("digraph suite {\n  rankdir=LR; node [shape=box];")
        for stage in all_stages(campaign):
            print(f'  "{stage.name}" [label="{stage.label}"];')
            for needed in stage.inputs.values():
                print(f'  "{needed.name}" -> "{stage.name}";')
        print("}")
        return
    from rich.table import Table

    table = Table(
        "label",
        "stages",
        "first of them",
        "estimate",
        title=f"tier {campaign.tier}, from {campaign.start_from}",
        box=None,
    )
    # A run that is observed goes by its label's stages.
    for label, stages in (campaign.labels | campaign.runs | campaign.labels).items():
        cost = sum(stage.core_seconds for stage in in_order(stages))
        table.add_row(
            label, str(len(stages)), stages[0].name, _duration(cost) + " of one core, inputs included"
        )
    _console().print(table)
    for label, reason in campaign.unavailable.items():
        print(f"{label}: {reason}")


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


def status(campaign: Campaign, store: Store, *, site: Site | None = None) -> None:
    """Print the state of every stage of a tier; with a site, of its jobs too."""
    from rich.table import Table

    table = Table(
        "state", "stage", "made of", "name", title=f"tier {campaign.tier} in {store.root}", box=None
    )
    stages = all_stages(campaign)
    standings: Mapping[str, Standing] = {}
    images: Mapping[str, str] | None = None
    if site is not None:
        from jobs.running import batch

        images = batch.planned_images(site, stages)
        probes = batch.planned_probes(site, stages)
        standings = batch.look(site, store, [*probes, *stages])
        stages = [*probes, *stages]
    done = 0
    for stage in stages:
        word = state(stage, store, images)
        done += word == "done"
        if word not in ("done", "STALE", "CHANGED") and stage.name in standings:
            word = f"{standings[stage.name].state} {standings[stage.name].text}".strip()
        colour = {"done": "green", "STALE": "yellow", "CHANGED": "red", "FAILED": "red"}.get(
            word.split()[0], "default"
        )
        made_of = ", ".join(needed.label for needed in stage.inputs.values())
        table.add_row(f"[{colour}]{word}[/]", stage.label, made_of, stage.name)
    _console().print(table)
    print(f"{done} of {len(stages)} stages are done")


def dry_run(campaign: Campaign, wanted: Iterable[Stage], store: Store, *, site: Site | None = None) -> None:
    """Print every stage with its command, resources and estimated cost, inputs first; of a site, its jobs."""
    stages = in_order(wanted)
    if site is not None:
        _dry_run_jobs(site, store, stages)
    total = 0.0
    for stage in stages:
        word = state(stage, store)
        if word != "done":
            total += stage.core_seconds
        if site is not None:
            continue
        wall = _duration(stage.core_seconds / stage.cores)
        print(f"{stage.label}  [{word}; {stage.cores} core(s), about {wall}]")
        print(f"    python -m jobs make {stage.name} --store {store.root}")
        print(f"    {json.dumps(dict(stage.parameters), sort_keys=True)}")
    print(
        f"\ntier {campaign.tier} from {campaign.start_from}: {len(stages)} stages, "
        f"about {_duration(total)} of one core still to do"
    )
    for line in beyond_aimd_estimate(stages):
        print(line)
    if campaign.deviations:
        print("departs from the paper's protocol:")
        for line in campaign.deviations:
            print(f"  - {line}")


def _dry_run_jobs(site: Site, store: Store, stages: Sequence[Stage]) -> None:
    """Every job with its script, in the order of submission; node-hours by kind of stage, and disk."""
    from collections import Counter, defaultdict

    from jobs.running import batch, scheduler

    node_hours: defaultdict[str, float] = defaultdict(float)
    jobs: Counter[str] = Counter()
    disk = 0.0
    to_do = [stage for stage in stages if not store.is_done(stage.name)]
    for note in site.notes:
        print(f"# {note}")
    waits = {stage.name for stage in to_do}
    for number, stage in enumerate([*batch.planned_probes(site, to_do), *to_do], start=1):
        kind, request = stage.kind, site.request(scheduler.kind_of(stage))
        nodes, cores = scheduler.nodes_and_cores(site, stage)
        length = batch.chain_length(site, stage)
        hours = nodes * scheduler.wall_seconds(site, stage) / 3600
        node_hours[kind] += hours
        jobs[kind] += length
        disk += disk_bytes(stage)
        image = site.image(scheduler.kind_of(stage))
        digest = None if image is None else "DIGEST-OF-THE-IMAGE"
        chain = f", a chain of {length} jobs" if length > 1 else ""
        after = ", ".join(needed.label for needed in stage.inputs.values() if needed.name in waits)
        print(
            f"# {number}. {stage.label}: {nodes} node(s) x {cores} core(s), {request.gpus} GPU(s), "
            f"about {_duration(hours / nodes * 3600)}{chain}{f', after {after}' if after else ''}"
        )
        directory = scheduler.job_root(store, stage.name) / "1"
        submission = scheduler.write_job(site, store, stage, directory, image_digest=digest)
        print(scheduler.script_text(submission))
    print(f"{'kind':<10}{'jobs':>6}{'node-hours':>12}")
    for kind, count in jobs.items():
        print(f"{kind:<10}{count:>6}{node_hours[kind]:>12.1f}")
    print(
        f"{'all':<10}{jobs.total():>6}{sum(node_hours.values()):>12.1f}\n"
        f"disk: about {disk / 1e9:.1f} GB in {store.root}. "
        "Estimates are for one core of a 2020s server, without GPUs."
    )


def collect_garbage(
    campaign: Campaign, store: Store, *, forget: Collection[str], trajectories: bool, really: bool
) -> None:
    """Delete, or only list, what nobody plans any more; not what is in use.

    Kept is what this campaign, any built-in tier or any plan that was run in this store has, but for the
    plans to `forget`.

    Raises:
        SuiteError: a plan to forget that the store does not have.
    """
    plans = store.plans()
    if unknown := [name for name in forget if name not in plans]:
        raise SuiteError(
            f"--forget: found {unknown[0]}, expected one of {', '.join(plans) or 'none'}, the plans run in "
            f"{store.root}"
        )
    chosen = {stage.name: stage for stage in all_stages(campaign)}
    planned = set(chosen).union(*(names for plan, names in plans.items() if plan not in forget))
    for tier in TIERS.glob("*.yml"):
        planned |= {stage.name for stage in all_stages(build_campaign(tier.stem))}
    kept = [campaign.results_name, *(plan for plan in plans if plan not in forget)]
    print(f"kept: what the built-in tiers plan, and {', '.join(dict.fromkeys(kept))}")
    doomed: dict[Path, str] = {}
    for path in sorted(store.root.glob("*")):
        if path.name.startswith(KEPT_KINDS):
            continue
        if path.is_dir() and _PRODUCT.fullmatch(path.name) and path.name.removesuffix(".part") not in planned:
            doomed[path] = "in none of these plans"
    if trajectories:
        for stage in chosen.values():
            if not stage.kind.startswith("observe") or not store.is_done(stage.name):
                continue
            for source in stage.inputs.values():
                if store.is_done(source.name):
                    doomed[store.path(source.name)] = f"observed in {stage.name}"
    freed = 0
    for path, why in doomed.items():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        said = "would delete"
        if really:
            try:
                store.delete(path.name)
                said = "deleted"
            except SuiteError as error:
                print(error)
                continue
        freed += size
        print(f"{said} {path} ({size / 1e6:.1f} MB, {why})")
    if really:
        for plan in forget:
            (store.root / "plans" / f"{plan}.json").unlink()
    print(f"{freed / 1e6:.1f} MB {'freed' if really else 'to free; add --yes to delete'}")


def compare(first: Path, second: Path, *, agree: bool = False) -> int:
    """Print what differs between two results (claims.json) or two stores; 1 if a PASS became a FAIL.

    With `agree`, 1 also if a value is more than 3 combined standard errors apart, or nothing was decided in
    both.

    Raises:
        SuiteError: not two claims.json, and not two stores with an observation in common.
    """
    if first.is_dir() and second.is_dir():
        return _compare_stores(Store(first), Store(second))
    sides = []
    for path in (first, second):
        try:
            rows = json.loads(read_text(path, expected="a claims.json"))["claims"]
            compared = ("verdict", "value", "standard_error")
            sides.append({row["id"]: {key: row[key] for key in compared} for row in rows})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SuiteError(f"{path}: not a claims.json ({error!r})") from None
    worse = moved = apart = decided = 0
    for claim in sorted(sides[0] | sides[1]):
        before, after = sides[0].get(claim), sides[1].get(claim)
        if before is None or after is None:
            print(f"{claim}: only in {second if before is None else first}")
            continue
        distance = _combined_errors(before, after)
        if before["verdict"] != after["verdict"] or (distance is not None and distance > 3):
            moved += 1
            errors = "" if distance is None else f", {distance:.1f} combined standard errors apart"
            change = " -> ".join(f"{row['verdict']} {row['value']}" for row in (before, after))
            print(f"{claim}: {change}{errors}")
        apart += distance is not None and distance > 3
        decided += all(row["verdict"] in ("PASS", "FAIL") for row in (before, after))
        worse += before["verdict"] == "PASS" and after["verdict"] == "FAIL"
    print(
        f"{moved} claims moved, {worse} from PASS to FAIL, {apart} by more than 3 combined standard errors; "
        f"{decided} decided in both"
    )
    return 1 if worse or (agree and (apart or not decided)) else 0


# Series over blocks that every observation has; of a distribution, its largest value.
_COMPARED = ("temperature_K", "rdf_Si-O", "rdf_O-O", "rdf_Si-Si", "badf_O-Si-O", "badf_Si-O-Si")


def _compare_stores(first: Store, second: Store) -> int:
    """Compare what the same stages observed in two stores, block averages with their errors."""
    import numpy as np

    common = [name for name in first.finished() if name.startswith("observe-") and second.is_done(name)]
    if not common:
        raise SuiteError(
            f"{second.root}: found no observation that {first.root} has too, expected at least one"
        )
    values = apart = 0
    largest = 0.0
    for name in common:
        sides = [np.load(store.path(name) / "observables.npz") for store in (first, second)]
        for key in _COMPARED:
            blocks = [side[key].reshape(len(side[key]), -1).max(axis=1) for side in sides if key in side]
            if len(blocks) < 2:
                continue
            values += 1
            difference = abs(blocks[0].mean() - blocks[1].mean())
            error = float(np.hypot(*(b.std(ddof=1) / np.sqrt(len(b)) for b in blocks)))
            distance = difference / error if error > 0 else float(difference > 0) * np.inf
            largest = max(largest, distance)
            if distance > 3:
                apart += 1
                label = first.manifest(name)["label"]
                print(
                    f"{label}: {key} {blocks[0].mean():.5g} -> {blocks[1].mean():.5g}, {distance:.1f} errors"
                )
    print(
        f"{values} values of {len(common)} observations: {apart} more than 3 combined standard errors apart, "
        f"the farthest {largest:.2g}"
    )
    return 1 if apart else 0


def _combined_errors(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Difference of two values in combined standard errors; None without both values and an error."""
    if before["value"] is None or after["value"] is None:
        return None
    combined = float(sum((row["standard_error"] or 0.0) ** 2 for row in (before, after)) ** 0.5)
    return abs(before["value"] - after["value"]) / combined if combined > 0 else None
