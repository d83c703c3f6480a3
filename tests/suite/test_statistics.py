import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from suite.judging.distances import cramer_von_mises, mean_square_difference, rooted, shares
from suite.judging.reasons import NotTested
from suite.judging.statistics import (
    Estimate,
    difference_of_shares,
    equilibrated,
    estimate,
    estimate_mean,
    in_blocks,
    inefficiency,
    mean_interval,
    mean_of,
    more_data,
    signed_root,
    student,
)
from suite.judging.verdict import (
    Result,
    Verdict,
    decide,
    p_value,
    with_family,
    with_preconditions,
)


def autoregressive(rng, *, replicas, blocks, memory):
    x = np.empty((replicas, blocks))
    x[:, 0] = rng.normal(size=replicas)
    for i in range(1, blocks):
        x[:, i] = memory * x[:, i - 1] + math.sqrt(1 - memory**2) * rng.normal(size=replicas)
    return list(x)


def test_a_t_interval_is_the_textbooks():
    found = Estimate.from_error(1.0, standard_error=0.1, degrees_of_freedom=5)
    assert (found.ci_low, found.ci_high) == pytest.approx((1 - 0.25706, 1 + 0.25706), abs=1e-5)
    assert (found.n_eff, found.degrees_of_freedom) == (6, 5)
    assert student(math.inf) == pytest.approx(1.959964)
    assert Estimate.exact(3) == Estimate(3.0, 0.0, 1, 3.0, 3.0, math.inf)


def scalars(*values):
    return [np.full(3, value) for value in values]


def test_errors_of_sets_add_and_freedoms_are_welchs():
    """Means of four and of five runs: variances s2/4 and s2/5, and Welch's degrees of freedom."""
    a, b = [0.0, 2.0, 3.0, 7.0], [1.0, 1.5, 1.0, 2.0, 4.5]
    found = estimate(lambda s: float(mean_of(s["a"]) - mean_of(s["b"])), {"a": scalars(*a), "b": scalars(*b)})
    one, other = np.var(a, ddof=1) / 4, np.var(b, ddof=1) / 5
    assert found.value == pytest.approx(1.0)
    assert found.standard_error == pytest.approx(math.sqrt(one + other))
    assert found.degrees_of_freedom == pytest.approx((one + other) ** 2 / (one**2 / 3 + other**2 / 4))


def test_two_runs_borrow_from_the_set_that_scatters_most():
    """The lender's scatter of one run, over two: s2/2, besides the lenders' own s2/4 and s2/5."""
    wide, narrow = [0.0, 2.0, 3.0, 7.0], [1.0, 1.5, 1.0, 2.0, 1.5]
    sets = {"narrow": scalars(*narrow), "wide": scalars(*wide), "two": scalars(3.0, 3.1)}
    found = estimate(
        lambda s: float(mean_of(s["wide"]) + mean_of(s["narrow"]) - mean_of(s["two"])),
        sets,
        scatter_donors=("narrow", "wide"),
    )
    expected = np.var(wide, ddof=1) * (1 / 4 + 1 / 2) + np.var(narrow, ddof=1) / 5
    assert found.standard_error == pytest.approx(math.sqrt(expected))


def test_the_difference_of_two_shares_is_newcombes():
    """Newcombe 1998, Table II, example (a): 56/70 - 48/80 = 0.2, by method 10 from 0.0524 to 0.3339."""
    found = difference_of_shares([True] * 56 + [False] * 14, [True] * 48 + [False] * 32)
    assert found.value == pytest.approx(0.2)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.standard_error == pytest.approx((0.3339 - 0.0524) / 2 / 1.96, abs=1e-4)
    assert found.n_eff == 70
    assert difference_of_shares([True] * 2, [False] * 2).n_eff == 2
    for few in (([True], [True] * 5), ([True] * 5, [True])):
        with pytest.raises(NotTested, match="1 runs: two"):
            difference_of_shares(*few)


def test_mean_of_independent_blocks_has_the_textbook_error():
    values = np.random.default_rng(0).permutation(np.arange(40.0))
    found = estimate_mean([values])
    assert found.value == pytest.approx(values.mean())
    expected = values.std(ddof=1) / math.sqrt(40)
    assert found.standard_error == pytest.approx(expected, rel=0.3)
    assert found.standard_error >= 0.999 * expected


