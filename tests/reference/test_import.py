"""Importing: real files of CP2K and pw.x, VASP's as it writes them; round trips; errors.

Oracles are ASE and dpdata where they are right, and the frames that the files were made of.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
import subprocess
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.frames import VELOCITIES, Frame
from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.campaign.build import build_campaign
from jobs.cli import main as cli
from jobs.engines.first_principles import cp2k
from jobs.reference import importing
from jobs.reference.formats import Batch, Source
from jobs.reference.formats.sources import open_sources
from jobs.reference.sets import QUANTA, pack, read_run, read_set, verify_set
from jobs.reference.survey import look
from jobs.stages.data import dataset
from jobs.store.workspace import Workspace
from tests.engines.test_cp2k import MOLECULE, NVE, SETTINGS, needs_cp2k, settings
from tests.helpers.vasp_files import VaspRun, outcar_head, outcar_step, write_outcar, write_vasprun

SET, RUN = "pbe-96-aimd-3000K", "bks-4-3000K"
SPECIES = ("Si",) * 32 + ("O",) * 64
FRAMES = 6
ROUND_OUTCAR = 5.1e-6  # A: five decimals in an OUTCAR
needs_pwx = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="Quantum ESPRESSO is not installed"),
]


def vasp_run(first: int = 0, **changes: object) -> VaspRun:
    real = read_run(read_set(SET), RUN).select(slice(first, first + FRAMES))
    inside = np.array(
        [x - np.floor(x @ np.linalg.inv(c)) @ c for x, c in zip(real.positions, real.cells, strict=True)]
    )
    return VaspRun(SPECIES, inside, real.forces, real.energies_eV, real.cells, **changes)  # type: ignore[arg-type]


def read(path: Path) -> tuple[Source, Batch]:
    """The only source at a path, and its frames, which fit into one batch."""
    (source,) = open_sources([path])
    (batch,) = source.batches
    return source, batch


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["import", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(params=["OUTCAR 5.4.4", "OUTCAR 6.3.0", "vasprun.xml 5.4.4", "vasprun.xml 6.3.0"])
def vasp(request, tmp_path):
    """(path, a function that writes a run there)."""
    name, version = request.param.split()
    write = write_outcar if name == "OUTCAR" else write_vasprun

    def make(**changes: object) -> VaspRun:
        run = vasp_run(version=version, **changes)
        write(tmp_path / name, run)
        return run

    return tmp_path / name, make


class TestVasp:
    def test_frames_are_those_of_the_run_with_toten(self, vasp):
        path, make = vasp
        run = make()
        source, batch = read(path)
        assert batch.species == SPECIES
        np.testing.assert_allclose(batch.positions, run.positions, atol=ROUND_OUTCAR)
        np.testing.assert_allclose(batch.forces, run.forces, atol=5.1e-7)
        np.testing.assert_allclose(batch.cells, run.cells, atol=1e-8)
        np.testing.assert_allclose(batch.energies_eV, run.energies, atol=1e-8)
        np.testing.assert_allclose(batch.kinetic_K, 3000 + 10 * np.arange(1, FRAMES + 1), atol=0.01)
        assert batch.steps.tolist() == list(range(1, FRAMES + 1))
        assert batch.target_K.tolist() == [3000.0] * FRAMES
        assert (source.engine, source.functional, source.basis) == ("VASP", "PBE", "PAW, 500 eV")
        assert (source.engine_version, source.timestep_fs) == (run.version, 2.0)
        assert source.thermostat == "Nose-Hoover"
        assert batch.stress.all()
        assert not source.refused

    def test_ase_and_dpdata_agree(self, vasp):
        path, make = vasp
        make(unconverged=frozenset({3}))
        source, batch = read(path)
        xml = path.suffix == ".xml"
        import dpdata

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = dpdata.LabeledSystem(str(path), fmt="vasp/xml" if xml else "vasp/outcar")
            frames = ase.io.read(path, index=":", format="vasp-xml" if xml else "vasp-out")
        for key, own in (
            ("energies", batch.energies_eV),
            ("coords", batch.positions),
            ("forces", batch.forces),
        ):
            np.testing.assert_allclose(theirs[key], own, atol=1e-9)
        del frames[2]  # ASE keeps what did not converge
        np.testing.assert_allclose([a.positions for a in frames], batch.positions, atol=1e-6)
        np.testing.assert_allclose([a.get_forces() for a in frames], batch.forces, atol=1e-9)
        # The free energy, which forces belong to; ASE's own is the one at sigma -> 0, 10 meV away here.
        free = [a.get_potential_energy(force_consistent=True) for a in frames]
        np.testing.assert_allclose(free, batch.energies_eV, atol=1e-9)
        extrapolated = np.array([a.get_potential_energy() for a in frames])
        assert np.abs(extrapolated - batch.energies_eV).min() > 0.009
        assert source.refused == Counter({"SCF not converged": 1})

    def test_unconverged_frames_are_refused_and_counted(self, vasp, capsys):
        path, make = vasp
        make(unconverged=frozenset({2, FRAMES}))
        _, batch = read(path)
        assert batch.steps.tolist() == [1, 3, 4, 5]
        code, out, _ = said(capsys, path)
        assert code == 0
        assert "4 taken; refused: 2 SCF not converged" in out

    def test_without_stress(self, vasp):
        path, make = vasp
        make(stress=False)
        _, batch = read(path)
        assert len(batch) == FRAMES
        assert not batch.stress.any()

    @pytest.mark.parametrize("share", [0.35, 0.8, 0.97, 0.999])
    def test_a_truncated_file_gives_its_whole_frames_and_says_so(self, vasp, share, capsys):
        path, make = vasp
        run = make()
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        source, batch = read(path)
        n = len(batch)
        np.testing.assert_allclose(batch.positions, run.positions[:n], atol=ROUND_OUTCAR)
        np.testing.assert_allclose(batch.energies_eV, run.energies[:n], atol=1e-8)
        _, out, _ = said(capsys, path)
        if n < FRAMES:
            # The cut can fall between two steps.
            half = source.refused == Counter({"half written": 1})
            assert half or not source.refused
            assert f"{n} taken; refused: {'1 half written' if half else 'none'}" in out
            assert half or "the run was killed or goes on" in out

    def test_compressed_also_when_cut_off(self, vasp):
        path, make = vasp
        make()
        _, plain = read(path)
        content = path.read_bytes()
        for opener, ending in ((gzip.open, ".gz"), (lzma.open, ".xz")):
            packed = path.with_name(path.name + ending)
            with opener(packed, "wb") as out:
                out.write(content)
            _, batch = read(packed)
            np.testing.assert_array_equal(batch.positions, plain.positions)
            packed.write_bytes(packed.read_bytes()[: packed.stat().st_size * 7 // 10])
            source, batch = read(packed)
            assert 0 < len(batch) < FRAMES
            assert source.refused["half written"] == 1

    def test_a_ramp_of_the_thermostat(self, vasp):
        path, make = vasp
        make(tebeg_K=5000.0, teend_K=4400.0)
        source, batch = read(path)
        assert batch.target_K.tolist() == [4900.0, 4800.0, 4700.0, 4600.0, 4500.0, 4400.0]
        assert any("ramp" in remark for remark in source.remarks)

    def test_an_enthalpy_is_not_taken_for_the_energy(self, vasp):
        path, make = vasp
        run = make(pstress_kbar=20.0)
        _, batch = read(path)
        np.testing.assert_allclose(batch.energies_eV, run.energies, atol=1e-8)

    def test_nve_and_static(self, vasp):
        path, make = vasp
        make(smass=-3.0)
        assert read(path)[0].thermostat == "none"
        make(ibrion=-1)
        source, batch = read(path)
        assert source.timestep_fs is None
        assert np.isnan(batch.target_K).all()


def test_steps_of_a_machine_learned_force_field_are_no_frames(tmp_path):
    run = vasp_run(version="6.3.0")
    step = outcar_step(run, 2)
    learned = step[step.index(" VOLUME and BASIS") :].replace("(eV/Angst)", "(eV/Angst) (ML)")
    learned = learned.replace("free  energy   TOTEN", "free  energy ML TOTEN")
    (tmp_path / "OUTCAR").write_text(outcar_head(run) + outcar_step(run, 1) + learned + outcar_step(run, 3))
    _, batch = read(tmp_path / "OUTCAR")
    assert batch.steps.tolist() == [1, 3]
    np.testing.assert_allclose(batch.forces, run.forces[[0, 2]], atol=5.1e-7)


def test_overflowed_numbers_are_refused(tmp_path):
    run = vasp_run()
    text = outcar_head(run) + outcar_step(run, 1)
    bad = outcar_step(run, 2)
    where = bad.index("TOTAL-FORCE")
    bad = bad[:where] + bad[where:].replace(f"{run.forces[1, 5, 0]:13.6f}", "*" * 13, 1)
    (tmp_path / "OUTCAR").write_text(text + bad + outcar_step(run, 3))
    source, batch = read(tmp_path / "OUTCAR")
    assert batch.steps.tolist() == [1, 3]
    assert source.refused == Counter({"numbers that cannot be read or are not finite": 1})


# CP2K ---------------------------------------------------------------------------------------------

USER_DECK = """
&GLOBAL
  PROJECT liquid
  RUN_TYPE {run_type}
