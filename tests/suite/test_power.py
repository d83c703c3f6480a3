"""Published power, and the simulated campaigns behind it, on synthetic pairs with known answers."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import suite.claims  # noqa: F401 - fills REGISTRY
from suite.judging import power_table
from suite.judging.checks import load_claims
from suite.judging.evaluate import REGISTRY, evaluate
from suite.judging.power_table import EFFECTS, lacks_power, read_power
from suite.judging.verdict import Verdict
from suite.power import measure
from suite.power.measure import checks_with_numbers, simulate
from suite.power.simulation import Simulator, raised, slowed, stretched, turned, units_of
from tests.suite.test_pairs import evidence

CHECK = "rdf-paired/96/Si-O/first-peak-position"


def check_of(identity):
    return next(check for check in load_claims() if check.id == identity)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return evidence(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def simulator(pairs):
    return Simulator(pairs, labels=frozenset(pairs.products))


def value(found, identity):
    check = check_of(identity)
    return evaluate(REGISTRY[check.claim], check, found).value


def test_changes_are_what_they_say():
    x = np.arange(0.01, 6, 0.02)
    rows = np.exp(-0.5 * ((x - 1.6) / 0.1) ** 2)[None]
    assert x[stretched(5)("rdf_Si-O", x, rows)[0].argmax()] == pytest.approx(1.68, abs=0.02)
    assert x[turned(0.5)("badf_O-Si-O", x, rows)[0].argmax()] == pytest.approx(2.1, abs=0.02)
    assert x[slowed(20)("vaf_Si", x, rows)[0].argmax()] == pytest.approx(2.0, abs=0.02)
    np.testing.assert_allclose(raised(0.1)("msd_Si", x, rows), rows * math.exp(0.1))
    for change in (stretched(5), slowed(20), raised(0.1)):
        np.testing.assert_array_equal(change("badf_O-Si-O", x, rows), rows)


def test_an_honest_network_without_scatter_is_aimd(simulator):
    assert value(simulator.campaign(noise=1e-3), CHECK) == pytest.approx(0, abs=1e-4)
    scattered = [value(simulator.campaign(), CHECK) for _ in range(60)]
    assert abs(np.mean(scattered)) < 4 * np.std(scattered) / math.sqrt(60)
    moved = [value(simulator.campaign([stretched(2)]), CHECK) for _ in range(10)]
    assert np.mean(moved) == pytest.approx(0.02 * 1.637, rel=0.1)


def test_scatter_is_that_of_the_runs(pairs, simulator):
    """Mean differences of simulated campaigns scatter as the runs' own say, along the whole curve."""

    def differences(found):
        sides = (found.observables(f"paired-96-{side}") for side in ("nnp", "aimd"))
        one, other = (np.array([run["rdf_O-O"].mean(axis=0) for run in runs]) for runs in sides)
        return one - other

    own = differences(pairs)
    drawn = np.array([differences(simulator.campaign()).mean(axis=0) for _ in range(400)])
    expected = own.var(axis=0, ddof=1) / len(own)
    around = expected > 0.1 * expected.max()
    assert np.mean(drawn.var(axis=0)[around] / expected[around]) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=5 * np.sqrt(expected.max() / 400))


def test_runs_of_one_noise_are_one_unit():
    def run(name):
        return SimpleNamespace(facts={"aimd_run": name})

    shared = "pbe-96-md-nnp-3000K/nnp-903-3000K", "pbe-96-md-nnp-3000K/nnp-904-3000K"
    assert units_of([run(shared[0]), run(None), run("set/run"), run(shared[1])]) == [0, 1, 2, 0]


def test_a_check_is_blind_or_sees_and_never_accuses_the_honest(pairs, monkeypatch):
    monkeypatch.setattr(measure, "LADDERS", {"stretch_percent": (0.5, 5), "angle_deg": (0.5, 20)})
    monkeypatch.setattr(
        measure,
        "checks_with_numbers",
        lambda *_, **__: [check_of(CHECK), check_of("badf-paired/96/Si-O-Si/mean")],
    )
    rows = simulate(pairs, kinds=["paired"], campaigns=40, trials=10, tell=lambda _: None)
    position, angle = rows[CHECK], rows["badf-paired/96/Si-O-Si/mean"]
    assert position["false_fail"] == angle["false_fail"] == 0
    assert position["passes"] == angle["passes"] == 1
    assert position["sees"] == {"stretch_percent": 5, "angle_deg": None}
    assert angle["sees"] == {"stretch_percent": None, "angle_deg": 20}
    assert position["false_pass"] <= 0.1, "on the edge of its band"


def test_what_reads_pairs_is_simulated(pairs):
    found = {check.id for check in checks_with_numbers(pairs, kinds=["paired"])}
    assert {CHECK, "vaf-bks-paired/O/farther", "coordination-paired/96"} <= found


@pytest.fixture
def table(tmp_path: Path, monkeypatch):
    path = tmp_path / "power.yml"
    blind = {"false_fail": 0.0, "false_pass": None, "passes": 1.0, "sees": dict.fromkeys(EFFECTS)}
    sees = {**blind, "sees": {**blind["sees"], "stretch_percent": 2}}
    checks = {CHECK: blind, "rdf-paired/96/O-O/first-peak-position": sees}
    path.write_text(yaml.safe_dump({"tiers": {"laptop": {"checks": checks}}}))
    monkeypatch.setattr(power_table, "read_power", lambda: read_power(path))
    return path


def test_a_pass_without_power_is_inconclusive(pairs, table):
    found = {
        name: evaluate(REGISTRY["rdf-paired"], check_of(name), pairs)
        for name in (CHECK, CHECK.replace("Si-O", "O-O"))
    }
    assert found[CHECK].verdict is Verdict.INCONCLUSIVE
    assert found[CHECK].reason.startswith("no power at this tier")
    assert found[CHECK.replace("Si-O", "O-O")].verdict is Verdict.PASS


def test_what_was_not_simulated_lacks_nothing(table):
    assert lacks_power("rdf-paired/96/Si-Si/curve", "laptop") == ""
    assert lacks_power(CHECK, "overnight") == ""


def test_without_observations_the_table_stays_as_it_is(tmp_path, capsys):
    """An empty store has nothing to draw campaigns from."""
    before = measure.POWER_FILE.read_bytes()
    with pytest.raises(SystemExit):
        measure.main(["--store", str(tmp_path), "--kinds", "paired", "--campaigns", "2", "--trials", "1"])
    assert "found no observations of tier overnight" in capsys.readouterr().err
    assert measure.POWER_FILE.read_bytes() == before


def test_published_rates_are_at_most_five_percent():
    """Of all checks against AIMD or BKS: those against a number have no honest potential to be drawn."""
    known = {check.id: check for check in load_claims()}
    for tier, checks in read_power().items():
        assert checks, tier
        for identity, row in checks.items():
            assert identity in known, "the table is of today's claims"
            if known[identity].comparison_kind != "alone":
                assert row.false_fail <= 0.05, identity
                assert row.false_pass is None or row.false_pass <= 0.05, identity
