"""Small runs of pw.x, for what a reader must find in its output."""

from __future__ import annotations

import subprocess
from pathlib import Path

SILICON = {"species": "Si 28.085 Si.pz-vbc.UPF", "atoms": "Si 0.0 0.0 0.0\nSi 1.30 1.35 1.40"}
HYDROGEN = {"species": "H 1.008 H.pbe-kjpaw.UPF", "atoms": "H 0.0 0.0 0.0\nH 0.8 0.1 0.1"}
ULTRASOFT = {
    "species": "Si 28.085 Si.pbe-nl-rrkjus_psl.1.0.0.UPF\nO 15.999 O.pbe-rrkjus.UPF",
    "atoms": "Si 0.0 0.0 0.0\nO 1.30 1.35 1.40",
}


def deck(
    calculation: str,
    *,
    control: str = "",
    system: str = "",
    electrons: str = "",
    steps: int = 4,
    species: str = SILICON["species"],
    atoms: str = SILICON["atoms"],
) -> str:
    """Two atoms in a skewed cell with few plane waves: a fraction of a second a step."""
    moves = calculation != "scf"
    barostat = ", cell_dynamics='pr'" if calculation == "vc-md" else ""
    start = "ion_temperature='initial', tempw=1500" if calculation.endswith("md") else ""
    return f"""
&control
 calculation='{calculation}', prefix='x', pseudo_dir='/usr/share/espresso/pseudo', outdir='./out', dt=40.0,
 nstep={steps}, tstress=.true., tprnfor=.true., disk_io='none', {control}
/
&system
 ibrav=0, nat={len(atoms.splitlines())}, ntyp={len(species.splitlines())}, ecutwfc=10, nosym=.true., {system}
/
&electrons
 conv_thr=1e-8, {electrons}
/
{f"&ions{chr(10)} {start}{chr(10)}/" if moves else ""}
{f"&cell{chr(10)} press=10.0 {barostat}{chr(10)}/" if calculation.startswith("vc") else ""}
ATOMIC_SPECIES
{species}
CELL_PARAMETERS angstrom
 0.0 2.7 2.7
 2.7 0.0 2.7
 2.7 2.7 0.0
ATOMIC_POSITIONS angstrom
{atoms}
K_POINTS gamma
"""


def run_pwx(directory: Path, text: str) -> Path:
    """The output of a run, which may end with an error of pw.x."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.in").write_text(text)
    with (directory / "run.out").open("w") as out:
        subprocess.run(["pw.x", "-i", "run.in"], cwd=directory, stdout=out, stderr=out, check=False)
    return directory / "run.out"
