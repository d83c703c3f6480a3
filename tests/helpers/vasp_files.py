"""OUTCAR and vasprun.xml as VASP 5.4.4 and 6.3 lay them out, around given frames: VASP cannot run here.

Every line that a reader could look for stands where VASP puts it, in VASP's fixed-width formats, with the
SCF iterations, timings and partial forces in between that make real files long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RULE = "-" * 104
TABLE = " " + "-" * 83
TITLES = {"Si": "PAW_PBE Si 05Jan2001", "O": "PAW_PBE O 08Apr2002"}
VALENCE = {"Si": 4.0, "O": 6.0}
BOLTZMANN_EV_K = 8.617333262e-5
KBAR_PER_EV_A3 = 1602.1766


@dataclass(frozen=True)
class VaspRun:
    """F ionic steps: `species` sorted, positions (F, N, 3) A, forces eV/A, energies TOTEN, cells (F, 3, 3).

    Steps in `unconverged` (from 1) use up NELM and end with a change of energy above EDIFF, those in `late`
    use up NELM and just converge. `entropy_eV` separates TOTEN, the energy without entropy and
    the one at sigma -> 0.
    """

    species: Sequence[str]
    positions: np.ndarray
    forces: np.ndarray
    energies: np.ndarray
    cells: np.ndarray
    version: str = "5.4.4"
    tebeg_K: float = 3000.0
    teend_K: float = 3000.0
    potim_fs: float = 2.0
    smass: float = 0.0
    nelm: int = 60
    scf_steps: int = 8
    entropy_eV: float = 0.02
    unconverged: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()
    stress: bool = True
    ibrion: int = 0
    pstress_kbar: float = 0.0
    charge: float = 0.0
    kinetic_K: np.ndarray = field(default_factory=lambda: np.array([]))

    @property
    def six(self) -> bool:
        return self.version.startswith("6")

    def kelvin(self, step: int) -> float:
        return float(self.kinetic_K[step - 1]) if len(self.kinetic_K) else 3000.0 + 10 * step

    def counts(self) -> dict[str, int]:
        return {name: list(self.species).count(name) for name in dict.fromkeys(self.species)}

    def electrons(self) -> float:
        return sum(VALENCE[name] * number for name, number in self.counts().items()) - self.charge

    def scf(self, step: int) -> int:
        return self.nelm if step in self.unconverged | self.late else self.scf_steps

    def off_eV(self, step: int, scf: int) -> float:  # noqa: N802 - the unit
        """How far the energy is from the last one after an SCF step; EDIFF is 1e-4."""
        if step in self.unconverged:
            return 2.4e-3 * (-1) ** scf
        return 10.0 ** (1 - scf)


# OUTCAR -------------------------------------------------------------------------------------------


def write_outcar(path: Path, run: VaspRun, *, ends: bool = True) -> None:
    with path.open("w") as out:
        out.write(outcar_head(run))
        for step in range(1, len(run.energies) + 1):
            out.write(outcar_step(run, step))
        if ends:
            out.write(outcar_tail())


def outcar_head(run: VaspRun) -> str:
    build = {"5": "24Jun15", "6": "20Jan22"}[run.version[0]]
    lines = [
        f" vasp.{run.version} {build} (build Apr 16 2019 15:17:11) gamma-only",
        "",
        " executed on             LinuxIFC date 2019.05.27  08:36:08",
        " running on   32 total cores",
        " distrk:  each k-point on   32 cores,    1 groups",
        " distr:  one band on NCORES_PER_BAND=   8 cores,    4 groups",
        "",
        "",
        RULE,
        "",
        "",
        " INCAR:",
    ]
    counts = run.counts()
    lines += [f" POTCAR:    {TITLES[name]}" for name in counts]
    for name in counts:
        mass, valence = {"Si": 28.085, "O": 16.0}[name], VALENCE[name]
        lines += [
            f" POTCAR:    {TITLES[name]}",
            f"   VRHFIN ={name}: s2p2",
            "   LEXCH  = PE",
            "   EATOM  =   103.0669 eV,    7.5752 Ry",
            "",
            f"   TITEL  = {TITLES[name]}",
            "   LULTRA =        F    use ultrasoft PP ?",
            f"   POMASS = {mass:8.3f}; ZVAL   = {valence:8.3f}    mass and valenz",
            "   ENMAX  =  245.345; ENMIN  =  184.009 eV",
            "",
        ]
    n = len(run.species)
    lines += [
        "",
        f" POSCAR: {' '.join(f'{k}{v}' for k, v in counts.items())}",
        "",
        RULE,
        "",
        " Dimension of arrays:",
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   "
        "number of bands    NBANDS=    320",
        f"   number of dos      NEDOS =    301   number of ions     NIONS = {n:6d}",
        f"   ions per type =            {''.join(f'{v:4d}' for v in counts.values())}",
        "",
        " SYSTEM =  silica",
        f" POSCAR =  {' '.join(f'{k}{v}' for k, v in counts.items())}",
        "",
        " Startparameter for this run:",
        "   NWRITE =      2    write-flag & timer",
        "   PREC   = normal    normal or accurate (medium, high low for compatibility)",
        "   ISPIN  =      1    spin polarized calculation?",
        *([] if run.six else ["   METAGGA=      F    non-selfconsistent MetaGGA calc."]),
        "",
        " Electronic Relaxation 1",
        "   ENCUT  =  500.0 eV  36.75 Ry    6.06 a.u.  20.00 20.00 20.00*2*pi/ulx,y,z",
        "   ENINI  =  500.0     initial cutoff",
        f"   NELM   = {run.nelm:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps ",
        "   EDIFF  = 0.1E-03   stopping-criterion for ELM",
        " Ionic relaxation",
        "   EDIFFG = 0.1E-02   stopping-criterion for IOM",
        f"   NSW    = {len(run.energies):6d}    number of steps for IOM",
        "   NBLOCK =      1;   KBLOCK =     10    inner block; outer block ",
        f"   IBRION = {run.ibrion:6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
        f"   ISIF   = {2 if run.stress else 0:6d}    stress and relaxation",
        "",
        f"   POTIM  = {run.potim_fs:.4f}    time-step for ionic-motion",
        "   TEIN   =    0.0    initial temperature",
        f"   TEBEG  = {run.tebeg_K:6.1f};   TEEND  ={run.teend_K:6.1f} temperature during run",
        f"   SMASS  = {run.smass:6.2f}    Nose mass-parameter (am)",
        f"   PSTRESS= {run.pstress_kbar:6.1f} pullay stress",
        "",
        f"   NELECT = {run.electrons():12.4f}    total number of electrons",
        "",
        " Exchange correlation treatment:",
        "   GGA     =    --    GGA type",
        "   LEXCH   =     8    internal setting for exchange type",
        "   VOSKOWN=      0    Vosko Wilk Nusair interpolation",
        "   LHFCALC =     F    Hartree Fock is set to",
        "",
        RULE,
        "",
        *lattice(run.cells[0]),
        " ",
        " k-points in units of 2pi/SCALE and weight: Gamma",
        "   0.00000000  0.00000000  0.00000000       1.000",
        " ",
        " k-points in reciprocal lattice and weights: Gamma",
        "   0.00000000  0.00000000  0.00000000       1.000",
        " ",
        " position of ions in cartesian coordinates  (Angst):",
        *("  " + "".join(f"{v:12.8f}" for v in row) for row in run.positions[0]),
        " ",
        "",
        RULE,
        "",
        "",
    ]
    return "\n".join(lines) + "\n"


def lattice(cell: np.ndarray) -> list[str]:
    reciprocal = np.linalg.inv(cell).T

    def row(vector: np.ndarray) -> str:
        return "".join(f"{value:13.9f}" for value in vector)

    return [
        "  energy-cutoff  :      500.00",
        f"  volume of cell : {abs(np.linalg.det(cell)):12.2f}",
        "      direct lattice vectors                 reciprocal lattice vectors",
        *(f"  {row(a)}  {row(b)}" for a, b in zip(cell, reciprocal, strict=True)),
        "",
        "  length of vectors",
        f"  {row(np.linalg.norm(cell, axis=1))}  {row(np.linalg.norm(reciprocal, axis=1))}",
        "",
        "",
    ]


def _dashed(left: int, step: int, scf: int, six: bool) -> str:
    number = f"{step:7d}" if six else f"{step:5d}"
    return f"{'-' * left} Iteration{number}({scf:4d})  ---------------------------------------"


def outcar_step(run: VaspRun, step: int) -> str:
    energy, forces, positions = run.energies[step - 1], run.forces[step - 1], run.positions[step - 1]
    lines: list[str] = []
    for scf in range(1, run.scf(step) + 1):
        off = run.off_eV(step, scf)
        lines += [
            _dashed(39 if run.six else 41, step, scf, run.six),
            "",
            "",
            "    POTLOK:  cpu time    3.0137: real time    3.0147",
            "    SETDIJ:  cpu time    0.2524: real time    0.2524",
            "     EDDAV:  cpu time    0.0835: real time    0.0835",
            "       DOS:  cpu time    0.0000: real time    0.0000",
            "    CHARGE:  cpu time    0.2006: real time    0.2008",
            "    MIXING:  cpu time    0.0943: real time    0.0943",
            "    --------------------------------------------",
            "      LOOP:  cpu time    3.6456: real time    3.6475",
            "",
            " eigenvalue-minimisations  :   640",
            f" total energy-change (2. order) :{-off:14.7E}  ({-off:14.7E})",
            " number of electron     512.0000000 magnetization ",
            " augmentation part      -12.2053910 magnetization ",
            "",
            " Free energy of the ion-electron system (eV)",
            "  ---------------------------------------------------",
            "  alpha Z        PSCENC =       128.64528598",
            "  Ewald energy   TEWEN  =    -26847.11065641",
            "  -Hartree energ DENC   =    -14669.21777876",
            "  -exchange      EXHF   =         0.00000000",
            "  -V(xc)+E(xc)   XCENC  =      1550.21928679",
            "  PAW double counting   =     17330.99712485   -18534.07282094",
            f"  entropy T*S    EENTRO = {-run.entropy_eV:18.8f}",
            "  eigenvalues    EBANDS =     -1690.09229602",
            "  atomic energy  EATOM  =     31397.57885736",
            "  ---------------------------------------------------",
            f"  free energy    TOTEN  = {energy + off:18.8f} eV",
            "",
            f"  energy without entropy = {energy + off + run.entropy_eV:17.8f}  "
            f"energy(sigma->0) = {energy + off + run.entropy_eV / 2:17.8f}",
            "",
            "",
            RULE,
            "",
            "",
            "",
            "",
        ]
    # VASP 5 says so at NELM, too.
    if run.six and step in run.unconverged:
        lines[-6:] = ["", f"{'-' * 24} aborting loop EDIFF was not reached (unconverged)  {'-' * 28}", "", ""]
    else:
        lines[-6:] = ["", f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 40}", "", ""]
    lines += [
        "    FORLOC:  cpu time    2.4384: real time    2.4444",
        "    FORNL :  cpu time    2.1587: real time    2.1640",
        "",
    ]
    if run.stress:
        lines += stress_block(run)
    lines += [
        " VOLUME and BASIS-vectors are now :",
        " -----------------------------------------------------------------------------",
        *lattice(run.cells[step - 1]),
        " FORCES acting on ions",
        "    electron-ion (+dipol)            ewald-force                    non-local-force                 "
        "convergence-correction",
        " " + "-" * 95,
    ]
    scaled = forces * 25.0
    for a, b in zip(scaled, forces, strict=True):
        parts = [*a, *(-a), *b, *(b / 1000)]
        lines.append("  " + "  ".join("".join(f"{v:10.2E}" for v in parts[k : k + 3]) for k in (0, 3, 6, 9)))
    lines += [
        " " + "-" * 95,
        "   0.466E-02 -.436E-01 -.123E+01   0.160E-13 -.444E-15 0.426E-13   -.463E-02 0.436E-01 0.123E+01",
        " ",
        " ",
        " POSITION                                       TOTAL-FORCE (eV/Angst)",
        TABLE,
        *(
            " " + " ".join(f"{v:12.5f}" for v in x) + "   " + "".join(f" {v:13.6f}" for v in f)
            for x, f in zip(positions, forces, strict=True)
        ),
        TABLE,
        "    total drift:                      " + "".join(f"{v:14.6f}" for v in forces.sum(axis=0)),
        "",
        "",
        RULE,
        "",
        "",
        "",
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
        "  ---------------------------------------------------",
        f"  free  energy   TOTEN  = {energy:18.8f} eV",
        "",
        f"  energy  without entropy={energy + run.entropy_eV:17.8f}  "
        f"energy(sigma->0) ={energy + run.entropy_eV / 2:17.8f}",
        " ",
        "",
        "",
        RULE,
        "",
        "",
        "    POTLOK:  cpu time    3.1955: real time    3.1968",
        "",
        "",
        RULE,
        "",
        "",
    ]
    if run.ibrion == 0:
        kelvin = run.kelvin(step)
        kinetic = 1.5 * (len(run.species) - 1) * BOLTZMANN_EV_K * kelvin
        lines += [
            "    IONSTEP:  cpu time    0.0020: real time    0.0045",
            "",
            "  ENERGY OF THE ELECTRON-ION-THERMOSTAT SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"% ion-electron   TOTEN  = {energy:16.6f}  see above",
            f"  kinetic energy EKIN   = {kinetic:16.6f}",
            f"  kin. lattice  EKIN_LAT= {0.0:16.6f}  (temperature {kelvin:7.2f} K)",
            f"  nose potential ES     = {0.0:16.6f}",
            f"  nose kinetic   EPS    = {0.0:16.6f}",
            "  ---------------------------------------------------",
            f"  total energy   ETOTAL = {energy + kinetic:16.6f} eV",
            "",
            "  maximum distance moved by ions :      0.14E-02",
            "",
        ]
    lines += ["     LOOP+:  cpu time   69.5910: real time   69.7456", "", ""]
    return "\n".join(lines) + "\n"


def stress_block(run: VaspRun) -> list[str]:
    row = "    -0.02547    -0.00124     0.04589    -0.00000     0.00154    -0.00006"
    return [
        "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
        "  Direction    XX          YY          ZZ          XY          YZ          ZX",
        "  " + "-" * 86,
        "  Alpha Z     0.04256     0.04256     0.04256",
        *(f"  {name:7s}{row}" for name in ("Ewald", "Hartree", "E(xc)", "Local", "n-local", "augment")),
        f"  Kinetic{row}",
        f"  Fock   {row}",
        "  " + "-" * 85,
        f"  Total  {row}",
        f"  in kB  {row}",
        "  external pressure =        0.00 kB  Pullay stress =        0.00 kB",
        "",
        "",
    ]


def outcar_tail() -> str:
    return (
        " total amount of memory used by VASP on root node  7350010. kBytes\n\n\n"
        " General timing and accounting informations for this job:\n"
        " ========================================================\n\n"
        "                  Total CPU time used (sec):     2972.701\n"
        "                 Voluntary context switches:          737\n"
    )


# vasprun.xml --------------------------------------------------------------------------------------


def write_vasprun(path: Path, run: VaspRun, *, ends: bool = True) -> None:
    with path.open("w") as out:
        out.write(vasprun_head(run))
        for step in range(1, len(run.energies) + 1):
            out.write(vasprun_step(run, step))
        if ends:
            cell, positions = run.cells[-1], run.positions[-1]
            out.write(_structure(cell, positions, ' name="finalpos"', indent=" ") + "</modeling>\n")


def _varray(name: str, rows: np.ndarray, indent: str) -> str:
    body = "".join(f"{indent} <v>{''.join(f'{v:17.8f}' for v in row)} </v>\n" for row in rows)
    return f'{indent}<varray name="{name}" >\n{body}{indent}</varray>\n'


def _structure(cell: np.ndarray, positions: np.ndarray, name: str, indent: str) -> str:
    return (
        f"{indent}<structure{name} >\n{indent} <crystal>\n".replace(" >", ">" if not name else " >")
        + _varray("basis", cell, indent + "  ")
        + f'{indent}  <i name="volume">{abs(np.linalg.det(cell)):17.8f} </i>\n'
        + _varray("rec_basis", np.linalg.inv(cell).T, indent + "  ")
        + f"{indent} </crystal>\n"
        + _varray("positions", positions @ np.linalg.inv(cell), indent + " ")
        + f"{indent}</structure>\n"
    )


def vasprun_head(run: VaspRun) -> str:
    counts = run.counts()
    kinds = {name: index for index, name in enumerate(counts, start=1)}
    atoms = "".join(f"    <rc><c>{name:2s}</c><c>{kinds[name]:4d}</c></rc>\n" for name in run.species)
    types = "".join(
        f"    <rc><c>{count:4d}</c><c>{name:2s}</c><c>     28.08500000</c><c>{VALENCE[name]:16.8f}</c>"
        f"<c>  {TITLES[name]:38s}</c></rc>\n"
        for name, count in counts.items()
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">{run.version}  </i>
  <i name="subversion" type="string">24Jun15 (build Apr 16 2019 15:17:11) gamma-only  parallel </i>
  <i name="platform" type="string">LinuxIFC </i>
 </generator>
 <incar>
  <i type="string" name="PREC">normal</i>
  <i name="ENCUT">    500.00000000</i>
  <i type="int" name="NSW">{len(run.energies):6d}</i>
 </incar>
 <kpoints>
  <generation param="Gamma">
   <v type="int" name="divisions">       1        1        1 </v>
  </generation>
  <varray name="kpointlist" >
   <v>       0.00000000       0.00000000       0.00000000 </v>
  </varray>
  <varray name="weights" >
   <v>       1.00000000 </v>
  </varray>
 </kpoints>
 <parameters>
  <separator name="electronic" >
   <i type="string" name="PREC">normal</i>
   <i name="ENMAX">    500.00000000</i>
   <i name="EDIFF">      0.00010000</i>
   <i name="NELECT">{run.electrons():16.8f}</i>
   <separator name="electronic convergence" >
    <i type="int" name="NELM">{run.nelm:6d}</i>
   </separator>
  </separator>
  <separator name="ionic" >
   <i type="int" name="NSW">{len(run.energies):6d}</i>
   <i type="int" name="IBRION">{run.ibrion:6d}</i>
   <i type="int" name="MDALGO">     0</i>
   <i type="int" name="ISIF">{2 if run.stress else 0:6d}</i>
   <i name="PSTRESS">{run.pstress_kbar:16.8f}</i>
   <i name="POTIM">{run.potim_fs:16.8f}</i>
   <i name="SMASS">{run.smass:16.8f}</i>
  </separator>
  <separator name="ionic md" >
   <i name="TEBEG">{run.tebeg_K:16.8f}</i>
   <i name="TEEND">{run.teend_K:16.8f}</i>
  </separator>
  <separator name="electronic exchange-correlation" >
   <i type="string" name="GGA">--</i>
   <i type="logical" name="LHFCALC"> F  </i>
  </separator>
 </parameters>
 <atominfo>
  <atoms>{len(run.species):8d} </atoms>
  <types>{len(counts):8d} </types>
  <array name="atoms" >
   <dimension dim="1">ion</dimension>
   <field type="string">element</field>
   <field type="int">atomtype</field>
   <set>
{atoms}   </set>
  </array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field>
   <field>valence</field>
   <field type="string">pseudopotential</field>
   <set>
{types}   </set>
  </array>
 </atominfo>
""" + _structure(run.cells[0], run.positions[0], ' name="initialpos"', indent=" ")


