"""The level of theory of a run: every part that moves energies, from any file; unlike ones never meet."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.reference.formats import Source
from jobs.reference.formats.sources import open_sources
from jobs.reference.sets import list_sets, read_set
from jobs.stages.data import dataset
from tests.engines.test_cp2k import needs_cp2k
from tests.helpers.cp2k_runs import run_md, run_single_point, xc
from tests.helpers.pwx_runs import HYDROGEN, SILICON, ULTRASOFT, deck, run_pwx
from tests.helpers.vasp_files import outcar_head, outcar_step, outcar_tail, write_outcar, write_vasprun
from tests.reference.test_import import FRAMES, needs_pwx, said, vasp_run


def opened(path: Path) -> Source:
    """The only source at a path, after its frames have been gone through."""
    (source,) = open_sources([path])
    for _ in source.batches:
        pass
    return source


def outcar(directory: Path, *, head: dict[str, str] | None = None, forces: str = "") -> Path:
    """An OUTCAR with changed settings, and with lines before the forces of its first step."""
    run = vasp_run()
    text = outcar_head(run)
    for old, new in (head or {}).items():
        assert old in text
        text = text.replace(old, new)
    steps = [outcar_step(run, step) for step in range(1, FRAMES + 1)]
    steps[0] = steps[0].replace("    FORLOC:", f"{forces}    FORLOC:", 1)
    directory.mkdir(exist_ok=True)
    (directory / "OUTCAR").write_text(text + "".join(steps) + outcar_tail())
    return directory / "OUTCAR"


def vasprun(directory: Path, tags: str, *, titles: str = "PAW_PBE") -> Path:
    path = directory / "vasprun.xml"
    write_vasprun(path, vasp_run())
    text = path.read_text().replace(" <parameters>\n", f" <parameters>\n{tags}", 1)
    path.write_text(text.replace("PAW_PBE", titles))
    return path


# The atoms as a POSCAR has them whose POTCARs stand the other way round.
SWAPPED = ("O",) * 64 + ("Si",) * 32
HYBRID = "   LHFCALC =     T    Hartree Fock is set to\n"
TREATMENT = "   LHFCALC =     F    Hartree Fock is set to\n"
GGA = "   GGA     =    --    GGA type\n"


class TestVasp:
    @pytest.mark.parametrize(
        ("head", "forces", "functional"),
        [
            ({}, "", "PBE"),
            ({}, "         DFTD3 V3.0 Rev 1\n IVDW         = 11\n VDW_S8 = 0.7220\n", "PBE + D3"),
            ({}, " IVDW         = 12\n", "PBE + D3(BJ)"),
            ({" INCAR:\n": " INCAR:\n   IVDW = 20\n"}, "", "PBE + TS"),
            ({}, "  LVDW  =   T\n", "PBE + D2"),
            ({}, " Edisp (eV)   -1.23456\n", "PBE + a dispersion correction without a name"),
            ({GGA: GGA.replace("--", "RP")}, " IVDW = 11\n", "RPBE + D3"),
            ({" INCAR:\n": " INCAR:\n   LHFCALC = .TRUE. ; AEXX = 0.3; IVDW = 12\n"}, "",
             "PBE + 30 % exact exchange + D3(BJ)"),
            (
                {TREATMENT: HYBRID + "   AEXX    =    0.2500 exact\n   HFSCREEN=   0.2000\n"},
                "",
                "PBE + 25 % exact exchange screened at 0.2/A",
            ),
            (
                {TREATMENT: HYBRID + "   AEXX    =    0.2000 exact\n   ALDAX   =    0.8000\n"
                 "   AGGAX   =    0.7200\n   ALDAC   =    0.1900\n   AGGAC   =    0.8100\n",
                 GGA: GGA.replace("--", "B3")},
                "",
                "B3 (VWN3) with AGGAX 0.72, ALDAC 0.19, AGGAC 0.81 + 20 % exact exchange",
            ),
            (
                {TREATMENT: HYBRID + "   AEXX    =    0.1000 exact\n   HFSCREEN=   1.2600\n   LTHOMAS = T\n"},
                "",
                "PBE + 10 % exact exchange screened at 1.26/A LTHOMAS",
            ),
            (
                {" INCAR:\n": " INCAR:\n   METAGGA = R2SCAN\n   LUSE_VDW = .TRUE.\n   BPARAM = 11.95\n"},
                "",
                "R2SCAN + vdW-DF (BPARAM 11.95)",
            ),
            ({TREATMENT: "   METAGGA=   SCAN\n" + TREATMENT}, " IVDW = 13\n", "SCAN + D4"),
            ({TREATMENT: "   METAGGA=   None\n" + TREATMENT}, " IVDW = 12\n", "PBE + D3(BJ)"),
            (
                {GGA: GGA.replace("--", "MK") + "   LUSE_VDW=    T\n   Zab_VDW = -0.8491\n"
                 "   PARAM1 = 0.1234\n   PARAM2 = 1.0000\n   AGGAC = 0.0\n"},
                "",
                "optB86b + vdW-DF (Zab_VDW -0.8491, PARAM1 0.1234, PARAM2 1)",
            ),
        ],
    )  # fmt: skip
    def test_functional_of_an_outcar(self, tmp_path, head, forces, functional):
        assert opened(outcar(tmp_path, head=head, forces=forces)).functional == functional

    @pytest.mark.parametrize(
        ("tags", "functional"),
        [
            ("", "PBE"),
            ('<i type="string" name="METAGGA">None</i><i type="int" name="IVDW">12</i>\n', "PBE + D3(BJ)"),
            ('<i type="string" name="METAGGA">R2SCAN</i>\n', "R2SCAN"),
            ('<i type="int" name="IVDW">202</i>\n', "PBE + MBD"),
            (
                '<i type="logical" name="LHFCALC"> T </i><i name="AEXX">0.25</i><i name="HFSCREEN">0.2</i>\n',
                "PBE + 25 % exact exchange screened at 0.2/A",
            ),
            (
                '<i type="string" name="METAGGA">SCAN</i><i type="logical" name="LHFCALC"> T </i>'
                '<i name="AEXX">0.10</i><i type="int" name="IVDW">11</i>\n',
                "SCAN + 10 % exact exchange + D3",
            ),
            (
                '<i type="string" name="GGA">OR</i><i type="logical" name="LUSE_VDW"> T </i>'
                '<i name="AGGAC">0.0</i><i name="Zab_VDW">-1.8867</i>\n',
                "optPBE + vdW-DF (Zab_VDW -1.8867)",
            ),
        ],
    )
    def test_functional_of_a_vasprun(self, tmp_path, tags, functional):
        assert opened(vasprun(tmp_path, tags)).functional == functional

    def test_functional_of_a_vasprun_by_its_potcars(self, tmp_path):
        assert opened(vasprun(tmp_path, "", titles="PAW")).functional == "LDA"
        assert opened(vasprun(tmp_path, "", titles="PAW_GGA")).functional == "PW91"
        assert opened(vasprun(tmp_path, "", titles="US")).functional is None

    def test_spin_and_hubbard_are_of_the_level(self, tmp_path):
        plain = opened(outcar(tmp_path / "plain")).level
        assert plain.settings == {"potcar": "PAW_PBE Si 05Jan2001, PAW_PBE O 08Apr2002"}
        spin = {"ISPIN  =      1": "ISPIN  =      2"}
        assert opened(outcar(tmp_path / "spin", head=spin)).level.settings["spin"] == "polarised"
        fixed = {"ISPIN  =      1": "NUPDOWN=  2.0000000 fix difference up-down\n   ISPIN  =      2"}
        moment = opened(outcar(tmp_path / "moment", head=fixed)).level.settings["spin"]
        assert moment == "polarised, NUPDOWN 2"
        coupled = {"   ISPIN  =": "   LNONCOLLINEAR =      T non\n   LSORBIT =      T    spin\n   ISPIN  ="}
        assert opened(outcar(tmp_path / "soc", head=coupled)).level.settings["spin"] == "spin-orbit"
        lines = (
            " LDA+U is selected, type is set to LDAUTYPE =  2\n"
            "   angular momentum for each species LDAUL =     1   -1\n"
            "   U (eV)           for each species LDAUU =   4.0  0.0\n"
            "   J (eV)           for each species LDAUJ =   0.0  0.0\n"
        )
        hubbard = {" Exchange correlation treatment:\n": lines + " Exchange correlation treatment:\n"}
        expected = "LDAUTYPE 2, LDAUL 1 -1, LDAUU 4 0, LDAUJ 0 0"
        assert opened(outcar(tmp_path / "u", head=hubbard)).level.plus_u == expected
        tags = (
            '<i type="logical" name="LDAU"> T </i><i type="int" name="LDAUTYPE">2</i>'
            '<v type="int" name="LDAUL"> 1 -1</v><v name="LDAUU"> 4.00000000 0.00000000</v>'
            '<v name="LDAUJ"> 0.00000000 0.00000000</v>\n'
        )
        assert opened(vasprun(tmp_path, tags)).level.plus_u == expected

    @pytest.mark.parametrize("changes", [{}, {"charge": 1.0}, {"species": SWAPPED}])
    def test_both_files_of_a_run_say_the_same(self, tmp_path, changes):
        write_outcar(tmp_path / "OUTCAR", replace(vasp_run(), **changes))
        write_vasprun(tmp_path / "vasprun.xml", replace(vasp_run(), **changes))
        assert opened(tmp_path / "OUTCAR").level == opened(tmp_path / "vasprun.xml").level

    @pytest.mark.parametrize(("charge", "found"), [(0.0, None), (1.0, "+1"), (-2.0, "-2"), (0.5, "+0.5")])
    def test_a_charge_is_what_electrons_lack(self, tmp_path, charge, found):
        write_outcar(tmp_path / "OUTCAR", vasp_run(charge=charge))
        write_vasprun(tmp_path / "vasprun.xml", vasp_run(charge=charge))
        for name in ("OUTCAR", "vasprun.xml"):
            assert opened(tmp_path / name).level.charge == found

    def test_potcars_by_their_dates_in_whatever_order(self, tmp_path):
        """Of another date they are another potential; of another order the same ones."""
        plain = opened(outcar(tmp_path / "plain")).level
        write_outcar(tmp_path / "OUTCAR", replace(vasp_run(), species=SWAPPED))
        assert opened(tmp_path / "OUTCAR").level == plain
        for date in ("15Nov2016", "04Jan2001_new"):
            dated = opened(outcar(tmp_path / date, head={"Si 05Jan2001": f"Si {date}"})).level
            assert dated.settings["potcar"] == f"PAW_PBE Si {date}, PAW_PBE O 08Apr2002"

    def test_hubbard_goes_with_its_potcar(self, tmp_path):
        levels = []
        for species, rows in ((vasp_run().species, ("1 -1", "4.0 0.0")), (SWAPPED, ("-1 1", "0.0 4.0"))):
            tags = (
                '<i type="logical" name="LDAU"> T </i>'
                f'<v type="int" name="LDAUL"> {rows[0]}</v><v name="LDAUU"> {rows[1]}</v>\n'
            )
            write_vasprun(tmp_path / "vasprun.xml", replace(vasp_run(), species=species))
            text = (tmp_path / "vasprun.xml").read_text()
            (tmp_path / "vasprun.xml").write_text(text.replace(" <parameters>\n", f" <parameters>\n{tags}"))
            levels.append(opened(tmp_path / "vasprun.xml").level)
        assert levels[0] == levels[1]
        assert levels[0].plus_u == "LDAUL 1 -1, LDAUU 4 0"

    @pytest.mark.parametrize(
        ("lines", "dispersion"),
        [
            ("VDW_S6 = 1.0000\n VDW_S8 = 0.7220\n VDW_SR = 1.2170\n VDW_RADIUS = 50.2022 A\n", "D3"),
            ("VDW_S8       =    0.5140\n VDW_SR       =    0.8720\n", "D3 with VDW_S8 0.514, VDW_SR 0.872"),
            ("VDW_SR = 1.2180\n", "D3 with VDW_SR 1.218"),
            ("VDW_RADIUS   =   10.0000 A\n VDW_CNRADIUS =   21.1671 A\n", "D3 with VDW_RADIUS 10"),
        ],
    )
    def test_damping_that_is_not_the_functionals_own(self, tmp_path, lines, dispersion):
        """An OUTCAR lists all of it; a vasprun.xml only what the user gave."""
        path = outcar(tmp_path, forces=f" IVDW = 11\n {lines}")
        assert opened(path).level.dispersion == dispersion

    def test_damping_of_a_vasprun(self, tmp_path):
        tags = '<i type="int" name="IVDW">12</i><i name="VDW_A1">0.5</i><i name="VDW_S8">0.7875</i>\n'
        assert opened(vasprun(tmp_path, tags)).level.dispersion == "D3(BJ) with VDW_A1 0.5"
        tags = '<i type="int" name="IVDW">1</i><v name="VDW_C6"> 9.23 0.70</v>\n'
        assert opened(vasprun(tmp_path, tags)).level.dispersion == "D2 with VDW_C6 9.23 0.7"

    @pytest.mark.parametrize(
        ("tags", "functional"),
        [
            ({"METAGGA": "LIBXC", "LIBXC1": "MGGA_X_SCAN", "LIBXC2": "MGGA_C_SCAN"},
             "libxc MGGA_X_SCAN MGGA_C_SCAN"),
            ({"METAGGA": "LIBXC", "LIBXC1": "497", "LIBXC2": "498"}, "libxc 497 498"),
            ({"METAGGA": "LIBXC", "LIBXC1": "497", "LIBXC1_P1": "0.5"}, "libxc 497 (LIBXC1_P1 0.5)"),
            ({"GGA": "Li", "LIBXC1": "101", "LIBXC2": "130"}, "libxc 101 130"),
            ({"METAGGA": "LIBXC"}, None),
        ],
    )  # fmt: skip
    def test_functionals_of_libxc_by_their_names(self, tmp_path, tags, functional):
        """LIBXC says nothing: which it is decides, and unsaid ones are not one."""
        xml = "".join(f'<i type="string" name="{tag}">{value}</i>' for tag, value in tags.items())
        assert opened(vasprun(tmp_path, f"{xml}\n")).functional == functional
        incar = "".join(f"   {tag} = {value}\n" for tag, value in tags.items())
        head = {" INCAR:\n": f" INCAR:\n{incar}"}
        if "GGA" not in tags:
            assert opened(outcar(tmp_path / "run", head=head)).functional == functional

    @pytest.mark.parametrize(
        ("tags", "settings"),
        [
            ("   LASPH  =      T    aspherical Exc in radial PAW\n", {"aspherical": "LASPH"}),
            ("   LASPH  =      F    aspherical Exc in radial PAW\n", {}),
            ("   LDIPOL =      T    correct potential\n   IDIPOL =      3    1-x, 2-y, 3-z\n",
             {"surroundings": "LDIPOL, IDIPOL 3"}),
            ("   EFIELD =  0.0500\n", {"surroundings": "EFIELD 0.05"}),
            ("   LSOL = .TRUE.\n", {"surroundings": "LSOL"}),
            ("   LDIPOL =      F\n   IDIPOL =      0\n   EFIELD =  0.000\n", {}),
        ],
    )  # fmt: skip
    def test_what_else_moves_energies(self, tmp_path, tags, settings):
        head = {" Exchange correlation treatment:\n": tags + " Exchange correlation treatment:\n"}
        found = dict(opened(outcar(tmp_path / "run", head=head)).level.settings)
        del found["potcar"]
        assert found == settings
        names = [row.split()[:3:2] for row in tags.splitlines()]
        xml = "".join(f'<i name="{name}"> {value}</i>' for name, value in names)
        found = dict(opened(vasprun(tmp_path, f"{xml}\n")).level.settings)
        del found["potcar"]
        assert found == settings

    def test_a_density_that_is_held_fixed_is_refused(self, tmp_path):
        """Bands of another run's density: neither the energies nor the forces belong to the positions."""
        head = {"   ISPIN  =": "   ICHARG =     11    charge: 1-file 2-atom 10-const\n   ISPIN  ="}
        for path in (outcar(tmp_path / "run", head=head), vasprun(tmp_path, '<i name="ICHARG">11</i>\n')):
            with pytest.raises(SuiteError, match="found ICHARG 11, the density held fixed, expected a self"):
                open_sources([path])

    def test_an_enthalpy_with_dispersion_is_refused(self, tmp_path):
        """SCF energies of a vasprun.xml lack the dispersion; those of steps have the pressure's work."""
        path = vasprun(tmp_path, '<i type="int" name="IVDW">11</i><i name="PSTRESS">20.0</i>\n')
        with pytest.raises(SuiteError, match="found PSTRESS with a dispersion correction, expected"):
            open_sources([path])