&END GLOBAL
&FORCE_EVAL
  METHOD QS
  &PRINT
    &FORCES ON
    &END FORCES
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 120
      REL_CUTOFF 25
    &END MGRID
    &SCF
      EPS_SCF 1e-6
      MAX_SCF {max_scf}
      &OT
        MINIMIZER DIIS
        PRECONDITIONER FULL_ALL
        ENERGY_GAP 0.05
      &END OT
    &END SCF
    &XC
      &XC_FUNCTIONAL PBE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      ABC 5 5 5
    &END CELL
    &COORD
      Si 2.5 2.5 2.5
      O 4.02 2.6 2.5
      O 0.98 2.45 2.62
    &END COORD
    &KIND Si
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PBE-q4
    &END KIND
    &KIND O
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PBE-q6
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
"""
USER_MOTION = """
&MOTION
  &MD
    ENSEMBLE NVE
    STEPS 3
    TIMESTEP 1.0
    TEMPERATURE 3000
  &END MD
  &PRINT
    &FORCES ON
    &END FORCES
    &CELL ON
    &END CELL
  &END PRINT
&END MOTION
"""


def run_cp2k(directory: Path, deck: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "user.inp").write_text(deck)
    with (directory / "user.out").open("w") as log:
        subprocess.run(
            [cp2k.find_cp2k(), "-i", "user.inp"], cwd=directory, stdout=log, stderr=log, check=True
        )


class TestCp2k:
    pytestmark = needs_cp2k

    @pytest.fixture(scope="class")
    @classmethod
    def own(cls, tmp_path_factory):
        directory = tmp_path_factory.mktemp("own")
        run = cp2k.run_dynamics(settings(), MOLECULE, NVE, directory=directory, threads=1)
        return directory, run

    @pytest.fixture(scope="class")
    @classmethod
    def users(cls, tmp_path_factory):
        """Without an outer SCF loop, at print level MEDIUM and with .cell: another log than the suite's."""
        directory = tmp_path_factory.mktemp("users")
        run_cp2k(directory, USER_DECK.format(run_type="MD", max_scf=60) + USER_MOTION)
        return directory

    def test_the_suites_own_run(self, own):
        directory, run = own
        source, batch = read(directory)
        np.testing.assert_array_equal(batch.steps, run.steps)
        np.testing.assert_allclose(batch.positions, run.positions, atol=1e-12)
        np.testing.assert_allclose(batch.forces, run.forces, atol=1e-12)
        np.testing.assert_allclose(batch.velocities, run.velocities, atol=1e-12)
        np.testing.assert_allclose(batch.energies_eV, run.energies_eV, atol=1e-9)
        np.testing.assert_allclose(batch.kinetic_K, run.temperatures_K, atol=1e-6)
        np.testing.assert_allclose(batch.cells[0], MOLECULE.cell, atol=1e-6)
        assert (source.functional, source.basis) == ("PBE", SETTINGS["basis"])
        assert source.level.settings == {"method": settings().method, "cutoff_Ry": "120"}, (
            "of the restart file"
        )
        assert (source.engine_version, source.timestep_fs, source.thermostat) == ("2023.1", 1.0, "none")

    def test_a_number_that_did_not_fit_costs_only_itself(self, own, tmp_path):
        directory = tmp_path / "run"
        shutil.copytree(own[0], directory)
        (energies,) = directory.glob("*-1.ener")
        lines = energies.read_text().splitlines(keepends=True)
        words = lines[2].split()
        lines[2] = " ".join([*words[:3], "*" * 12, *words[4:]]) + "\n"
        lines[3] = " ".join(lines[3].split()[:2]) + "\n"
        energies.write_text("".join(lines))
        _, whole = read(own[0])
        _, batch = read(directory)
        assert np.flatnonzero(np.isnan(batch.kinetic_K)).tolist() == [1, 2]
        np.testing.assert_array_equal(batch.positions, whole.positions)
        (positions,) = directory.glob("*-pos-1.xyz")
        positions.write_text("")
        with pytest.raises(SuiteError, match=r"pos-1\.xyz: found b'', expected the number of atoms"):
            read(directory)

    def test_a_users_run_against_ase(self, users):
        source, batch = read(users / "liquid-pos-1.xyz")
        positions = ase.io.read(users / "liquid-pos-1.xyz", index=":")
        forces = ase.io.read(users / "liquid-frc-1.xyz", index=":")
        np.testing.assert_allclose(batch.positions, [a.positions for a in positions], atol=1e-12)
        expected = np.array([a.positions for a in forces]) * HARTREE_EV / BOHR_ANGSTROM
        np.testing.assert_allclose(batch.forces, expected, atol=1e-12)
        assert batch.velocities is None or batch.velocities.shape == batch.forces.shape
        assert batch.target_K.tolist() == [3000.0] * 4
        assert source.level.settings == {"method": "GPW", "cutoff_Ry": "120"}, "of the log"
        assert not source.refused

    def test_unconverged_and_truncated(self, users, tmp_path):
        shutil.copytree(users, tmp_path / "run")
        log = tmp_path / "run" / "user.out"
        good = "*** SCF run converged in"
        parts = log.read_text().split(good)
        bad = "*** WARNING in qs_scf.F:601 :: SCF run NOT converged ***"  # as 2023.1 has it
        log.write_text(f"{parts[0]}{good}{parts[1]}{bad}{good.join(parts[2:])}")
        forces = tmp_path / "run" / "liquid-frc-1.xyz"
        forces.write_bytes(forces.read_bytes()[:-30])
        source, batch = read(tmp_path / "run")
        assert batch.steps.tolist() == [0, 2]
        assert source.refused == Counter({"SCF not converged": 1, "half written": 1})

    def test_a_log_that_ends_early_leaves_steps_without_a_verdict(self, users, tmp_path):
        shutil.copytree(users, tmp_path / "run")
        log = tmp_path / "run" / "user.out"
        text = log.read_text()
        log.write_text(text[: text.rindex("ENERGY| Total FORCE_EVAL")])
        source, batch = read(tmp_path / "run")
        assert len(batch) == 3
        assert source.refused == Counter({"SCF not in the log": 1})
        assert any("killed" in remark for remark in source.remarks)

    def test_single_point_and_one_that_does_not_converge(self, users, tmp_path):
        run_cp2k(tmp_path / "good", USER_DECK.format(run_type="ENERGY_FORCE", max_scf=60))
        _, batch = read(tmp_path / "good" / "user.out")
        _, trajectory = read(users)
        np.testing.assert_allclose(batch.energies_eV[0], trajectory.energies_eV[0], atol=1e-7)
        np.testing.assert_allclose(batch.forces[0], trajectory.forces[0], atol=1e-6)
        np.testing.assert_allclose(batch.positions[0], trajectory.positions[0], atol=1e-9)
        run_cp2k(tmp_path / "bad", USER_DECK.format(run_type="ENERGY_FORCE", max_scf=2))
        (source,) = open_sources([tmp_path / "bad" / "user.out"])
        assert list(source.batches) == []
        assert source.refused == Counter({"SCF not converged": 1})

    def test_errors(self, users, tmp_path):
        for missing, message in (
            ("liquid-frc-1.xyz", "liquid-frc-1.xyz: found no such file, expected the forces"),
            ("user.out", "found none for logs of CP2K's project liquid, expected exactly one"),
        ):
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            shutil.copytree(users, tmp_path / "run")
            (tmp_path / "run" / missing).unlink()
            with pytest.raises(SuiteError, match=message):
                open_sources([tmp_path / "run"])
        with pytest.raises(SuiteError, match=r"log of molecular dynamics, expected its liquid-pos-1\.xyz"):
            open_sources([users / "user.out"])
        shutil.copytree(users, tmp_path / "tilted")
        log = tmp_path / "tilted" / "user.out"
        log.write_text(
            log.read_text().replace(
                "orthorhombic:                                             YES",
                "orthorhombic:                                              NO",
            )
        )
        (tmp_path / "tilted" / "liquid-1.cell").unlink()
        assert len(read(tmp_path / "tilted")[1]) == 4  # the cell is in the restart file
        (tmp_path / "tilted" / "liquid-1.restart").unlink()
        with pytest.raises(SuiteError, match=r"liquid-1\.cell: found no such file"):
            open_sources([tmp_path / "tilted"])

    def test_a_run_that_went_on_after_it_was_killed_loses_what_was_cut(self, users, tmp_path):
        """A block that is cut in the middle of a file costs its steps, and no more."""
        shutil.copytree(users, tmp_path / "run")
        path = tmp_path / "run" / "liquid-pos-1.xyz"
        blocks = path.read_text().splitlines(keepends=True)
        # Step 1 is cut in its last row; step 2, written after it, is lost with it.
        path.write_text("".join(blocks[:9]) + blocks[9][:12] + "".join(blocks[10:]))
        source, batch = read(tmp_path / "run")
        assert batch.steps.tolist() == [0, 3]
        assert source.refused.total() == 2

    def test_other_units_of_forces_are_refused(self, users, tmp_path):
        shutil.copytree(users, tmp_path / "run")
        restart = tmp_path / "run" / "liquid-1.restart"
        text = restart.read_text()
        assert re.search(r"&FORCES\s+ON\s+&END FORCES\s+.*&END PRINT", text, re.S)
        motion = text.index("&MOTION")
        end = text.index("&END FORCES", motion)
        restart.write_text(text[:end] + "UNIT  eV*angstrom^-1\n     " + text[end:])
        with pytest.raises(SuiteError, match=r"found FORCES with UNIT eV\*angstrom\^-1, expected hartree"):
            open_sources([tmp_path / "run"])

    def test_a_log_cut_anywhere_ends_in_a_line(self, users, tmp_path):
        run_cp2k(tmp_path / "good", USER_DECK.format(run_type="ENERGY_FORCE", max_scf=60))
        text = (tmp_path / "good" / "user.out").read_bytes()
        cut = tmp_path / "cut.out"
        for end in np.random.default_rng(1).integers(9000, len(text), 60):
            cut.write_bytes(text[:end])
            try:
                for source in open_sources([cut]):
                    assert list(source.batches) == []
                    assert source.refused
            except SuiteError as error:
                assert str(error).startswith(str(cut))  # noqa: PT017 - either will do

    def test_logs_of_several_evaluations_are_refused(self, users, tmp_path):
        """The coordinates of one, the forces of another."""
        run_cp2k(tmp_path / "good", USER_DECK.format(run_type="ENERGY_FORCE", max_scf=60))
        text = (tmp_path / "good" / "user.out").read_text()
        (tmp_path / "both.out").write_text(text + text)
        with pytest.raises(
            SuiteError, match="found 2 evaluations of the energy, expected the log of a single"
        ):
            open_sources([tmp_path / "both.out"])


