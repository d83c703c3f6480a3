"""dpdispatcher, which writes job scripts and speaks to the schedulers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError


def load() -> Any:
    """The module.

    Raises:
        SuiteError: it is not installed.
    """
    # It would write a log file into the current folder and to stdout, from its import on.
    logging.getLogger("dpdispatcher").disabled = True
    try:
        import dpdispatcher
    except ModuleNotFoundError:
        raise SuiteError("dpdispatcher: not installed; pip install -e '.[hpc]'") from None
    return dpdispatcher


def machine(batch_type: str, directory: Path) -> dict[str, Any]:
    """What dpdispatcher calls a machine: a scheduler whose jobs work in a folder of this one."""
    return {
        "batch_type": batch_type,
        "context_type": "LazyLocalContext",
        "local_root": str(directory),
        "remote_root": str(directory),
        "retry_count": 0,
    }
