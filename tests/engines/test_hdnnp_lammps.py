"""The LAMMPS pair style hdnnp/native against the oracle: energies, forces, virial, ranks, warnings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import EngineError
from jobs.base.machine import NATIVE_KERNEL, native_kernel
from jobs.base.silica import Configuration, write_data
from jobs.engines.hdnnp.n2p2_files import read_network, write_network
from jobs.engines.hdnnp.network import function_set
from jobs.engines.lammps.dynamics import Protocol, nose_hoover, run_dynamics
from jobs.engines.lammps.native.build import why_unavailable
from jobs.engines.lammps.potential import (
    Potential,
    interaction_commands,
    read_potential,
    write_potential,
)
from jobs.engines.lammps.program import run_lammps
from jobs.store.workspace import Workspace
from tests.helpers import hdnnp_oracle as oracle
from tests.helpers.hdnnp_tools import VARIED, liquid_like, random_network, symbols_of

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable())),
]
# Errors of forces of up to 5 eV/A. In float64 they come from the tables, where a cut-off below the largest
# lies between two nodes.
SINGLE, DOUBLE = 5e-5, 5e-6


def potential(folder: Path, *words: str) -> Potential:
    style = " ".join(["pair_style hdnnp/native", f'"{folder}"', *words])
    return Potential("HDNNP-test", "hdnnp", (style, "pair_coeff * * Si O"), None, 6.0)


def run(
    atoms: Configuration,
    chosen: Potential,
    directory: Path,
    *,
    first: str = "",
    then: str = "run 0",
    ranks: int = 1,
) -> dict:
    """What LAMMPS says: `pe`, `press` (6,) in bar, `warnings` of the last step, `forces`, the log."""
    write_data(directory / "start.data", atoms)
    script = f"""units metal