def in_a_box(text: str) -> str:
    """A deck of pw.x with a cubic cell."""
    rows = "CELL_PARAMETERS angstrom\n6 0 0\n0 6 0\n0 0 6\n"
    return re.sub(r"CELL_PARAMETERS angstrom\n(.*\n){3}", rows, text)


class TestPwx:
    """Every case is run: what 6.7 prints of it decides."""

    pytestmark = needs_pwx

    @pytest.mark.parametrize(
        ("system", "functional"),
        [
            ("", "LDA"),
            ("vdw_corr='grimme-d2'", "LDA + D2"),
            ("vdw_corr='grimme-d3', input_dft='pbe'", "PBE + D3"),
            ("vdw_corr='grimme-d3', dftd3_version=4, input_dft='pbe'", "PBE + D3(BJ)"),
            ("vdw_corr='grimme-d3', dftd3_threebody=.false., input_dft='pbe'",
             "PBE + D3 without three-body terms"),
            ("input_dft='pbe0'", "PBE0 + 25 % exact exchange"),
            (
                "input_dft='hse', exx_fraction=0.3, screening_parameter=0.11",
                "HSE + 30 % exact exchange screened at 0.2079/A",
            ),
            ("input_dft='pbesol'", "PBEsol"),
        ],
    )  # fmt: skip
    def test_functional(self, tmp_path, system, functional):
        path = run_pwx(tmp_path, deck("scf", system=system))
        assert opened(path).functional == functional
        # Which damping D3 has stands in the input only.
        (tmp_path / "run.in").unlink()
        alone = opened(path)
        assert ("damping" in str(alone.functional)) == ("D3" in functional)
        assert any("lay it beside this output" in remark for remark in alone.remarks) == ("D3" in functional)

    def test_xdm_introduces_itself_after_the_first_scf(self, tmp_path):
        text = deck("scf", system="vdw_corr='xdm', ecutrho=60", **HYDROGEN)
        assert opened(run_pwx(tmp_path, text)).functional == "PBE + XDM"

    @pytest.mark.parametrize(
        ("system", "kind", "settings"),
        [
            ("nspin=2, starting_magnetization(1)=0.2, occupations='smearing', degauss=0.02", SILICON,
             {"spin": "polarised"}),
            ("tot_charge=2", SILICON, {"charge": "+2"}),
            ("lda_plus_u=.true., Hubbard_U(2)=3.0, ecutrho=60", ULTRASOFT,
             {"plus_U": "O 1 3.0000 0.0000 0.0000 0.0000"}),
        ],
    )  # fmt: skip
    def test_spin_charge_and_hubbard(self, tmp_path, system, kind, settings):
        text = deck("scf", system=system, electrons="electron_maxstep=40", **kind)
        source = opened(run_pwx(tmp_path, text))
        found = dict(source.level.settings)
        assert "UPF" in found.pop("pseudopotentials")
        assert found == settings

    @pytest.mark.parametrize("density_Ry", [40, 60])
    def test_the_cut_off_of_the_density(self, tmp_path, density_Ry):
        """Four times as much goes without saying."""
        path = run_pwx(tmp_path, deck("scf", system=f"ecutrho={density_Ry}"))
        said = "plane waves, 10 Ry" + (", density 60 Ry" if density_Ry == 60 else "")
        assert opened(path).basis == said

    @pytest.mark.parametrize(
        ("system", "sign"),
        [
            ("assume_isolated='mt'", "Assuming isolated system"),
            ("assume_isolated='esm', esm_bc='bc1'", "Effective Screening Medium Method"),
            ("assume_isolated='2D'", "running with the 2D cutoff"),
        ],
    )
    def test_what_is_not_periodic_is_refused(self, tmp_path, system, sign):
        path = run_pwx(tmp_path, in_a_box(deck("scf", system=system)))
        with pytest.raises(SuiteError, match=rf"run\.out: found '{sign}' \(assume_isolated\), expected"):
            open_sources([path])

    @pytest.mark.parametrize(
        ("control", "system", "surroundings"),
        [
            ("tefield=.true.", "edir=3, emaxpos=0.5, eopreg=0.1, eamp=0.01", "a field of 0.01 a.u."),
            ("tefield=.true., dipfield=.true.", "edir=3, emaxpos=0.9, eopreg=0.05, eamp=0.0",
             "a field, a correction of the dipole along 3"),
            ("lelfield=.true., nberrycyc=1", "", "a Berry phase field of 0 0 0.001"),
            ("", "", None),
        ],
    )  # fmt: skip
    def test_fields_are_of_the_level(self, tmp_path, control, system, surroundings):
        text = in_a_box(deck("scf", control=control, system=system, electrons="efield_cart(3)=0.001"))
        if "lelfield" in control:
            text = text.replace("K_POINTS gamma", "K_POINTS automatic\n1 1 1 1 1 1")
        assert (
            opened(run_pwx(tmp_path, text.replace("tstress=.true.,", ""))).level.surroundings == surroundings
        )

    def test_one_letter_names_of_pwx_5(self, tmp_path):
        """5.x fills a short name with a blank before it."""
        path = run_pwx(tmp_path, deck("scf", system="ecutrho=60", **ULTRASOFT))
        text = path.read_text()
        assert "PseudoPot. # 2 for O  read from file:" in text
        path.write_text(text.replace("PseudoPot. # 2 for O  read", "PseudoPot. # 2 for  O read"))
        assert "'O': 'O.pbe-rrkjus.UPF'" in opened(path).level.settings["pseudopotentials"]


