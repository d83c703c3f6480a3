"""%test of the LAMMPS images: ten real steps of a DeePMD potential, alone and on two MPI ranks.

With `--cuda` also: every CUDA library resolves, and whether there is a GPU here is said plainly.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# Between the steps 0 and 10; half-femtosecond NVE steps at 3000 K keep it far better.
DRIFT_EV_ATOM = 1e-3
ATOMS = 192


def ten_steps(*launcher: str) -> tuple[str, list[float]]:
    """Processor grid, and the total energies (eV) at steps 0, 5 and 10."""
    command = [*launcher, "lmp", "-in", str(HERE / "ten-steps.lmp"), "-log", "none", "-nocite"]
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [*command, "-var", "model", str(HERE / "model.pb")], cwd=folder, capture_output=True, text=True
        )
    energies = re.findall(r"^ +(?:0|5|10) +\S+ +\S+ +(\S+)$", result.stdout, re.M)
    grid = re.search(r"(\d+ by \d+ by \d+) MPI processor grid", result.stdout)
    if result.returncode != 0 or grid is None or len(energies) != 3:
        sys.exit(f"lmp ended with code {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return grid[1], [float(energy) for energy in energies]


def unresolved_libraries() -> list[str]:
    """What `ldd` cannot find of the engines' libraries, the driver's own aside (it comes with --nv)."""
    site = Path(sys.prefix) / f"lib/python3.{sys.version_info.minor}/site-packages"
    files = [site / "lammps/lmp", *site.glob("tensorflow/lib*.so*"), *site.glob("nvidia/*/lib/*.so*")]
    files += [
        site / f"deepmd/lib/libdeepmd{part}.so" for part in ("", "_cc", "_op", "_op_cuda", "_lmpplugin")
    ]
    environment = dict(os.environ)
    wrapper = Path("/usr/local/bin/lmp").read_text()
    environment["LD_LIBRARY_PATH"] = re.search(r'LD_LIBRARY_PATH="[^}]*}([^"]+)"', wrapper)[1]
    missing = set()
    for file in files:
        listing = subprocess.run(["ldd", str(file)], capture_output=True, text=True, env=environment).stdout
        missing.update(f"{file.name}: {name}" for name in re.findall(r"(\S+) => not found", listing))
    return sorted(line for line in missing if "libcuda.so" not in line and "libnvidia" not in line)


def gpus() -> int:
    """How many GPUs the driver shows, 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def main() -> None:
    """Run every check; the first that fails ends with its reason and code 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "--cuda" in sys.argv:
        if missing := unresolved_libraries():
            sys.exit("CUDA libraries that do not resolve: " + "; ".join(missing))
        print("CUDA libraries: all resolve")
        found = gpus()
        print(f"GPUs: {found}" if found else "GPUs: none here, so the ten steps run on the CPU")
    import tensorflow

    print(f"TensorFlow {tensorflow.__version__} imports")
    one_grid, one = ten_steps()
    two_grid, two = ten_steps("mpirun", "-n", "2")
    print(f"ten steps on one rank: grid {one_grid}, total energy {one[0]:.6f} to {one[2]:.6f} eV")
    print(f"ten steps on two ranks: grid {two_grid}, total energy {two[0]:.6f} to {two[2]:.6f} eV")
    if one_grid != "1 by 1 by 1" or sorted(two_grid.split(" by ")) != ["1", "1", "2"]:
        sys.exit("expected the grids 1 by 1 by 1 and 1 by 1 by 2 (in some order)")
    if abs(one[2] - one[0]) > DRIFT_EV_ATOM * ATOMS:
        sys.exit(f"total energy is not conserved to {DRIFT_EV_ATOM} eV/atom")
    if abs(one[2] - two[2]) > 1e-5 * abs(one[2]):
        sys.exit("one rank and two ranks do not agree")


if __name__ == "__main__":
    main()
