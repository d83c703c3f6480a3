import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from suite.distances import mean_square_difference, moments, peak, signed_root, wasserstein
from suite.statistics import estimate
from suite.verdict import NotTested

R = np.arange(0.01, 6.0, 0.02)
FLAT = np.ones_like(R)


def g(position=1.63, width=0.1, height=9.0):
    return height * np.exp(-0.5 * ((R - position) / width) ** 2) + 1 / (1 + np.exp(-(R - 2.6) / 0.2))


def noisy(rng, curve, *, replicas=3, blocks=6, amount=0.1):
    return [
        np.abs(curve + amount * np.sqrt(curve) * rng.normal(size=(blocks, len(curve))))
        for _ in range(replicas)
    ]


def exact(curve):
    return [np.stack([curve, curve])] * 2


def test_wasserstein_is_the_textbook_distance():
    a, b = g(1.63), g(1.75)
    expected = wasserstein_distance(R, R, a, b) / wasserstein_distance(R, R, b, FLAT)
    assert wasserstein(exact(a), exact(b), FLAT) == pytest.approx(expected, rel=1e-6)
    assert wasserstein(exact(FLAT), exact(b), FLAT) == pytest.approx(1)


def test_wasserstein_grows_with_the_fault_and_does_not_saturate():
    shifts = [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.8, 1.5]
    moved = [wasserstein(exact(g(1.63 + shift)), exact(g()), FLAT) for shift in shifts]
    assert moved[0] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(moved) > 0)
    stretched = [
        wasserstein(exact(np.interp(R / s, R, g())), exact(g()), FLAT) for s in (1.0, 1.01, 1.02, 1.03)
    ]
    assert np.all(np.diff(stretched) > 0)
    widened = [wasserstein(exact(g(width=w)), exact(g()), FLAT) for w in (0.1, 0.11, 0.13, 0.16)]
    assert np.all(np.diff(widened) > 0)


def test_wasserstein_grows_under_noise_too():
    rng = np.random.default_rng(0)
    means = [
        np.mean([wasserstein(noisy(rng, g(1.63 + s)), noisy(rng, g()), FLAT) for _ in range(20)])
        for s in (0, 0.02, 0.05, 0.1)
    ]
    assert np.all(np.diff(means) > 0)


@pytest.mark.parametrize("replicas", [1, 3])
def test_noise_has_mean_zero_in_both_distances(replicas):
    rng = np.random.default_rng(1)
    draws = [[noisy(rng, g(), replicas=replicas, amount=0.3) for _ in range(2)] for _ in range(150)]
    for distance in (lambda a, b: wasserstein(a, b, FLAT), mean_square_difference):
        values = np.array([distance(a, b) for a, b in draws])
        assert abs(values.mean()) < 3.5 * values.std(ddof=1) / np.sqrt(len(values))
        assert (values < 0).any()  # a biased distance is never negative


def test_mean_square_difference_is_unbiased_for_a_known_difference():
    rng = np.random.default_rng(2)
    values = [
        mean_square_difference(
            [rng.normal(0.0, 1.0, size=(5, 40)) for _ in range(3)],
            [rng.normal(0.5, 1.0, size=(5, 40)) for _ in range(2)],
        )
        for _ in range(300)
    ]
    assert np.mean(values) == pytest.approx(0.25, abs=4 * np.std(values) / np.sqrt(300))
    assert signed_root(-4.0) == -2


def test_interval_of_a_distance_covers_it():
    rng = np.random.default_rng(3)
    truth = wasserstein(exact(g(1.70)), exact(g()), FLAT)
    covered = 0
    for _ in range(100):
        samples = {"a": noisy(rng, g(1.70), replicas=2), "b": noisy(rng, g(), replicas=4)}
        found = estimate(lambda s: wasserstein(s["a"], s["b"], FLAT), samples)
        covered += found.ci_low <= truth <= found.ci_high
    assert covered >= 85


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_intervals_of_near_and_zero_distances_cover_and_shrink(shift):
    """Peaks scattered by replica: 95 % intervals, which sixteen replicas make narrower than four by half."""
    rng = np.random.default_rng(4)

    def replicas(count, position):
        scatter = 0.004 * rng.normal(size=count)
        return [
            np.abs(g(position + off) + 0.05 * np.sqrt(g()) * rng.normal(size=(4, len(R)))) for off in scatter
        ]

    truth = wasserstein(exact(g(1.63 + shift)), exact(g()), FLAT)
    widths = {}
    for count in (4, 16):
        found = [
            estimate(
                lambda s: wasserstein(s["a"], s["b"], FLAT),
                {"a": replicas(count, 1.63 + shift), "b": replicas(count, 1.63)},
            )
            for _ in range(100)
        ]
        widths[count] = np.mean([one.ci_high - one.ci_low for one in found])
        assert sum(one.ci_low <= truth <= one.ci_high for one in found) >= 90, count
        spread = np.std([one.value for one in found])
        assert widths[count] < 2 * 2.0 * 1.96 * spread, "intervals twice as wide as the values scatter"
    assert widths[16] < 0.5 * widths[4]


def test_one_block_cannot_tell_noise_from_difference():
    with pytest.raises(NotTested):
        mean_square_difference([np.ones((1, 5))], [np.ones((4, 5))])


def test_peak_is_found_between_bins():
    for position in (1.600, 1.607, 1.615, 1.63):
        found, height = peak(R, g(position), window=(1.3, 2.0), half_width=0.06)
        assert found == pytest.approx(position, abs=0.001)
        assert height == pytest.approx(9.0, rel=0.01)


def test_a_missing_peak_is_at_the_edge_of_the_window():
    assert peak(R, R, window=(1.3, 2.0), half_width=0.06)[0] == pytest.approx(1.99)
    with pytest.raises(NotTested, match="no counts"):
        peak(R, np.zeros_like(R), window=(1.3, 2.0), half_width=0.06)


def test_moments():
    x = np.linspace(0, 180, 181)
    assert moments(x, np.exp(-0.5 * ((x - 109) / 8) ** 2)) == (
        pytest.approx(109, abs=1e-6),
        pytest.approx(8, abs=1e-6),
    )
