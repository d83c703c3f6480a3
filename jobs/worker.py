"""Make one stage: what a local slot or a batch job executes."""

from __future__ import annotations

import errno
import time
from importlib import import_module

from jobs.errors import SuiteError
from jobs.store import Store
from jobs.workspace import Workspace


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
            )
            started = time.monotonic()
            import_module(f"jobs.stages.{recipe.kind}").run(workspace)
            store.finish(recipe, workspace, wall_seconds=time.monotonic() - started)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SuiteError(
                    f"{store.root}: no space left on the disk while making {recipe.label}"
                ) from None
            raise
        return True
