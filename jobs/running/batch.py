"""Run what is to do as batch jobs: submit, look, resubmit what was lost, and say how each stage stands.

The whole graph goes in at once where the scheduler knows dependencies; otherwise what is ready. Whoever
runs the same command again, from anywhere, gets the same picture: it comes from the products, the queue and
the folders of the jobs, never from a running process.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.engines.process import KILLED, log_tail
from jobs.running import scheduler
from jobs.running.images import checked_digest, read_record
from jobs.running.site import Site
from jobs.running.worker import FAILURE
from jobs.store.outcome import Outcome, begin
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import Plan, in_order, urgency

POLL_SECONDS = 5.0
SUBMISSION = "submission.json"
# A stage whose estimate comes near the walltime is submitted as a chain of jobs, each resuming.
CHAIN_FROM = 0.7
CHAIN_MARGIN = 1.5
LONGEST_CHAIN = 20
NOT_BUILT = "not built"
# Jobs that end without a product and without having moved on: after so many in a row, it is a failure.
MAX_FRUITLESS = 3
_KILLED, _TERMINATED = 137, 143
_STOPPED = ("CANCELLED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED")


class State(StrEnum):
    """How a stage stands."""

    DONE = "done"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    LOST = "lost"
    BLOCKED = "blocked"
    MISSING = "missing"


@dataclass(frozen=True)
class Standing:
    """A stage's state, in words, and the ids of its jobs in the queue."""

    state: State
    text: str = ""
    jobs: tuple[str, ...] = ()


# Images and probes --------------------------------------------------------------------------------


def image_digests(site: Site, stages: Iterable[Stage]) -> dict[Path, str]:
    """Digest of every image that these stages run in.

    Raises:
        SuiteError: an image is missing, or is not the one that was built.
    """
    paths = {image for stage in stages if (image := scheduler.image_of(site, stage)) is not None}
    return {path: checked_digest(path) for path in sorted(paths)}


def probes(site: Site, stages: Sequence[Stage], digests: Mapping[Path, str]) -> dict[str, list[Stage]]:
    """The probes that must have succeeded before each stage, by the stage's name.

    One for each different request of the site file, and one more with two ranks where stages have several.
    """
    made: dict[tuple[str, int], Stage] = {}
    needed: dict[str, list[Stage]] = {}
    for stage in sorted(stages, key=lambda stage: stage.kind):
        kind = scheduler.kind_of(site, stage)
        request, image = site.request(kind), site.image(kind)
        for ranks in (1, 2) if scheduler.ranks(site, stage) > 1 else (1,):
            key = (repr(request), ranks)
            if key not in made:
                parameters = {
                    "site": site.name,
                    "of": kind,
                    "image": None if image is None else digests[image],
                    "gpus": request.gpus,
                    "gpu_may_be_absent": site.gpu_may_be_absent,
                    "ranks": ranks,
                }
                where = site.name if image is None else f"{image.stem} at {site.name}"
                label = f"probe {where}, {'two ranks' if ranks > 1 else f'as for {kind}'}"
                made[key] = Stage("probe", label, parameters, cores=ranks, core_seconds=20)
            needed.setdefault(stage.name, []).append(made[key])
    return needed


def planned_probes(site: Site, stages: Sequence[Stage]) -> list[Stage]:
    """The probes that these stages need, with the digests of images as their files say them now."""
    return _each_once(probes(site, stages, _recorded_digests(site, stages)))


def planned_images(site: Site, stages: Sequence[Stage]) -> dict[str, str] | None:
    """The same digests by name, of what is built; None where nothing runs in an image."""
    digests = _recorded_digests(site, stages)
    return {path.stem: digest for path, digest in digests.items() if digest != NOT_BUILT} if digests else None


def _each_once(probed: Mapping[str, Sequence[Stage]]) -> list[Stage]:
    """Stages share probes."""
    return list({probe.name: probe for found in probed.values() for probe in found}.values())


def _recorded_digests(site: Site, stages: Sequence[Stage]) -> dict[Path, str]:
    """Of images that are only planned with, what their records say: hashing them would take seconds."""
    digests = {}
    for path in {image for stage in stages if (image := scheduler.image_of(site, stage)) is not None}:
        try:
            digests[path] = str(read_record(path)["digest"])
        except SuiteError:
            digests[path] = NOT_BUILT
    return digests


# How a stage stands -------------------------------------------------------------------------------