class TestCp2k:
    """The log at print level MEDIUM and the restart file beside a terse log say the same."""

    pytestmark = needs_cp2k

    @pytest.mark.parametrize(
        ("changes", "functional", "settings"),
        [
            ({"xc": xc("BLYP")}, "BLYP", {}),
            ({"xc": xc("OLYP")}, "OLYP", {}),
            ({"xc": xc("PBE", pair="DFTD3")}, "PBE + D3", {}),
            ({"xc": xc("BLYP", pair="DFTD3(BJ)")}, "BLYP + D3(BJ)", {}),
            ({"xc": xc("PBE", pair="DFTD2")}, "PBE + D2", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="REFERENCE_FUNCTIONAL BLYP")}, "PBE + D3 of BLYP", {}),
            ({"xc": xc("PBE", pair="DFTD3(BJ)", damped="REFERENCE_FUNCTIONAL revPBE")},
             "PBE + D3(BJ) of revPBE", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="D3_SCALING 1.0 1.2170 0.7220")}, "PBE + D3", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="D3_SCALING 1.0 1.0 0.5")},
             "PBE + D3 damped by 1 1 0.5", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="REFERENCE_FUNCTIONAL PBE\nR_CUTOFF 10")},
             "PBE + D3 to 10 A", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="REFERENCE_FUNCTIONAL PBE\nCALCULATE_C9_TERM T")},
             "PBE + D3 with C9", {}),
            ({"xc": xc("PBE", pair="DFTD3", damped="REFERENCE_FUNCTIONAL PBE\nCALCULATE_C9_TERM F")},
             "PBE + D3", {}),
            ({"xc": xc("&GGA_X_PBE", "&END\n&GGA_C_PBE")}, "PBE", {}),
            ({"dft": "ROKS\nMULTIPLICITY 3", "preconditioner": "FULL_KINETIC\nROTATION T"}, "PBE",
             {"spin": "restricted open shell"}),
            ({"dft": "&PERIODIC_EFIELD\nINTENSITY 0.01\nPOLARISATION 0 0 1\n&END"}, "PBE",
             {"surroundings": "PERIODIC_EFIELD 0 0 1 0.01"}),
            ({"dft": "&SCCS\n&END"}, "PBE", {"surroundings": "SCCS"}),
            ({"xc": xc("PBE", non_local="RVV10")}, "PBE + RVV10 non-local", {}),
            ({"xc": xc("&PBE", "PARAMETRIZATION REVPBE")}, "revPBE", {}),
            ({"xc": xc("&PBE", "SCALE_X 0.75")}, "PBE scaled (x 0.75)", {}),
            ({"xc": xc("TPSS")}, "TPSS", {}),
            ({"dft": "UKS\nMULTIPLICITY 3"}, "PBE", {"spin": "polarised"}),
            ({"dft": "CHARGE -2"}, "PBE", {"charge": "-2"}),
            ({"kind_of_o": "&DFT_PLUS_U\nL 1\nU_MINUS_J [eV] 3.0\n&END"}, "PBE", {"plus_U": "L 1, U 3 eV"}),
        ],
    )  # fmt: skip
    def test_log_and_restart(self, tmp_path, changes, functional, settings):
        point = opened(run_single_point(tmp_path / "point", **changes))
        run = opened(run_md(tmp_path / "md", print_level="LOW", steps=1, **changes))
        assert "FUNCTIONAL|" not in (tmp_path / "md" / "run.out").read_text()
        for source in (point, run):
            assert source.functional == functional
            assert source.level.settings == {"method": "GPW", "cutoff_Ry": "120", **settings}
        assert point.level == run.level

    @pytest.mark.parametrize(
        ("section", "functional"),
        [
            ("FUNCTIONAL XC_GGA_X_PBE XC_GGA_C_PBE", "PBE"),
            ("FUNCTIONAL XC_GGA_X_PBE\nFUNCTIONAL XC_GGA_C_PBE", "PBE"),
            ("FUNCTIONAL XC_GGA_X_RPBE XC_GGA_C_PBE", "GGA_C_PBE+GGA_X_RPBE"),
            ("FUNCTIONAL XC_MGGA_X_SCAN XC_MGGA_C_SCAN\nSCALE 0.9 1.0", "SCAN scaled (MGGA_X_SCAN 0.9)"),
        ],
    )
    def test_sections_of_libxc_as_up_to_cp2k_8(self, tmp_path, section, functional):
        """This CP2K cannot write them any more: its own sections are put in their place."""
        run = run_md(tmp_path / "run", print_level="LOW", steps=1, xc=xc("&GGA_X_PBE", "&END\n&GGA_C_PBE"))
        restart = run / "liquid-1.restart"
        text, own = restart.read_text(), r"(?s) +&GGA_X_PBE  T\n.*&END GGA_C_PBE\n"
        assert re.search(own, text)
        restart.write_text(re.sub(own, f"&LIBXC  T\n{section}\n&END LIBXC\n", text))
        assert opened(run).functional == functional

    def test_a_force_field_is_refused(self, tmp_path):
        """METHOD stands in brackets behind each energy."""
        path = run_single_point(tmp_path)
        for method in ("FIST", "MIXED", "QMMM"):
            text = path.read_text().replace("FORCE_EVAL ( QS )", f"FORCE_EVAL ( {method} )")
            (tmp_path / f"{method}.out").write_text(text)
            with pytest.raises(SuiteError, match=f"found energies of METHOD {method}, expected those of QS"):
                open_sources([tmp_path / f"{method}.out"])

    def test_electrons_that_are_not_periodic_are_refused(self, tmp_path):
        changes = {"dft": "&POISSON\nPERIODIC NONE\nPSOLVER MT\n&END"}
        point = run_single_point(tmp_path / "point", **changes)
        run = run_md(tmp_path / "md", print_level="LOW", steps=1, **changes)
        for path in (point, run):
            with pytest.raises(SuiteError, match="found a cell periodic in NONE, expected XYZ"):
                open_sources([path])

    def test_exact_exchange(self, tmp_path):
        """A log has it after the first SCF began; this one is written, since such a run takes minutes."""
        path = run_single_point(tmp_path)
        said = (
            "  HFX_INFO| FRACTION:                                               0.2500000000\n"
            "  HFX_INFO| Interaction Potential:                                     TRUNCATED\n"
            "  HFX_INFO| Cutoff Radius [angstrom]:                               2.4000000000\n"
        )
        text = path.read_text()
        where = text.index(" SCF WAVEFUNCTION OPTIMIZATION")
        path.write_text(text[:where] + said + text[where:])
        expected = "PBE + 25 % exact exchange of a truncated potential to 2.4 A"
        assert opened(path).functional == expected


