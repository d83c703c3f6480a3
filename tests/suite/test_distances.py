import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import trapezoid

from suite.judging.distances import (
    cramer_von_mises,
    mean_square,
    mean_square_difference,
    moments,
    paired_cramer_von_mises,
    peak,
    rooted,
    shares,
)
from suite.judging.reasons import NotTested
from suite.judging.statistics import Estimate, estimate, signed_root

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


def distance_of(first, second, flat, **how):
    return cramer_von_mises(shares(first), shares(second), flat, **how)


def paired(first, second):
    return paired_cramer_von_mises(shares(first), shares(second), FLAT)


def distance(first, second):
    return signed_root(distance_of(first, second, FLAT))


def test_cramer_von_mises_is_the_textbook_distance():
    def textbook(one, other):
        shares = [np.cumsum(curve) / curve.sum() for curve in (one, other)]
        return trapezoid((shares[0] - shares[1]) ** 2, R)

    a, b = g(1.63), g(1.75)
    expected = textbook(a, b) / textbook(b, FLAT)
    assert distance_of(exact(a), exact(b), FLAT) == pytest.approx(expected, rel=1e-3)
    assert distance_of(exact(FLAT), exact(b), FLAT) == pytest.approx(1)
    assert paired(exact(a), exact(b)) == pytest.approx(expected, rel=1e-3)


def test_it_grows_with_the_fault_and_does_not_saturate():
    shifts = [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.8, 1.5]
    moved = [distance(exact(g(1.63 + shift)), exact(g())) for shift in shifts]
    assert moved[0] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(moved) > 0)
    stretched = [distance(exact(np.interp(R / s, R, g())), exact(g())) for s in (1.0, 1.01, 1.02, 1.03)]
    assert np.all(np.diff(stretched) > 0)
    widened = [distance(exact(g(width=w)), exact(g())) for w in (0.1, 0.11, 0.13, 0.16)]
    assert np.all(np.diff(widened) > 0)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.02, 0.05])
def test_noise_does_not_attenuate_it(shift):
    """The mean of the squares is the noise-free square, near and far, independent and paired."""
    rng = np.random.default_rng(0)
    truth = distance_of(exact(g(1.63 + shift)), exact(g()), FLAT)
    for square in (lambda a, b: distance_of(a, b, FLAT), paired):
        values = [
            square(noisy(rng, g(1.63 + shift), amount=0.3), noisy(rng, g(), amount=0.3)) for _ in range(200)
        ]
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(len(values)) + 0.01 * truth


def test_what_pairs_share_cancels():
    """Runs scatter by 0.05 A, a pair's sides by 0.002: the shift of 0.01 is seen only pair by pair."""
    rng = np.random.default_rng(5)
    found = {"paired": [], "independent": []}
    for _ in range(40):
        places = 1.63 + 0.05 * rng.normal(size=8)
        near = [exact(g(place + 0.002 * rng.normal()))[0] for place in places]
        far = [exact(g(place + 0.01))[0] for place in places]
        samples = {"a": far, "b": near}
        joined = {"pairs": [np.hstack(pair) for pair in zip(far, near, strict=True)]}
        found["independent"].append(estimate(lambda s: distance_of(s["a"], s["b"], FLAT), samples))
        found["paired"].append(
            estimate(
                lambda s: paired([p[:, : len(R)] for p in s["pairs"]], [p[:, len(R) :] for p in s["pairs"]]),
                joined,
            )
        )
    seen = {kind: sum(one.ci_low > 0 for one in estimates) for kind, estimates in found.items()}
    assert seen["paired"] >= 36
    assert seen["independent"] <= 8


@pytest.mark.parametrize("replicas", [1, 3])
def test_noise_has_mean_zero_in_both_squares(replicas):
    rng = np.random.default_rng(1)
    draws = [[noisy(rng, g(), replicas=replicas, amount=0.3) for _ in range(2)] for _ in range(150)]
    for square in (lambda a, b: distance_of(a, b, FLAT), mean_square_difference):
        values = np.array([square(a, b) for a, b in draws])
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


