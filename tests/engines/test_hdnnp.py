"""Symmetry functions, networks and n2p2's files: hand sums, two independent codes, finite differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.silica import Configuration
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.kernels import FunctionTables, describe
from jobs.engines.hdnnp.n2p2_files import read_network, write_network
from jobs.engines.hdnnp.network import SCALINGS, Angular, Network, Radial, in_order
from tests.helpers import hdnnp_oracle as oracle
from tests.helpers.hdnnp_tools import VARIED, liquid_like, random_network, symbols_of, with_scaling


def both(network: Network, atoms: Configuration) -> tuple[tuple[float, np.ndarray, int], tuple]:
    cell, symbols = atoms.cell, symbols_of(atoms)
    found = Evaluator(network)(atoms.positions, cell, symbols)
    plain = oracle.energy_and_forces(network, atoms.positions, cell, symbols)
    return (found.energy_eV, found.forces_eV_A, found.warnings), plain


def test_functions_are_the_published_sums() -> None:
    """O at the centre of O (3 bohr along x), Si (4 along y) and O (5 along z), summed by hand."""
    rc, positions = 8.0, np.array([[9.0, 9, 9], [12, 9, 9], [9, 13, 9], [9, 9, 14]])
    functions = in_order(
        [
            Radial("O", 0.1, 1.0, rc),
            Angular(("O", "Si"), 0.02, -1, 2, rc),
            Angular(("O", "O"), 0.03, 1, 4, rc),
        ]
    )
    tables = FunctionTables({"O": functions, "Si": (Radial("O", 0.1, 0.0, rc),)})
    found = describe(tables, positions, np.diag([30.0, 30, 30]), np.array([0, 0, 1, 0]))

    def fc(r: float) -> float:
        return 0.5 * (np.cos(np.pi * r / rc) + 1)

    def triple(a: float, b: float, eta: float, zeta: int) -> float:
        """Of a right angle: the cosine is 0 and (1 + lambda cos) is 1."""
        c = np.hypot(a, b)
        return 2.0 ** (1 - zeta) * np.exp(-eta * (a * a + b * b + c * c)) * fc(a) * fc(b) * fc(c)

    by_hand = {
        Radial: np.exp(-0.1 * 4.0) * fc(3) + np.exp(-0.1 * 16.0) * fc(5),
        (0.02, 2): triple(3, 4, 0.02, 2) + triple(4, 5, 0.02, 2),
        (0.03, 4): triple(3, 5, 0.03, 4),
    }
    expected = [by_hand[Radial if isinstance(f, Radial) else (f.eta, f.zeta)] for f in functions]
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-13)


def test_angles_other_than_right_ones() -> None:
    """The law of cosines by hand: 60 degrees between 4 and 4 bohr, opposite 4."""
    positions = np.array([[9.0, 9, 9], [13, 9, 9], [11, 9 + 2 * np.sqrt(3), 9]])
    for sign, zeta in ((1, 1), (-1, 3)):
        functions = (Angular(("O", "O"), 0.01, sign, zeta, 7.0),)
        tables = FunctionTables({"O": functions, "Si": functions})
        found = describe(tables, positions, np.eye(3) * 30, np.array([1, 0, 0]))
        fc = 0.5 * (np.cos(np.pi * 4 / 7) + 1)
        expected = 2.0 ** (1 - zeta) * (1 + 0.5 * sign) ** zeta * np.exp(-0.01 * 48) * fc**3
        np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-13)


@pytest.mark.parametrize("functions", [None, VARIED], ids=["plain", "varied"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_kernel_equals_the_oracle_in_a_narrow_box(functions: dict | None, activation: str) -> None:
    network = random_network(functions, activation=activation)
    (energy, forces, warnings), plain = both(network, liquid_like(seed=3))
    assert np.sqrt((forces**2).mean()) > 0.1
    assert energy == pytest.approx(plain[0], abs=1e-8)
    np.testing.assert_allclose(forces, plain[1], atol=1e-9)
    assert warnings == plain[2] > 0


@pytest.mark.parametrize("scaling", SCALINGS)
def test_forces_are_slopes_of_the_energy(scaling: str) -> None:
    network = with_scaling(random_network(VARIED), scaling)
    evaluate, atoms = Evaluator(network), liquid_like(seed=4)
    cell, symbols, step = atoms.cell, symbols_of(atoms), 1e-4

    def energy(atom: int, axis: int, by: float) -> float:
        moved = atoms.positions.copy()
        moved[atom, axis] += by
        return evaluate(moved, cell, symbols).energy_eV

    forces = evaluate(atoms.positions, cell, symbols).forces_eV_A
    for atom, axis in ((0, 0), (5, 1), (10, 2), (23, 0)):
        slope = (energy(atom, axis, step) - energy(atom, axis, -step)) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)


def test_images_count_and_wrapping_does_not() -> None:
    """A cell and the same cell twice give the same energy per atom; whole cell vectors change nothing."""
    evaluate, atoms = Evaluator(random_network()), liquid_like(seed=5)
    cell, symbols = atoms.cell, symbols_of(atoms)
    once = evaluate(atoms.positions, cell, symbols)
    shifted = atoms.positions + np.random.default_rng(1).integers(-2, 3, (24, 3)) * atoms.edges
    np.testing.assert_allclose(evaluate(shifted, cell, symbols).forces_eV_A, once.forces_eV_A, atol=1e-10)
    twice = np.concatenate([atoms.positions, atoms.positions + atoms.cell[0]])
    doubled = evaluate(twice, np.diag(atoms.edges * [2, 1, 1]), symbols * 2)
    assert doubled.energy_eV == pytest.approx(2 * once.energy_eV, abs=1e-9)
    tilted = cell.copy()
    tilted[1, 0] = cell[0, 0]  # another basis of the same lattice
    assert evaluate(atoms.positions, tilted, symbols).energy_eV == pytest.approx(once.energy_eV, abs=1e-9)


def test_warnings_count_values_outside_the_data() -> None:
    network = random_network()
    oxygen = network.elements["O"]
    assert oxygen.extrapolations(np.stack([oxygen.minimum, oxygen.maximum])) == 0
    beyond = oxygen.maximum.copy()
    beyond[[0, 5]] *= 1.001
    beyond[7] = 0.9 * oxygen.minimum[7]
    assert oxygen.extrapolations(beyond[None]) == 3


# -- n2p2's files -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_network(random_network(), tmp_path, comment="a test's")
    return tmp_path


@pytest.mark.parametrize(
    ("functions", "scaling", "activation"),
    [(None, "sigma", "tanh"), (VARIED, "centre-range", "softplus"), (VARIED, "none", "tanh")],
)
def test_what_is_written_is_read(
    tmp_path: Path, functions: dict | None, scaling: str, activation: str
) -> None:
    network = with_scaling(random_network(functions, activation=activation), scaling)
    write_network(network, tmp_path, comment="a test's")
    assert {path.name for path in tmp_path.iterdir()} == {
        "input.nn",
        "scaling.data",
        "weights.008.data",
        "weights.014.data",
    }
    found, atoms = read_network(tmp_path), liquid_like(seed=6)
    cell, symbols = atoms.cell, symbols_of(atoms)
    again = Evaluator(found)(atoms.positions, cell, symbols)
    once = Evaluator(network)(atoms.positions, cell, symbols)
    assert again.energy_eV == pytest.approx(once.energy_eV, abs=1e-6)
    np.testing.assert_allclose(again.forces_eV_A, once.forces_eV_A, atol=1e-7)


def test_the_order_of_lines_in_input_nn_does_not_matter(folder: Path) -> None:
    """n2p2 sorts functions itself: scaling and weights are in its order, whatever input.nn's is."""
    path, before = folder / "input.nn", read_network(folder)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[::-1]).replace("Si 3 O Si", "Si 3 Si O"))
    assert read_network(folder).elements["Si"].functions == before.elements["Si"].functions
    assert [function.order[0] for function in before.elements["Si"].functions] == [2] * 4 + [3] * 24