# Quantum ESPRESSO ---------------------------------------------------------------------------------

PWX_DECK = """
&control
 calculation='md', prefix='si', pseudo_dir='/usr/share/espresso/pseudo', outdir='./out', dt=40.0, nstep=4,
 tstress=.true., tprnfor=.true., disk_io='none', verbosity='{verbosity}'
/
&system
 ibrav=0, nat=2, ntyp=1, ecutwfc=8, nosym=.true.
/
&electrons
 conv_thr=1e-8, electron_maxstep={steps}, scf_must_converge=.false.
/
&ions
 ion_temperature='initial', tempw=1500
/
ATOMIC_SPECIES
Si 28.085 Si.pz-vbc.UPF
CELL_PARAMETERS angstrom
 0.0 2.7 2.7
 2.7 0.0 2.7
 2.7 2.7 0.0
ATOMIC_POSITIONS {unit}
Si {first}
Si {second}
K_POINTS gamma
"""


def run_pwx(directory: Path, *, steps: int = 60, crystal: bool = False, verbosity: str = "low") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    where = ("0.0 0.0 0.0", "0.26 0.25 0.24") if crystal else ("0.0 0.0 0.0", "1.30 1.35 1.40")
    unit = "crystal" if crystal else "angstrom"
    deck = PWX_DECK.format(steps=steps, unit=unit, first=where[0], second=where[1], verbosity=verbosity)
    (directory / "md.in").write_text(deck)
    with (directory / "md.out").open("w") as out:
        subprocess.run(["pw.x", "-i", "md.in"], cwd=directory, stdout=out, stderr=out, check=False)
    return directory / "md.out"


