"""Run what is to do in local core slots, most urgent chain first, and show how far it is."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from jobs.base.errors import ERROR_EXIT, SuiteError
from jobs.base.machine import available_cores
from jobs.base.paths import ROOT
from jobs.cost.estimates import not_counted
from jobs.engines.process import die_with_parent, thread_environment
from jobs.store.outcome import Outcome, begin
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.todo import Plan, urgency
from jobs.store.workspace import NOTE

if TYPE_CHECKING:
    from rich.console import Console

POLL_SECONDS = 0.2
REPORT_SECONDS = 30.0
# Short stages of one kind share a process up to this estimate: imports take half of the time of each alone.
_TOGETHER_SECONDS = 20.0


@dataclass
class _Slot:
    """A process that makes stages one after the other; `stages` are those that are not made yet."""

    stages: list[Stage]
    cores: int
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    started: float
    notes: int = 0  # shown


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class Display:
    """Progress for people: one line per stage that starts or ends, and a summary now and then."""

    def __init__(self, plan: Plan, cores: int) -> None:
        self.console = _console()
        self.total = len(plan.to_do)
        self.cores = cores
        self.remaining = {stage.name: stage.core_seconds for stage in plan.to_do}
        self.finished = 0
        self.begun = self.spoke = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line with the time since the run began."""
        elapsed = int(time.monotonic() - self.begun)
        self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim] {text}")

    def ended(self, stage: Stage, text: str) -> None:
        """Count a stage that was made, failed or is blocked."""
        self.finished += 1
        self.remaining.pop(stage.name, None)
        self.say(f"[{self.finished}/{self.total}] {text}")

    def now_and_then(self, slots: Iterable[_Slot], store: Store) -> None:
        """Every half minute, say what runs, how far it is and how long the rest may take."""
        if time.monotonic() - self.spoke < REPORT_SECONDS:
            return
        self.spoke = time.monotonic()
        words, left = [], dict(self.remaining)
        for stage in (slot.stages[0] for slot in slots if slot.stages):
            fraction, text = store.progress(stage.name)
            left[stage.name] = stage.core_seconds * (1 - fraction)
            words.append(f"{stage.label} {fraction:.0%}{' ' + text if text else ''}")
        minutes = sum(left.values()) / self.cores / 60
        self.say(f"     running: {'; '.join(words)} - about {minutes:.0f} min left")


def together(ready: Sequence[Stage], free_cores: int) -> list[Stage]:
    """The first of these ready stages, with those that one process is to make after it."""
    first = ready[0]
    alike = [stage for stage in ready if (stage.kind, stage.cores) == (first.kind, first.cores)]
    taken, seconds = [first], first.core_seconds
    # No more than a fair share: the other free cores want work too.
    for stage in alike[1 : math.ceil(len(alike) / free_cores)]:
        seconds += stage.core_seconds
        if seconds > _TOGETHER_SECONDS:
            break
        taken.append(stage)
    return taken


def _start(stages: Sequence[Stage], store: Store, cores: int) -> _Slot:
    cores = min(stages[0].cores, cores)
    for stage in stages:
        store.write_recipe(Recipe.of(stage, cores=cores))
    # Outside the store: on a full disk the reason must still get through.
    said = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "make", *(s.name for s in stages), "--store", str(store.root)],
        cwd=ROOT,
        env=thread_environment(cores),
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    return _Slot(list(stages), stages[0].cores, process, said, time.monotonic())


def _stop(slots: Iterable[_Slot]) -> None:
    for slot in slots:
        slot.process.send_signal(signal.SIGTERM)
    for slot in slots:
        try:
            slot.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            slot.process.kill()
            slot.process.wait()


