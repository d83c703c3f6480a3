"""Time correlation against plain loops, closed forms and other libraries."""

import numpy as np
import pytest

from jobs.observables import msd
from jobs.observables.correlation import correlation_sums
from jobs.observables.vdos import vibrational_density


def walk(n_frames, n_atoms, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(n_frames, n_atoms, 3)), axis=0)


@pytest.mark.parametrize(
    ("length", "n_origins", "n_lags"),
    [(50, 50, 50), (50, 20, 31), (50, 20, 10), (9, 4, 12), (5, 5, 1), (16, 10, 8)],
)
def test_correlation_sums_equal_a_double_loop(length, n_origins, n_lags):
    series = np.random.default_rng(0).normal(size=(length, 4)) + 3.0
    expected = np.zeros(n_lags)
    for origin in range(n_origins):
        for lag in range(min(n_lags, length - origin)):
            expected[lag] += series[origin] @ series[origin + lag]
    found = correlation_sums(series, n_origins=n_origins, n_lags=n_lags)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_correlation_agrees_with_tidynamics():
    tidynamics = pytest.importorskip("tidynamics")
    velocities = np.random.default_rng(1).normal(size=(64, 5, 3))
    found = correlation_sums(velocities.reshape(64, -1), n_origins=64, n_lags=64) / (5 * (64 - np.arange(64)))
    expected = np.mean([tidynamics.acf(velocities[:, atom]) for atom in range(5)], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_harmonic_oscillator_is_one_line():
    step, period = 1.5, 40.0  # fs; 833.9 1/cm
    time = np.arange(4000) * step
    phases = np.random.default_rng(2).random(20) * 2 * np.pi
    velocity = np.cos(2 * np.pi * time[:, None] / period + phases)
    vaf = correlation_sums(velocity, n_origins=3000, n_lags=667)
    vaf /= vaf[0]
    np.testing.assert_allclose(vaf, np.cos(2 * np.pi * time[:667] / period), atol=0.02)
    wavenumber, density = vibrational_density(vaf[None], time_step_fs=step)
    line = 1 / (period * 2.99792458e-5)
    assert wavenumber[np.argmax(density[0])] == pytest.approx(line, abs=10)
    assert np.trapezoid(density[0], wavenumber) == pytest.approx(1)
    half = wavenumber[density[0] > density[0].max() / 2]
    assert half[-1] - half[0] == pytest.approx(1 / (1000 * 2.99792458e-5), rel=0.3)
    # The transform itself, by a plain sum.
    window = np.cos(np.pi * np.arange(667) / (2 * 667)) ** 2
    weight = np.where(np.arange(667) == 0, 1.0, 2.0) * window * vaf
    direct = np.array(
        [(weight * np.cos(2 * np.pi * k * 2.99792458e-5 * time[:667])).sum() for k in wavenumber[:300]]
    )
    np.testing.assert_allclose(density[0][:300] / density[0][:300].max(), direct / direct.max(), atol=1e-9)


def test_two_species_of_oscillators_keep_their_lines():
    step = 2.0
    time = np.arange(501) * step
    vaf = np.stack([np.cos(2 * np.pi * 2.99792458e-5 * line * time) for line in (400.0, 1100.0)])
    wavenumber, density = vibrational_density(vaf, time_step_fs=step)
    np.testing.assert_allclose(wavenumber[density.argmax(axis=1)], [400, 1100], atol=8)


def plain_msd(positions, lags):
    return np.array([np.mean(np.sum((positions[lag:] - positions[:-lag]) ** 2, axis=-1)) for lag in lags])


def msd_blocks(positions, lags, *, species=None, blocks=1, chunk_frames=1000):
    return msd.displacement_blocks(
        lambda start, stop, stride: positions[start:stop:stride],
        n_frames=len(positions), lags=lags, species=species or [np.arange(positions.shape[1])],
        blocks=blocks, chunk_frames=chunk_frames,
    )  # fmt: skip


def test_msd_agrees_with_tidynamics():
    tidynamics = pytest.importorskip("tidynamics")
    positions, lags = walk(60, 7), np.arange(1, 17)
    library = np.mean([tidynamics.msd(positions[:, atom]) for atom in range(7)], axis=0)
    np.testing.assert_allclose(msd_blocks(positions + 1e4, lags)[0, 0], library[lags], rtol=1e-8)


def test_ballistic_motion_grows_as_the_square():
    velocity = np.random.default_rng(3).normal(size=(11, 3))
    positions, lags = np.arange(50)[:, None, None] * velocity, msd.logarithmic_lags(25)
    found = msd_blocks(positions, lags)[0, 0]
    np.testing.assert_allclose(found, lags**2 * np.mean(np.sum(velocity**2, axis=1)), rtol=1e-9)


def test_a_common_drift_is_removed_and_wrapping_undone():
    positions, masses = walk(40, 6) * 0.2, np.array([28.0, 28, 16, 16, 16, 16])
    drift = np.arange(40)[:, None, None] * np.array([0.5, -0.2, 0.1])
    cell = np.array([6.0, 7.0, 8.0])
    still = msd.remove_drift(positions, masses)
    np.testing.assert_allclose(np.einsum("fnx,n->fx", still, masses), 0, atol=1e-10)
    wrapped = (positions + drift) % cell
    recovered = msd.remove_drift(msd.unwrap(wrapped, cell), masses)
    np.testing.assert_allclose(recovered - recovered[0], still - still[0], atol=1e-9)


def test_logarithmic_lags_are_dense_then_eight_per_doubling():
    assert msd.logarithmic_lags(5).tolist() == [1, 2, 3, 4, 5]
    assert msd.logarithmic_lags(40).tolist() == [*range(1, 17), *range(18, 33, 2), 36, 40]
    assert len(msd.logarithmic_lags(500_000)) < 150


@pytest.mark.parametrize("chunk", [40, 64, 1000])
def test_streamed_blocks_equal_the_plain_average(chunk):
    positions = walk(203, 9)
    lags = msd.logarithmic_lags(100)
    species = [np.array([0, 4, 8]), np.array([1, 2, 3, 5, 6, 7])]
    blocks = msd_blocks(positions, lags, species=species, blocks=4, chunk_frames=chunk)
    for row, atoms in enumerate(species):
        for column, lag in enumerate(lags):
            stride = 1
            while lag > 16 * stride:
                stride *= 2
            held = positions[::stride, atoms]
            step = lag // stride
            squares = np.mean(np.sum((held[step:] - held[:-step]) ** 2, axis=-1), axis=1)
            parts = [
                squares[np.arange(len(squares)) * 4 // len(squares) == block].mean() for block in range(4)
            ]
            np.testing.assert_allclose(blocks[row, :, column], parts, rtol=1e-12)
    # Strided origins lose next to nothing: within a few per cent of every origin on a walk.
    every = plain_msd(positions[:, species[1]], lags)
    np.testing.assert_allclose(blocks[1].mean(axis=0), every, rtol=0.1)


def test_diffusion_of_a_random_walk_and_its_refusals():
    # Steps of variance 1 per axis each 2 fs: MSD = 3 t / 2 = 6 D t, so D = 0.25 A2/fs = 0.025 cm2/s.
    lags = np.arange(1, 150)
    curves = np.array([plain_msd(walk(1500, 60, seed), lags) for seed in range(6)])
    times = lags * 2.0
    found = msd.diffusion(times, curves, from_fs=20.0)
    assert found.coefficient_cm2_s is not None
    assert abs(found.coefficient_cm2_s - 0.025) < 4 * found.coefficient_se
    assert found.coefficient_se < 0.001
    assert found.slope == pytest.approx(1, abs=0.05)
    steep = msd.diffusion(times, np.ones((4, 149)) + 0.001 * times**2, from_fs=20.0)
    assert (steep.coefficient_cm2_s, steep.coefficient_se) == (None, None)
    assert steep.slope > 1.2
    caged = 0.1 + 1e-6 * times * np.array([[1.0], [1.1], [0.9]])
    assert msd.diffusion(times, caged, from_fs=20.0).coefficient_cm2_s is None
    # Diffusive on average, but too few and too different to say so.
    unsure = 0.1 * times ** np.array([[0.8], [1.2]])
    assert msd.diffusion(times, unsure, from_fs=20.0).coefficient_cm2_s is None
    with pytest.raises(ValueError, match="1 replicas"):
        msd.diffusion(times, curves[:1], from_fs=20.0)