@pytest.mark.parametrize("runs", [1, 2])
def test_blocks_that_alternate_all_count(runs):
    """No positive correlation: n blocks of variance s2 have the error s / sqrt(n), and n - 1 freedoms."""
    found = estimate_mean([np.array([1.0, -1.0] * 10)] * runs)
    n = 20 * runs
    assert found.standard_error == pytest.approx(1 / math.sqrt(n - 1))
    assert (found.n_eff, found.degrees_of_freedom) == pytest.approx((n, n - 1))
    mean, half = mean_interval([np.outer([1.0, -1.0] * 10, np.arange(1, 31))] * runs)
    assert mean == pytest.approx(0)
    assert half == pytest.approx(student(n - 1) * np.arange(1, 31) / math.sqrt(n - 1))


def test_replicas_are_the_units_when_there_are_four():
    groups = [np.full(8, value) for value in (1.0, 2.0, 3.0, 4.0)]
    found = estimate_mean(groups)
    assert found.standard_error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert found.n_eff == 4


def test_runs_of_unequal_length_weigh_by_it():
    rng = np.random.default_rng(1)
    misses = []
    for _ in range(300):
        groups = [rng.normal(size=n) for n in (3, 5, 9, 20, 30)]
        found = estimate_mean(groups)
        assert found.value == pytest.approx(np.concatenate(groups).mean())
        misses.append(not found.ci_low <= 0 <= found.ci_high)
    assert np.mean(misses) < 0.12


@pytest.mark.parametrize("lengths", [(8, 8, 8, 8), (3, 5, 9, 20, 30)])
def test_a_curve_has_the_interval_of_its_points(lengths):
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=(n, 6)) + rng.normal(size=6) for n in lengths]
    mean, half = mean_interval(groups)
    for point in range(6):
        found = estimate_mean([group[:, point] for group in groups])
        assert mean[point] == pytest.approx(found.value)
        assert half[point] == pytest.approx((found.ci_high - found.ci_low) / 2)


def test_blocks_of_a_curve_count_as_many_as_they_do_along_it():
    """Points that are alike but for their scale share one inefficiency: each has its own interval."""
    series = autoregressive(np.random.default_rng(4), replicas=2, blocks=12, memory=0.5)
    mean, half = mean_interval([np.outer(one, [1.0, 10.0]) for one in series])
    found = estimate_mean(series)
    assert mean == pytest.approx(np.array([1, 10]) * found.value)
    assert half == pytest.approx(np.array([1, 10]) * (found.ci_high - found.ci_low) / 2)
    with pytest.raises(NotTested, match="one block of one replica"):
        mean_interval([np.ones((1, 5))])


@pytest.mark.parametrize(
    ("replicas", "blocks", "memory"),
    [(1, 20, 0.0), (1, 20, 0.4), (2, 8, 0.3), (3, 8, 0.5), (4, 8, 0.8), (8, 8, 0.5)],
)
def test_interval_covers_the_truth_of_correlated_blocks(replicas, blocks, memory):
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        found = estimate_mean(autoregressive(rng, replicas=replicas, blocks=blocks, memory=memory))
        covered += found.ci_low <= 0 <= found.ci_high
    assert 0.89 < covered / 400 < 0.985


def test_replicas_that_disagree_leave_as_many_units_as_replicas():
    rng = np.random.default_rng(3)
    groups = [offset + 0.01 * rng.normal(size=20) for offset in (-1.0, 0.2, 1.0)]
    assert estimate_mean(groups).n_eff < 4