class TestPwx:
    pytestmark = needs_pwx

    @pytest.mark.parametrize("crystal", [False, True])
    def test_against_ase(self, tmp_path, crystal):
        path = run_pwx(tmp_path, crystal=crystal)
        source, batch = read(path)
        frames = ase.io.read(path, index=":", format="espresso-out")
        assert len(frames) == len(batch) == 4
        np.testing.assert_allclose(batch.positions, [a.positions for a in frames], atol=1e-6)
        np.testing.assert_allclose(batch.cells, [a.cell.array for a in frames], atol=1e-6)
        # ASE's Rydberg is that of CODATA 2006.
        np.testing.assert_allclose(batch.forces, [a.get_forces() for a in frames], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(batch.energies_eV, [a.get_potential_energy() for a in frames], rtol=1e-6)
        assert batch.stress.all()
        assert batch.target_K.tolist() == [1500.0] * 4
        assert batch.kinetic_K[0] == pytest.approx(1500.0)
        assert (source.functional, source.engine_version) == ("LDA", "6.7MaX")
        assert source.timestep_fs == pytest.approx(1.9351, abs=1e-4)

    def test_whatever_it_prints(self, tmp_path):
        """With much more output the frames are the same, and so they are as version 6.4 writes energies."""
        _, usual = read(run_pwx(tmp_path / "low"))
        path = run_pwx(tmp_path / "high", verbosity="high")
        assert "Crystallographic axes" in path.read_text()
        _, much = read(path)
        # Later steps have other velocities, which pw.x draws anew.
        np.testing.assert_allclose(much.positions[0], usual.positions[0], atol=1e-6)
        np.testing.assert_allclose(much.forces[0], usual.forces[0], atol=1e-6)
        assert much.forces.shape == usual.forces.shape
        bad = run_pwx(tmp_path / "bad", steps=3)
        text = bad.read_text()
        older = re.sub(r"(!    total energy +)(= +\S+ Ry\n)", r"\1\2     Harris-Foulkes estimate   \2", text)
        assert older != text
        bad.write_text(older)
        (source,) = open_sources([tmp_path / "bad"])
        assert list(source.batches) == []

    def test_joined_runs_are_refused(self, tmp_path):
        path = run_pwx(tmp_path)
        path.write_text(path.read_text() * 2)
        (source,) = open_sources([path])
        with pytest.raises(SuiteError, match=r"md\.out: found a second run in the file, expected one"):
            list(source.batches)

    def test_total_energy_is_conserved_so_energies_and_positions_belong_together(self, tmp_path):
        """Work of the forces along each step equals the energy's change: frames are not shifted by one."""
        _, batch = read(run_pwx(tmp_path))
        moved = np.diff(batch.positions, axis=0)
        work = -(moved * (batch.forces[1:] + batch.forces[:-1]) / 2).sum(axis=(1, 2))
        change = np.diff(batch.energies_eV)
        assert np.abs(change).max() > 0.01
        np.testing.assert_allclose(work, change, atol=0.05 * np.abs(change).max())

    def test_unconverged_and_truncated(self, tmp_path):
        path = run_pwx(tmp_path / "bad", steps=3)
        (source,) = open_sources([path])
        assert list(source.batches) == []
        assert source.refused["SCF not converged"] > 0
        path = run_pwx(tmp_path / "good")
        text = path.read_text()
        cut = [m for m in range(len(text)) if text.startswith("Forces acting on atoms", m)][2]
        path.write_text(text[: cut + 120])
        source, batch = read(path)
        assert len(batch) == 2
        assert source.refused == Counter({"half written": 1})


# Extended XYZ and DeePMD --------------------------------------------------------------------------


def atoms_of(run: VaspRun) -> list[ase.Atoms]:
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for k in range(len(run.energies)):
        atoms = ase.Atoms(run.species, positions=run.positions[k], cell=run.cells[k], pbc=True)
        atoms.calc = SinglePointCalculator(
            atoms, energy=run.energies[k] + 0.01, free_energy=run.energies[k], forces=run.forces[k]
        )
        frames.append(atoms)
    return frames


class TestExtendedXyz:
    def test_as_ase_writes_it_with_the_free_energy(self, tmp_path):
        run = vasp_run()
        ase.io.write(tmp_path / "all.extxyz", atoms_of(run))
        source, batch = read(tmp_path / "all.extxyz")
        np.testing.assert_allclose(batch.positions, run.positions, atol=1e-8)
        np.testing.assert_allclose(batch.forces, run.forces, atol=1e-8)
        np.testing.assert_allclose(batch.energies_eV, run.energies, atol=1e-7)
        assert not source.convergence_known

    def test_truncated_unconverged_and_of_several_sizes(self, tmp_path, capsys):
        run = vasp_run()
        frames = atoms_of(run)
        frames[1].info["converged"] = False
        frames[2] = frames[2].repeat((1, 1, 1))
        frames[2].calc = frames[3].calc
        path = tmp_path / "all.extxyz"
        ase.io.write(path, frames)
        path.write_bytes(path.read_bytes()[:-200])
        code, out, _ = said(capsys, path)
        assert code == 0
        assert "4 taken; refused: 1 SCF not converged, 1 half written" in out

    def test_velocities_that_are_not_finite_are_refused(self, tmp_path):
        frames = atoms_of(vasp_run())
        for k, atoms in enumerate(frames):
            atoms.set_array(VELOCITIES, np.full((len(atoms), 3), np.nan if k == 1 else 0.01))
        ase.io.write(tmp_path / "all.extxyz", frames)
        source, batch = read(tmp_path / "all.extxyz")
        assert batch.velocities is not None
        assert len(batch) == len(frames) - 1
        assert source.refused == Counter({"numbers that cannot be read or are not finite": 1})
        with pytest.raises(SuiteError, match="found velocities up to nan, expected less than"):
            pack(np.full((1, 2, 3), np.nan), "velocities")

    def test_what_is_no_element_is_named_with_its_file(self, tmp_path):
        path = tmp_path / "all.extxyz"
        ase.io.write(path, atoms_of(vasp_run()))
        path.write_text(path.read_text().replace("Si ", "Sj "))
        (source,) = open_sources([path])
        with pytest.raises(SuiteError, match=r"all\.extxyz: found species Sj, expected chemical symbols"):
            look(source)

    def test_frames_after_an_empty_line_are_read(self, tmp_path):
        path = tmp_path / "all.extxyz"
        ase.io.write(path, atoms_of(vasp_run()))
        path.write_text(path.read_text() + "\n" + path.read_text() + "\n")
        source, batch = read(path)
        assert len(batch) == 2 * len(vasp_run().energies)
        assert not source.refused

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("energy=", "x=", "frame 1: found only .* expected Lattice, Properties and energy"),
            ("forces:R:3", "magmoms:R:3", "found only species, pos, magmoms among its properties"),
            ("species:S:1", "species:S", "expected name:type:width triples"),
        ],
    )
    def test_errors(self, tmp_path, old, new, message):
        path = tmp_path / "all.extxyz"
        ase.io.write(path, atoms_of(vasp_run())[:1])
        path.write_text(path.read_text().replace("free_energy=", "y=").replace(old, new))
        (source,) = open_sources([path])
        with pytest.raises(SuiteError, match=message):
            list(source.batches)


def deepmd(run: VaspRun):
    import dpdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dpdata.LabeledSystem(
            data={
                "atom_names": ["Si", "O"],
                "atom_numbs": [32, 64],
                "atom_types": np.repeat([0, 1], [32, 64]),
                "orig": np.zeros(3),
                "coords": run.positions,
                "cells": run.cells,
                "energies": run.energies,
                "forces": run.forces,
            }
        )


def test_forces_that_are_unlike_those_of_free_atoms_are_said(tmp_path, capsys):
    """Of a part of a system, or with atoms held fixed: the report doubts them."""
    for name, change in (("whole", lambda f: f), ("fixed", fixed), ("shifted", lambda f: f + 0.5)):
        run = vasp_run()
        deepmd(replace(run, forces=change(run.forces.copy()))).to("deepmd/npy", str(tmp_path / name))
        code, out, _ = said(capsys, tmp_path / name)
        assert code == 0
        assert ("in 6 frames some atoms, but not all, have no force at all" in out) == (name == "fixed")
        assert ("forces do not sum to zero" in out) == (name != "whole")


