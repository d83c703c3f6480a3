"""Make one stage: what a local slot or a batch job executes."""

from __future__ import annotations

import errno
import json
import shutil
import time
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.machine import node_type
from jobs.stages.kinds import stage_module
from jobs.store.machine_settings import FOLDER, Tuning, read_tuning
from jobs.store.store import Store
from jobs.store.workspace import CHECKPOINTS, Workspace

ATTEMPTS_FILE = "attempts.json"
# In the folder of a batch job: why the stage failed, and that a later job of its chain need not try.
FAILURE = "failure.json"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 1 << 16


def make_stage_in_job(store: Store, name: str, *, directory: Path) -> bool:
    """Make a stage in a batch job that works in `directory`; a failure is left there as `failure.json`.

    Raises:
        SuiteError: the stage failed, or an earlier job of the same chain said so.
    """
    path = directory / FAILURE
    if path.is_file():
        raise SuiteError(json.loads(path.read_text())["reason"])
    try:
        return make_stage(store, name)
    except SuiteError as error:
        write_json(path, {"reason": str(error)})
        raise


def make_stage(store: Store, name: str) -> bool:
    """Make a planned stage, resuming what an earlier attempt left; False if it was done already.

    The lock makes concurrent runs on one store wait for each other, stage by stage.

    Raises:
        SuiteError: wrong input, changed input products, failed engine, full disk, or the stage's code is not
            what it was planned with.
    """
    recipe = store.read_recipe(name)
    module = stage_module(recipe.kind)
    with store.lock(name):
        if store.is_done(name):
            return False
        if recipe.code_version != module.CODE_VERSION:
            raise SuiteError(
                f"{name}: found a plan for version {recipe.code_version} of "
                f"{module.__name__.replace('.', '/')}.py, "
                f"expected {module.CODE_VERSION}, today's; plan again: the command that planned it"
            )
        store.verify(recipe.inputs.values())
        directory = store.part(name)
        try:
            attempts = earlier_attempts(directory)
            began = time.time()
            directory.mkdir(exist_ok=True)
            workspace = Workspace(
                parameters=recipe.parameters,
                seed=recipe.seed,
                inputs={role: store.path(needed) for role, needed in recipe.inputs.items()},
                directory=directory,
                cores=recipe.cores,
                ranks=recipe.ranks,
                wanted_kernel=recipe.wanted_kernel,
                tuning=_tuning(store),
            )
            write_json(workspace.checkpoints / ATTEMPTS_FILE, [*attempts, (began, began)])
            started = time.monotonic()
            module.run(workspace)
            wall_seconds = time.monotonic() - started + sum(end - start for start, end in attempts)
            store.finish(recipe, workspace, wall_seconds=wall_seconds, attempts=len(attempts) + 1)
        except Exception as error:
            # Not every library keeps the error number, and an engine says it in words of its own.
            full = shutil.disk_usage(store.root).free < _FULL_BYTES
            if full or getattr(error, "errno", None) in _DISK_FULL:
                raise SuiteError(f"{store.root}: no space left on the disk (at {recipe.label})") from None
            raise
        return True


def _tuning(store: Store) -> Tuning | None:
    """What was tuned for this kind of node; the node is only asked what it is where anything was tuned."""
    if not (store.root / FOLDER).is_dir():
        return None
    return read_tuning(store.root, node_type())


def earlier_attempts(part: Path) -> list[tuple[float, float]]:
    """When each earlier attempt at an unfinished stage began and ended, in seconds of the clock.

    A killed attempt cannot say when it ended: the last one ended when the newest file of the unfinished
    stage was last written (progress is, about once a second while an engine runs).
    """
    path = part / CHECKPOINTS / ATTEMPTS_FILE
    try:
        attempts = [(float(began), float(ended)) for began, ended in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []
    newest = max(file.stat().st_mtime for file in part.rglob("*") if file.is_file())
    began, _ = attempts[-1]
    return [*attempts[:-1], (began, max(began, newest))]