def vasprun_learned_step(run: VaspRun, step: int) -> str:
    """A step that the machine-learned force field of VASP 6 made: no <calculation>, the same elements."""
    kinetic = 1.5 * (len(run.species) - 1) * BOLTZMANN_EV_K * run.kelvin(step)
    return (
        _structure(run.cells[step - 1], run.positions[step - 1], "", indent=" ")
        + _varray("forces", run.forces[step - 1] * 1.1, " ")
        + " <energy>\n"
        + _energies(run.energies[step - 1] + 0.1, 0.0, " ")
        + f'  <i name="kinetic">{kinetic:16.8f} </i>\n </energy>\n'
        + ' <time name="totalsc">    0.04    0.04</time>\n'
    )


def _energies(energy: float, entropy: float, indent: str) -> str:
    return (
        f'{indent} <i name="e_fr_energy">{energy:16.8f} </i>\n'
        f'{indent} <i name="e_wo_entrp">{energy + entropy:16.8f} </i>\n'
        f'{indent} <i name="e_0_energy">{energy + entropy / 2:16.8f} </i>\n'
    )


def vasprun_step(run: VaspRun, step: int) -> str:
    energy, cell = run.energies[step - 1], run.cells[step - 1]
    text = " <calculation>\n"
    last = run.scf(step)
    for scf in range(1, last + 1):
        off = 0.0 if scf == last else run.off_eV(step, scf)
        text += (
            '  <scstep>\n   <time name="dav">    0.01    0.01</time>\n'
            '   <time name="total">    0.01    0.01</time>\n   <energy>\n'
            + _energies(energy + off, run.entropy_eV, "   ")
            + "   </energy>\n  </scstep>\n"
        )
    text += _structure(cell, run.positions[step - 1], "", indent="  ")
    text += _varray("forces", run.forces[step - 1], "  ")
    if run.stress:
        text += _varray("stress", np.eye(3) * -12.5, "  ")
    # With PSTRESS the summary holds enthalpies.
    volume = abs(np.linalg.det(cell))
    enthalpy = energy + run.pstress_kbar * volume / KBAR_PER_EV_A3
    text += "  <energy>\n" + _energies(enthalpy, run.entropy_eV, "  ")
    if run.ibrion == 0:
        kinetic = 1.5 * (len(run.species) - 1) * BOLTZMANN_EV_K * run.kelvin(step)
        text += (
            f'   <i name="kinetic">{kinetic:16.8f} </i>\n   <i name="lattice kinetic">{0.0:16.8f} </i>\n'
            f'   <i name="nosepot">{0.0:16.8f} </i>\n   <i name="nosekinetic">{0.0:16.8f} </i>\n'
            f'   <i name="total">{enthalpy + kinetic:16.8f} </i>\n'
        )
    return text + '  </energy>\n  <time name="totalsc">    0.11    0.12</time>\n </calculation>\n'
