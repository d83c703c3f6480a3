"""VASP: decks line by line against the paper, and reading of files laid out as VASP 5.4 writes them.

VASP itself is licensed and not run. The output files are written by `write_output` below, from numbers of
a known trajectory, so that what is read can be compared with what is true.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import Configuration
from jobs.campaign.build import build_campaign
from jobs.engines.first_principles import vasp
from jobs.engines.first_principles.registry import named_settings
from jobs.engines.first_principles.types import Dynamics
from jobs.reference.paper import read_paper

# O before Si: POSCAR has Si first, and nothing may get mixed up.
SYSTEM = Configuration(
    types=np.array([1, 0, 1], np.int8),
    positions=np.array([[4.02, 2.6, 2.5], [2.5, 2.5, 2.5], [0.02, 2.45, 2.62]]),
    cell=np.diag([5.0, 5.0, 6.0]),
    velocities=np.array([[-2.0, -1.0, 1.0], [1.0, 2.0, -1.0], [-9.0, -2.5, 1.0]]) * 1e-3,
)
SETTINGS = vasp.read_settings(named_settings("vasp", "default"))
NVT = Dynamics(5, 2.0, 3000.0, "nose-hoover", 100.0, 1)


def state(step: int) -> np.ndarray:
    """Positions at a step of a made-up motion; an O crosses the boundary of the cell at step 2."""
    assert SYSTEM.velocities is not None
    return SYSTEM.positions + SYSTEM.velocities * NVT.timestep_fs * step


def forces(step: int) -> np.ndarray:
    return np.array([[0.1, 0.2, -0.3], [-0.4, 0.5, 0.6], [0.3, -0.7, -0.3]]) + step


def energy(step: int) -> float:
    return -25.0 - 0.1 * step


def write_output(
    directory: Path,
    steps: Sequence[int],
    *,
    unconverged: Sequence[int] = (),
    nelm: int = 8,
    cut: bool = False,
) -> None:
    """vasprun.xml, OUTCAR and CONTCAR after these steps; with `cut`, killed within one more step."""
    order = [1, 0, 2]
    xml = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n'
    xml += '  <i name="program" type="string">vasp </i>\n'
    xml += '  <i name="version" type="string">5.4.4.18Apr17  </i>\n </generator>\n'
    outcar = (
        " vasp.5.4.4.18Apr17\n   NELM   =      8;   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
        "   EDIFF  = 0.1E-04   stopping-criterion for ELM\n"
    )

    def table(name: str, rows: np.ndarray) -> str:
        lines = "".join("    <v> " + " ".join(f"{x:16.8f}" for x in row) + " </v>\n" for row in rows)
        return f'   <varray name="{name}" >\n{lines}   </varray>\n'

    for number, step in enumerate(steps, start=1):
        count = nelm if step in unconverged else 5
        for iteration in range(1, count + 1):
            outcar += f"----- Iteration {number:6d}({iteration:4d})  -----\n"
            change = 10.0 ** (-iteration - (1 if step not in unconverged else -7))
            outcar += f" total energy-change (2. order) :{-change:14.7E}  ({-change / 9:14.7E})\n"
        # VASP 5 says so whether or not it is.
        outcar += "------------------------ aborting loop because EDIFF is reached -----------\n"
        outcar += f"  free  energy   TOTEN  = {energy(step):18.8f} eV\n"
        fractions = state(step)[order] @ np.linalg.inv(SYSTEM.cell) % 1.0
        xml += " <calculation>\n"
        xml += (
            '  <scstep>\n   <energy>\n    <i name="e_fr_energy">    999.0 </i>\n   </energy>\n  </scstep>\n'
        )
        xml += "  <structure>\n" + table("positions", fractions) + "  </structure>\n"
        xml += table("forces", forces(step)[order])
        # In MD, VASP 5.4.4 writes e_0_energy as zero here.
        for name, value in (
            ("e_fr_energy", energy(step)),
            ("e_0_energy", 0.0),
            ("total", energy(step) + 1.5),
        ):
            xml += (
                "  <energy>\n" if name == "e_fr_energy" else ""
            ) + f'   <i name="{name}"> {value:.8f} </i>\n'
        xml += '  </energy>\n  <time name="totalsc">   65.02   65.10</time>\n </calculation>\n'
    if cut:
        xml += ' <calculation>\n  <scstep>\n   <energy>\n    <i name="e_fr'
        outcar += f"----- Iteration {len(steps) + 1:6d}(   1)  -----\n"
    else:
        xml += "</modeling>\n"
    (directory / "vasprun.xml").write_text(xml)
    (directory / "OUTCAR").write_text(outcar)
    following = Configuration(SYSTEM.types, state(steps[-1] + 1), SYSTEM.cell, SYSTEM.velocities)
    vasp.write_poscar(directory / "CONTCAR", following)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A POTCAR library of the right layout and the wrong content, and a command that is there."""
    root = tmp_path / "library"
    for species in ("Si", "O"):
        folder = root / "potpaw_PBE" / species
        folder.mkdir(parents=True)
        (folder / "POTCAR").write_text(f"  PAW_PBE {species} 05Jan2001\n   content of {species}\n")
    monkeypatch.setenv("VASP_PP_PATH", str(root))
    monkeypatch.setenv("VASP_COMMAND", sys.executable)
    return root


