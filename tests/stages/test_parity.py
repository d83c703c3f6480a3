"""Held-out frames through LAMMPS: BKS judged by its own labels, on real BKS forces."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.frames import Frames
from jobs.base.silica import SPECIES
from jobs.engines.lammps.potential import builtin_potential
from jobs.stages.potentials import parity
from jobs.store.workspace import Workspace

CRISTOBALITE_EDGE = 7.16


def cristobalite(random: np.random.Generator, *, frames: int, rattle: float) -> Frames:
    """Rattled beta-cristobalite (8 SiO2: Si on a diamond lattice, O half-way), each in its own volume."""
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    silicon = np.concatenate([corners, corners + 0.25])
    directions = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 8
    oxygen = (corners[:, None] + directions[None]).reshape(-1, 3)
    edges = CRISTOBALITE_EDGE * random.uniform(0.97, 1.03, frames)
    positions = np.concatenate([silicon, oxygen]) * edges[:, None, None]
    positions = positions + random.normal(scale=rattle, size=positions.shape)
    cells = np.eye(3) * edges[:, None, None]
    return Frames(np.repeat([0, 1], [8, 16]), positions, cells, np.zeros(frames), np.zeros_like(positions))


def labelled(frames: Frames, directory: Path) -> Frames:
    (label,) = parity.rerun(builtin_potential("bks"), [frames], directory=directory)
    return Frames(frames.types, frames.positions, frames.cells, label.energies, label.forces)


def write_system(path: Path, frames: Frames) -> None:
    data = path / "set.000"
    data.mkdir(parents=True)
    (path / "type.raw").write_text("\n".join(map(str, frames.types)))
    (path / "type_map.raw").write_text("\n".join(SPECIES))
    count = len(frames.energies_eV)
    np.save(data / "coord.npy", frames.positions.reshape(count, -1))
    np.save(data / "box.npy", frames.cells.reshape(count, 9))
    np.save(data / "energy.npy", frames.energies_eV)
    np.save(data / "force.npy", frames.forces.reshape(count, -1))
    with (path / "frames.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["set", "run", "melt", "frame", "temperature_K"])
        writer.writerows(["synthetic", f"r{k}", f"bks-{k % 2}", k, 3000] for k in range(count))


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    random = np.random.default_rng(7)
    return labelled(cristobalite(random, frames=4, rattle=0.12), tmp_path_factory.mktemp("label"))


def judged(directory: Path, frames: Frames) -> tuple[dict, dict]:
    dataset, work = directory / "dataset", directory / "work"
    write_system(dataset / "test/T3000/synthetic", frames)
    work.mkdir()
    systems = {"3000": ["test/T3000/synthetic"]}
    (dataset / "dataset.json").write_text(json.dumps({"test_systems": systems}))
    parity.run(Workspace({"potential": "bks"}, 0, {"dataset": dataset}, work))
    with np.load(work / "heldout.npz") as arrays:
        return json.loads((work / "parity.json").read_text()), dict(arrays)


@pytest.mark.engine
def test_systems_of_one_size_keep_their_own_types(tmp_path: Path, frames: Frames) -> None:
    """The same atoms in another order: the same energies, and forces in that order."""
    turned = Frames(
        frames.types[::-1],
        frames.positions[:, ::-1],
        frames.cells,
        frames.energies_eV,
        frames.forces[:, ::-1],
    )
    for one in parity.rerun(builtin_potential("bks"), [frames, turned], directory=tmp_path):
        np.testing.assert_allclose(one.energies, frames.energies_eV, atol=1e-4)
    np.testing.assert_allclose(one.forces, turned.forces, atol=1e-4)


@pytest.mark.engine
def test_bks_against_its_own_labels_has_no_error(tmp_path: Path, frames: Frames) -> None:
    result, arrays = judged(tmp_path, frames)
    assert result["heldout"]["all"]["force_rms_reference_eV_A"] > 1
    assert result["heldout"]["3000"]["force_rmse_eV_A"] < 2e-4
    assert result["heldout"]["3000"]["energy_rmse_meV_atom"] < 0.01
    assert abs(result["energy_offset_removed_eV_atom"]) < 1e-5
    assert arrays["melt"].tolist() == ["bks-0", "bks-1"] * 2
    assert arrays["forces_predicted"].shape == (4 * 24, 3)
    assert (arrays["species"] == np.tile(frames.types, 4)).all()
    assert (arrays["n_atoms"] == 24).all()
    np.testing.assert_array_equal(arrays["frame"], np.repeat(np.arange(4), 24))


@pytest.mark.engine
def test_errors_are_those_planted(tmp_path: Path, frames: Frames) -> None:
    """Labels shifted by a constant energy and silicon's forces scaled: offset and errors are known."""
    forces = frames.forces * np.where(frames.types == 0, 1.1, 1.0)[None, :, None]
    shifted = Frames(frames.types, frames.positions, frames.cells, frames.energies_eV - 24 * 327.0, forces)
    result, arrays = judged(tmp_path, shifted)
    errors = result["heldout"]["3000"]
    assert result["energy_offset_removed_eV_atom"] == pytest.approx(327.0, abs=1e-5)
    assert errors["energy_rmse_meV_atom"] < 0.01
    silicon = frames.forces[:, frames.types == 0]
    assert errors["force_rmse_Si_eV_A"] == pytest.approx(0.1 * np.sqrt((silicon**2).mean()), abs=2e-4)
    assert errors["force_rmse_O_eV_A"] < 2e-4
    np.testing.assert_allclose(arrays["energy_predicted_eV"], shifted.energies_eV, atol=1e-3)


def test_tilted_cell_is_refused(tmp_path: Path) -> None:
    frames = cristobalite(np.random.default_rng(1), frames=1, rattle=0.0)
    frames.cells[0, 1, 0] = 0.5
    with pytest.raises(SuiteError, match="T3000/synthetic: frame 1: found a tilted cell, expected an ortho"):
        judged(tmp_path, frames)
