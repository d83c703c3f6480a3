"""Make one stage: what a local slot or a batch job executes."""

from __future__ import annotations

import errno
import shutil
import time
from importlib import import_module

from jobs.costs import node_type
from jobs.errors import SuiteError
from jobs.store import Store
from jobs.tuning import read_tuning
from jobs.workspace import Workspace

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 1 << 16


def make_stage(store: Store, name: str) -> bool:
    """Make a planned stage, resuming what an earlier attempt left; False if it was done already.

    The lock makes concurrent runs on one store wait for each other, stage by stage.

    Raises:
        SuiteError: wrong input, changed input products, failed engine, full disk.
    """
    recipe = store.read_recipe(name)
    with store.lock(name):
        if store.is_done(name):
            return False
        store.verify(recipe.inputs.values())
        directory = store.part(name)
        try:
            directory.mkdir(exist_ok=True)
            workspace = Workspace(
                parameters=recipe.parameters,
                seed=recipe.seed,
                inputs={role: store.path(needed) for role, needed in recipe.inputs.items()},
                directory=directory,
                cores=recipe.cores,
                tuning=read_tuning(store.root, node_type()),
            )
            started = time.monotonic()
            import_module(f"jobs.stages.{recipe.kind}").run(workspace)
            store.finish(recipe, workspace, wall_seconds=time.monotonic() - started)
        except Exception as error:
            # Not every library keeps the error number, and an engine says it in words of its own.
            full = shutil.disk_usage(store.root).free < _FULL_BYTES
            if full or getattr(error, "errno", None) in _DISK_FULL:
                raise SuiteError(f"{store.root}: no space left on the disk (at {recipe.label})") from None
            raise
        return True
