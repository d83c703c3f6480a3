"""Structure factors and the neutron total against direct sums, crystals, an ideal gas and closed forms."""

import itertools

import numpy as np
import pytest

from jobs.observables import scattering
from jobs.observables.scattering import faber_ziman, structure_factor_sums


def test_the_weights_are_those_of_silica():
    np.testing.assert_allclose(scattering.neutron_weights(32, 64), [0.0694, 0.3880, 0.5427], atol=5e-4)
    assert scattering.neutron_weights(7, 3).sum() == pytest.approx(1)


@pytest.mark.parametrize("cell", [(7.0, 7.0, 7.0), (9.9, 6.0, 7.5)])
def test_sums_equal_a_loop_over_every_wave_vector(cell):
    cell = np.array(cell)
    rng = np.random.default_rng(0)
    positions, types = rng.normal(scale=20, size=(2, 15, 3)), np.arange(15) % 3 % 2
    products, vectors, q = structure_factor_sums(positions, types, cell, q_max=3.0, q_bin=0.25)
    expected, number, length = np.zeros((3, 12)), np.zeros(12), np.zeros(12)
    for n in itertools.product(range(-4, 5), repeat=3):
        wave = 2 * np.pi * np.array(n) / cell
        size = np.linalg.norm(wave)
        if 0 < size < 3.0:
            for frame in positions:
                phase = np.exp(-1j * frame @ wave)
                si, o = phase[types == 0].sum(), phase[types == 1].sum()
                at = int(size / 0.25)
                expected[:, at] += abs(si) ** 2, (si * o.conjugate()).real, abs(o) ** 2
                number[at] += 1
                length[at] += size
    # Half the vectors stand for all.
    np.testing.assert_allclose(products * 2, expected, atol=1e-8)
    np.testing.assert_allclose(vectors * 2, number)
    hit = number > 0
    np.testing.assert_allclose(q[hit], length[hit] / number[hit])
    # The last shell may be narrower: what lies below it stays.
    shorter = structure_factor_sums(positions, types, cell, q_max=2.9, q_bin=0.25)
    assert len(shorter[1]) == 12
    np.testing.assert_allclose(shorter[0][:, :11], products[:, :11])
    assert scattering.count_wave_vectors(cell, q_max=3.0) == pytest.approx(vectors.sum() / 2, rel=0.35)


def test_atoms_in_one_place_scatter_as_one():
    """rho is the number of atoms: S_aa = 1 + (N_a - 1) / c_a, and S_ab = 1 + N."""
    products = 3 * np.array([[2.0**2], [2.0 * 4.0], [4.0**2]])
    si, si_o, o, total = faber_ziman(products, np.array([3.0]), n_si=2, n_o=4)[:, 0]
    assert (si, si_o, o) == pytest.approx((1 + 1 / (1 / 3), 1 + 6, 1 + 3 / (2 / 3)))
    assert total == pytest.approx(scattering.neutron_weights(2, 4) @ [si, si_o, o])


def test_an_ideal_gas_scatters_one_everywhere():
    cell = np.full(3, 12.0)
    rng = np.random.default_rng(1)
    positions, types = rng.random((300, 60, 3)) * cell, np.arange(60) % 3 // 2
    products, vectors, _ = structure_factor_sums(positions, types, cell, q_max=3.0, q_bin=0.5)
    hit = vectors > 0
    partial = faber_ziman(products[:, hit], vectors[hit], n_si=40, n_o=20)
    # The sd of S_aa over independent waves is 1 / c_a, of S_ab 1 / sqrt(2 c_a c_b), of the total near 2.
    spread = np.array([60 / 40, 1 / np.sqrt(2 * 2 / 9), 60 / 20, 2.0])[:, None]
    assert (np.abs(partial - 1) < 4.5 * spread / np.sqrt(vectors[hit])).all()


