"""The Tersoff melt: a real liquid, several times over, each clearly different."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.base.errors import SuiteError
from jobs.base.silica import lattice_start, minimum_image, read_data, replicate, rescale, write_data
from jobs.stages.motion import melt
from jobs.store.workspace import Workspace


def parameters(**changes: object) -> dict[str, object]:
    return {
        "n_atoms": 48,
        "temperature_K": 5000,
        "duration_ps": 3.0,
        "timestep_fs": 1.0,
        "configurations": 2,
        **changes,
    }


@pytest.mark.engine
def test_melt(tmp_path: Path) -> None:
    melt.run(Workspace(parameters(), seed=7, inputs={}, directory=tmp_path))
    facts = json.loads((tmp_path / "melt.json").read_text())
    thermo = pd.read_csv(tmp_path / "thermo.csv")
    assert set(thermo["configuration"]) == {0, 1}
    assert facts["shared_bonds_max"] <= melt.SHARED_BONDS_AT_MOST
    # 48 atoms for 2 x 1.5 ps: the mean of the temperature is good to a few per cent.
    assert facts["mean_temperature_K"] == pytest.approx(5000, rel=0.1)
    assert 1.0 < facts["density_mean_g_cm3"] < 3.0
    for index in (0, 1):
        state = read_data(tmp_path / f"config-{index}.data")
        assert (state.types == 0).sum() == 16
        assert (state.types == 1).sum() == 32
        silicon, oxygen = (state.positions[state.types == species] for species in (0, 1))
        separation = minimum_image(silicon[:, None] - oxygen[None], state.edges)
        nearest = np.linalg.norm(separation, axis=-1).min(axis=1)
        # Bonds have formed: every Si has an O at the bond length, none fused.
        assert (nearest > 1.2).all()
        assert (nearest < 2.0).all()


def test_lattice_is_the_smallest_that_holds_the_atoms() -> None:
    start = lattice_start(96, density_g_cm3=2.20, seed=3)
    assert start.density_g_cm3 == pytest.approx(2.20)
    spacing = start.edges[0] / 5  # 5^3 = 125 sites is the smallest cube of at least 96
    sites = np.round(start.positions / spacing - 0.5, 9)
    np.testing.assert_allclose(sites, np.round(sites))
    assert len(np.unique(sites, axis=0)) == 96
    assert lattice_start(216, density_g_cm3=2.2, seed=1).n_atoms == 216  # a full 6^3 cube
    other = lattice_start(96, density_g_cm3=2.20, seed=4)
    assert other.types.tolist() != start.types.tolist()


@pytest.mark.parametrize("n_atoms", [0, 95])
def test_atoms_that_are_no_silica(n_atoms: int) -> None:
    with pytest.raises(SuiteError, match=f"found {n_atoms}, expected a positive multiple of 3"):
        lattice_start(n_atoms, density_g_cm3=2.2, seed=1)


def test_data_files_come_back(tmp_path: Path) -> None:
    start = replicate(rescale(lattice_start(24, density_g_cm3=2.2, seed=1), 2.5), (1, 2, 1))
    assert start.density_g_cm3 == pytest.approx(2.5)
    assert start.edges[1] == pytest.approx(2 * start.edges[0])
    path = tmp_path / "x.data"
    write_data(path, start)
    again = read_data(path)
    np.testing.assert_allclose(again.positions, start.positions, atol=1e-9)
    assert again.types.tolist() == start.types.tolist()
    text = path.read_text().splitlines()
    for broken, message in (
        ("\n".join(text[:-3]), "expected 48 whole atoms"),
        ("\n".join([*text[:-1], text[-1].replace(" ", " x", 1)]), "expected numbers"),
        ("\n".join([*text[:-1], "48 3 0.0 1 1 1"]), "expected 1 .Si. and 2 .O."),
        ("\n".join([*text[:-1], "48 2 0.0 nan 1 1"]), "non-finite"),
        ("nothing", "found no atoms or box"),
    ):
        path.write_text(broken)
        with pytest.raises(SuiteError, match=message):
            read_data(path)
    with pytest.raises(SuiteError, match="not found"):
        read_data(tmp_path / "absent.data")