class TestDecks:
    @pytest.mark.parametrize(
        ("label", "protocol", "atoms", "edge"),
        [("deepmd-96", "II.A first set", 96, 11.5), ("deepmd-216", "II.A second set", 216, 14.83)],
    )
    def test_incar_is_the_papers_line_by_line(self, label, protocol, atoms, edge):
        """Every line: what the paper gives, from reference/paper.yml; what it does not, as argued."""
        paper = read_paper().protocol
        electrons, own = paper["II.A first-principles settings"], paper[protocol]
        stages = [
            stage
            for seed in build_campaign("paper", engine="vasp").labels[
                f"train-{label.removeprefix('deepmd-')}"
            ]
            for stage in seed.walk()
            if stage.kind == "aimd" and stage.parameters["timestep_fs"] == own["timestep"].value
        ]
        parameters = stages[0].parameters
        assert parameters["engine"] == "vasp"
        settings = vasp.read_settings(parameters["settings"])
        types = np.repeat([0, 1], [atoms // 3, 2 * atoms // 3]).astype(np.int8)
        start = Configuration(types, np.zeros((atoms, 3)), np.eye(3) * edge)
        if label == "deepmd-96":
            kelvin = parameters["temperatures_K"][0]
            steps = parameters["relaxation_steps"] + parameters["collection_steps"]
            assert parameters["temperatures_K"] == own["temperatures"].value
            assert parameters["relaxation_steps"] == own["relaxation_steps"].value
            assert (
                steps * own["timestep"].value / 1000
                == own["relaxation_time"].value + own["collection_time"].value
            )
        else:
            assert {s.parameters["temperature_K"] for s in stages} == set(own["sampler_temperatures"].value)
            kelvin, steps = parameters["temperature_K"], parameters["steps"]
            assert steps == own["steps_per_configuration"].value
        dynamics = Dynamics(
            steps,
            parameters["timestep_fs"],
            kelvin,
            parameters["thermostat"],
            parameters["damping_fs"],
            1,
        )
        nose_mass = (3 * atoms - 3) * 8.617333e-5 * kelvin * 100.0**2 / 103.6427 / edge**2
        found = dict(
            line.split(" = ") for line in vasp.write_incar(settings, start, dynamics=dynamics).splitlines()
        )
        assert electrons["functional"].value == "PBE"
        assert electrons["pseudopotential"].value == "PAW"
        assert electrons["thermostat"].value == "Nose-Hoover"
        assert float(found.pop("SMASS")) == pytest.approx(nose_mass, rel=1e-4)
        assert found == {
            # the paper's
            "GGA": "PE",
            "ENCUT": str(electrons["plane_wave_cutoff"].value),
            "IBRION": "0",
            "NSW": str(steps + 1),
            "POTIM": f"{own['timestep'].value:g}",
            "TEBEG": f"{kelvin:g}",
            "TEEND": f"{kelvin:g}",
            "MDALGO": "2",
            "NBLOCK": f"{paper['II.A first set']['saved_every'].value}",
            # chosen
            "SYSTEM": "silica",
            "PREC": "Normal",
            "LREAL": ".FALSE.",
            "ISPIN": "1",
            "ISYM": "0",
            "ISMEAR": "0",
            "SIGMA": "0.05",
            "EDIFF": "1e-05",
            "NELM": "100",
            "LWAVE": ".FALSE.",
            "LCHARG": ".FALSE.",
            "ISIF": "2",
        }

    def test_kpoints_are_gamma(self):
        assert read_paper().protocol["II.A first-principles settings"]["k_points"].value == "Gamma"
        assert vasp.KPOINTS.splitlines()[1:4] == ["0", "Gamma", "1 1 1"]

    def test_nose_mass_is_that_of_the_period(self):
        """Nose's Q = 2 g kT (P / 2 pi)^2; the period of a time constant t is 2 pi t / sqrt 2."""
        period_s = 2 * np.pi * 100e-15 / np.sqrt(2)
        joule = 2 * (3 * 3 - 3) * 1.380649e-23 * 3000 * (period_s / (2 * np.pi)) ** 2
        assert vasp.smass(NVT, SYSTEM) == pytest.approx(joule / 1.66053907e-27 / 5e-10**2, rel=1e-5)

    def test_nve_and_single_points(self):
        nve = vasp.write_incar(SETTINGS, SYSTEM, dynamics=Dynamics(9, 1.0, 3000.0, None, 100.0, 1))
        assert "MDALGO = 0\nSMASS = -3\n" in nve
        single = vasp.write_incar(SETTINGS, SYSTEM, dynamics=None)
        assert "NSW = 0" in single
        assert "POTIM" not in single

    def test_poscar_and_potcar_have_one_order(self, library, tmp_path):
        from ase.io import read

        vasp.write_decks(tmp_path, SETTINGS, SYSTEM, dynamics=NVT)
        atoms = read(tmp_path / "POSCAR", format="vasp")
        assert atoms.get_chemical_symbols() == ["Si", "O", "O"]
        np.testing.assert_allclose(atoms.positions, SYSTEM.positions[[1, 0, 2]], atol=1e-9)
        np.testing.assert_allclose(atoms.cell, SYSTEM.cell, atol=1e-12)
        lines = (tmp_path / "POSCAR").read_text().splitlines()
        velocities = np.array([line.split() for line in lines[-3:]], float)
        np.testing.assert_allclose(velocities, SYSTEM.velocities[[1, 0, 2]], atol=1e-12)
        potcar = (tmp_path / "POTCAR").read_text()
        assert potcar.index("content of Si") < potcar.index("content of O")
        assert "POTCAR" not in vasp.DECKS


class TestReading:
    def test_single_point_has_toten_and_the_starts_order(self, tmp_path):
        write_output(tmp_path, [0])
        label = vasp.read_single_point(SYSTEM, directory=tmp_path)
        assert label.energy_eV == energy(0)
        np.testing.assert_allclose(label.forces, forces(0))
        assert label.refusal is None
        assert (label.scf_steps, label.seconds) == (5, 65.10)
        assert vasp.version(tmp_path) == "5.4.4.18Apr17"

    def test_unconverged_is_said_of_what_ends_at_nelm_by_its_last_change_of_energy(self, tmp_path):
        write_output(tmp_path, [0], unconverged=[0])
        assert vasp.read_single_point(SYSTEM, directory=tmp_path).refusal == "SCF not converged"

    def test_what_the_numbers_do_not_tell_is_not_known(self, tmp_path):
        """Without the changes of energy, an SCF at NELM may have converged or not."""
        write_output(tmp_path, [0], unconverged=[0])
        lines = (tmp_path / "OUTCAR").read_text().splitlines(keepends=True)
        (tmp_path / "OUTCAR").write_text("".join(line for line in lines if "energy-change" not in line))
        assert vasp.read_single_point(SYSTEM, directory=tmp_path).refusal == "SCF convergence not known"
        (tmp_path / "OUTCAR").unlink()
        assert vasp.read_single_point(SYSTEM, directory=tmp_path).refusal == "SCF convergence not known"

    def test_vasp_6_says_that_it_was_not_reached(self, tmp_path):
        write_output(tmp_path, [0], nelm=8)
        text = (tmp_path / "OUTCAR").read_text()
        text = text.replace("loop because EDIFF is reached", "loop EDIFF was not reached (unconverged)")
        (tmp_path / "OUTCAR").write_text(text)
        assert vasp.read_single_point(SYSTEM, directory=tmp_path).refusal == "SCF not converged"

    def test_converged_in_the_last_allowed_step_counts(self, tmp_path):
        write_output(tmp_path, [0])
        text = (tmp_path / "OUTCAR").read_text().replace("(   5)", "(   8)")
        (tmp_path / "OUTCAR").write_text(text)
        label = vasp.read_single_point(SYSTEM, directory=tmp_path)
        assert (label.refusal, label.scf_steps) == (None, 8)

    def test_truncated_single_point_is_an_error(self, tmp_path):
        write_output(tmp_path, [0])
        text = (tmp_path / "vasprun.xml").read_text()
        (tmp_path / "vasprun.xml").write_text(text[: len(text) // 2])
        with pytest.raises(EngineError, match="found 0 evaluations, expected one of 3 atoms"):
            vasp.read_single_point(SYSTEM, directory=tmp_path)

    def test_run_is_unwrapped_and_in_order(self, tmp_path):
        write_output(tmp_path, range(6), unconverged=[3])
        run = vasp.read_run(SYSTEM, NVT, directory=tmp_path)
        for step in range(6):
            np.testing.assert_allclose(run.positions[step], state(step), atol=1e-7)
            np.testing.assert_allclose(run.forces[step], forces(step))
        np.testing.assert_allclose(run.energies_eV, [energy(step) for step in range(6)])
        np.testing.assert_allclose(run.conserved_eV, run.energies_eV + 1.5)
        np.testing.assert_array_equal(run.converged, [True, True, True, False, True, True])
        np.testing.assert_array_equal(run.scf_steps, [5, 5, 5, 8, 5, 5])
        # Uniform motion; at both ends the made-up forces, which nothing moved by, still count.
        np.testing.assert_allclose(run.velocities[1:-1] - SYSTEM.velocities, 0, atol=1e-7)

    def test_velocities_at_the_ends_are_verlets(self, tmp_path):
        """Three states of velocity Verlet under a constant force."""
        force = np.array([[0.0, 0.0, 1.0]] * 3)
        masses = np.array([28.0855, 15.999])[SYSTEM.types][:, None]
        kick = force / masses * 9.648533e-3
        times = np.arange(3)[:, None, None] * 2.0
        positions = SYSTEM.positions + SYSTEM.velocities * times + kick * times**2 / 2
        velocities = vasp._velocities(SYSTEM, positions, np.array([force] * 3), timestep_fs=2.0)
        np.testing.assert_allclose(velocities, SYSTEM.velocities + kick * times, atol=1e-8)


class TestResuming:
    def test_killed_run_is_gone_on_from_contcar(self, library, tmp_path, monkeypatch):
        """What stands in for VASP writes the missing steps as files; decks and reading are real."""
        directory = tmp_path / "run"
        directory.mkdir()
        vasp.write_decks(directory, SETTINGS, SYSTEM, dynamics=NVT)
        write_output(directory, [0, 1, 2], cut=True)
        root = Path(__file__).resolve().parents[2]
        script = tmp_path / "vasp.py"
        script.write_text(
            f"import sys; sys.path.insert(0, {str(root)!r})\n"
            "from pathlib import Path; from tests.engines.test_vasp import write_output\n"
            "write_output(Path(), range(3, 6))\n"
        )
        monkeypatch.setenv("VASP_COMMAND", f"{sys.executable} {script}")
        run = vasp.run_dynamics(SETTINGS, SYSTEM, NVT, directory=directory, threads=1)
        np.testing.assert_array_equal(run.steps, np.arange(6))
        for step in range(6):
            np.testing.assert_allclose(run.positions[step], state(step), atol=1e-7)
        assert "NSW = 3\n" in (directory / "INCAR").read_text()
        from ase.io import read

        poscar = read(directory / "POSCAR", format="vasp")
        np.testing.assert_allclose(poscar.get_positions()[1], state(3)[0], atol=1e-9)

    def test_killed_while_the_files_of_an_attempt_are_put_by(self, tmp_path):
        write_output(tmp_path, [0, 1, 2], cut=True)
        (tmp_path / "OUTCAR").rename(tmp_path / "OUTCAR-0")
        vasp._put_by(tmp_path, n_atoms=3)
        assert sorted(path.name for path in tmp_path.glob("*-0*")) == ["OUTCAR-0", "vasprun-0.xml"]
        write_output(tmp_path, [2, 3])
        run = vasp.read_run(SYSTEM, NVT, directory=tmp_path)
        np.testing.assert_array_equal(run.steps, np.arange(4))

    def test_state_that_an_attempt_repeats_counts_once(self, tmp_path):
        write_output(tmp_path, [0, 1, 2], cut=True)
        vasp._put_by(tmp_path, n_atoms=3)
        write_output(tmp_path, [2, 3])
        run = vasp.read_run(SYSTEM, NVT, directory=tmp_path)
        np.testing.assert_allclose(run.energies_eV, [energy(step) for step in range(4)])

    def test_cut_contcar_is_an_error(self, tmp_path):
        write_output(tmp_path, [0, 1], cut=True)
        contcar = tmp_path / "CONTCAR"
        contcar.write_text("\n".join(contcar.read_text().splitlines()[:9]))
        with pytest.raises(EngineError, match=r"CONTCAR: found 9 lines, expected positions and velocities"):
            vasp._put_by(tmp_path, n_atoms=3)

    def test_vasp_that_makes_no_step_is_an_error(self, library, tmp_path, monkeypatch):
        monkeypatch.setenv("VASP_COMMAND", "true")
        with pytest.raises(EngineError, match="found 0 states after VASP ended, expected 6"):
            vasp.run_dynamics(SETTINGS, SYSTEM, NVT, directory=tmp_path / "run", threads=1)


class TestRefusals:
    def test_missing_program_is_one_line(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("VASP_COMMAND", raising=False)
        with pytest.raises(EngineError, match=r"^VASP: found none of vasp_gam, vasp_std on PATH") as caught:
            vasp.check(SETTINGS, None)
        assert "\n" not in str(caught.value)
        monkeypatch.setenv("VASP_COMMAND", "mpirun -np {cores} vasp_of_mine")
        with pytest.raises(EngineError, match=r"found no mpirun \(of VASP_COMMAND\)"):
            vasp.check(SETTINGS, None)

    def test_cores_of_the_command(self, library, monkeypatch):
        monkeypatch.setenv("VASP_COMMAND", f"{sys.executable} -np {{cores}} vasp_gam")
        assert vasp._command(16)[1:] == ["-np", "16", "vasp_gam"]

    def test_no_potcar_library(self, library, monkeypatch):
        monkeypatch.delenv("VASP_PP_PATH")
        with pytest.raises(SuiteError, match=r"^VASP_PP_PATH: found nothing, expected .* not shipped"):
            vasp.check(SETTINGS, None)

    def test_potcar_that_is_lacking_or_not_pbe(self, library):
        lda = library / "potpaw_PBE" / "O" / "POTCAR"
        lda.write_text("  PAW O 22Mar2012 and more\n")
        with pytest.raises(SuiteError, match="found 'PAW O 22Mar2012 and ', expected a PAW_PBE"):
            vasp.check(SETTINGS, None)
        lda.unlink()
        with pytest.raises(SuiteError, match="found no O/POTCAR, expected it there or in potpaw_PBE"):
            vasp.check(SETTINGS, None)

    def test_thermostat_that_vasp_does_not_have(self, library):
        with pytest.raises(SuiteError, match="found thermostat csvr, expected nose-hoover"):
            vasp.check(SETTINGS, "csvr")

    def test_wrong_settings(self):
        with pytest.raises(SuiteError, match="expected a folder of the library for each of Si and O"):
            vasp.read_settings({**named_settings("vasp", "default"), "potcar": "Si"})