# Unlike levels never meet -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forces", "head"),
    [(" IVDW = 11\n", {}), (" IVDW = 12\n", {}), ("", {"ISPIN  =      1": "ISPIN  =      2"})],
)
def test_unlike_levels_are_not_of_one_set(tmp_path, capsys, forces, head):
    plain = outcar(tmp_path / "plain")
    other = outcar(tmp_path / "other", forces=forces, head=head)
    options = ("--use", "train", "--root", tmp_path / "imported")
    code, _, err = said(capsys, plain, other, "--name", "both", *options)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"error: {other}: found ")
    assert f" in {plain}, expected one level of theory in a set" in err
    # Nor do they come together one after the other.
    code, out, _ = said(capsys, plain, "--name", "one", *options)
    assert code == 0
    potcars = "PAW_PBE Si 05Jan2001, PAW_PBE O 08Apr2002"
    assert f"its level of theory: VASP 5.4.4: PBE; PAW, 500 eV; potcar {potcars}\n" in out
    code, _, err = said(capsys, other, "--name", "one", "--append", *options)
    assert (code, len(err.splitlines())) == (2, 1)
    assert re.search(
        rf"one/set\.yml: found (functional|spin) .*, expected .* to append {other}$", err.strip()
    )


def test_unlike_levels_are_not_of_one_dataset(tmp_path, capsys):
    options = ("--use", "train", "--root", tmp_path / "imported")
    spin = {"ISPIN  =      1": "ISPIN  =      2"}
    for name, path in (
        ("plain", outcar(tmp_path / "a")),
        ("spin", outcar(tmp_path / "b", head=spin)),
        ("disp", outcar(tmp_path / "c", forces=" IVDW = 11\n")),
    ):
        assert said(capsys, path, "--name", name, *options)[0] == 0
    sets = {found.name: found for found in list_sets(root=tmp_path / "imported")}
    for other in ("spin", "disp"):
        with pytest.raises(SuiteError, match="expected one level of theory: total energies must share"):
            dataset._check_level([sets["plain"], sets[other]])
    dataset._check_level([sets["plain"], sets["plain"]])


def test_the_projects_own_sets_keep_their_levels():
    """Identities of datasets and labels of judges rest on them."""
    level = read_set("pbe-96-nnp-2.20").level
    assert level == ("CP2K", "PBE", "DZVP-MOLOPT-SR-GTH", "GAPW_XC", "400")
    assert np.all([len(found.level) <= 5 for found in list_sets()])