def test_a_crystal_scatters_in_its_bragg_peaks_and_nowhere_else():
    edge, repeats = 4.0, 2  # small: no other wave vector is as long as a reflection
    points = np.array(list(itertools.product(range(repeats), repeat=3))) * edge
    body = np.concatenate([points, points + edge / 2])  # CsCl: Si on corners, O in centres
    types = np.repeat([0, 1], len(points))
    cell = np.full(3, edge * repeats)
    products, vectors, q = structure_factor_sums(body[None] + 0.77, types, cell, q_max=3.0, q_bin=0.01)
    n = len(points)
    bright = np.flatnonzero(products[0] > 1e-6)
    np.testing.assert_allclose(q[bright], 2 * np.pi / edge * np.sqrt([1, 2, 3]), rtol=1e-6)
    np.testing.assert_allclose(products[0, bright] / vectors[bright], n**2)
    # The body centre turns the sign of the odd reflections.
    np.testing.assert_allclose(products[1, bright] / vectors[bright], n**2 * np.array([-1, 1, -1]), rtol=1e-6)


def test_partials_agree_with_dynasor():
    dynasor = pytest.importorskip("dynasor.core.reciprocal")
    cell = np.full(3, 9.0)
    rng = np.random.default_rng(2)
    frame, types = rng.random((30, 3)) * cell, np.arange(30) % 3 // 2
    products, vectors, _ = structure_factor_sums(frame[None], types, cell, q_max=0.8, q_bin=0.8)
    waves = 2 * np.pi / 9.0 * np.eye(3)  # the only ones below 0.8, up to sign
    rho = dynasor.calc_rho_q(frame[types == 0], waves)
    assert vectors[0] == 3
    assert products[0, 0] == pytest.approx((np.abs(rho) ** 2).sum())


def test_the_lorch_kernel_is_a_normalised_line_of_the_known_width():
    r = np.linspace(-40, 40, 400001)
    kernel = scattering.lorch_kernel(r, q_max=45.2)
    assert np.trapezoid(kernel, r) == pytest.approx(1, abs=1e-3)
    half = r[kernel > kernel.max() / 2]
    assert half[-1] - half[0] == pytest.approx(5.44 / 45.2, rel=0.01)
    # Against the integral that defines it.
    q = np.linspace(1e-9, 45.2, 200001)
    window = np.sin(np.pi * q / 45.2) / (np.pi * q / 45.2)
    for at in (0.0, 0.05, 0.31):
        direct = np.trapezoid(window * np.cos(q * at), q) / np.pi
        assert scattering.lorch_kernel(np.array([at]), q_max=45.2)[0] == pytest.approx(direct, abs=1e-5)


def total(r, partials, q_max):
    return scattering.total_correlation(r, partials, n_si=32, n_o=64, volume_A3=1451.0, q_max=q_max)


def test_total_correlation_of_a_gas_and_of_one_bond():
    r = (np.arange(400) + 0.5) * 0.02
    at, flat = total(r, np.ones((2, 3, 400)), 45.2)
    np.testing.assert_allclose(flat[0], 4 * np.pi * 96 / 1451 * at, rtol=1e-6)
    assert at[-1] == pytest.approx(r[-1] - 0.5, abs=0.01)
    # One sharp Si-O shell: its area in T, times 1.6, is weight x coordination, at the same place, broadened.
    shell = np.ones((3, 400))
    shell[:, r < 2.2] = 0
    shell[1] += 10 * np.exp(-((r - 1.61) ** 2) / (2 * 0.02**2))
    at, curve = total(r, shell, 45.2)
    near = (at > 1.3) & (at < 1.95)
    top = at[near][np.argmax(curve[near])]
    assert top == pytest.approx(1.61, abs=0.02)
    area = np.sum(curve[near] * at[near]) * 0.02
    sharp = 4 * np.pi * 96 / 1451 * r**2 * (scattering.neutron_weights(32, 64) @ shell)
    assert area == pytest.approx(np.sum(sharp[(r > 1.3) & (r < 1.95)]) * 0.02, rel=0.03)
    wide = at[near][curve[near] > curve[near].max() / 2]
    assert wide[-1] - wide[0] == pytest.approx(np.hypot(5.44 / 45.2, 2.3548 * 0.02), abs=0.021)
