"""The deposited HDNNP-96 as everybody meets it: taken in, moved by LAMMPS, observed; and CP2K agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sampler_spread import spread
from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import SPECIES, Configuration, write_data
from jobs.campaign.build import build_campaign
from jobs.engines.first_principles import cp2k
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.n2p2_files import read_network
from jobs.engines.lammps.native.build import why_unavailable
from jobs.engines.lammps.potential import read_potential
from jobs.engines.lammps.program import evaluate
from jobs.reference.potentials import MODELS, deposited_model, imported_potential
from jobs.reference.sets import find_set, iter_runs
from jobs.stages.motion import md
from jobs.stages.observations import observe
from jobs.stages.potentials import potential
from jobs.store.workspace import Workspace
from tests.helpers import cp2k_nnp
from tests.helpers import hdnnp_oracle as oracle
from tests.helpers.md_tools import crystal_product

FOLDER = MODELS / "hdnnp-96"
needs_compiler = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


@pytest.fixture(scope="module")
def pbe_frames() -> list[tuple[Configuration, float, np.ndarray]]:
    """Three deposited frames of 96 atoms (11.3 A wide, below twice the cut-off) at different temperatures."""
    frames = {}
    for _, part in iter_runs(find_set("pbe-96-nnp-2.20", {})):
        for k in range(len(part)):
            atoms = Configuration(part.types, part.positions[k], part.cells[k])
            frames.setdefault(part.temperatures_K[k], (atoms, float(part.energies_eV[k]), part.forces[k]))
    return [frames[kelvin] for kelvin in (2000.0, 3000.0, 5000.0)]


def symbols_of(atoms: Configuration) -> list[str]:
    return [SPECIES[index] for index in atoms.types]


def test_its_record_is_of_what_lies_there() -> None:
    path, record = deposited_model("hdnnp-96")
    assert path == FOLDER
    assert record["dataset"] == build_campaign("laptop").labels["train-96"][0].inputs["dataset"].name
    assert record["heldout"]["force_rmse_eV_A"] < 0.26
    assert record["heldout"]["energy_rmse_meV_atom"] < 6.5


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "hdnnp-96").mkdir()
    for file in FOLDER.iterdir():
        text = file.read_text()
        if file.name == "weights.008.data":
            text = text.replace("E-01", "E-02", 1)
        (tmp_path / "hdnnp-96" / file.name).write_text(text)
    with pytest.raises(SuiteError, match=r"hdnnp-96: found sha256 .* of model\.yml"):
        deposited_model("hdnnp-96", root=tmp_path)


def test_it_is_near_pbe_and_the_oracle_agrees(pbe_frames: list) -> None:
    evaluate_by_kernel = Evaluator(read_network(FOLDER))
    for atoms, energy, forces in pbe_frames:
        cell, symbols = atoms.cell, symbols_of(atoms)
        found = evaluate_by_kernel(atoms.positions, cell, symbols)
        assert abs(found.energy_eV - energy) / 96 < 0.02
        assert np.sqrt(np.mean((found.forces_eV_A - forces) ** 2)) < 0.45
    plain = oracle.energy_and_forces(read_network(FOLDER), atoms.positions, cell, symbols)
    assert found.energy_eV == pytest.approx(plain[0], abs=1e-7)
    np.testing.assert_allclose(found.forces_eV_A, plain[1], atol=1e-8)


@pytest.mark.engine
def test_cp2k_agrees(pbe_frames: list, tmp_path: Path) -> None:
    try:
        cp2k.find_cp2k()
    except EngineError:
        pytest.skip("CP2K is not installed; see docs/first-principles.md")
    evaluate_by_kernel = Evaluator(read_network(FOLDER))
    for atoms, _, _ in pbe_frames:
        cell, symbols = atoms.cell, symbols_of(atoms)
        energy, forces = cp2k_nnp.energy_and_forces(
            FOLDER, atoms.positions, cell, symbols, directory=tmp_path
        )
        found = evaluate_by_kernel(atoms.positions, cell, symbols)
        assert energy == pytest.approx(found.energy_eV, abs=1e-4)
        np.testing.assert_allclose(forces, found.forces_eV_A, atol=1e-5)


def test_the_spread_of_its_energies_is_what_the_page_says() -> None:
    """docs/notes/hdnnp-measured.md: 2.2 kT on 12 frames of 216 atoms at 3000 K, none of which it has seen."""
    found = spread([Evaluator(read_network(FOLDER))], "pbe-216-nnp-2.20", every=1)
    assert (found.frames, found.n_atoms) == (12, 216)
    assert found.s_eV / 0.25852 == pytest.approx(2.22, abs=0.02)
    assert found.force_rms_eV_A == pytest.approx(0.238, abs=0.002)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `--potential` takes it in."""
    directory = tmp_path_factory.mktemp("potential")
    stage = imported_potential(FOLDER, "HDNNP-96")
    potential.run(Workspace(stage.parameters, 1, {}, directory))
    return directory


