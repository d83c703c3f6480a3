"""Fits of cost against N: known laws come back, intervals cover, and what is read off them is right."""

import math

import numpy as np
import pytest

from jobs.cost.scaling import RESAMPLES, Interval, Power, fit_line, fit_power, median_interval, ratio

SIZES = (96, 216, 648, 1296, 2592, 5832)


def noisy(law, *, sizes=SIZES, launches=6, spread=0.03, seed=0):
    rng = np.random.default_rng(seed)
    return {n: law(n) * np.exp(spread * rng.normal(size=launches)) for n in sizes}


def test_exact_laws_come_back():
    line = fit_line({n: [1.2e-3 + 1.9e-6 * n] * 3 for n in SIZES})
    assert line.a.value == pytest.approx(1.2e-3)
    assert line.b.value == pytest.approx(1.9e-6)
    assert line.atoms_within(3.1e-3) == pytest.approx(1000)
    assert line.atoms_within(1e-4) == 0
    power = fit_power({n: [4e-5 * n**2.6] * 3 for n in (24, 48, 96)})
    assert (power.c.value, power.p.value) == pytest.approx((4e-5, 2.6))
    assert power.at(960).value == pytest.approx(4e-5 * 960**2.6)
    assert power.atoms_within(4e-5 * 500**2.6).value == pytest.approx(500)


def test_weights_are_relative_so_that_the_smallest_size_counts():
    """An ordinary least-squares line would give the fixed cost, 1e-3 of the largest time, no say at all."""
    found = fit_line(noisy(lambda n: 1e-3 + 1e-4 * n, spread=0.02))
    assert found.a.value == pytest.approx(1e-3, abs=6e-4)
    assert found.a.low < 1e-3 < found.a.high


@pytest.mark.parametrize("launches", [6, 12])
def test_intervals_cover(launches):
    """95% intervals from few launches cover less than they say; 6 launches must still give 85%."""
    hits = {"b": 0, "p": 0}
    trials = 120
    for seed in range(trials):
        line = fit_line(noisy(lambda n: 1e-3 + 1e-5 * n, seed=seed, launches=launches))
        hits["b"] += line.b.low < 1e-5 < line.b.high
        power = fit_power(noisy(lambda n: 1e-4 * n**2.5, sizes=(24, 48, 96), seed=seed, launches=launches))
        hits["p"] += power.p.low < 2.5 < power.p.high
    assert min(hits.values()) / trials > 0.85


def test_extrapolation_is_less_certain_than_what_was_measured():
    power = fit_power(noisy(lambda n: 1e-4 * n**2.5, sizes=(24, 48, 96)))
    near, far = power.at(48), power.at(5832)
    assert math.log(far.high / far.low) > 3 * math.log(near.high / near.low)


def test_what_is_read_off_a_power_law_has_the_spread_of_its_draws():
    """t = N^2 with ln c drawn evenly from -1 to 3: 95 % of the draws lie between -0.9 and 2.9."""
    even, exact = np.linspace(-1, 3, RESAMPLES), np.full(RESAMPLES, 2.0)
    c, p = Interval(1.0, 0.4, 2.6), Interval(2.0, 2.0, 2.0)
    square = Power(c, p, np.stack([even, exact], axis=1))
    for found, value, low, high in (
        (square.at(10), 100.0, -0.9, 2.9),
        (square.ratio(10, [4.0, 4.0]), 25.0, -0.9, 2.9),
        (square.atoms_within(400.0), 20.0, -2.9 / 2, 0.9 / 2),
    ):
        expected = (value, value * math.exp(low), value * math.exp(high))
        assert (found.value, found.low, found.high) == pytest.approx(expected)
    steep = Power(c, p, np.stack([0 * even, exact + 0.1 * even], axis=1))
    assert (steep.at(10).low, steep.at(10).high) == pytest.approx((10**1.91, 10**2.29))
    assert steep.atoms_within(100).low == pytest.approx(100 ** (1 / 2.29))


def test_a_power_law_at_one_atom_is_its_prefactor():
    power = fit_power(noisy(lambda n: 1e-4 * n**2.5, sizes=(24, 48, 96)))
    found = power.at(1)
    assert (found.value, found.low, found.high) == pytest.approx((power.c.value, power.c.low, power.c.high))
    assert power.c.low < power.c.value < power.c.high
    assert power.p.low < power.p.value < power.p.high


def test_median_and_ratio():
    assert median_interval([1.0, 2.0, 100.0]).value == 2.0
    single = median_interval([3.0])
    assert single.value == 3.0
    assert math.isnan(single.low)
    assert math.isnan(ratio([10.0], [2.0, 2.1]).low)
    power = fit_power({96: [1.0], 216: [2.0, 2.1], 648: [6.0, 6.1]})
    assert power.p.value == pytest.approx(0.94, abs=0.02)
    assert math.isnan(power.p.low), "one launch says nothing of its error"
    line = fit_line({96: [1.0], 216: [2.0, 2.1], 648: [6.0, 6.1]})
    assert line.b.value == pytest.approx(0.009, rel=0.1)
    assert math.isnan(line.b.high)
    found = ratio([10.0, 10.5, 9.5], [2.0, 2.1, 1.9])
    assert found.low < found.value == 5.0 < found.high
    first = median_interval([10.0, 10.5, 9.5])
    halved = ratio([10.0, 10.5, 9.5], [2.0, 2.0])
    assert (halved.low, halved.high) == pytest.approx((first.low / 2, first.high / 2))
    assert first.as_json() == {"value": 10.0, "ci_low": first.low, "ci_high": first.high}
    # Launches that scatter by 1: the median of 400 is good to 1.25 / 20.
    many = median_interval(np.random.default_rng(1).normal(size=400))
    assert many.high - many.low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.25)


@pytest.mark.parametrize(("fit", "sizes"), [(fit_line, (96, 216)), (fit_power, (96,))])
def test_too_few_sizes_are_refused(fit, sizes):
    with pytest.raises(ValueError, match="too few for this fit"):
        fit({n: [1.0, 1.1] for n in sizes})
    with pytest.raises(ValueError, match="no sample"):
        median_interval([])