def test_many_blocks_are_left_out_in_stretches():
    """Two melts of 6000 frames: as many evaluations as stretches, and the error of the frames one by one."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(2, 6000))
    frames = np.empty_like(noise)
    frames[:, 0] = noise[:, 0]
    for k in range(1, 6000):
        frames[:, k] = 0.8 * frames[:, k - 1] + 0.6 * noise[:, k]
    calls = []

    def spread(samples):
        calls.append(1)
        return float(np.concatenate(samples["melts"]).std())

    found = estimate(spread, {"melts": list(frames)})
    assert len(calls) <= 1 + 2 * 200 + 2
    # Of squares the correlation time is that of 0.8^2; sd has half the relative error of the variance.
    exact = np.sqrt(0.5 / 12000 * (1 + 0.64) / (1 - 0.64))
    assert found.value == pytest.approx(1.0, abs=4 * exact)
    assert found.standard_error == pytest.approx(exact, rel=0.25)


def test_inefficiency_of_known_correlation():
    rng = np.random.default_rng(4)
    groups = autoregressive(rng, replicas=20, blocks=2000, memory=0.6)
    assert inefficiency(groups) == pytest.approx(1.6 / 0.4, rel=0.1)
    assert inefficiency([np.ones(10)]) == 1


def test_error_of_a_ratio_is_that_of_the_delta_method():
    rng = np.random.default_rng(5)
    a, b = rng.normal(10, 1, size=200), rng.normal(5, 1, size=200)
    found = estimate(lambda s: float(mean_of(s["a"]) / mean_of(s["b"])), {"a": [a], "b": [b]})
    expected = 2 * math.hypot(0.1, 0.2) / math.sqrt(200)
    assert found.standard_error == pytest.approx(expected, rel=0.2)


def test_what_two_distances_share_is_thinned_jointly():
    """D(a, c) - D(b, c) of nearly equal a and b is known far better than either distance."""
    rng = np.random.default_rng(6)
    c = [rng.normal(1.0, 0.3, size=(8, 30)) for _ in range(4)]
    a = [rng.normal(0.0, 0.001, size=(8, 30)) for _ in range(4)]
    b = [rng.normal(0.0, 0.001, size=(8, 30)) for _ in range(4)]
    single = estimate(lambda s: mean_square_difference(s["a"], s["c"]), {"a": a, "c": c})
    contrast = estimate(
        lambda s: mean_square_difference(s["a"], s["c"]) - mean_square_difference(s["b"], s["c"]),
        {"a": a, "b": b, "c": c},
    )
    assert contrast.standard_error < 0.2 * single.standard_error


def test_two_short_runs_take_the_scatter_between_runs_from_four():
    """Peaks that sit elsewhere in each run, by 0.03 A: the distance's interval covers the true one."""
    rng = np.random.default_rng(11)
    r = np.arange(0.01, 5.6, 0.02)

    def runs(count, at):
        peaks = at + 0.03 * rng.normal(size=(count, 1, 1)) + 0.01 * rng.normal(size=(count, 8, 1))
        return list(1.0 * (r > 3.6) + 2.6 * np.exp(-0.5 * ((r - peaks) / 0.16) ** 2))

    def distance(samples):
        four, two = (shares(samples[name]) for name in ("four", "two"))
        return signed_root(cramer_von_mises(four, two, np.ones_like(r)))

    def still(at):
        return [(1.0 * (r > 3.6) + 2.6 * np.exp(-0.5 * ((r - at) / 0.16) ** 2))[None]] * 2

    exact = distance({"four": still(2.72), "two": still(2.66)})
    passed = {("four",): 0, (): 0}
    for _ in range(60):
        given = {"four": runs(4, 2.72), "two": runs(2, 2.66)}
        for scatter_donors in passed:
            passed[scatter_donors] += estimate(distance, given, scatter_donors=scatter_donors).ci_high < exact
    assert passed["four",] <= 6
    assert passed[()] > passed["four",]


def test_a_donated_scatter_is_no_second_estimate_of_it():
    """Four runs against two: exactly a t interval with the three degrees of freedom of the four."""
    rng = np.random.default_rng(13)
    covered = 0
    for _ in range(2000):
        runs = {name: list(rng.normal(size=(count, 1))) for name, count in (("four", 4), ("two", 2))}
        found = estimate(
            lambda s: float(mean_of(s["four"]) - mean_of(s["two"])), runs, scatter_donors=["four"]
        )
        covered += found.ci_low <= 0 <= found.ci_high
    assert found.n_eff == pytest.approx(4)
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_scatter_donor_must_have_enough_runs():
    groups = [np.arange(8.0), np.arange(8.0)]
    with pytest.raises(NotTested, match="no set has 4 replicas"):
        estimate(
            lambda s: float(mean_of(s["a"]) - mean_of(s["b"])),
            {"a": groups, "b": groups},
            scatter_donors="ab",
        )