def _attempts(store: Store, name: str) -> list[Path]:
    root = scheduler.job_root(store, name)
    return sorted(root.glob("[0-9]*"), key=lambda path: int(path.name)) if root.is_dir() else []


def _submission(directory: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((directory / SUBMISSION).read_text())
        return content
    except (OSError, ValueError):
        return {"jobs": [], "progress": 0.0}  # killed between making the folder and submitting


def look(site: Site, store: Store, stages: Sequence[Stage]) -> dict[str, Standing]:
    """Every stage's standing, by name; one question to the scheduler.

    Raises:
        SuiteError: the scheduler does not answer.
    """
    last = {stage.name: found[-1] for stage in stages if (found := _attempts(store, stage.name))}
    submitted = {name: _submission(directory)["jobs"] for name, directory in last.items()}
    # The queue first: a job that ends meanwhile is then found as done, never as lost.
    queue = scheduler.queued(site, store, submitted)
    standings: dict[str, Standing] = {}
    for stage in in_order(stages):
        standings[stage.name] = _standing(site, store, stage, last.get(stage.name), queue, standings)
    return standings


def _standing(
    site: Site,
    store: Store,
    stage: Stage,
    directory: Path | None,
    queue: Mapping[str, Sequence[scheduler.Job]],
    before: Mapping[str, Standing],
) -> Standing:
    if store.is_done(stage.name):
        return Standing(State.DONE)
    if jobs := queue.get(stage.name):
        # In the order of submission: what needs this stage waits for the last job of its chain.
        ids = tuple(sorted((job.id for job in jobs), key=lambda job_id: (len(job_id), job_id)))
        running = next((job for job in jobs if job.state == "RUNNING"), None)
        if running is None:
            return Standing(State.PENDING, f"job {', '.join(ids)} ({jobs[0].reason or 'waits'})", ids)
        fraction, text = store.progress(stage.name)
        return Standing(State.RUNNING, f"job {running.id}, {fraction:.0%} {text}".rstrip(), ids)
    if directory is not None and (reason := _failure(site, store, stage, directory)):
        ids = _submission(directory)["jobs"]
        return Standing(State.FAILED, f"job {ids[-1]}: {reason}" if ids else reason)
    for needed in stage.inputs.values():
        if before[needed.name].state in (State.FAILED, State.BLOCKED):
            return Standing(State.BLOCKED, f"needs {needed.label}: {before[needed.name].text}")
    if directory is not None and _submission(directory)["jobs"]:
        word = scheduler.last_word(site, _submission(directory)["jobs"][-1])
        return Standing(State.LOST, f"its job ended without a product{f' ({word})' if word else ''}")
    return Standing(State.MISSING)


def _failure(site: Site, store: Store, stage: Stage, directory: Path) -> str:
    """Why the last attempt failed for good, in one line; empty where it may simply go on."""
    submission, request = _submission(directory), scheduler.request_of(site, stage)
    word = scheduler.last_word(site, submission["jobs"][-1]) if submission["jobs"] else ""
    # Of a job that the scheduler itself ended, neither its reason nor its exit code says anything.
    stopped = word in _STOPPED
    reason, code = ("", None) if stopped else (_reason(directory), _exit_code(directory))
    # The kernel kills the largest process: the engine rather than what waits for it and writes the reason.
    if word == "OUT_OF_MEMORY" or code == _KILLED or KILLED in reason:
        asked = "no memory_gb" if request.memory_gb is None else f"memory_gb {request.memory_gb:g}"
        return (
            f"killed, as happens for want of memory: found {asked} for {scheduler.kind_of(site, stage)} in "
            f"{site.path}, expected more (log: {directory / scheduler.ERRORS})"
        )
    if reason:
        return reason
    if code not in (None, 0, _TERMINATED):
        return f"its job ended with code {code}: {_tail(directory)} (log: {directory / scheduler.ERRORS})"
    # What never started, or made a product that was deleted since, was no failure.
    tried = _attempts(store, stage.name)
    began = [one for one in tried if (one / scheduler.OUTPUT).exists() and _exit_code(one) != 0]
    attempts = began[-MAX_FRUITLESS:]
    now, _ = store.progress(stage.name)
    if len(attempts) == MAX_FRUITLESS and all(_submission(d)["progress"] == now for d in attempts):
        return f"{MAX_FRUITLESS} jobs ended without getting any further (logs: {directory.parent})"
    return ""


def _reason(directory: Path) -> str:
    """What the stage itself said of its failure."""
    try:
        return str(json.loads((directory / FAILURE).read_text())["reason"])
    except (OSError, ValueError, KeyError):
        return ""


def _exit_code(directory: Path) -> int | None:
    try:
        return int((directory / scheduler.EXIT_CODE).read_text())
    except (OSError, ValueError):
        return None


def _tail(directory: Path) -> str:
    said = log_tail(directory / scheduler.ERRORS, lines=2)
    return said or log_tail(directory / scheduler.OUTPUT, lines=2) or "it said nothing"


# Submission ---------------------------------------------------------------------------------------


def chain_length(site: Site, stage: Stage) -> int:
    """How many jobs of the site's walltime a stage is submitted as, each going on where the last stopped."""
    walltime_h = scheduler.request_of(site, stage).walltime_h
    if walltime_h is None:
        return 1
    share = scheduler.wall_seconds(site, stage) / (walltime_h * 3600)
    return 1 if share < CHAIN_FROM else min(math.ceil(CHAIN_MARGIN * share), LONGEST_CHAIN)


def _submit(
    site: Site,
    store: Store,
    stage: Stage,
    *,
    digests: Mapping[Path, str],
    needs: Sequence[str],
) -> tuple[str, ...]:
    """Submit a stage, as a chain of jobs if it is long; the ids."""
    attempts = _attempts(store, stage.name)
    number = int(attempts[-1].name) + 1 if attempts else 1
    directory = scheduler.job_root(store, stage.name) / str(number)
    directory.mkdir(parents=True)
    store.write_recipe(scheduler.recipe_of(site, stage))
    image = scheduler.image_of(site, stage)
    length = chain_length(site, stage) if scheduler.knows_dependencies(site) else 1
    jobs: list[str] = []
    for _ in range(length):
        submission = scheduler.prepare_job(
            site,
            store,
            stage,
            directory,
            image_digest=None if image is None else digests[image],
            # Each job of the chain: `after_any` alone would start the next one without what the stage needs.
            after_success=needs,
            after_any=jobs[-1:],
        )
        jobs.append(scheduler.submit(site, stage, submission))
        content = {"jobs": jobs, "progress": store.progress(stage.name)[0], "site": site.name}
        write_json(directory / SUBMISSION, content)
    return tuple(jobs)


def submit_all(
    site: Site,
    store: Store,
    todo: Plan,
    standings: dict[str, Standing],
    *,
    probed: Mapping[str, Sequence[Stage]],
    digests: Mapping[Path, str],
    retry_failed: bool,
) -> list[str]:
    """Submit what is missing or lost, inputs first; the names of what was submitted, `standings` updated.

    Raises:
        SuiteError: the scheduler refuses.
    """
    in_queue = sum(len(standing.jobs) for standing in standings.values())
    chain = urgency(todo.to_do)
    # Only what is to do: an input of a finished product may have been deleted, and is not made again.
    names = {stage.name for stage in todo.to_do}
    urgent = sorted(todo.to_do, key=lambda stage: -chain[stage.identity])
    order = [stage for stage in in_order(urgent) if stage.name in names]
    submitted = []
    for stage in [*_each_once(probed), *order]:
        standing = standings[stage.name]
        again = standing.state is State.FAILED and retry_failed
        # What was blocked may go on, if what it needs is submitted again.
        if standing.state not in (State.MISSING, State.LOST, State.BLOCKED) and not again:
            continue
        needed = [*stage.inputs.values(), *probed.get(stage.name, ())]
        waits = [one for one in needed if standings[one.name].state is not State.DONE]
        stuck = [one for one in waits if not standings[one.name].jobs]
        if stuck:
            cause = standings[stuck[0].name]
            failed = cause.state in (State.FAILED, State.BLOCKED)
            text = f"needs {stuck[0].label}{f': {cause.text}' if failed else ''}"
            standings[stage.name] = Standing(State.BLOCKED if failed else State.MISSING, text)
            continue
        if (waits and not scheduler.knows_dependencies(site)) or in_queue >= site.max_jobs:
            continue
        jobs = _submit(
            site,
            store,
            stage,
            digests=digests,
            needs=[standings[one.name].jobs[-1] for one in waits],
        )
        standings[stage.name] = Standing(State.PENDING, f"job {', '.join(jobs)}", jobs)
        in_queue += len(jobs)
        submitted.append(stage.name)
    return submitted


# The whole run ------------------------------------------------------------------------------------


def run(
    wanted: Iterable[Stage],
    store: Store,
    site: Site,
    *,
    wait: bool = False,
    retry_failed: bool = False,
    rebuild_stale: bool = False,
) -> Outcome:
    """Submit what is not there and return, or, with `wait`, stay until nothing is left in the queue.

    Raises:
        SuiteError: no scheduler, a missing or changed image, a product that was changed.
    """
    from rich.console import Console
    from rich.markup import escape

    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    wanted = list(wanted)
    begun = time.monotonic()
    digests = image_digests(site, in_order(wanted))
    images = {path.stem: digest for path, digest in digests.items()} or None
    todo, outcome = begin(wanted, store, say=say, rebuild_stale=rebuild_stale, images=images)
    if not todo.to_do:
        return outcome
    probed = probes(site, todo.to_do, digests)
    stages = [*todo.to_do, *_each_once(probed)]
    known = [stage for stage in todo.to_do if scheduler.is_estimated(stage, site)]
    others = len(todo.to_do) - len(known)
    say(
        f"{len(todo.to_do)} stages to make, {len(todo.done)} there already; about "
        f"{sum(stage.core_seconds for stage in known) / 3600:.1f} core-hours"
        f"{f' and {others} stage(s) of unknown speed' if others else ''} at {site.name} "
        f"({site.batch_type}, store: {store.root})"
    )
    for note in site.notes:
        say(escape(note))
    told: dict[str, State] = {}
    while True:
        try:
            with store.lock("submit"):
                standings = look(site, store, stages)
                for stage in stages:
                    if standings[stage.name].state is State.LOST and told.get(stage.name):
                        say(f"lost     {stage.label}: {standings[stage.name].text}; submitted again")
                submit_all(
                    site,
                    store,
                    todo,
                    standings,
                    probed=probed,
                    digests=digests,
                    retry_failed=retry_failed,
                )
                retry_failed = False
        except SuiteError as error:
            if not wait or not told:
                raise
            say(f"[yellow]{error}; looking again[/yellow]")  # a scheduler may be restarted meanwhile
            time.sleep(POLL_SECONDS)
            continue
        _tell(say, stages, standings, told)
        unfinished = any(standings[stage.name].jobs for stage in stages)
        if not wait or not unfinished:
            break
        time.sleep(POLL_SECONDS)
    _record(outcome, todo.to_do, _each_once(probed), standings)
    outcome.seconds = time.monotonic() - begun
    if outcome.pending:
        counted = summary({one.name: standings[one.name] for one in stages})
        say(f"{counted}; run the same command again to see how they stand")
    return outcome


def _record(
    outcome: Outcome, stages: Iterable[Stage], probed: Iterable[Stage], standings: Mapping[str, Standing]
) -> None:
    """Put how stages stand into the outcome; of probes only what failed."""
    for stage in stages:
        standing = standings[stage.name]
        if standing.state is State.DONE:
            outcome.made.append(stage.name)
        elif standing.state is State.FAILED:
            outcome.failed[stage.name] = f"{stage.label}: {standing.text}"
        elif standing.state is State.BLOCKED:
            outcome.blocked[stage.name] = f"{stage.label}: {standing.text}"
        else:
            waits = standing.text or "not submitted yet"
            outcome.pending[stage.name] = f"{stage.label} is {standing.state.lower()}: {waits}"
    for probe in probed:
        if standings[probe.name].state is State.FAILED:
            outcome.failed[probe.name] = f"{probe.label}: {standings[probe.name].text}"


def _tell(
    say: Any, stages: Sequence[Stage], standings: Mapping[str, Standing], told: dict[str, State]
) -> None:
    """One line for each stage whose state changed."""
    colours = {State.DONE: "green", State.FAILED: "red", State.BLOCKED: "yellow", State.RUNNING: "cyan"}
    for stage in stages:
        standing = standings[stage.name]
        if told.get(stage.name) is not standing.state:
            told[stage.name] = standing.state
            colour = colours.get(standing.state, "dim")
            say(f"[{colour}]{standing.state:<8}[/{colour}] {stage.label} {standing.text}".rstrip())


def summary(standings: Mapping[str, Standing]) -> str:
    """How many stages are in which state."""
    counts = Counter(standing.state for standing in standings.values())
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def cancel(site: Site, store: Store, stages: Sequence[Stage]) -> list[str]:
    """Take the jobs of these stages out of the queue; their ids."""
    standings = look(site, store, stages)
    ids = [job for standing in standings.values() for job in standing.jobs]
    scheduler.cancel(site, ids)
    return ids