def fixed(forces: np.ndarray) -> np.ndarray:
    forces[:, 40:] = 0
    return forces


class TestDeepmd:
    @pytest.mark.parametrize("form", ["npy", "hdf5"])
    def test_as_dpdata_writes_it(self, tmp_path, form):
        run = vasp_run()
        path = tmp_path / ("data" if form == "npy" else "data.hdf5")
        deepmd(run).to(f"deepmd/{form}", str(path), set_size=4, comp_prec=np.float64)
        (source,) = open_sources([path])
        batches = list(source.batches)
        assert [len(batch) for batch in batches] == [4, 2]
        np.testing.assert_array_equal(np.concatenate([b.positions for b in batches]), run.positions)
        np.testing.assert_array_equal(np.concatenate([b.forces for b in batches]), run.forces)
        np.testing.assert_array_equal(np.concatenate([b.energies_eV for b in batches]), run.energies)
        np.testing.assert_array_equal(np.concatenate([b.cells for b in batches]), run.cells)
        assert batches[0].species == SPECIES

    def test_single_precision_is_said(self, tmp_path):
        deepmd(vasp_run()).to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float32)
        energies = tmp_path / "data/set.000/energy.npy"
        np.save(energies, np.load(energies).astype(np.float32))
        (source,) = open_sources([tmp_path / "data"])
        assert "single precision" in source.remarks[0]

    def test_nan_is_refused(self, tmp_path):
        run = vasp_run()
        deepmd(run).to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
        forces = np.load(tmp_path / "data/set.000/force.npy")
        forces[2, 5] = np.nan
        np.save(tmp_path / "data/set.000/force.npy", forces)
        source, batch = read(tmp_path / "data")
        assert batch.steps.tolist() == [0, 1, 3, 4, 5]
        assert source.refused == Counter({"numbers that cannot be read or are not finite": 1})

    def test_errors(self, tmp_path):
        data = tmp_path / "data"
        deepmd(vasp_run()).to("deepmd/npy", str(data), comp_prec=np.float64)
        force = data / "set.000/force.npy"
        whole = force.read_bytes()
        np.save(force, np.load(force)[:-1])
        with pytest.raises(SuiteError, match=r"found force of \(5, 288\), expected \(6, 288\)"):
            open_sources([data])
        force.write_bytes(whole[:-100])
        with pytest.raises(SuiteError, match="found a cut or unreadable array"):
            open_sources([data])
        force.unlink()
        with pytest.raises(SuiteError, match=r"force\.npy: found no such file"):
            open_sources([data])
        force.write_bytes(whole)
        (data / "set.000/real_atom_types.npy").write_bytes(whole)
        with pytest.raises(SuiteError, match="found mixed types, expected one composition"):
            open_sources([data])
        for words in ("0 Si", "0 -1"):
            types = (data / "type.raw").read_text()
            (data / "type.raw").write_text(words)
            with pytest.raises(SuiteError, match=r"type\.raw: found \S+, expected the numbers of types"):
                open_sources([data])
            (data / "type.raw").write_text(types)
        (data / "type_map.raw").unlink()
        with pytest.raises(SuiteError, match=r"found no type_map\.raw, expected one"):
            open_sources([data])
        (data / "type_map.raw").write_text("Si\n")
        with pytest.raises(SuiteError, match="found types up to 1, expected 1 names"):
            open_sources([data])
        (data / "type_map.raw").write_text("Si\nSi\n")
        with pytest.raises(SuiteError, match=r"found Si twice in type_map\.raw, expected a name for each"):
            open_sources([data])
        (data / "type_map.raw").write_text("Si\nO\n")
        shutil.rmtree(data / "set.000")
        with pytest.raises(SuiteError, match=r"found no set\.\*, expected at least set\.000"):
            open_sources([data])
        (tmp_path / "cut.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 50)
        with pytest.raises(SuiteError, match="found a cut or unreadable file"):
            open_sources([tmp_path / "cut.hdf5"])

    @pytest.mark.parametrize("form", ["npy", "hdf5"])
    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("force", (288, FRAMES)),
            ("force", (FRAMES, 3, 96)),
            ("force", (FRAMES * 96, 3)),
            ("coord", (2 * FRAMES, 144)),
            ("box", (9, FRAMES)),
            ("energy", (FRAMES, 2)),
        ],
    )
    def test_arrays_of_another_shape_are_refused(self, tmp_path, form, name, shape):
        """Though they may hold as many numbers: they would be of other atoms."""
        import h5py

        data = tmp_path / ("data" if form == "npy" else "data.hdf5")
        deepmd(vasp_run()).to(f"deepmd/{form}", str(data), comp_prec=np.float64)
        if form == "npy":
            file = data / f"set.000/{name}.npy"
            np.save(file, np.resize(np.load(file), shape))
        else:
            with h5py.File(data, "a") as file:
                array = np.resize(file[f"set.000/{name}.npy"][:], shape)
                del file[f"set.000/{name}.npy"]
                file[f"set.000/{name}.npy"] = array
        with pytest.raises(
            SuiteError, match=rf"found {name} of \({shape[0]}, .*expected \({FRAMES}, "
        ) as caught:
            open_sources([data])
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", [np.float16, np.int64, np.int8])
    @pytest.mark.parametrize("name", ["energy", "force", "box"])
    def test_numbers_that_are_too_coarse_are_refused(self, tmp_path, name, kind):
        data = tmp_path / "data"
        deepmd(vasp_run()).to("deepmd/npy", str(data), comp_prec=np.float64)
        file = data / f"set.000/{name}.npy"
        np.save(file, np.load(file).astype(kind))
        with pytest.raises(SuiteError, match=f"found {name} of {kind.__name__}, expected float64 or float32"):
            open_sources([data])

    def test_positions_in_the_place_of_forces(self, tmp_path):
        data = tmp_path / "data"
        deepmd(vasp_run()).to("deepmd/npy", str(data), comp_prec=np.float64)
        shutil.copy(data / "set.000/coord.npy", data / "set.000/force.npy")
        (source,) = open_sources([data])
        with pytest.raises(SuiteError, match="data: found the positions in the place of forces"):
            list(source.batches)

    def test_arrays_with_a_row_for_each_atom(self, tmp_path):
        data = tmp_path / "data"
        run = vasp_run()
        deepmd(run).to("deepmd/npy", str(data), comp_prec=np.float64)
        for name, shape in (("force", (FRAMES, 96, 3)), ("box", (FRAMES, 3, 3)), ("energy", (FRAMES, 1))):
            file = data / f"set.000/{name}.npy"
            np.save(file, np.load(file).reshape(shape))
        _, batch = read(data)
        np.testing.assert_array_equal(batch.forces, run.forces)
        np.testing.assert_array_equal(batch.cells, run.cells)
        np.testing.assert_array_equal(batch.energies_eV, run.energies)


# Depositing ---------------------------------------------------------------------------------------


@pytest.fixture
def outcars(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"run-{number}" / "OUTCAR")
        paths[-1].parent.mkdir()
        write_outcar(paths[-1], vasp_run(first=20 * number, kinetic_K=np.full(FRAMES, 2990.0)))
    return paths