atom_style charge
boundary p p p
read_data start.data
{first}
{interaction_commands(chosen)}
compute each all pair hdnnp/native
compute one all pe/atom
compute sum all reduce sum c_one
compute share all stress/atom NULL virial
compute shares all reduce sum c_share[1] c_share[2] c_share[3] c_share[4] c_share[5] c_share[6]
variable warned equal c_each[1]
thermo 1
thermo_style custom step pe etotal c_sum pxx pyy pzz pxy pxz pyz c_shares[*] v_warned
thermo_modify format float %.15g
dump forces all custom 1 forces id fx fy fz
dump_modify forces sort id format float %.15g
{then}
"""
    log = run_lammps(script, directory=directory, name="run", ranks=ranks)
    last = {name: values[-1] for name, values in log.thermo[-1].items()}
    frames = (directory / "forces").read_text().split("ITEM: TIMESTEP")[-1].splitlines()[9:]
    return {
        "pe": last["PotEng"],
        "by_atoms": last["c_sum"],
        "pressure_bar": np.array([last[f"P{axes}"] for axes in ("xx", "yy", "zz", "xy", "xz", "yz")]),
        "stress": np.array([last[f"c_shares[{n}]"] for n in range(1, 7)]),
        "warnings": last["v_warned"],
        "forces": np.array([line.split()[1:] for line in frames], dtype=float),
        "log": log,
    }


@pytest.fixture(scope="module", params=["plain", "varied", "softplus"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("a potential")
    activation = "softplus" if request.param == "softplus" else "tanh"
    functions = VARIED if request.param == "varied" else None
    write_network(random_network(functions, activation=activation), directory, comment="a test's")
    return directory


@pytest.mark.parametrize(
    ("words", "tolerance"), [((), SINGLE), (("double",), DOUBLE)], ids=["float", "double"]
)
def test_energy_forces_and_warnings_are_the_oracles(
    folder: Path, tmp_path: Path, words: tuple[str, ...], tolerance: float
) -> None:
    """24 atoms in a box of 7.16 A, below twice the cut-off of 6: images are ghosts."""
    atoms = liquid_like(seed=7)
    energy, forces, warnings = oracle.energy_and_forces(
        read_network(folder), atoms.positions, atoms.cell, symbols_of(atoms)
    )
    one, two = (run(atoms, potential(folder, *words), tmp_path, ranks=ranks) for ranks in (1, 2))
    for found in (one, two):
        assert found["pe"] == pytest.approx(energy, abs=24 * tolerance)
        assert found["by_atoms"] == pytest.approx(found["pe"], abs=1e-6)
        np.testing.assert_allclose(found["forces"], forces, atol=tolerance)
        np.testing.assert_allclose(found["forces"].sum(axis=0), 0, atol=1e-11)
        assert found["warnings"] == warnings > 0
        assert found["log"].extrapolation_warnings == warnings
    np.testing.assert_allclose(two["pressure_bar"], one["pressure_bar"], atol=5.0)  # of some 1e5
    np.testing.assert_allclose(two["stress"], one["stress"], atol=5.0 * np.prod(atoms.edges))


@pytest.mark.parametrize(
    ("eta_rc2", "words", "relative"),
    [(24, (), 2e-5), (40, (), 1e-4), (40, ("double",), 1e-8), (60, ("double",), 1e-7)],
)
def test_a_narrow_angular_function_is_right_too(
    tmp_path: Path, eta_rc2: float, words: tuple[str, ...], relative: float
) -> None:
    """In other people's sets eta rc^2 may be large; it is 3 in the suite's own."""
    cutoff = 11.0
    functions = function_set(
        radial_eta=[0.01, 0.1],
        angular_eta=[0.0001, eta_rc2 / cutoff**2],
        zeta=[1, 4],
        sign=[1, -1],
        cutoff=cutoff,
    )
    write_network(random_network({"O": functions, "Si": functions}), tmp_path, comment="a test's")
    atoms = liquid_like(seed=7)
    _, forces, _ = oracle.energy_and_forces(
        read_network(tmp_path), atoms.positions, atoms.cell, symbols_of(atoms)
    )
    found = run(atoms, potential(tmp_path, *words), tmp_path)
    np.testing.assert_allclose(found["forces"], forces, atol=relative * np.abs(forces).max())


def test_virial_is_the_slope_of_the_energy_by_the_cell(tmp_path: Path) -> None:
    write_network(random_network(), tmp_path, comment="a test's")
    network, atoms, step = read_network(tmp_path), liquid_like(seed=8), 1e-5
    found = run(atoms, potential(tmp_path, "double"), tmp_path)

    def energy(strain: np.ndarray) -> float:
        stretch = np.eye(3) + strain
        cell = atoms.cell @ stretch
        return oracle.energy_and_forces(network, atoms.positions @ stretch, cell, symbols_of(atoms))[0]

    volume_A3, bar_per_eV_A3 = np.prod(atoms.edges), 1.602176634e6
    for n, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
        strain = np.zeros((3, 3))
        strain[i, j] = step
        expected = -(energy(strain) - energy(-strain)) / (2 * step * volume_A3) * bar_per_eV_A3
        assert found["pressure_bar"][n] == pytest.approx(expected, abs=5.0)  # of some 1e5
    np.testing.assert_allclose(-found["stress"] / volume_A3, found["pressure_bar"], atol=1e-3)


def test_energy_is_conserved_to_the_square_of_the_timestep(tmp_path: Path) -> None:
    """Velocity Verlet with forces that are slopes of the energy; on two ranks as on one."""
    write_network(random_network(), tmp_path, comment="a test's")
    atoms = liquid_like(seed=9, repeats=2)

    def dynamics(steps: int, ranks: int) -> dict:
        then = f"""velocity all create 600 1 mom yes dist gaussian