def test_a_set_that_hardly_counts_does_not_lend():
    """Three runs of two networks each, and five that enter with a third: how runs scatter is not known."""
    rng = np.random.default_rng(17)
    sets = {name: list(rng.normal(size=(count, 1))) for name, count in (("a", 3), ("b", 3), ("far", 5))}

    def value(s):
        return float(mean_of(s["a"]) - mean_of(s["b"]) - mean_of(s["far"]) / 3)

    with pytest.raises(NotTested, match="no set has 4 replicas"):
        estimate(value, sets, scatter_donors=("a", "b"))
    covered = 0
    for _ in range(500):
        sets = {name: list(rng.normal(size=(n, 1))) for name, n in (("a", 3), ("b", 4), ("far", 5))}
        found = estimate(value, sets, scatter_donors=("a", "b"))
        covered += found.ci_low <= 0 <= found.ci_high
    assert covered > 0.93 * 500


def test_one_block_has_no_error_bar():
    with pytest.raises(NotTested, match="no error bar"):
        estimate_mean([np.array([1.0])])


@pytest.mark.parametrize("groups", [2, 5])
def test_a_constant_is_exact_only_where_it_was_counted(groups):
    found = estimate_mean([np.ones(5)] * groups, counted=True)
    assert (found.ci_low, found.ci_high, found.standard_error) == (1, 1, 0)
    assert found.n_eff == {2: 10, 5: 5}[groups]  # blocks of two runs, runs of five
    with pytest.raises(NotTested, match="the same whatever run or block is left out"):
        estimate_mean([np.ones(5)] * groups)


def test_a_step_on_a_grid_is_not_known_exactly():
    """Where a noisy curve first crosses a bound, to a grid point: the same whichever run is left out."""
    rng = np.random.default_rng(12)
    runs = [np.linspace(0, 1, 11) + 0.01 * rng.normal(size=(8, 11)) for _ in range(5)]
    with pytest.raises(NotTested, match="its error is not known"):
        estimate(lambda s: float(np.argmax(mean_of(s["runs"]) > 0.55)), {"runs": runs})


def test_equilibration_is_cut():
    rng = np.random.default_rng(7)
    series = rng.normal(size=2000)
    series[:300] += 30 * np.exp(-np.arange(300) / 60)
    kept = equilibrated(series)
    assert 100 < len(series) - len(kept) < 700
    assert abs(kept.mean()) < 0.15
    assert len(equilibrated(np.ones(50))) == 50


def test_in_blocks_drops_the_beginning():
    assert in_blocks(np.arange(11), blocks=5).tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    with pytest.raises(NotTested):
        in_blocks(np.arange(5), blocks=3)


def interval(low, high):
    return Estimate((low + high) / 2, (high - low) / 4, 10, low, high, 9)


@pytest.mark.parametrize(
    ("low", "high", "band", "verdict"),
    [
        (0.1, 0.4, (0, 1), Verdict.PASS),
        (0.0, 1.0, (0, 1), Verdict.PASS),
        (0.9, 1.1, (0, 1), Verdict.INCONCLUSIVE),
        (-1.0, 2.0, (0, 1), Verdict.INCONCLUSIVE),
        (-1.0, 0.0, (0, 1), Verdict.INCONCLUSIVE),
        (1.0, 2.0, (0, 1), Verdict.INCONCLUSIVE),
        (1.01, 1.2, (0, 1), Verdict.FAIL),
        (-0.2, -0.1, (0, None), Verdict.FAIL),
        (5.0, 9.0, (0, None), Verdict.PASS),
        (5.0, 9.0, (None, 6), Verdict.INCONCLUSIVE),
    ],
)
def test_verdict_is_where_the_interval_lies(low, high, band, verdict):
    assert decide(interval(low, high), band)[0] is verdict


def test_nothing_is_decided_on_what_is_not_a_number():
    with pytest.raises(ValueError, match="not a number"):
        decide(Estimate(math.nan, 1, 2, math.nan, math.nan), (0, 1))