def run(
    wanted: Iterable[Stage],
    store: Store,
    *,
    cores: int | None = None,
    rebuild_stale: bool = False,
) -> Outcome:
    """Make every wanted stage that is not done, in local core slots, to the end.

    A stage that fails does not stop the others; only what needs it is blocked.

    Raises:
        SuiteError: the store cannot be used, or a product that is to be used was changed.
    """
    cores = cores or available_cores()
    todo, outcome = begin(list(wanted), store, say=_console().print, rebuild_stale=rebuild_stale)
    if not todo.to_do:
        return outcome
    display = Display(todo, cores)
    display.say(
        f"{len(todo.to_do)} stages to make, {len(todo.done)} there already; about "
        f"{todo.core_seconds / cores / 60:.0f} min on {cores} cores (store: {store.root})"
    )
    for line in not_counted(todo.to_do):
        display.say(line)
    chain = urgency(todo.to_do)
    waiting = sorted(todo.to_do, key=lambda stage: -chain[stage.identity])
    missing = {stage.name for stage in waiting}
    slots: list[_Slot] = []
    begun = time.monotonic()
    try:
        while waiting or slots:
            for slot in list(slots):
                ended = slot.process.poll() is not None  # before looking for what it made
                _note_made(slot, store, outcome, missing, display)
                if ended:
                    slots.remove(slot)
                    waiting = _close(slot, outcome, display) + waiting
            for stage in list(waiting):
                lost = [
                    n for n in stage.inputs.values() if n.name in outcome.failed or n.name in outcome.blocked
                ]
                if lost:
                    waiting.remove(stage)
                    outcome.blocked[stage.name] = f"needs {lost[0].label}: {outcome.reason(lost[0])}"
                    display.ended(stage, f"[yellow]blocked[/yellow]  {stage.label}: needs {lost[0].label}")
            ready = [s for s in waiting if not any(needed.name in missing for needed in s.inputs.values())]
            while ready:
                free = cores - sum(slot.cores for slot in slots)
                # A stage that asks for more cores than there are gets all of them, alone.
                fitting = [stage for stage in ready if stage.cores <= free or not slots]
                if not fitting:
                    break
                stages = together(fitting, max(free, 1))
                ready = [stage for stage in ready if stage not in stages]
                waiting = [stage for stage in waiting if stage not in stages]
                try:
                    slots.append(_start(stages, store, cores))
                    display.say(f"started  {stages[0].label}")
                except (OSError, SuiteError) as error:
                    reason = f"{stages[0].label}: {error}"
                    outcome.failed[stages[0].name] = reason
                    display.ended(stages[0], f"[red]FAILED[/red]   {reason}")
                    waiting = stages[1:] + waiting
            display.now_and_then(slots, store)
            time.sleep(POLL_SECONDS)
    except BaseException:
        _stop(slots)
        raise
    outcome.seconds = time.monotonic() - begun
    return outcome


def _note_made(slot: _Slot, store: Store, outcome: Outcome, missing: set[str], display: Display) -> None:
    """Take what a process has made from what it has to make."""
    while slot.stages and store.is_done(slot.stages[0].name):
        stage = slot.stages.pop(0)
        missing.discard(stage.name)
        outcome.made.append(stage.name)
        now = time.monotonic()
        display.ended(stage, f"[green]made[/green]     {stage.label} ({now - slot.started:.0f} s)")
        slot.started = now
        _show_notes(slot, display)
        if slot.stages:
            display.say(f"started  {slot.stages[0].label}")


def _said(slot: _Slot) -> str:
    """What a process wrote. It may go on writing, and shares its place in the file with us: no seek."""
    file = slot.said.fileno()
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


def _show_notes(slot: _Slot, display: Display) -> None:
    """Show the notes that are new: wrong units of a potential must be seen before anything uses it."""
    notes = [line for line in _said(slot).splitlines() if line.startswith(NOTE)]
    for line in notes[slot.notes :]:
        display.say(line.replace("[", r"\["))
    slot.notes = len(notes)


def _close(slot: _Slot, outcome: Outcome, display: Display) -> list[Stage]:
    """Show what an ended process said; the stages that it did not come to, because one failed."""
    _show_notes(slot, display)
    said = _said(slot)
    lines = [line for line in said.splitlines() if line.strip()]
    if not slot.stages:
        return []
    failed, *rest = slot.stages
    code = slot.process.returncode
    reason = lines[-1] if lines else f"ended with code {code} and said nothing"
    if code < 0:
        reason = f"killed by signal {-code}"
    elif code != ERROR_EXIT:
        try:
            handle, log = tempfile.mkstemp(prefix=f"{failed.name}.", suffix=".log")
            with open(handle, "w") as stream:
                stream.write(said)
            reason += f" (log: {log})"
        except OSError:
            pass  # no room for a log: the reason is above all
    outcome.failed[failed.name] = f"{failed.label}: {reason}"
    display.ended(failed, f"[red]FAILED[/red]   {failed.label}: {reason}")
    return rest