@pytest.mark.engine
@needs_compiler
def test_lammps_computes_what_was_deposited(product: Path, pbe_frames: list, tmp_path: Path) -> None:
    described = json.loads((product / "potential.json").read_text())
    assert (described["family"], described["training"]) == ("hdnnp", None)
    assert described["cutoff_angstrom"] == pytest.approx(6.0)
    evaluate_by_kernel = Evaluator(read_network(FOLDER))
    for atoms, _, _ in pbe_frames:
        found = evaluate(atoms, read_potential(product), directory=tmp_path)
        expected = evaluate_by_kernel(atoms.positions, atoms.cell, symbols_of(atoms))
        assert found.energy == pytest.approx(expected.energy_eV, abs=1e-3)
        difference = found.forces - expected.forces_eV_A
        assert np.sqrt(np.mean(difference**2)) < 5e-5
        assert np.abs(difference).max() < 5e-4


@pytest.mark.engine
def test_a_folder_that_is_wrong_is_no_potential(tmp_path: Path) -> None:
    for file in FOLDER.glob("*.*"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "weights.014.data").write_text("1.0 a 1 0 1 1 1\n")
    stage = imported_potential(tmp_path, "mine")
    directory = tmp_path / "product"
    directory.mkdir()
    with pytest.raises(
        SuiteError, match=r"weights\.014\.data: found 1 weights, expected 1321 for a network of 70-15"
    ):
        potential.run(Workspace(stage.parameters, 1, {}, directory))
    assert not (directory / "potential.json").exists()


def moved(product: Path, start: Path, directory: Path, **changes: Any) -> dict[str, Any]:
    parameters = {
        "configuration": 0,
        "density_g_cm3": 2.2,
        "ensemble": "nvt",
        "thermostat": "nose-hoover",
        "schedule": [{"temperature_K": 300, "steps": 100}, {"temperature_K": 300, "steps": 400}],
        "timestep_fs": 1.0,
        "damping_fs": 100,
        "dump_every": 10,
        "thermo_every": 10,
        "checkpoint_every": 200,
        "replicate": [1, 1, 1],
        "ranks": 1,
        **changes,
    }
    directory.mkdir()
    md.run(Workspace(parameters, 5, {"start": start, "potential": product}, directory))
    return json.loads((directory / "md.json").read_text())


@pytest.mark.engine
@needs_compiler
def test_md_says_how_often_it_left_its_data(product: Path, pbe_frames: list, tmp_path: Path) -> None:
    """A crystal a third denser than the data is outside; a liquid at 3000 K and their density is not."""
    dense = {"density_g_cm3": 3.0}
    crystal = moved(product, crystal_product(tmp_path / "crystal"), tmp_path / "crystal-md", **dense)
    (tmp_path / "liquid").mkdir()
    write_data(tmp_path / "liquid/config-0.data", pbe_frames[1][0])
    hot = [{"temperature_K": 3000, "steps": 100}, {"temperature_K": 3000, "steps": 400}]
    liquid = moved(product, tmp_path / "liquid", tmp_path / "liquid-md", schedule=hot)
    assert crystal["extrapolation_warnings_per_step"] > 1 > liquid["extrapolation_warnings_per_step"]
    assert abs(liquid["conserved_drift_meV_atom_ps"]) < 5  # of 0.4 ps
    (tmp_path / "observed").mkdir()
    stage = next(iter(build_campaign("smoke").labels["liquid-96-nvt"]))
    observe.run(Workspace(stage.parameters, 0, {"trajectory": tmp_path / "liquid-md"}, tmp_path / "observed"))
    facts = json.loads((tmp_path / "observed/observe.json").read_text())
    assert facts["extrapolation_warnings_per_step"] == liquid["extrapolation_warnings_per_step"]
    assert facts["potential"] == "HDNNP-96"