def test_more_data_follows_the_square_root_law():
    def normal(low, high):
        error = (high - low) / 2 / student(math.inf)
        return Estimate.from_error((low + high) / 2, standard_error=error, degrees_of_freedom=math.inf)

    assert "about 4 times" in more_data(normal(0.75, 1.25), (None, 1.125))
    assert "about 7 times" in more_data(normal(0.75, 1.25), (None, 1.1)), "6.25, rounded up"
    assert "about 2 times" in more_data(normal(0.75, 1.25), (0.76, None))
    assert "about 4 times" in more_data(normal(0.0, 2.0), (0.5, 1.9)), "the nearer edge"
    assert "about 100 times" in more_data(normal(-1.0, 1.0), (0.1, 4.0))
    assert "more than 100" in more_data(normal(0.0, 2.0), (None, 1.0))
    assert "about 4 times" in decide(normal(0.75, 1.25), (None, 1.125))[1]


def test_more_runs_also_know_their_scatter_better():
    """Four runs have three degrees of freedom, sixteen fifteen: t falls from 3.2 to 2.1."""
    found = Estimate.from_error(1.0, standard_error=1.0, degrees_of_freedom=3)
    (times,) = re.findall(r"about (\d+) times", more_data(found, (0.5, None)))
    half = [student(4 * k - 1) / math.sqrt(k) for k in (int(times) - 1, int(times))]
    assert half[0] > 0.5 >= half[1]
    assert int(times) < (student(3) / 0.5) ** 2 / 2


def test_no_break_in_any_run_is_decided_by_the_runs_that_decide_it():
    found = difference_of_shares([False] * 12, [False] * 12)
    assert "about 7 times" in more_data(found, (0.05, None)), "84 of each"
    assert difference_of_shares([False] * 84, [False] * 84).ci_high < 0.05
    assert difference_of_shares([False] * 72, [False] * 72).ci_high > 0.05


def test_noise_that_more_data_remove_is_not_taken_for_distance():
    square = Estimate.from_error(0.020**2, standard_error=1.5e-4, degrees_of_freedom=5)
    plain = Estimate.from_error(0.045, standard_error=0.004, degrees_of_freedom=5)
    found = rooted(square, plain)
    assert decide(found, (None, 0.03))[0] is Verdict.INCONCLUSIVE
    (times,) = re.findall(r"about (\d+) times", more_data(found, (None, 0.03)))
    assert int(times) < 10, "from 0.020 to 0.03, with the plain root's error"


def test_p_agrees_with_the_interval():
    found = Estimate.from_error(1.0, standard_error=0.1, degrees_of_freedom=5)
    assert p_value(found, (found.ci_low, None)) == pytest.approx(0.025)
    assert p_value(Estimate.exact(3), (0, 5)) == 0
    # Two standard errors from the nearer edge, with ten degrees of freedom.
    near = Estimate.from_error(1.0, standard_error=0.5, degrees_of_freedom=10)
    assert p_value(near, (0, 9)) == p_value(near, (-7, 2)) == pytest.approx(0.0367, abs=1e-4)


def result(p):
    return Result(
        "c/a", "c", "paper", "alone", "w", "p", "s", "c", "d", 0, 1, "", "laptop", (), Verdict.PASS, p=p
    )


def test_family_p_is_holm_and_changes_no_verdict():
    again = replace(result(0.01), same_as="c/a")  # no further test of anything
    *found, same = with_family([result(0.01), result(None), result(0.04), result(0.03), again])
    assert same.p_family is None
    assert [one.p_family for one in found] == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert all(one.verdict is Verdict.PASS for one in found)


