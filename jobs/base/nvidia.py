"""nvidia-smi: the GPUs of this machine and their driver."""

from __future__ import annotations

import subprocess

_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def gpus() -> list[tuple[str, str]]:
    """Name and driver of each NVIDIA GPU; none where the tool is missing, silent or finds no driver."""
    try:
        said = subprocess.run(_QUERY, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if said.returncode != 0:
        return []
    rows = (line.split(",") for line in said.stdout.splitlines() if line.strip())
    return [(name.strip(), driver.strip()) for name, driver in rows]