def edit(pattern: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        changed, count = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return changed

    return change


WRONG = [
    (
        "input.nn",
        edit(r"^(symfunction_short O) 2 O .*", r"\1 9 O O 0.1 1 1 11"),
        "expected a function of type 2",
    ),
    (
        "input.nn",
        edit(r"^(symfunction_short O 3 O O \S+ 1) 1 ", r"\1 1.5 "),
        "zeta 1.5, rs 0, expected",
    ),
    ("input.nn", edit(r"^(symfunction_short O 2) O ", r"\1 Ge "), "expected O or Si as word 4"),
    (
        "input.nn",
        edit(r"^elements O Si", "elements Si O"),
        "found elements Si O, expected O Si, in",
    ),
    ("input.nn", edit(r"^cutoff_type 1", "cutoff_type 2"), "found cutoff_type 2, expected 1"),
    (
        "input.nn",
        edit(r"^cutoff_type 1", "cutoff_type 1\ncutoff_alpha 0.5"),
        "found cutoff_alpha 0.5",
    ),
    (
        "input.nn",
        edit(r"^cutoff_type 1", "cutoff_type 1\nconv_energy 2"),
        "found conv_energy, expected",
    ),
    (
        "input.nn",
        edit(r"^(global_activation_short) t t l", r"\1 g g l"),
        "global_activation_short g g l",
    ),
    ("input.nn", edit(r"^global_nodes_short 8 6", "global_nodes_short 8"), "expected the number of hidden"),
    ("input.nn", edit(r"^(atom_energy O) .*", r"\1 much"), "found 'atom_energy O much', expected a number"),
    (
        "input.nn",
        edit(r"^global_nodes_short 8 6", "global_nodes_short 6 8"),
        "expected 239 for",
    ),
    ("weights.014.data", edit(r"^.* b .*$", ""), "found 292 weights, expected 293 for a network of 28-8-6-1"),
    ("weights.008.data", edit(r"^ *\S+ a", " nan a"), "expected a number as word 1"),
    ("scaling.data", edit(r"^ +1 +1 .*\n", ""), "found element and function 1 2, expected 1 1"),
    ("scaling.data", edit(r"^ +2 +28 .*\n", ""), "found no line of element and function 2 28"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG, ids=[message[:30] for *_, message in WRONG])
def test_what_it_cannot_do_is_refused_in_one_line(
    folder: Path, name: str, change: Callable[[str], str], message: str
) -> None:
    path = folder / name
    path.write_text(change(path.read_text()))
    with pytest.raises(SuiteError) as refused:
        read_network(folder)
    assert message in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "weights.014.data").unlink()
    with pytest.raises(SuiteError, match=r"weights\.014\.data: found FileNotFoundError, expected a file"):
        read_network(folder)