def test_a_square_multiplies_different_runs_only():
    """Of 1, 2 and 3: the mean of 1 x 2, 1 x 3 and 2 x 3, where the plain square is that of 2."""
    runs = [np.array([[value]]) for value in (1.0, 2.0, 3.0)]
    assert mean_square(runs) == pytest.approx(11 / 3)
    assert mean_square(runs, biased=True) == pytest.approx(4)
    assert mean_square([3 * run for run in runs], biased=True) == pytest.approx(36)
    # Against 5 and 7, also by different runs: 11/3 + 35 - 2 x 2 x 6.
    others = [np.array([[5.0]]), np.array([[7.0]])]
    assert mean_square_difference(runs, others) == pytest.approx(11 / 3 + 35 - 24)
    assert mean_square_difference(runs, others, biased=True) == pytest.approx(16)
    # One run in four stretches of its blocks, of means 1.5, 3.5, 5.5 and 7.5.
    blocks = [np.arange(1.0, 9.0)[:, None]]
    assert mean_square(blocks) == pytest.approx((18**2 - 101) / 12)
    assert mean_square([np.array([[2.0], [5.0]])]) == pytest.approx(10)
    # A run of two blocks weighs twice in what is left of the others.
    unequal = [np.array([[1.0]]), np.array([[2.0], [2.0]]), np.array([[4.0]])]
    assert mean_square(unequal) == pytest.approx((1 * 8 / 3 + 2 * 5 / 2 + 4 * 5 / 3) / 3)


def test_the_upper_end_of_a_root_is_the_later_one():
    square = Estimate.from_error(4.0, standard_error=0.5, degrees_of_freedom=1e9)
    late = Estimate(2.2, 0.4, 8, 1.4, 3.0, 7)
    found = rooted(square, late)
    assert (found.value, found.ci_high) == (2, 3)
    assert found.ci_low == pytest.approx(math.sqrt(4 - 0.98), abs=1e-3)
    assert found.standard_error == pytest.approx(1 / 1.96, abs=1e-3)  # the distance to the later end
    early = rooted(square, replace(late, ci_high=2.1))
    assert early.ci_high == pytest.approx(math.sqrt(4 + 0.98), abs=1e-3)
    assert early.standard_error == square.root().standard_error


def test_a_distribution_without_a_count_has_no_shares():
    with pytest.raises(NotTested, match="without a single count"):
        shares([np.array([[1.0, 2.0], [0.0, 0.0]])])
    assert shares([np.array([[1.0, 3.0]])])[0].tolist() == [[0.25, 1.0]]


def test_interval_of_a_distance_covers_it():
    rng = np.random.default_rng(3)
    truth = distance_of(exact(g(1.70)), exact(g()), FLAT)
    covered = 0
    for _ in range(100):
        samples = {"a": noisy(rng, g(1.70), replicas=2), "b": noisy(rng, g(), replicas=4)}
        found = estimate(lambda s: distance_of(s["a"], s["b"], FLAT), samples)
        covered += found.ci_low <= truth <= found.ci_high
    assert covered >= 85


@pytest.mark.parametrize("shift", [0.0, 0.005, 0.01])
def test_a_distance_near_noise_is_not_known_to_be_smaller_than_it_is(shift):
    """Peaks scattered by replica: neither end lies beyond the truth more often than a 95 % interval may."""
    rng = np.random.default_rng(4)

    def replicas(count, position):
        scatter = 0.004 * rng.normal(size=count)
        return [
            np.abs(g(position + off) + 0.05 * np.sqrt(g()) * rng.normal(size=(4, len(R)))) for off in scatter
        ]

    truth = distance(exact(g(1.63 + shift)), exact(g()))
    widths = {}
    for count in (4, 16):
        found = []
        for _ in range(100):
            sets = {"a": replicas(count, 1.63 + shift), "b": replicas(count, 1.63)}
            square = estimate(lambda s: distance_of(s["a"], s["b"], FLAT), sets)
            norm = estimate(lambda s: math.sqrt(distance_of(s["a"], s["b"], FLAT, biased=True)), sets)
            found.append(rooted(square, norm))
        assert sum(one.ci_high < truth for one in found) <= 6, count
        assert sum(one.ci_low > truth for one in found) <= 6, count
        widths[count] = np.mean([one.ci_high for one in found]) - truth
    assert widths[16] < 0.6 * widths[4], "sixteen replicas know it better than four, nearly by half"


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
