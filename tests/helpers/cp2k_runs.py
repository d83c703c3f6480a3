"""Small runs of CP2K, for what a reader must find in its output: SiO2 in a box, few plane waves."""

from __future__ import annotations

import subprocess
from pathlib import Path

from jobs.engines.first_principles import cp2k


def xc(
    functional: str,
    inner: str = "",
    *,
    pair: str | None = None,
    damped: str | None = None,
    non_local: str | None = None,
) -> str:
    """An XC section: a shortcut, or a part (`&PBE`) with a keyword; a pair or a non-local dispersion.

    A pair dispersion is `damped` for the functional, or as is said.
    """
    if functional.startswith("&"):
        text = f"&XC_FUNCTIONAL\n{functional}\n{inner}\n&END\n&END XC_FUNCTIONAL\n"
    else:
        text = f"&XC_FUNCTIONAL {functional}\n&END XC_FUNCTIONAL\n"
    if pair is not None:
        text += (
            f"&VDW_POTENTIAL\nPOTENTIAL_TYPE PAIR_POTENTIAL\n&PAIR_POTENTIAL\nTYPE {pair}\n"
            f"PARAMETER_FILE_NAME dftd3.dat\n{damped or f'REFERENCE_FUNCTIONAL {functional}'}\n"
            "&END PAIR_POTENTIAL\n&END VDW_POTENTIAL\n"
        )
    if non_local is not None:
        text += (
            f"&VDW_POTENTIAL\nPOTENTIAL_TYPE NON_LOCAL\n&NON_LOCAL\nTYPE {non_local}\n"
            "KERNEL_FILE_NAME rVV10_kernel_table.dat\nCUTOFF 50\n&END NON_LOCAL\n&END VDW_POTENTIAL\n"
        )
    return text


def deck(
    run_type: str,
    *,
    xc: str = xc("PBE"),
    dft: str = "",
    preconditioner: str = "FULL_ALL",
    kind_of_o: str = "",
    motion: str = "",
    print_level: str = "MEDIUM",
    max_scf: int = 60,
    cell: str = "ABC 5 5 5",
    stress: bool = False,
) -> str:
    """An input; `motion` is what stands in MOTION beside its PRINT section."""
    kinds = "".join(
        f"&KIND {name}\nBASIS_SET SZV-MOLOPT-SR-GTH\nPOTENTIAL GTH-PBE-q{q}\n{more}\n&END KIND\n"
        for name, q, more in (("Si", 4, ""), ("O", 6, kind_of_o))
    )
    printed = "&PRINT\n&FORCES ON\n&END FORCES\n&CELL ON\n&END CELL\n&END PRINT\n"
    return f"""&GLOBAL
PROJECT liquid
PRINT_LEVEL {print_level}
RUN_TYPE {run_type}
&END GLOBAL
&FORCE_EVAL
METHOD QS
{"STRESS_TENSOR ANALYTICAL" if stress else ""}
&PRINT
&FORCES ON
&END FORCES
&END PRINT
&DFT
BASIS_SET_FILE_NAME BASIS_MOLOPT
POTENTIAL_FILE_NAME GTH_POTENTIALS
{dft}
&MGRID
CUTOFF 120
REL_CUTOFF 25
&END MGRID
&SCF
EPS_SCF 1e-6
MAX_SCF {max_scf}
&OT
MINIMIZER DIIS
PRECONDITIONER {preconditioner}
ENERGY_GAP 0.05
&END OT
&END SCF
&XC
{xc}&END XC
&END DFT
&SUBSYS
&CELL
{cell}
&END CELL
&COORD
Si 2.5 2.5 2.5
O 4.02 2.6 2.5
O 0.98 2.45 2.62
&END COORD
{kinds}&END SUBSYS
&END FORCE_EVAL
{f"&MOTION{chr(10)}{motion}{chr(10)}{printed}&END MOTION{chr(10)}" if motion else ""}"""


def run(directory: Path, text: str) -> Path:
    """The log of a run."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.inp").write_text(text)
    with (directory / "run.out").open("w") as log:
        subprocess.run([cp2k.find_cp2k(), "-i", "run.inp"], cwd=directory, stdout=log, stderr=log, check=True)
    return directory / "run.out"


def run_single_point(directory: Path, **changes: object) -> Path:
    """The log of a single point."""
    return run(directory, deck("ENERGY_FORCE", **changes))  # type: ignore[arg-type]


def run_md(
    directory: Path, *, steps: int = 3, ensemble: str = "NVE", bath: str = "", **changes: object
) -> Path:
    """The folder of molecular dynamics."""
    md = f"&MD\nENSEMBLE {ensemble}\nSTEPS {steps}\nTIMESTEP 1.0\nTEMPERATURE 1000\n{bath}&END MD"
    run(directory, deck("MD", motion=md, **changes))  # type: ignore[arg-type]
    return directory
