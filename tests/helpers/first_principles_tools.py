"""What the tests of first-principles engines share: a slope of the energy, and a run that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.silica import Configuration

ROOT = Path(__file__).resolve().parents[2]
STEP_ANGSTROM = 0.01


def slope_and_force(engine: Any, settings: Any, start: Configuration, directory: Path) -> tuple[float, float]:
    """Minus the slope of the energy along a direction in all three atoms, and the force along it; eV/A."""
    direction = np.array([[0.2, -0.5, 0.1], [0.6, 0.3, -0.2], [-0.1, 0.2, 0.3]])
    direction /= np.linalg.norm(direction)
    before, here, after = (
        engine.single_point(
            settings,
            Configuration(start.types, start.positions + step * direction, start.cell),
            directory=directory / f"{step}",
            threads=1,
        )
        for step in (-STEP_ANGSTROM, 0.0, STEP_ANGSTROM)
    )
    assert before.refusal is here.refusal is after.refusal is None
    slope = (after.energy_eV - before.energy_eV) / (2 * STEP_ANGSTROM)
    return -slope, float((here.forces * direction).sum())


def kill_after(steps: int, engine: str, directory: Path, *, steps_done: Callable[[], int]) -> None:
    """Run the molecule of `test_<engine>` in a process of its own; SIGKILL once so many steps are done."""
    code = (
        "import sys; from pathlib import Path\n"
        f"from jobs.engines.first_principles import {engine} as engine\n"
        f"from tests.engines.test_{engine} import MOLECULE, NVE, SETTINGS\n"
        "settings, directory = engine.read_settings(SETTINGS), Path(sys.argv[1])\n"
        "engine.run_dynamics(settings, MOLECULE, NVE, directory=directory, threads=1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(directory)], cwd=ROOT) as process:
        deadline = time.monotonic() + 120
        while steps_done() < steps:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # the engine dies with its parent