fix integrate all nve
timestep {0.02 / steps}
run {steps}"""
        return run(atoms, potential(tmp_path), tmp_path, then=then, ranks=ranks)

    coarse, fine, on_two = dynamics(40, 1), dynamics(160, 1), dynamics(160, 2)
    spread = {name: np.ptp(one["log"].thermo[-1]["TotEng"]) for name, one in (("40", coarse), ("160", fine))}
    assert np.ptp(fine["log"].thermo[-1]["PotEng"]) > 1
    assert 12 < spread["40"] / spread["160"] < 20
    np.testing.assert_allclose(fine["forces"], on_two["forces"], atol=1e-3)


def test_a_neighbour_that_crosses_the_cutoff_makes_no_jump(tmp_path: Path) -> None:
    """Three atoms, one moved through 6 A: the force goes to zero there."""
    write_network(random_network(), tmp_path, comment="a test's")
    network = read_network(tmp_path)
    for x in (5.999, 6.0, 6.001):
        positions = np.array([[5.0, 5, 5], [6.6, 5, 5], [5 + x, 5, 5]])
        atoms = Configuration(np.array([0, 1, 1]), positions, np.eye(3) * 20.0)
        found = run(atoms, potential(tmp_path), tmp_path)
        _, forces, _ = oracle.energy_and_forces(network, positions, np.eye(3) * 20, symbols_of(atoms))
        np.testing.assert_allclose(found["forces"], forces, atol=SINGLE)


@pytest.mark.parametrize(
    ("file", "pattern", "new", "message"),
    [
        (
            "input.nn",
            r"^(symfunction_short O) 2 O .*",
            r"\1 9 O O 0.1 1 1 11",
            "a function of type 2 or 3",
        ),
        ("input.nn", r"^(symfunction_short O 3 O O \S+ 1) 1 ", r"\1 1.5 ", "a whole zeta from 1 to 16"),
        ("input.nn", r"^elements O Si", "elements Si O", "expected elements O Si, in the order of atomic"),
        ("input.nn", r"^cutoff_type 1", "cutoff_type 2", "expected cutoff_type 1"),
        ("input.nn", r"^cutoff_type 1", "cutoff_type 1\nconv_length 2", "a potential without conv_length"),
        ("input.nn", r"t t l", "g g l", "expected t \\(tanh\\) or p \\(softplus\\)"),
        ("input.nn", r"^global_nodes_short 8 6", "global_nodes_short 6 8", "found 293 weights, expected 239"),
        ("weights.014.data", r"^.* b .*$", "", "weights.014.data: found 292 weights, expected 293"),
        ("scaling.data", r"^ +1 +1 .*\n", "", "expected element 1, function 1"),
        ("scaling.data", r"^ +2 +28 .*\n", "", "found no line of element 2, function 28"),
    ],
)
def test_the_pair_style_refuses_what_it_cannot_do(
    tmp_path: Path, file: str, pattern: str, new: str, message: str
) -> None:
    write_network(random_network(), tmp_path, comment="a test's")
    text, count = re.subn(pattern, new, (tmp_path / file).read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / file).write_text(text)
    with pytest.raises(EngineError, match=message) as refused:
        run(liquid_like(), potential(tmp_path), tmp_path)
    assert "\n" not in str(refused.value)


def test_types_are_elements_by_name(tmp_path: Path) -> None:
    """Another order of types gives the same energy if `pair_coeff` says so; other elements are refused."""
    write_network(random_network(), tmp_path, comment="a test's")
    atoms = liquid_like(seed=2)
    swapped = Configuration(1 - atoms.types, atoms.positions, atoms.cell)
    chosen = potential(tmp_path)
    other = Potential("x", "hdnnp", (chosen.commands[0], "pair_coeff * * O Si"), None, 6.0)
    one, two = run(atoms, chosen, tmp_path), run(swapped, other, tmp_path)
    assert one["pe"] == pytest.approx(two["pe"], abs=1e-9)
    foreign = Potential("x", "hdnnp", (chosen.commands[0], "pair_coeff * * Ge O"), None, 6.0)
    with pytest.raises(EngineError, match="found Ge for type 1, expected an element of the potential"):
        run(atoms, foreign, tmp_path)


def test_md_records_the_native_kernels_sources(tmp_path: Path) -> None:
    product, directory = tmp_path / "potential", tmp_path / "md"
    for folder in (product, directory):
        folder.mkdir()
    write_network(random_network(), product, comment="a test's")
    style, coeff = potential(product).commands
    given = {"name": "x", "family": "hdnnp", "charges": None, "cutoff_angstrom": 6.0, "training": None}
    write_potential(product, commands=(style, coeff), **given)
    workspace = Workspace({}, seed=1, inputs={"potential": product}, directory=directory)
    segment = nose_hoover(300, 300, steps=2, timestep_fs=1.0, damping_fs=100)
    run_dynamics(
        workspace,
        potential=read_potential(product),
        start=liquid_like(repeats=2),
        protocol=Protocol((replace(segment, dumped=True),), 1, 1, 1),
        first_temperature_K=300,
        relax_first=False,
        ranks=1,
    )
    assert workspace.software == {NATIVE_KERNEL: native_kernel()}


def test_a_tilted_box_is_right_too(tmp_path: Path) -> None:
    write_network(random_network(), tmp_path, comment="a test's")
    atoms, tilt = liquid_like(seed=11), 1.3
    first = f"change_box all triclinic\nchange_box all xy final {tilt} remap units box"
    found = run(atoms, potential(tmp_path, "double"), tmp_path, first=first)
    shear = np.eye(3)
    shear[1, 0] = tilt / atoms.edges[1]
    energy, forces, _ = oracle.energy_and_forces(
        read_network(tmp_path), atoms.positions @ shear, atoms.cell @ shear, symbols_of(atoms)
    )
    assert found["pe"] == pytest.approx(energy, abs=24 * DOUBLE)
    np.testing.assert_allclose(found["forces"], forces, atol=DOUBLE)
