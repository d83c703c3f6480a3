"""Cells, units and steps of other people's files: read right, or refused with a reason."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.units import create_units

from jobs.base.errors import SuiteError
from jobs.base.frames import read_extxyz
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV, RYDBERG_EV, RYDBERG_PER_BOHR_EV_ANGSTROM
from jobs.reference.formats.sources import open_sources
from jobs.reference.sets import read_run, read_set
from tests.engines.test_cp2k import needs_cp2k
from tests.helpers.cp2k_runs import deck as cp2k_deck
from tests.helpers.cp2k_runs import run as run_cp2k_deck
from tests.helpers.cp2k_runs import run_md
from tests.helpers.pwx_runs import deck, run_pwx
from tests.helpers.vasp_files import (
    outcar_head,
    outcar_step,
    vasprun_head,
    vasprun_learned_step,
    vasprun_step,
    write_outcar,
    write_vasprun,
)
from tests.reference.test_import import FRAMES, SPECIES, atoms_of, deepmd, needs_pwx, read, said, vasp_run

LEVEL = ("--engine", "VASP", "--engine-version", "6", "--functional", "PBE", "--basis", "PAW")
NOT_PERIODIC = "not periodic"


def write_extxyz(path: Path, change: tuple[str, str] | None = None, frames: int = 2) -> Path:
    """Frames as ASE writes them; `change` replaces text in every comment line."""
    ase.io.write(path, atoms_of(vasp_run())[:frames])
    if change is not None:
        assert change[0] in path.read_text()
        path.write_text(path.read_text().replace(*change))
    return path


def refused(path: Path) -> Counter[str]:
    (source,) = open_sources([path])
    assert list(source.batches) == []
    return source.refused


def named_rows(names: Sequence[str], rows: np.ndarray) -> str:
    return "\n".join(f"{name} {' '.join(map(str, row))}" for name, row in zip(names, rows, strict=True))


class TestNotPeriodic:
    @pytest.mark.parametrize(
        "pbc", ["F F F", "T T F", "0 0 0", "False True True", "[F, F, F]", "F", "0.0 1.0 1.0", "TTF"]
    )
    def test_extended_xyz(self, tmp_path, capsys, pbc):
        path = write_extxyz(tmp_path / "a.xyz", ('pbc="T T T"', f'pbc="{pbc}"'))
        assert refused(path) == Counter({NOT_PERIODIC: 2})
        code, out, err = said(capsys, path)
        assert code == 2
        assert "0 taken; refused: 2 not periodic" in out
        assert "found no usable frame" in err

    @pytest.mark.parametrize(
        "pbc",
        [
            " pbc=T",
            " pbc=True",
            ' pbc="1.0 1.0 1.0"',
            ' pbc=".TRUE. .TRUE. .TRUE."',
            "",
            ' PBC="T T T"',
            " pbc=[T,T,T]",
            ' pbc="1 1 1"',
            ' pbc="true True T"',
        ],
    )
    def test_periodic_ones_in_other_words(self, tmp_path, pbc):
        path = write_extxyz(tmp_path / "a.xyz", (' pbc="T T T"', pbc))
        assert len(read(path)[1]) == 2

    def test_a_frame_without_lattice(self, tmp_path):
        path = write_extxyz(tmp_path / "a.xyz")
        first, second = path.read_text().split("\n96\n")
        lattice = re.compile(r'Lattice="[^"]*" ')
        path.write_text(first + "\n96\n" + lattice.sub("", second))
        source, batch = read(path)
        assert (len(batch), source.refused) == (1, Counter({NOT_PERIODIC: 1}))

    @pytest.mark.parametrize("form", ["npy", "hdf5"])
    def test_deepmd(self, tmp_path, form):
        import h5py

        path = tmp_path / ("data" if form == "npy" else "data.hdf5")
        deepmd(vasp_run()).to(f"deepmd/{form}", str(path), set_size=4, comp_prec=np.float64)
        if form == "npy":
            (path / "nopbc").touch()
            for box in path.glob("set.*/box.npy"):  # some do not write it then
                box.unlink()
        else:
            with h5py.File(path, "a") as file:
                file["nopbc"] = True
        assert refused(path) == Counter({NOT_PERIODIC: FRAMES})

    def test_cp2k(self, tmp_path):
        """By its restart file or its log, whichever says so."""
        pytest.importorskip("ase")
        if shutil.which("cp2k.psmp") is None:
            pytest.skip("CP2K is not installed")
        run = run_md(tmp_path / "run", steps=1)
        restart = run / "liquid-1.restart"
        text = restart.read_text()
        where = text.index("MULTIPLE_UNIT_CELL")
        restart.write_text(text[:where] + "PERIODIC  NONE\n       " + text[where:])
        with pytest.raises(SuiteError, match="found a cell periodic in NONE, expected XYZ"):
            open_sources([run])


class TestCells:
    @pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
    def test_vectors_against_their_axes_are_turned(self, tmp_path, capsys, axes):
        """They span the same lattice; DeePMD-kit would take them for another."""
        run = vasp_run()
        frames = atoms_of(run)
        for atoms in frames:
            cell = atoms.cell.array.copy()
            cell[list(axes)] *= -1
            atoms.set_cell(cell)
        ase.io.write(tmp_path / "a.xyz", frames)
        source, batch = read(tmp_path / "a.xyz")
        np.testing.assert_allclose(batch.cells, run.cells, atol=1e-8)
        np.testing.assert_allclose(batch.positions, run.positions, atol=1e-8)
        assert any("turned round" in remark for remark in source.remarks)
        options = (
            "--name",
            "mine",
            "--use",
            "train",
            "--root",
            tmp_path / "imported",
            "--temperature-K",
            3000,
        )
        assert said(capsys, tmp_path / "a.xyz", *options, *LEVEL, "--temperature-K", 3000)[0] == 0
        made = read_set("mine", root=tmp_path / "imported")
        np.testing.assert_allclose(read_run(made, made.runs[0].id).cells, run.cells, atol=1e-8)

    @pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (1, 2, 0)])
    def test_vectors_in_another_order_are_put_right(self, tmp_path, order):
        run = vasp_run()
        cells = run.cells * np.array([1.0, 1.1, 1.2])[:, None]
        system = deepmd(run)
        system.data["cells"] = cells[:, list(order)]
        system.to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
        source, batch = read(tmp_path / "data")
        np.testing.assert_array_equal(batch.cells, cells)
        np.testing.assert_array_equal(batch.positions, run.positions)
        assert any("in another order, are turned round" in remark for remark in source.remarks)

    def test_left_handed_cells_are_left_out(self, tmp_path):
        """Tilted ones of exchanged rows, frame by frame."""
        run = vasp_run()
        cells = run.cells.copy()
        cells[:, 1, 0] = 0.5
        cells[[1, 4]] = cells[[1, 4]][:, [1, 0, 2]]
        system = deepmd(run)
        system.data["cells"] = cells
        system.to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
        source, batch = read(tmp_path / "data")
        assert batch.steps.tolist() == [0, 2, 3, 5]
        np.testing.assert_array_equal(batch.energies_eV, run.energies[[0, 2, 3, 5]])
        assert source.refused == Counter({"left-handed cell": 2})

    def test_exchanged_rows_of_a_vasprun_are_left_out(self, tmp_path):
        """VASP runs with no left-handed cell, and fractional coordinates would be of other axes."""
        run = vasp_run()
        cells = run.cells.copy()
        cells[2] = cells[2][[1, 0, 2]]
        write_vasprun(tmp_path / "vasprun.xml", replace(run, cells=cells))
        source, batch = read(tmp_path / "vasprun.xml")
        assert batch.steps.tolist() == [1, 2, 4, 5, 6]
        assert source.refused == Counter({"left-handed cell": 1})

    def test_so_they_are_of_deepmd_and_vasp(self, tmp_path):
        run = vasp_run()
        system = deepmd(run)
        system.data["cells"] = -run.cells
        system.to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
        np.testing.assert_array_equal(read(tmp_path / "data")[1].cells, run.cells)
        write_vasprun(tmp_path / "vasprun.xml", replace(run, cells=-run.cells))
        _, batch = read(tmp_path / "vasprun.xml")
        np.testing.assert_allclose(batch.cells, run.cells, atol=1e-8)
        np.testing.assert_allclose(batch.positions, run.positions, atol=1e-6)

    def test_the_deposits_own_files_refuse_them(self, tmp_path):
        path = write_extxyz(tmp_path / "a.xyz", ('Lattice="', 'temperature_K=3000 Lattice="-'), frames=1)
        with pytest.raises(SuiteError, match="expected vectors along the axes, not against"):
            list(read_extxyz(path))

    @pytest.mark.parametrize("tilt", [0.3, -2.0])
    def test_tilted_cells_are_refused(self, tmp_path, capsys, tilt):
        run = vasp_run()
        frames = atoms_of(run)
        for atoms in frames:
            cell = atoms.cell.array.copy()
            cell[1, 0] = tilt
            atoms.set_cell(cell)
        ase.io.write(tmp_path / "a.xyz", frames)
        options = (
            "--name",
            "mine",
            "--use",
            "train",
            "--root",
            tmp_path / "imported",
            "--temperature-K",
            3000,
        )
        code, _, err = said(capsys, tmp_path / "a.xyz", *options, *LEVEL, "--temperature-K", 3000)
        assert code == 2
        assert f"found a cell tilted by {abs(tilt):g} A" in err

    def test_a_step_without_its_cell_has_not_that_of_another(self, tmp_path):
        """ISIF 3: each step has a cell of its own."""
        run = vasp_run()
        for isif, steps in ((3, [1, 2, 4, 5, 6]), (2, [1, 2, 3, 4, 5, 6])):
            texts = [outcar_step(run, step) for step in range(1, FRAMES + 1)]
            texts[2] = texts[2].replace("direct lattice vectors", "")
            head = outcar_head(run).replace("ISIF   =      2", f"ISIF   =      {isif}")
            (tmp_path / "OUTCAR").write_text(head + "".join(texts))
            assert read(tmp_path / "OUTCAR")[1].steps.tolist() == steps


class TestCp2kCells:
    """A cell that changes is in .cell, or nowhere."""

    pytestmark = needs_cp2k

    @pytest.fixture(scope="class")
    @classmethod
    def npt(cls, tmp_path_factory):
        bath = "&THERMOSTAT\nTYPE CSVR\n&END\n&BAROSTAT\nPRESSURE 1000\n&END\n"
        return run_md(tmp_path_factory.mktemp("npt"), ensemble="NPT_F", bath=bath, stress=True, steps=2)

    def as_7_1(self, run: Path, ensemble: str = "NPT_F") -> None:
        """Settings of the dynamics as CP2K 7.1 heads them."""
        log = run / "run.out"
        text = log.read_text()
        for new, old in (
            ("MD_PAR| Ensemble type   ", "MD| Ensemble Type       "),
            ("MD_PAR| Time step [fs]  ", "MD| Time Step [fs]      "),
            ("MD_PAR| Temperature [K] ", "MD| Temperature [K]     "),
        ):
            assert new in text
            text = text.replace(new, old)
        log.write_text(text.replace("NPT_F", ensemble))

    @pytest.mark.parametrize("old", [False, True])
    def test_without_cell_it_is_refused(self, npt, tmp_path, old):
        shutil.copytree(npt, tmp_path / "run")
        if old:
            self.as_7_1(tmp_path / "run")
        source, batch = read(tmp_path / "run")
        assert (source.timestep_fs, source.thermostat, batch.target_K[0]) == (1.0, "NPT_F", 1000.0)
        assert np.abs(np.diff(batch.cells, axis=0)).max() > 1e-4
        (tmp_path / "run" / "liquid-1.cell").unlink()
        with pytest.raises(SuiteError, match=r"liquid-1\.cell: found no such file.*the cell may change"):
            open_sources([tmp_path / "run"])
        (tmp_path / "run" / "liquid-1.restart").unlink()
        with pytest.raises(SuiteError, match=r"liquid-1\.cell: found no such file.*the cell may change"):
            open_sources([tmp_path / "run"])

    def test_who_does_not_say_the_ensemble_may_move_the_cell(self, npt, tmp_path):
        shutil.copytree(npt, tmp_path / "run")
        log = tmp_path / "run" / "run.out"
        log.write_text(re.sub(r".*Ensemble type.*\n", "", log.read_text()))
        (tmp_path / "run" / "liquid-1.cell").unlink()
        (tmp_path / "run" / "liquid-1.restart").unlink()
        with pytest.raises(SuiteError, match="the cell may change"):
            open_sources([tmp_path / "run"])

    def test_a_tilted_cell_that_7_1_calls_orthorhombic(self, tmp_path):
        run = run_md(tmp_path / "run", steps=1, cell="ABC 5 5 5\nALPHA_BETA_GAMMA 90 80 90")
        log = run / "run.out"
        log.write_text(re.sub(r"(CELL\| Numerically orthorhombic: +)NO", r"\1YES", log.read_text()))
        (run / "liquid-1.cell").unlink()
        assert read(run)[1].cells[0, 2, 0] == pytest.approx(5 * np.cos(np.radians(80)), abs=1e-9)
        (run / "liquid-1.restart").unlink()
        with pytest.raises(SuiteError, match="the log has three decimals"):
            open_sources([run])

    def test_units_of_a_deck_beside_it(self, npt, tmp_path):
        shutil.copytree(npt, tmp_path / "run")
        (tmp_path / "run" / "liquid-1.restart").unlink()
        path = tmp_path / "run" / "run.inp"
        text = path.read_text()
        where = text.index("&FORCES ON", text.index("&MOTION"))
        path.write_text(text[:where] + "&FORCES ON\nUNIT eV*angstrom^-1\n" + text[where + 11 :])
        with pytest.raises(SuiteError, match=r"run\.inp: found FORCES with UNIT eV\*angstrom\^-1, expected"):
            open_sources([tmp_path / "run"])


class TestUnits:
    """Of extended XYZ, which may say them; eV and A without a word."""

    @pytest.mark.parametrize(
        ("words", "energy", "force", "length"),
        [
            ("energy-unit=eV force-unit=eV/A", 1.0, 1.0, 1.0),
            ("energy_unit=hartree force_unit=hartree/bohr", HARTREE_EV, HARTREE_EV / BOHR_ANGSTROM, 1.0),
            ("energy_units=Ry forces_units=Ry/bohr", HARTREE_EV / 2, HARTREE_EV / 2 / BOHR_ANGSTROM, 1.0),
            ('energy_unit="kcal/mol" forces_unit="kcal/mol/Angstrom"', 0.0433641, 0.0433641, 1.0),
            ("energyUnit=eV forceUnit=eV/bohr lengthUnit=bohr", 1.0, 1 / BOHR_ANGSTROM, BOHR_ANGSTROM),
            ("force_unit=hartree*bohr^-1 energy-unit=Ha", HARTREE_EV, HARTREE_EV / BOHR_ANGSTROM, 1.0),
            ("stress_unit=GPa virial-unit=hartree", 1.0, 1.0, 1.0),
            ("temperature_unit=K forces_unit=eV/Å energy_unit=eV", 1.0, 1.0, 1.0),
            ("forces_unit=eV/Angstrom pos_unit=Å cell_unit=angstrom", 1.0, 1.0, 1.0),
            ('force_units="ev/ang" time_unit=fs velocity_unit=m/s', 1.0, 1.0, 1.0),
            ('forces_unit="eV Å^-1" REF_energy_unit=eV', 1.0, 1.0, 1.0),
            ("pos_unit=bohr cell_unit=bohr", 1.0, 1.0, BOHR_ANGSTROM),
            ("energy_unit=a.u. force_unit=Ha/a0", HARTREE_EV, HARTREE_EV / BOHR_ANGSTROM, 1.0),
        ],
    )
    def test_known_ones_are_converted(self, tmp_path, words, energy, force, length):
        _, plain = read(write_extxyz(tmp_path / "a.xyz"))
        _, batch = read(write_extxyz(tmp_path / "b.xyz", ("Properties=", f"{words} Properties=")))
        np.testing.assert_allclose(batch.energies_eV, plain.energies_eV * energy, rtol=1e-6)
        np.testing.assert_allclose(batch.forces, plain.forces * force, rtol=1e-6)
        np.testing.assert_allclose(batch.positions, plain.positions * length, rtol=1e-9)
        np.testing.assert_allclose(batch.cells, plain.cells * length, rtol=1e-9)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("energy-unit=foo", "found energy-unit=foo, expected units of eV and A, or known ones"),
            ("energy-unit=hartree", "found a unit of energy only, expected force-unit as well"),
            ("force_unit=hartree/bohr", "found a unit of force only, expected energy-unit as well"),
            ("units=real", "found units=real, expected units of eV and A"),
            ("cell_unit=bohr", "found a unit of cell only, expected position-unit as well"),
            ("pos_unit=bohr", "found a unit of position only, expected cell-unit as well"),
            ("length_unit=bohr cell_unit=angstrom", "and another, expected one unit of cell"),
            ("force_unit=eV*A", r"found force_unit=eV\*A, expected units of eV and A"),
            ("energy_unit=eV/atom", "found energy_unit=eV/atom, expected units of eV and A"),
            ("energy_unit=eV energy-unit=Ry", "and another, expected one unit of energy"),
        ],
    )
    def test_others_are_refused(self, tmp_path, words, message):
        path = write_extxyz(tmp_path / "a.xyz", ("Properties=", f"{words} Properties="))
        (source,) = open_sources([path])
        with pytest.raises(SuiteError, match=message.replace("_", "[-_]")):
            list(source.batches)


class TestSteps:
    @pytest.mark.parametrize("learned", [{2, 3, 5}, {1, 2}, {6}])
    def test_steps_of_a_force_field_between_are_counted(self, tmp_path, learned):
        """They stand outside of <calculation> in a vasprun.xml."""
        run = vasp_run(version="6.3.0")
        text = vasprun_head(run)
        for step in range(1, FRAMES + 1):
            text += (vasprun_learned_step if step in learned else vasprun_step)(run, step)
        (tmp_path / "vasprun.xml").write_text(text + "</modeling>\n")
        computed = [step for step in range(1, FRAMES + 1) if step not in learned]
        _, batch = read(tmp_path / "vasprun.xml")
        assert batch.steps.tolist() == computed
        np.testing.assert_allclose(batch.energies_eV, run.energies[np.array(computed) - 1], atol=1e-8)
        np.testing.assert_allclose(batch.forces, run.forces[np.array(computed) - 1], atol=1e-8)

    @pytest.mark.parametrize("tag", ["ML_OUTBLOCK", "ML_OUTPUT_MODE"])
    def test_where_some_are_not_written_steps_have_no_numbers(self, tmp_path, capsys, tag):
        run = vasp_run(version="6.4.2")
        text = vasprun_head(run).replace("<incar>", f'<incar><i type="int" name="{tag}">0</i>')
        if tag == "ML_OUTBLOCK":
            text = text.replace(">0<", ">10<")
        text += "".join(vasprun_step(run, step) for step in range(1, FRAMES + 1))
        (tmp_path / "vasprun.xml").write_text(text + "</modeling>\n")
        assert set(read(tmp_path / "vasprun.xml")[1].steps.tolist()) == {-1}
        judge = ("--use", "judge", "--start", "nnp", "--unequilibrated", "0", "--root", tmp_path / "imported")
        code, _, err = said(capsys, tmp_path / "vasprun.xml", "--name", "ref", *judge)
        assert (code, len(err.splitlines())) == (2, 1)

    @pytest.mark.parametrize("form", ["npy", "hdf5"])
    def test_more_than_a_thousand_sets_keep_their_order(self, tmp_path, form):
        """set.1000 comes after set.999, not after set.100."""
        import h5py

        run = vasp_run()
        path = tmp_path / ("data" if form == "npy" else "data.hdf5")
        deepmd(run).to(f"deepmd/{form}", str(path), set_size=1, comp_prec=np.float64)
        numbers = [2, 100, 999, 1000, 1001, 10000]
        if form == "npy":
            for k in reversed(range(FRAMES)):
                (path / f"set.{k:03d}").rename(path / f"set.{numbers[k]:03d}")
        else:
            with h5py.File(path, "a") as file:
                for k in reversed(range(FRAMES)):
                    file.move(f"set.{k:03d}", f"set.{numbers[k]:03d}")
        (source,) = open_sources([path])
        energies = np.concatenate([batch.energies_eV for batch in source.batches])
        np.testing.assert_array_equal(energies, run.energies)

    @pytest.mark.parametrize("name", ["coord", "force", "box"])
    def test_arrays_in_fortrans_order(self, tmp_path, name):
        run = vasp_run()
        path = tmp_path / "data"
        deepmd(run).to("deepmd/npy", str(path), comp_prec=np.float64)
        file = path / "set.000" / f"{name}.npy"
        array = np.load(file)
        np.save(file, np.asfortranarray(array))
        assert b"'fortran_order': True" in file.read_bytes()[:200]
        _, batch = read(path)
        np.testing.assert_array_equal(batch.positions, run.positions)
        np.testing.assert_array_equal(batch.forces, run.forces)
        np.testing.assert_array_equal(batch.cells, run.cells)


class TestForceTables:
    @pytest.mark.parametrize("columns", [1, 2])
    def test_further_columns_are_left_out(self, tmp_path, columns):
        """Builds that list forces without dispersion beside the total ones; these may be NaN or stars."""
        run = vasp_run()
        write_outcar(tmp_path / "OUTCAR", run)
        text = (tmp_path / "OUTCAR").read_text()
        title = "TOTAL-FORCE (eV/Angst)"
        text = text.replace(title, title + ",                    FORCE-w/o vdW (eV/Angst)" * columns)
        row = re.compile(r"^( (?: +-?\d+\.\d{5}){3}   (?: +-?\d+\.\d{6}){3})$", re.M)
        assert len(row.findall(text)) == FRAMES * len(SPECIES)
        more = "     0.123456           NaN *************" * columns
        (tmp_path / "OUTCAR").write_text(row.sub(rf"\1{more}", text))
        source, batch = read(tmp_path / "OUTCAR")
        assert not source.refused
        assert source.functional == "PBE + a dispersion correction without a name"
        np.testing.assert_allclose(batch.forces, run.forces, atol=5.1e-7)

    def test_a_second_table_behind_it(self, tmp_path):
        """As of the learned force field, or of a chain of images."""
        run = vasp_run()
        steps = []
        for step in range(1, FRAMES + 1):
            text = outcar_step(run, step)
            begin, end = text.index(" POSITION   "), text.index("    total drift:")
            table = text[begin:end]
            wrong = re.sub(r"-?\d+\.\d{6}", "9.000000", table)
            for title in ("TOTAL-FORCE (eV/Angst) (ML)", "CHAIN + TOTAL  (eV/Angst)"):
                text = text[:end] + wrong.replace("TOTAL-FORCE (eV/Angst)", title) + text[end:]
            steps.append(text)
        (tmp_path / "OUTCAR").write_text(outcar_head(run) + "".join(steps))
        _, batch = read(tmp_path / "OUTCAR")
        np.testing.assert_allclose(batch.forces, run.forces, atol=5.1e-7)


class TestPwx:
    """Run types of pw.x against ASE, which knows them all."""

    pytestmark = needs_pwx

    @pytest.mark.parametrize("calculation", ["scf", "relax", "md", "vc-relax", "vc-md"])
    def test_run_types(self, tmp_path, calculation):
        path = run_pwx(tmp_path, deck(calculation, steps=60 if "relax" in calculation else 4))
        source, batch = read(path)
        frames = ase.io.read(path, index=":", format="espresso-out")
        assert len(frames) == len(batch) + source.refused.total()
        assert not source.refused
        # To the last digit of what is printed, in its units: ASE's Rydberg and bohr are those of CODATA 2006.
        theirs = create_units("2006")
        ours = {"energy": RYDBERG_EV, "force": RYDBERG_PER_BOHR_EV_ANGSTROM}
        energies = np.array([a.get_potential_energy() for a in frames]) / theirs["Ry"]
        forces = np.array([a.get_forces() for a in frames]) / (theirs["Ry"] / theirs["Bohr"])
        np.testing.assert_allclose(batch.energies_eV / ours["energy"], energies, rtol=1e-14)
        np.testing.assert_allclose(batch.forces / ours["force"], forces, rtol=1e-13, atol=1e-15)
        # Of the first frame in units of the lattice parameter, six decimals of it; then in angstrom.
        np.testing.assert_allclose(batch.positions[0], frames[0].positions, atol=4e-6)
        np.testing.assert_allclose(batch.cells[0], frames[0].cell.array, atol=4e-6)
        for k in range(1, len(frames)):
            np.testing.assert_allclose(batch.positions[k], frames[k].positions, atol=1e-13)
            if calculation.startswith("vc"):
                np.testing.assert_allclose(batch.cells[k], frames[k].cell.array, atol=1e-13)
        if calculation.startswith("vc"):
            assert np.abs(np.ptp(batch.cells[1:], axis=0)).max() > 1e-3

    @pytest.mark.parametrize("calculation", ["scf", "relax", "md", "vc-relax", "vc-md"])
    def test_unconverged_and_truncated(self, tmp_path, calculation):
        text = deck(calculation, electrons="electron_maxstep=2, scf_must_converge=.false.")
        path = run_pwx(tmp_path / "bad", text)
        (source,) = open_sources([path])
        taken = sum(len(batch) for batch in source.batches)
        scfs = path.read_text().split("Self-consistent Calculation")[1:]
        reached = [float(re.findall(r"scf accuracy +< +(\S+) Ry", scf)[-1]) <= 1e-8 for scf in scfs]
        assert source.refused == Counter({"SCF not converged": reached.count(False)})
        assert (taken, reached[0]) == (reached.count(True), False)
        path = run_pwx(tmp_path / "good", deck(calculation))
        _, whole = read(path)
        content = path.read_text()
        cut = content.rindex("Forces acting on atoms") + 120
        path.write_text(content[:cut])
        (source,) = open_sources([path])
        batches = list(source.batches)
        assert source.refused == Counter({"half written": 1})
        assert sum(len(batch) for batch in batches) == len(whole) - 1
        for batch in batches:
            for name in ("energies_eV", "forces", "positions", "cells", "steps"):
                np.testing.assert_array_equal(getattr(batch, name), getattr(whole, name)[:-1])


class TestCp2kRunTypes:
    """Trajectories of CP2K as ASE reads their files, to the last digit; single points of frames agree."""

    pytestmark = needs_cp2k

    MOTION = {  # noqa: RUF012 - a constant
        "GEO_OPT": "&GEO_OPT\nMAX_ITER 3\n&END GEO_OPT",
        "CELL_OPT": "&CELL_OPT\nMAX_ITER 3\n&END CELL_OPT",
    }

    @pytest.mark.parametrize("run_type", ["GEO_OPT", "CELL_OPT", "NVT", "NPT_I"])
    def test_run_types(self, tmp_path, run_type):
        run = self.made(tmp_path / "run", run_type)
        source, batch = read(run)
        positions = ase.io.read(run / "liquid-pos-1.xyz", index=":")
        forces = ase.io.read(run / "liquid-frc-1.xyz", index=":")
        assert not source.refused
        assert len(batch) == len(positions) == 3
        np.testing.assert_array_equal(batch.positions, [a.positions for a in positions])
        theirs = np.array([a.positions for a in forces])
        np.testing.assert_allclose(batch.forces / (HARTREE_EV / BOHR_ANGSTROM), theirs, rtol=1e-14)
        titles = re.findall(r"E = +(-\d+\.\d+)", (run / "liquid-pos-1.xyz").read_text())
        np.testing.assert_allclose(batch.energies_eV / HARTREE_EV, np.array(titles, float), rtol=1e-15)
        cells = np.loadtxt(run / "liquid-1.cell")[:, 2:11].reshape(-1, 3, 3)
        np.testing.assert_array_equal(batch.cells, cells)
        # Energy, forces, positions and cell of the last frame belong together: it is computed anew.
        text = cp2k_deck("ENERGY_FORCE", cell=named_rows("ABC", cells[-1]))
        atoms = named_rows(batch.species, batch.positions[-1])
        text = re.sub(r"(?<=&COORD\n)(.*\n)+?(?=&END COORD)", atoms + "\n", text)
        log = run_cp2k_deck(tmp_path / "point", text).read_text()
        again = float(re.search(r"ENERGY\| Total FORCE_EVAL.*?(-\d+\.\d+)", log).group(1))
        assert again * HARTREE_EV == pytest.approx(batch.energies_eV[-1], abs=2e-5)

    def made(self, directory: Path, run_type: str, **changes: object) -> Path:
        if run_type in self.MOTION:
            text = cp2k_deck(run_type, motion=self.MOTION[run_type], stress=run_type == "CELL_OPT", **changes)
            run_cp2k_deck(directory, text)
            return directory
        bath = "&THERMOSTAT\nTYPE CSVR\n&END\n" + ("&BAROSTAT\n&END\n" if run_type == "NPT_I" else "")
        return run_md(directory, ensemble=run_type, bath=bath, stress=True, steps=2, **changes)

    @pytest.mark.parametrize("run_type", ["GEO_OPT", "CELL_OPT", "NVT", "NPT_I"])
    def test_unconverged_and_truncated(self, tmp_path, run_type):
        run = self.made(tmp_path / "bad", run_type, max_scf=8)
        (source,) = open_sources([run])
        taken = sum(len(batch) for batch in source.batches)
        # An optimisation writes no frame of its start.
        verdicts = re.findall(r"SCF run (NOT )?converged", (run / "run.out").read_text())[-3:]
        assert source.refused == Counter({"SCF not converged": verdicts.count("NOT ")})
        assert taken == verdicts.count("") < 3
        run = self.made(tmp_path / "good", run_type)
        _, whole = read(run)
        path = run / "liquid-frc-1.xyz"
        path.write_bytes(path.read_bytes()[:-40])
        source, batch = read(run)
        assert source.refused == Counter({"half written": 1})
        for name in ("energies_eV", "forces", "positions", "cells", "steps"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(whole, name)[:-1])