def test_imported_deposited_and_read_back(outcars, tmp_path, capsys):
    root = tmp_path / "imported"
    options = ("--name", "mine", "--use", "train", "--root", root)
    code, out, _ = said(capsys, *outcars, *options)
    assert code == 0
    assert f"deposited {3 * FRAMES} frames of 96 atoms, 3 melts, to train" in out
    found = read_set("mine", root=root)
    verify_set(found)
    assert (found.kind, found.facts["engine"], found.facts["functional"]) == ("singlepoints", "VASP", "PBE")
    assert found.facts["engine_version"] == "5.4.4"
    for path, run in zip(outcars, found.runs, strict=True):
        back = read_run(found, run.id)
        _, batch = read(path)
        q = QUANTA
        np.testing.assert_allclose(back.positions, batch.positions, atol=0.51 * q["positions"])
        mean = batch.forces.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(back.forces, batch.forces - mean, atol=0.51 * q["forces"])
        np.testing.assert_array_equal(back.energies_eV, batch.energies_eV)
        np.testing.assert_allclose(back.cells, batch.cells)
        assert set(back.temperatures_K) == {3000.0}


def test_a_file_given_twice_is_no_second_melt(outcars, tmp_path):
    with pytest.raises(
        SuiteError, match=r"run-0: found .*run-0/OUTCAR a second time, expected each file once"
    ):
        open_sources([*outcars, outcars[0].parent])


def test_systems_of_one_file_are_numbered_within_it(outcars, tmp_path):
    h5py = pytest.importorskip("h5py")
    for name in "ab":
        deepmd(vasp_run()).to("deepmd/hdf5", str(tmp_path / f"{name}.hdf5"), comp_prec=np.float64)
    with h5py.File(tmp_path / "both.hdf5", "w") as both:
        for name in "ab":
            with h5py.File(tmp_path / f"{name}.hdf5") as one:
                one.copy(one, both, name)
    alone = importing.digests_of(open_sources([tmp_path / "both.hdf5"]))
    assert alone[1] == f"{alone[0]}.g1"
    among = importing.digests_of(open_sources([*outcars, tmp_path / "both.hdf5"]))
    assert among[3:] == alone


def test_identity_is_of_the_content_and_not_of_the_path(outcars, tmp_path, capsys):
    other = tmp_path / "elsewhere"
    for path in outcars:
        (other / path.parent.name).mkdir(parents=True)
        shutil.copy(path, other / path.parent.name)
    sums = []
    for number, paths in enumerate((outcars, [other / p.parent.name / p.name for p in outcars])):
        root = tmp_path / f"root-{number}"
        said(capsys, *paths, "--name", "mine", "--use", "train", "--root", root)
        sums.append(read_set("mine", root=root).sha256)
    assert sums[0] == sums[1]


def test_a_tier_trains_on_it(outcars, tmp_path, capsys):
    said(capsys, *outcars, "--name", "mine", "--use", "train", "--root", tmp_path / "imported")
    from jobs.campaign.tier import TIERS

    text = (TIERS / "smoke.yml").read_text()
    head, tail = text.split("frames:\n")[0], text.split("\ntraining:")[1]
    tier = tmp_path / "mine.yml"
    tier.write_text(
        f"{head}deposit: imported\nframes:\n  deepmd-96: {{mine: 1}}\n  deepmd-216: {{mine: 1}}\n\n"
        f"training:{tail}"
    )
    campaign = build_campaign(str(tier))
    assert any("VASP PBE" in line for line in campaign.deviations)
    (stage,) = {
        s.name: s for t in campaign.labels["train-96"] for s in t.walk() if s.kind == "dataset"
    }.values()
    (tmp_path / "product").mkdir()
    dataset.run(Workspace(stage.parameters, stage.seed, {}, tmp_path / "product"))
    about = json.loads((tmp_path / "product/dataset.json").read_text())
    assert about["frames"] == {"train": 2 * FRAMES, "test": FRAMES, "refused": 0}
    trained = np.load(tmp_path / "product/train/mine/set.000/energy.npy")
    held = np.load(tmp_path / "product/test/T3000/mine/set.000/energy.npy")
    everything = np.concatenate([read(path)[1].energies_eV for path in outcars])
    np.testing.assert_array_equal(np.sort([*trained, *held]), np.sort(everything))
    # The same data elsewhere are the same dataset.
    shutil.move(tmp_path / "imported", tmp_path / "moved")
    tier.write_text(tier.read_text().replace("deposit: imported", "deposit: moved"))
    again = {s.name for t in build_campaign(str(tier)).labels["train-96"] for s in t.walk()}
    assert stage.name in again
    tier.write_text(tier.read_text().replace("deposit: moved", "deposit: nowhere"))
    with pytest.raises(SuiteError, match="found no such folder, expected a deposit"):
        build_campaign(str(tier))


def test_a_tilted_cell_is_refused_before_anything_is_trained(tmp_path, capsys):
    run = vasp_run()
    cells = run.cells.copy()
    cells[:, 1, 0] += 0.3
    write_outcar(tmp_path / "OUTCAR", replace(run, cells=cells))
    code, _, err = said(
        capsys, tmp_path / "OUTCAR", "--name", "mine", "--use", "train", "--root", tmp_path / "imported"
    )
    assert code == 2
    assert "OUTCAR: found a cell tilted by 0.3 A, expected orthorhombic ones" in err


def test_import_says_which_product_a_set_belongs_to(outcars, tmp_path, capsys):
    judge = ("--use", "judge", "--root", tmp_path / "imported", "--unequilibrated", "0")
    _, out, _ = said(capsys, outcars[0], "--name", "one", *judge, "--start", "tersoff")
    assert (
        "it belongs to the product reference-96-tersoff, which no claim reads: they read reference-96-nnp, "
        in out
    )
    _, out, _ = said(capsys, outcars[1], "--name", "two", *judge, "--start", "nnp")
    assert out.splitlines()[-1] == "it belongs to the product reference-96-nnp"


def test_trajectories_that_judge(outcars, tmp_path, capsys):
    root = tmp_path / "imported"
    judge = ("--use", "judge", "--root", root, "--unequilibrated", "1")
    code, out, _ = said(capsys, *outcars[1:], "--name", "ref", *judge, "--start", "nnp")
    assert code == 0
    assert "to judge" in out
    found = read_set("ref", root=root)
    facts = found.facts
    assert (found.kind, facts["thermostat"]) == ("trajectory", "Nose-Hoover")
    assert facts["timestep_fs"] * facts["steps_between_frames"] == 2.0
    tier = tmp_path / "mine.yml"
    from jobs.campaign.tier import TIERS

    text = (TIERS / "smoke.yml").read_text()
    # The tier still trains on the project's frames, and may on both deposits': not on what judges.
    tier.write_text(text.replace("frames:\n", "deposit: imported\nframes:\n"))
    planned = build_campaign(str(tier))
    assert planned.labels["train-96"][0].name == build_campaign("smoke").labels["train-96"][0].name
    for name, expected in (
        ("ref", "tier smoke: frames: deepmd-96: found ref with use judge, expected sets with use train"),
        ("lost", "lost/set.yml: found no such set, expected one of: ref"),
    ):
        wrong = tmp_path / "wrong.yml"
        wrong.write_text(tier.read_text().replace("deepmd-96: {", f"deepmd-96: {{{name}: 1, ", 1))
        with pytest.raises(SuiteError, match=re.escape(expected)):
            build_campaign(str(wrong))
    # The user's AIMD is VASP's: the project's, by CP2K, is no second start beside it.
    labels = planned.labels
    assert len(labels["reference-96-nnp"]) == 2
    assert "reference-96-bks" not in labels
    assert "reference-96-bks" in build_campaign("smoke").labels
    # Training data are never a reference.
    code, _, err = said(capsys, outcars[1], "--name", "more", "--use", "train", "--root", root)
    assert code == 2
    assert "found data of the same files to judge, expected them not to train as well" in err
    assert not (root / "more").exists()


