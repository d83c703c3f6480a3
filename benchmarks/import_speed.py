"""Import speed against dpdata and ASE on the same files, and memory against the number of frames.

    python benchmarks/import_speed.py [--frames 2000] [--many 350000] [--scratch DIRECTORY]

Real PBE frames of 96 atoms (reference/aimd), repeated, are written in each format. Each library reads the
whole file in a process of its own, the turns alternate, and the ratio is the suite's frames per processor
second over those of the faster library (processor seconds: other work on the machine does not lengthen
them). The suite reads as `python -m jobs import PATH` does, its report included. No library reads CP2K
2023.1's files as a whole: there ASE reads positions and forces as plain XYZ, without the log. Peak memory
is of the whole process, for a quarter of the frames and for all of them. With `--many`, that many frames go
from DeePMD npy and from extended XYZ into a deposit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.reference.sets import read_run, read_set
from tests.helpers.vasp_files import VaspRun, outcar_head, outcar_step, vasprun_head, vasprun_step

ROOT = Path(__file__).resolve().parents[1]
SET, RUN = "pbe-96-aimd-3000K", "bks-4-3000K"
FORMATS = {
    "OUTCAR": ("OUTCAR", "vasp/outcar", "vasp-out"),
    "vasprun.xml": ("vasprun.xml", "vasp/xml", "vasp-xml"),
    "extended XYZ": ("frames.extxyz", None, "extxyz"),
    "CP2K trajectory": ("run-pos-1.xyz", None, "xyz"),
    "pw.x": ("md.out", None, "espresso-out"),
    "DeePMD npy": ("npy", "deepmd/npy", None),
    "DeePMD HDF5": ("data.hdf5", "deepmd/hdf5", None),
}
TURNS = 3


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000, help="0: no comparison")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--read", nargs=2, metavar=("LIBRARY", "FORMAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read(*arguments.read, arguments.scratch)
        return
    with tempfile.TemporaryDirectory(prefix="import-speed-") as own:
        scratch = arguments.scratch or Path(own)
        for name in arguments.formats if arguments.frames else ():
            compare(name, arguments.frames, scratch)
        for name in ("DeePMD npy", "extended XYZ") if arguments.many else ():
            if name in arguments.formats:
                into_a_deposit(name, arguments.many, scratch)


def compare(name: str, frames: int, scratch: Path) -> None:
    """Frames per second of each library that reads this format, and peak memory."""
    _, by_dpdata, by_ase = FORMATS[name]
    libraries = ["suite", *(["dpdata"] if by_dpdata else []), *(["ASE"] if by_ase else [])]
    folders = {part: scratch / f"{name.replace(' ', '-')}-{part}" for part in (frames // 4, frames)}
    for part, folder in folders.items():
        write(name, part, folder)
    rates: dict[str, list[float]] = {library: [] for library in libraries}
    memory: dict[str, list[float]] = {}
    for turn in range(TURNS):
        for library in libraries if turn % 2 == 0 else libraries[::-1]:
            said = measure(library, name, folders[frames])
            assert said["frames"] == frames, (library, name, said)
            rates[library].append(frames / said["seconds"])
            memory[library] = [said["peak_MB"]]
    for library in libraries:
        memory[library].insert(0, measure(library, name, folders[frames // 4])["peak_MB"])
    medians = {library: float(np.median(values)) for library, values in rates.items()}
    others = {library: rate for library, rate in medians.items() if library != "suite"}
    fastest = max(others, key=others.__getitem__) if others else None
    ratios = [a / b for a, b in zip(rates["suite"], rates[fastest], strict=True)] if fastest else []
    row = ", ".join(
        f"{library} {medians[library]:.0f}/s ({memory[library][0]:.0f} -> {memory[library][1]:.0f} MB)"
        for library in libraries
    )
    against = (
        fastest and f"; suite / {fastest} = {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(f"{name}: {row}{against or ''}", flush=True)


def measure(library: str, name: str, folder: Path) -> dict[str, float]:
    """One reading in a process of its own."""
    command = [sys.executable, __file__, "--read", library, name, "--scratch", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read(library: str, name: str, folder: Path) -> None:
    """Read a file whole; print the frames, the seconds and the peak memory of this process as JSON."""
    warnings.simplefilter("ignore")
    file, by_dpdata, by_ase = FORMATS[name]
    path = folder / file
    if library == "suite":
        from ase.data import atomic_masses  # noqa: F401  the report's masses: imported, not timed

        from jobs.reference.formats.sources import open_sources
        from jobs.reference.survey import look

        began = time.process_time()
        frames = sum(look(source).frames for source in open_sources([path]))
    elif library == "dpdata":
        import dpdata

        began = time.process_time()
        # One process reads one system: HDF5 files of several are read through MultiSystems.
        frames = len(
            dpdata.LabeledSystem(f"{path}#/all" if name == "DeePMD HDF5" else str(path), fmt=by_dpdata)
        )
    else:
        from ase.io import iread

        began = time.process_time()
        frames = sum(1 for _ in iread(path, index=":", format=by_ase))
        if name == "CP2K trajectory":
            frames = sum(1 for _ in iread(folder / "run-frc-1.xyz", index=":", format=by_ase))
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames": frames, "seconds": seconds, "peak_MB": peak}))


def into_a_deposit(name: str, frames: int, scratch: Path) -> None:
    """A whole import with its deposit, in a process of its own, as a user starts it."""
    folder = scratch / f"{name.replace(' ', '-')}-many"
    write(name, frames, folder)
    said = ["--engine", "CP2K", "--engine-version", "2023.1", "--functional", "PBE", "--basis", "DZVP"]
    command = [sys.executable, "-m", "jobs", "import", str(folder / FORMATS[name][0]), "--name", "many"]
    command += ["--use", "train", "--temperature-K", "3000", "--stretch", "10000", *said]
    began = time.perf_counter()
    subprocess.run([*command, "--root", str(scratch / f"deposit-{name.split()[0]}")], check=True, cwd=ROOT)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{name}: {frames} frames into a deposit in {seconds:.0f} s, {frames / seconds:.0f}/s; "
        f"largest process so far {peak:.0f} MB",
        flush=True,
    )


# Writing ------------------------------------------------------------------------------------------


def write(name: str, frames: int, folder: Path) -> None:
    """Real frames, repeated, in a format."""
    folder.mkdir(parents=True, exist_ok=True)
    source = read_run(read_set(SET), RUN)
    species = ["Si"] * 32 + ["O"] * 64
    run = VaspRun(species, source.positions, source.forces, source.energies_eV, source.cells)
    path, n = folder / FORMATS[name][0], len(source)
    if name == "OUTCAR":
        steps = [outcar_step(run, k + 1) for k in range(n)]
        _repeat(path, outcar_head(run), steps, frames)
    elif name == "vasprun.xml":
        steps = [vasprun_step(run, k + 1) for k in range(n)]
        _repeat(path, vasprun_head(run), steps, frames, end="</modeling>\n")
    elif name == "extended XYZ":
        _repeat(path, "", [_extxyz(run, k) for k in range(n)], frames)
    elif name == "CP2K trajectory":
        _cp2k(folder, run, frames)
    elif name == "pw.x":
        _pwx(path, run, frames)
    elif name == "DeePMD npy":
        _deepmd(path, run, frames)
    else:
        _hdf5(path, run, frames)


def _repeat(path: Path, head: str, steps: list[str], frames: int, end: str = "") -> None:
    with path.open("w") as out:
        out.write(head)
        for k in range(frames):
            out.write(steps[k % len(steps)])
        out.write(end)


def _extxyz(run: VaspRun, k: int) -> str:
    lattice = " ".join(f"{v:.8f}" for v in run.cells[k].ravel())
    lines = [
        str(len(run.species)),
        f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 '
        f'energy={run.energies[k]:.8f} pbc="T T T"',
    ]
    for name, x, f in zip(run.species, run.positions[k], run.forces[k], strict=True):
        lines.append(f"{name:2s}" + "".join(f"{v:16.8f}" for v in (*x, *f)))
    return "\n".join(lines) + "\n"


def _cp2k(folder: Path, run: VaspRun, frames: int) -> None:
    bohr, hartree = 0.529177210903, 27.211386245988
    scaled = {"pos": run.positions, "frc": run.forces / hartree * bohr}
    n, energies = len(run.energies), run.energies / hartree
    for kind, values in scaled.items():
        bodies = [
            "".join(
                f"{s:>3s}" + "".join(f"{v:20.10f}" for v in row) + "\n"
                for s, row in zip(run.species, values[k], strict=True)
            )
            for k in range(n)
        ]
        with (folder / f"run-{kind}-1.xyz").open("w") as out:
            for k in range(frames):
                title = f" i = {k:8d}, time = {k * 2.0:12.3f}, E = {energies[k % n]:19.10f}\n"
                out.write(f"{len(run.species):8d}\n{title}{bodies[k % n]}")
    with (folder / "run.log").open("w") as out:
        out.write(" CP2K| version string:                       CP2K version 2023.1\n")
        out.write(" GLOBAL| Project name                                        run\n")
        for axis, row in zip("abc", run.cells[0], strict=True):
            row_text = "".join(f"{v:10.3f}" for v in row)
            out.write(f" CELL| Vector {axis} [angstrom]: {row_text}   |{axis}| = {np.linalg.norm(row):.6f}\n")
        out.write(" CELL| Numerically orthorhombic:                           YES\n")
        for k in range(frames):
            out.write("    10 OT DIIS     0.15E+00    1.0     0.00001   -1155.4 -3.8E-08\n" * 30)
            out.write("  *** SCF run converged in    10 steps ***\n")
            out.write(f" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]: {energies[k % n]:30.15f}\n")


def _pwx(path: Path, run: VaspRun, frames: int) -> None:
    bohr, rydberg = 0.529177210903, 13.605693122994
    alat, n = run.cells[0][0, 0] / bohr, len(run.energies)
    head = [
        "",
        "     Program PWSCF v.6.7MaX starts on 23Nov2026 at 18:24:52 ",
        "",
        "     bravais-lattice index     =            1",
        f"     lattice parameter (alat)  = {alat:13.4f}  a.u.",
        f"     number of atoms/cell      = {len(run.species):12d}",
        "     number of atomic types    =            2",
        "     kinetic-energy cutoff     =      40.0000  Ry",
        "     Exchange-correlation= SLA  PW   PBE  PBE",
        "",
        f"     celldm(1)={alat:11.6f}  celldm(2)=   0.000000  celldm(3)=   0.000000",
        "     celldm(4)=   0.000000  celldm(5)=   0.000000  celldm(6)=   0.000000",
        "",
        "     crystal axes: (cart. coord. in units of alat)",
        "               a(1) = (   1.000000   0.000000   0.000000 )  ",
        "               a(2) = (   0.000000   1.000000   0.000000 )  ",
        "               a(3) = (   0.000000   0.000000   1.000000 )  ",
        "",
        "   Cartesian axes",
        "",
        "     site n.     atom                  positions (alat units)",
    ]
    for k, (name, x) in enumerate(zip(run.species, run.positions[0] / bohr / alat, strict=True), start=1):
        where = "".join(f"{v:12.7f}" for v in x)
        head.append(f"     {k:5d}           {name:2s}  tau({k:4d}) = ({where}  )")
    head += [
        "",
        "     number of k points=     1",
        "                       cart. coord. in units 2pi/alat",
        "        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000",
        "",
    ]
    middle = [
        "     iteration #  1     ecut=    40.00 Ry     beta= 0.70",
        "     Davidson diagonalization with overlap",
        "     total energy              =     -71.45460674 Ry",
        "     estimated scf accuracy    <       0.53449904 Ry",
        "",
    ]
    steps = []
    for k in range(n):
        forces = [
            f"     atom {a:4d} type  1   force = " + "".join(f"{v:14.8f}" for v in row)
            for a, row in enumerate(run.forces[k] / rydberg * bohr, start=1)
        ]
        positions = [
            f"{name:2s}" + "".join(f"{v:20.10f}" for v in x)
            for name, x in zip(run.species, run.positions[(k + 1) % n], strict=True)
        ]
        steps.append(
            "\n".join(
                [
                    "     Self-consistent Calculation",
                    "",
                    *(middle * 12),
                    "     End of self-consistent calculation",
                    "",
                    "          k = 0.0000 0.0000 0.0000 (  9219 PWs)   bands (ev):",
                    "",
                    "   -27.9088 -22.3655 -14.0538  -7.7315  -7.6684  -3.7917  -3.6974  -1.8271",
                    "",
                    "     highest occupied level (ev):    -1.8271",
                    "",
                    f"!    total energy              = {run.energies[k] / rydberg:16.8f} Ry",
                    "     estimated scf accuracy    <          6.0E-09 Ry",
                    "",
                    "     convergence has been achieved in  12 iterations",
                    "",
                    "     Forces acting on atoms (cartesian axes, Ry/au):",
                    "",
                    *forces,
                    "",
                    "     Total force =     0.117889     Total SCF correction =     0.000242",
                    "",
                    f"     Entering Dynamics:    iteration = {k + 1:5d}",
                    "                           time      =   0.0019 pico-seconds",
                    "",
                    "ATOMIC_POSITIONS (angstrom)",
                    *positions,
                    "",
                    "     temperature           =        3000.00000000 K ",
                    "",
                ]
            )
            + "\n"
        )
    _repeat(path, "\n".join(head) + "\n", steps, frames, end="   JOB DONE.\n")


def _deepmd(path: Path, run: VaspRun, frames: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "type.raw").write_text("0\n" * 32 + "1\n" * 64)
    (path / "type_map.raw").write_text("Si\nO\n")
    for number, first in enumerate(range(0, frames, 5000)):
        chosen = np.arange(first, min(first + 5000, frames)) % len(run.energies)
        (path / f"set.{number:03d}").mkdir(exist_ok=True)
        for name, values in _arrays(run, chosen).items():
            np.save(path / f"set.{number:03d}" / name, values)


def _hdf5(path: Path, run: VaspRun, frames: int) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("all")
        group["type.raw"] = np.repeat([0, 1], [32, 64])
        group["type_map.raw"] = np.array([b"Si", b"O"])
        for number, first in enumerate(range(0, frames, 5000)):
            chosen = np.arange(first, min(first + 5000, frames)) % len(run.energies)
            for name, values in _arrays(run, chosen).items():
                group[f"set.{number:03d}/{name}"] = values


def _arrays(run: VaspRun, chosen: np.ndarray) -> dict[str, np.ndarray]:
    n = len(chosen)
    return {
        "coord.npy": run.positions[chosen].reshape(n, -1),
        "force.npy": run.forces[chosen].reshape(n, -1),
        "box.npy": run.cells[chosen].reshape(n, 9),
        "energy.npy": run.energies[chosen],
    }


if __name__ == "__main__":
    main()