def test_what_rests_on_a_run_whose_precondition_failed_says_so():
    def row(identity, *needs, verdict=Verdict.PASS, reason=""):
        claim = identity.split("/")[0]
        category = claim if claim in ("precondition", "fault") else "paper"
        about = {"id": identity, "claim": claim, "category": category}
        return replace(result(None), **about, needs=needs, verdict=verdict, reason=reason)

    behind = {"liquid": {"liquid", "train"}, "train": {"train"}, "bks": {"bks"}}
    rows = [
        row("precondition/range", "train", "liquid", verdict=Verdict.FAIL),
        row("precondition/tables", "train", verdict=Verdict.FAIL),
        row("precondition/bond", "liquid"),
        row("precondition/heat/bks", "bks", verdict=Verdict.INCONCLUSIVE),
        row("precondition/flow/bks", "bks", verdict=Verdict.INCONCLUSIVE),
        row("rdf/a", "liquid", "bks", reason="by 3 melts"),
        row("rdf/b", "bks"),
        row("rdf/c", "liquid", verdict=Verdict.FAIL, reason="outside"),
        row("audit/d", "train"),
        row("fault/e", "liquid"),
    ]
    found = with_preconditions(rows, lambda labels: set().union(*(behind[label] for label in labels)))
    assert [one.verdict for one in found] == [one.verdict for one in rows]
    assert {one.id: one.reason for one in found if one.reason} == {
        "rdf/a": "by 3 melts; preconditions that fail: range, tables; "
        "preconditions not known to hold: bks (heat, flow)",
        "rdf/b": "preconditions not known to hold: bks (heat, flow)",
        "rdf/c": "outside; preconditions that fail: range, tables",
        "audit/d": "preconditions that fail: tables",
    }
    both = ("precondition/range", "precondition/tables")
    assert {one.id: one.doubts for one in found if one.doubts} == {
        "rdf/a": both,
        "rdf/c": both,
        "audit/d": both[1:],
    }


def test_json_has_no_infinities():
    assert result(0.1).as_json()["verdict"] == "PASS"
    infinite = Result(
        *("c/a", "c", "paper", "alone", "w", "p", "s", "c", "d", 0, 1, "", "laptop", ()),
        Verdict.PASS,
        n_eff=math.inf,
    )
    assert infinite.as_json()["n_eff"] is None


def test_a_root_maps_both_ends():
    found = interval(4.0, 9.0).root()
    assert (found.ci_low, found.ci_high) == (2, 3)
    assert found.value == pytest.approx(math.sqrt(6.5))
    assert found.standard_error == pytest.approx(1.25 / 5)  # as much narrower as the interval is
    below = interval(-9.0, 4.0).root()
    assert (below.ci_low, below.ci_high) == (-3, 2)
    assert Estimate.exact(4).root().value == 2


def test_the_chance_of_a_ranking_is_that_of_the_square():
    """A root has no t distribution: by its own error bar a square of three errors would have p = 0.0002."""
    square = Estimate.from_error(3.0, standard_error=1.0, degrees_of_freedom=9)
    assert p_value(square.root(), (0, None)) == pytest.approx(t.sf(3, 9))
    assert p_value(square.root(), (0, None)) == p_value(square, (0, None))
    assert p_value(square.root(), (None, 1)) == pytest.approx(t.sf(2, 9)), "outside, beyond 1 squared"
    low = Estimate.from_error(-1.0, standard_error=1.0, degrees_of_freedom=9)
    assert p_value(low.root(), (0, None)) == pytest.approx(t.sf(1, 9))


def test_a_square_needs_more_data_than_its_root_seems_to():
    square = Estimate.from_error(1.0, standard_error=1.5, degrees_of_freedom=9)
    assert more_data(square.root(), (0, None)) == more_data(square, (0, None))
    assert more_data(square.root(), (0, None)) == "about 9 times the data would decide"


def test_the_chance_beyond_an_upper_edge_counts_noise_as_distance():
    """Where the plain root's end is the one that counts, its distribution does too."""
    square = Estimate.from_error(0.01, standard_error=0.02, degrees_of_freedom=9)
    plain = Estimate.from_error(0.2, standard_error=0.1, degrees_of_freedom=9)
    found = rooted(square, plain)
    assert found.ci_high == plain.ci_high
    assert p_value(found, (None, 0.5)) == pytest.approx(t.sf(3, 9))
    assert p_value(found, (None, 0.15)) == pytest.approx(t.sf(-0.5, 9)), "more than a half"


def test_what_more_data_would_not_decide_says_so():
    wide = replace(interval(-1.0, 1.0), limit="its readings differ")
    assert decide(wide, (0, None)) == (
        Verdict.INCONCLUSIVE,
        "the interval straddles the band: its readings differ",
    )