def test_a_run_is_known_again_however_it_is_given(outcars, tmp_path, capsys):
    root = tmp_path / "imported"
    said(capsys, *outcars[:2], "--name", "tr", "--use", "train", "--one-melt", "--root", root)
    judge = ("--name", "j", "--use", "judge", "--start", "nnp", "--unequilibrated", "1", "--root", root)
    packed = tmp_path / "packed" / "OUTCAR.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(outcars[1].read_bytes()))
    for given in ([outcars[0]], [packed], [packed, outcars[2], "--one-melt"]):
        code, _, err = said(capsys, *given, *judge)
        assert code == 2
        assert "found data of the same files to train, expected them not to judge as well" in err
    assert said(capsys, outcars[2], *judge)[0] == 0


def test_pieces_of_one_run_are_no_replicas(outcars, tmp_path, capsys):
    judge = ("--use", "judge", "--start", "bks", "--unequilibrated", "1", "--root", tmp_path / "imported")
    code, _, err = said(capsys, outcars[0], "--name", "ref", *judge, "--stretch", "3")
    assert code == 2
    assert "--stretch is for --use train only" in err


def test_single_points_that_judge_are_read_by_no_claim(outcars, tmp_path, capsys):
    options = ("--use", "judge", "--kind", "singlepoints", "--start", "nnp", "--root", tmp_path / "imported")
    code, out, _ = said(capsys, outcars[0], "--name", "points", *options)
    assert code == 0
    assert "no claim reads it: single points are a reference only with their sampler" in out


def test_a_gap_in_a_trajectory_is_refused(tmp_path, capsys):
    write_outcar(tmp_path / "OUTCAR", vasp_run(unconverged=frozenset({4})))
    root = tmp_path / "imported"
    options = ("--name", "ref", "--use", "judge", "--start", "nnp", "--root", root)
    code, _, err = said(capsys, tmp_path / "OUTCAR", *options)
    assert code == 2
    assert "use judge needs --unequilibrated: how many first frames" in err
    code, _, err = said(capsys, tmp_path / "OUTCAR", *options, "--unequilibrated", 0)
    assert code == 2
    assert "found step 5 after 3, expected evenly spaced" in err
    assert "give the longest stretch without one as extended XYZ with step=" in err
    assert list(root.iterdir()) == []


def test_a_stretch_without_the_gap_is_a_reference(tmp_path, capsys):
    """What the error says, done as docs/your-data.md does it: by ASE."""
    write_outcar(tmp_path / "OUTCAR", vasp_run(unconverged=frozenset({2})))
    for step, frame in enumerate(ase.io.iread(tmp_path / "OUTCAR", index=":"), start=1):
        if step > 2:
            frame.info["step"] = step
            ase.io.write(tmp_path / "stretch.xyz", frame, format="extxyz", append=True)
    root = tmp_path / "imported"
    options = "--name ref --use judge --start nnp --unequilibrated 0 --temperature-K 3000 --timestep-fs 2"
    options += " --thermostat Nose-Hoover --engine VASP --engine-version 5.4.4 --functional PBE --basis PAW"
    code, out, _ = said(capsys, tmp_path / "stretch.xyz", *options.split(), "--root", root)
    assert code == 0
    assert f"deposited {FRAMES - 2} frames of 96 atoms, 1 melts, to judge" in out
    assert "it belongs to the product reference-96-nnp" in out
    energies = read_run(read_set("ref", root=root), read_set("ref", root=root).runs[0].id).energies_eV
    np.testing.assert_allclose(energies, vasp_run().energies[2:], atol=1e-7)  # TOTEN, not sigma -> 0


def test_a_trajectory_that_is_too_hot_does_not_judge(tmp_path, capsys):
    """VASP writes no velocities: no claim could see it later."""
    run = vasp_run()
    steps = len(run.energies)
    hot = np.full(steps, 3400.0)
    hot[: steps // 2] = 3000.0
    write_outcar(tmp_path / "OUTCAR", replace(run, kinetic_K=hot))
    root = tmp_path / "imported"
    options = ("--name", "ref", "--use", "judge", "--start", "nnp", "--root", root, "--unequilibrated")
    code, _, err = said(capsys, tmp_path / "OUTCAR", *options, steps // 2)
    assert code == 2
    assert "OUTCAR: found 3400 K on average, expected 3000 K within 10% of a run with use judge" in err
    hot[-1] = np.nan
    write_outcar(tmp_path / "OUTCAR", replace(run, kinetic_K=hot))
    assert said(capsys, tmp_path / "OUTCAR", *options, steps // 2)[0] == 2, "also where a frame says nothing"
    hot[-1] = 3400.0
    write_outcar(tmp_path / "OUTCAR", replace(run, kinetic_K=hot))
    assert list(root.iterdir()) == []
    assert said(capsys, tmp_path / "OUTCAR", *options, 0)[0] == 0, "on the whole it is within 10%"


def test_stretches_melts_and_every(outcars, tmp_path, capsys):
    root = tmp_path / "imported"
    base = ("--use", "train", "--root", root)
    said(capsys, *outcars, "--name", "one", "--one-melt", *base)
    assert len({run.melt for run in read_set("one", root=root).runs}) == 1
    _, out, _ = said(capsys, outcars[0], "--name", "two", "--every", "2", "--stretch", "2", *base)
    found = read_set("two", root=root)
    assert [run.frames for run in found.runs] == [2, 1]
    assert "deposited 3 frames of 96 atoms, 2 melts" in out
    said(capsys, outcars[1], "--name", "two", "--every", "2", "--stretch", "2", "--append", *base)
    assert read_set("two", root=root).frames == 6
    _, out, _ = said(capsys, outcars[2], "--name", "three", *base)
    assert "training needs at least 2 melts" in out


def test_beyond_the_projects_own_limit(outcars, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jobs.reference.deposit.MAX_DEPOSIT_BYTES", 1000)
    code, *_ = said(capsys, outcars[0], "--name", "mine", "--use", "train", "--root", tmp_path / "imported")
    assert code == 0


def test_report_as_json(outcars, capsys):
    code, out, _ = said(capsys, outcars[0], "--json")
    (facts,) = json.loads(out)
    assert code == 0
    assert facts["compositions"] == [{"atoms": 96, "species": {"Si": 32, "O": 64}, "frames": FRAMES}]
    assert facts["densities_g_cm3"] == [2.2]
    assert facts["target_K"] == {"3000": FRAMES}
    assert facts["kinetic_K"]["mean"] == pytest.approx(2990.0)
    assert facts["with_stress"] == FRAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "x"), "--name needs --use train or --use judge"),
        (("--name", "x", "--use", "judge"), "--use judge needs --start: what the trajectories"),
        (("--name", "a b", "--use", "train"), "--name: found 'a b', expected letters"),
        (
            ("--stretch", "20"),
            "--stretch needs --name: without it nothing",
        ),
        (
            ("--name", "x", "--use", "train", "--json"),
            "--json is a report of what is there",
        ),
    ],
)
def test_wrong_options(outcars, tmp_path, capsys, arguments, message):
    code, _, err = said(capsys, outcars[0], *arguments, "--root", tmp_path / "imported")
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_what_the_files_do_not_say_is_asked_for(tmp_path, capsys):
    deepmd(vasp_run()).to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
    root = tmp_path / "imported"
    base = (tmp_path / "data", "--name", "mine", "--use", "train", "--root", root)
    _, _, err = said(capsys, *base)
    assert "do not say the level of theory, expected --engine, --engine-version, --functional, --basis" in err
    level = ("--engine", "VASP", "--engine-version", "5.4.4", "--functional", "PBE", "--basis", "PAW")
    _, _, err = said(capsys, *base, *level)
    assert "found no temperature of the run, expected --temperature-K" in err
    judge = (*base[:-4], "--use", "judge", "--start", "nnp", "--unequilibrated", "0", "--root", root, *level)
    _, _, err = said(capsys, *judge, "--temperature-K", "3000")
    assert "found nothing for the trajectory's timestep_fs, expected --timestep-fs" in err
    code, *_ = said(capsys, *base, *level, "--temperature-K", "3000", "--stretch", "3")
    assert code == 0


