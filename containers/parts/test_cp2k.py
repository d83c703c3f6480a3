"""%test of the CP2K image: ten real steps of first-principles dynamics, alone and as one Slurm task."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

DECK = Path(__file__).parent / "ten-steps.inp"
# Two atoms over ten steps; what a converged SCF of this coarse set-up keeps.
DRIFT_HARTREE = 1e-4
SLURM_TASK = {
    "SLURM_JOBID": "1",
    "SLURM_STEPID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_NODELIST": "node",
    "SLURM_STEP_NUM_TASKS": "1",
}


def cp2k(folder: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the deck in a folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    environment.update({"OMP_NUM_THREADS": "1", **variables})
    return subprocess.run(
        ["cp2k.psmp", "-i", str(DECK)], cwd=folder, env=environment, capture_output=True, text=True
    )


def ten_steps(**variables: str) -> tuple[float, float]:
    """Conserved energy (hartree) at steps 0 and 10."""
    with tempfile.TemporaryDirectory() as folder:
        result = cp2k(folder, **variables)
        energies = Path(folder, "run-1.ener")
        rows = energies.read_text().splitlines()[1:] if energies.is_file() else []
    if result.returncode != 0 or len(rows) != 11:
        sys.exit(f"cp2k.psmp ended with code {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return float(rows[0].split()[5]), float(rows[-1].split()[5])


def main() -> None:
    """Run every check; the first that fails ends with its reason and code 1."""
    first, last = ten_steps()
    print(f"ten steps: conserved energy {first:.8f} to {last:.8f} hartree")
    if abs(last - first) > DRIFT_HARTREE:
        sys.exit(f"the conserved energy is not kept to {DRIFT_HARTREE} hartree")
    _, as_task = ten_steps(**SLURM_TASK)
    if abs(as_task - last) > DRIFT_HARTREE:
        sys.exit("a Slurm task does not give what a lone process gives")
    print("ten steps as a Slurm task: the same")
    with tempfile.TemporaryDirectory() as folder:
        refused = cp2k(folder, **SLURM_TASK | {"SLURM_STEP_NUM_TASKS": "2"})
    if refused.returncode != 2 or "expected 1" not in refused.stderr:
        sys.exit("two Slurm tasks would be two lone runs, and were not refused")
    print("two Slurm tasks: refused")


if __name__ == "__main__":
    main()