def test_one_level_of_theory(outcars, tmp_path, capsys):
    write_outcar(tmp_path / "OUTCAR", vasp_run(version="6.3.0"))
    options = ("--name", "mine", "--use", "train", "--root", tmp_path / "imported")
    _, _, err = said(capsys, outcars[0], tmp_path / "OUTCAR", *options)
    assert f"OUTCAR: found engine version 6.3.0, and 5.4.4 in {outcars[0]}" in err
    assert "expected one level of theory in a set (or --engine-version to overrule)" in err


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("PAW_PBE Si 05Jan2001", "PAW_PBE Si_sv_GW 31Mar2010", "potcar PAW_PBE Si_sv_GW 31Mar2010"),
        (" INCAR:\n", " INCAR:\n   LHFCALC = .TRUE.\n", "functional PBE + exact exchange, and PBE in"),
        (" INCAR:\n", " INCAR:\n   IVDW = 12\n", "functional PBE + D3(BJ), and PBE in"),
    ],
)
def test_what_moves_energies_is_of_the_level_of_theory(outcars, tmp_path, capsys, old, new, found):
    """Potentials of another name; a hybrid, as VASP 6 repeats the INCAR; a dispersion correction."""
    path = tmp_path / "OUTCAR"
    text = outcars[1].read_text().replace(old, new)
    path.write_text(text)
    options = ("--name", "mine", "--use", "train", "--root", tmp_path / "imported")
    code, _, err = said(capsys, outcars[0], path, *options)
    assert code == 2
    assert found in err
    assert err.startswith(f"error: {path}: found ")
    assert f" in {outcars[0]}, expected one level of theory in a set" in err


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_joined_vasp_runs_are_refused(tmp_path, name):
    """The temperature of the second would not be read."""
    path = tmp_path / name
    for kelvin in (3000.0, 2000.0):
        run = vasp_run(tebeg_K=kelvin, teend_K=kelvin)
        (write_outcar if name == "OUTCAR" else write_vasprun)(tmp_path / "one", run)
        with path.open("a") as joined:
            joined.write((tmp_path / "one").read_text())
    (source,) = open_sources([path])
    with pytest.raises(SuiteError, match="found a second run in the file, expected one"):
        list(source.batches)


def test_what_is_no_data(tmp_path, capsys):
    _, _, err = said(capsys, tmp_path / "nothing")
    assert "nothing: found no such file, expected one of: OUTCAR" in err
    (tmp_path / "notes.txt").write_text("hello\n")
    _, _, err = said(capsys, tmp_path / "notes.txt")
    assert "notes.txt: found none of the known formats" in err
    (tmp_path / "empty").mkdir()
    _, _, err = said(capsys, tmp_path / "empty")
    assert "empty: found none of the known formats" in err
    for name in ("OUTCAR", "OUTCAR.old"):
        write_outcar(tmp_path / "empty" / name, vasp_run())
    _, _, err = said(capsys, tmp_path / "empty")
    assert "found OUTCAR, OUTCAR.old, expected one run in a folder: give the file" in err
    (tmp_path / "OUTCAR").write_text(outcar_head(vasp_run())[:400])
    _, _, err = said(capsys, tmp_path / "OUTCAR")
    assert "found no 'ions per type' and TITEL lines" in err
    (tmp_path / "OUTCAR").write_text(outcar_head(vasp_run()))
    code, _, err = said(capsys, tmp_path / "OUTCAR")
    assert code == 2
    assert "found no usable frame, expected at least one" in err
    write_vasprun(tmp_path / "vasprun.xml", vasp_run())
    text = (tmp_path / "vasprun.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(text[:900])
    _, _, err = said(capsys, tmp_path / "vasprun.xml")
    assert "vasprun.xml: found no <calculation>, expected at least one ionic step" in err


def test_other_elements_are_looked_at_but_not_deposited(tmp_path, capsys):
    frames = atoms_of(vasp_run())[:2]
    for atoms in frames:
        symbols = np.array(atoms.get_chemical_symbols())
        symbols[0] = "Ge"
        atoms.set_chemical_symbols(symbols)
    ase.io.write(tmp_path / "all.extxyz", frames)
    code, out, _ = said(capsys, tmp_path / "all.extxyz")
    assert code == 0
    assert "1 Ge" in out
    level = ("--engine", "VASP", "--engine-version", "5", "--functional", "PBE", "--basis", "PAW")
    options = ("--name", "mine", "--use", "train", "--root", tmp_path / "imported", "--temperature-K", "1")
    code, _, err = said(capsys, tmp_path / "all.extxyz", *options, *level)
    assert code == 2
    assert "found species Ge, expected only Si and O" in err


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Twenty times the frames, the same peak: blocks and batches are forgotten."""
    import tracemalloc

    run = vasp_run()
    steps = [outcar_step(run, k) for k in range(1, FRAMES + 1)]
    peaks = []
    for repeats in (2, 40):
        with (tmp_path / "OUTCAR").open("w") as out:
            out.write(outcar_head(run))
            for _ in range(repeats):
                out.writelines(steps)
        (source,) = open_sources([tmp_path / "OUTCAR"])
        tracemalloc.start()
        survey = look(source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert survey.frames == repeats * FRAMES
    # A read-ahead of 4 MB and a batch of about 1000 frames bound it.
    assert peaks[1] < 30e6


def test_memory_does_not_grow_with_the_number_of_melts(tmp_path):
    """Four times the melts, none longer than ten frames: what waits is written when a thousand frames do."""
    import tracemalloc

    from jobs.reference.deposit import deposit

    def still(number: int):
        """As many frames of 300 atoms, ten of a melt."""
        positions = np.indices((5, 6, 10)).reshape(3, -1).T * 1.6
        for k in range(number):
            yield Frame(
                types=np.array([0, 1, 1] * 100, np.int8),
                positions=positions.copy(),
                cell=np.diag([8.0, 9.6, 16.0]),
                energy_eV=-1.0,
                forces=np.zeros((300, 3)),
                velocities=None,
                temperature_K=3000.0,
                info={"replica": str(k // 10)},
            )

    level = {"engine": "VASP", "engine_version": "6", "functional": "PBE", "basis": "PAW"}
    kind = {"kind": "singlepoints", "use": "train", "start": "other", "thermostat": None, "timestep_fs": None}
    rest = {"unequilibrated_frames": 0, "licence": "none", "provenance": "test", "decks": [], "settings": {}}
    peaks = []
    for number in (1500, 6000):
        tracemalloc.start()
        made = deposit(still(number), source="s", name=f"n{number}", root=tmp_path, **level, **kind, **rest)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (made.frames, len(made.runs)) == (number, number // 10)
    assert peaks[1] < 1.3 * peaks[0]


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        cli.main(["import", "--help"])
    text = capsys.readouterr().out
    for word in ("OUTCAR", "vasprun.xml", "pw.x", "DeePMD", "--name", "--stretch", "examples:"):
        assert word in text
