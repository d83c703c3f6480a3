"""Reweighting: exact where it must be, honest about overlap, and a reference in the claims' own format."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.base.frames import Frame, Frames
from jobs.base.units import BOLTZMANN_EV_K
from jobs.campaign import build as campaigns
from jobs.engines.lammps.potential import read_potential
from jobs.observables.reweighting import (
    boltzmann_weights,
    effective_fraction,
    first_order_blocks,
    first_order_weights,
    in_units,
    weighted_ratio_blocks,
)
from jobs.reference import deposit
from jobs.reference.potentials import deposited_model
from jobs.reference.sets import list_sets, read_run, read_set, summary
from jobs.stages.observations import observe, reweight
from jobs.stages.potentials import parity, potential
from jobs.store.workspace import Workspace
from suite.judging.evidence import Evidence
from suite.judging.reweighted import FIRST_ORDER_MELTS, MELT_GROUPS
from suite.judging.statistics import estimate_mean
from suite.judging.verdict import Verdict
from tests.helpers.judging import judged
from tests.helpers.synthetic_evidence import replicas

KELVIN = 3000.0
KT = BOLTZMANN_EV_K * KELVIN
OBSERVE = {
    "rdf_bin_angstrom": 0.02,
    "angle_bin_degree": 1.0,
    "angle_cutoffs_angstrom": {"Si-Si": 3.7, "Si-O": 2.4, "O-O": 3.6},
}


def oscillators(rng, *, n, stiffness, other, count=1):
    """Positions (n, count) A sampled at `stiffness` (eV/A2), and how much more `other` makes them cost."""
    x = rng.normal(scale=np.sqrt(KT / stiffness), size=(n, count))
    return x, 0.5 * (other - stiffness) * (x**2).sum(axis=1)


def expected_fraction(stiffness, other, count=1):
    """<w>^2 / <w^2> of harmonic oscillators, each factor a Gaussian integral."""
    return (stiffness / other * np.sqrt((2 * other - stiffness) / stiffness)) ** count


# The formulas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [0.8, 1.0, 1.7, 3.0])
def test_an_oscillator_sampled_at_one_stiffness_has_the_others_distribution(other):
    """The exact Gaussian of the other stiffness, bin by bin, within the errors that the blocks give."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    x, difference = oscillators(rng, n=10_000, stiffness=1.0, other=other)
    weights = boltzmann_weights(difference + 31442.0, thermal_eV=KT)  # no common zero is needed
    assert weights.sum() == pytest.approx(1)
    assert effective_fraction(weights) == pytest.approx(expected_fraction(1.0, other), rel=0.06)
    edges = np.linspace(-1.5, 1.5, 31)
    inside = (x > edges[:-1]) & (x <= edges[1:])
    blocks = weighted_ratio_blocks(weights, inside.astype(float), np.ones(len(x)), np.arange(len(x)))
    exact = np.diff(norm.cdf(edges, scale=np.sqrt(KT / other)))
    errors = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    deviations = (blocks.mean(axis=0) - exact)[exact > 1e-3] / errors[exact > 1e-3]
    assert np.abs(deviations).max() < 4.5
    assert 0.5 < np.sqrt(np.mean(deviations**2)) < 1.6
    assert weights @ x[:, 0] ** 2 == pytest.approx(KT / other, rel=0.05)


def test_identical_potentials_give_equal_weights():
    weights = boltzmann_weights(np.full(60, -31442.1234), thermal_eV=KT)
    np.testing.assert_allclose(weights, 1 / 60)
    assert effective_fraction(weights) == pytest.approx(1)
    assert effective_fraction(60 * weights) == pytest.approx(1)  # whatever they sum to
    curves = np.random.default_rng(2).normal(size=(60, 5))
    blocks = weighted_ratio_blocks(weights, curves, np.ones(60), np.arange(60))
    np.testing.assert_allclose(blocks, curves)  # plain frames: nothing was changed


def test_errors_of_weighted_means_cover_the_truth():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        x, difference = oscillators(rng, n=100, stiffness=1.0, other=1.5)
        weights = boltzmann_weights(difference, thermal_eV=KT)
        blocks = weighted_ratio_blocks(weights, x**2, np.ones(100), np.arange(100))
        found = estimate_mean([blocks[:, 0]])
        covered += found.ci_low <= KT / 1.5 <= found.ci_high
    assert covered >= 85


def test_frames_of_one_melt_are_one_unit():
    """Every frame given twice, as two frames of a melt, has the error of one."""
    rng = np.random.default_rng(4)
    x, difference = oscillators(rng, n=500, stiffness=1.0, other=1.4)
    twice, units = np.repeat(x, 2, axis=0), np.repeat(np.arange(500), 2)
    single = weighted_ratio_blocks(
        boltzmann_weights(difference, thermal_eV=KT), x**2, np.ones(500), np.arange(500)
    )
    double = weighted_ratio_blocks(
        boltzmann_weights(np.repeat(difference, 2), thermal_eV=KT), twice**2, np.ones(1000), units
    )
    np.testing.assert_allclose(double, single)


def test_a_ratio_is_that_of_the_weighted_sums():
    rng = np.random.default_rng(5)
    counts = rng.poisson(6.0, size=(40, 7)).astype(float)
    weights = rng.dirichlet(np.ones(40))
    blocks = weighted_ratio_blocks(weights, counts, counts.sum(axis=1), np.arange(40))
    np.testing.assert_allclose(blocks.mean(axis=0), weights @ counts / (weights @ counts).sum())
    np.testing.assert_allclose(blocks.sum(axis=1), 1)  # every block stays a density


def test_blocks_are_what_leaving_each_melt_out_changes():
    """With a fifth of the weight on one of thirty melts, of one frame or two each."""
    rng = np.random.default_rng(16)
    units = np.sort(np.concatenate([np.arange(30), rng.integers(30, size=12)]))
    counts = rng.poisson(6.0, size=(42, 3)).astype(float)
    total, weights = counts.sum(axis=1), rng.uniform(0.5, 1, size=42)
    weights[units == 7] *= 0.25 * weights.sum() / weights[units == 7].sum()
    weights /= weights.sum()
    blocks = weighted_ratio_blocks(weights, counts, total, units)
    ratio = weights @ counts / (weights @ total)
    without = np.array(
        [
            weights[units != unit] @ counts[units != unit] / (weights[units != unit] @ total[units != unit])
            for unit in range(30)
        ]
    )
    pseudo = 30 * ratio - 29 * without
    np.testing.assert_allclose(blocks.mean(axis=0), ratio)
    np.testing.assert_allclose(blocks - ratio, pseudo - pseudo.mean(axis=0), rtol=0, atol=1e-12)


def test_overlap_decays_as_the_formula_says():
    """Normal differences: exp(-(s/kT)^2) while n can show it, about one frame when it cannot."""
    rng = np.random.default_rng(6)
    for spread in (0.3, 0.8, 1.2):
        weights = boltzmann_weights(KT * spread * rng.normal(size=200_000), thermal_eV=KT)
        assert effective_fraction(weights) == pytest.approx(np.exp(-(spread**2)), rel=0.05)
    few = [
        60 * effective_fraction(boltzmann_weights(7.4 * KT * rng.normal(size=60), thermal_eV=KT))
        for _ in range(200)
    ]
    assert 1 < np.median(few) < 2.5


def first_order(values, difference, denominator=None, units=None, share=1.0):
    n = len(values)
    return first_order_blocks(
        first_order_weights(difference, thermal_eV=KT, share=share),
        np.reshape(values, (n, -1)),
        np.ones(n) if denominator is None else denominator,
        np.arange(n) if units is None else units,
    )


def test_first_order_is_exact_for_normal_quantities_and_says_its_error():
    rng = np.random.default_rng(7)
    errors, deviations = [], []
    for _ in range(200):
        energy, noise = rng.normal(size=(2, 60))
        # A follows the energy: in the other ensemble the energy's mean is lower by s^2/kT = 7.4 s.
        blocks = first_order(4.0 + 0.1 * energy + 0.02 * noise, 7.4 * KT * energy)[:, 0]
        # The covariance is taken about the sample's mean, n - 1 of n of it on average.
        deviations.append(blocks.mean() - (4.0 - 0.1 * 7.4 * 59 / 60))
        errors.append(blocks.std(ddof=1) / np.sqrt(60))
    assert abs(np.mean(deviations)) < 4 * np.std(deviations) / np.sqrt(200)
    assert np.mean(errors) == pytest.approx(np.std(deviations), rel=0.15)


def test_intervals_to_first_order_hold_the_truth():
    """Of as few melts as are used, in the groups that the claims make of them; correlation 0.3."""
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(1000):
        energy, noise = rng.normal(size=(2, FIRST_ORDER_MELTS))
        blocks = first_order(0.3 * energy + 0.95 * noise, 1.7 * KT * energy)[:, 0]
        found = estimate_mean(np.array_split(blocks, MELT_GROUPS))
        held += found.ci_low <= -0.3 * 1.7 * (1 - 1 / FIRST_ORDER_MELTS) <= found.ci_high
    assert 0.93 <= held / 1000 <= 0.985


def test_intervals_of_both_sizes_together_hold_the_truth():
    """Normal places of which each has 0.1 kT of dE: 60 draws of 216 and 104 of 96, in the claims' groups."""
    rng = np.random.default_rng(17)
    held = 0
    for _ in range(500):
        parts, share = [], 60 / 164
        for count, places in ((60, 216), (104, 96)):
            energy, noise = rng.normal(size=(2, count))
            scatter = 1 / np.sqrt(places)
            shown = scatter * (0.3 * energy + 0.95 * noise)[:, None]
            parts.append((shown, 0.11 * KT / scatter * energy))
        (many, far), (few, near) = parts
        weights = boltzmann_weights(near, thermal_eV=KT)
        reweighted = weighted_ratio_blocks(weights, few, np.ones(104), np.arange(104))
        rest = reweighted - first_order(few, near, share=share)
        blocks = first_order(many, far, share=share) + in_units(rest, 60)
        found = estimate_mean(np.array_split(blocks[:, 0], MELT_GROUPS))
        held += found.ci_low <= -0.3 * 0.11 <= found.ci_high
    assert 0.915 <= held / 500 <= 0.985


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_many_places_with_part_of_the_first_order_and_the_rest_of_few_are_exact(share):
    """Oscillators, each 30 % stiffer: 200 do not overlap, 10 do. The bins are not normal."""
    from scipy.stats import norm

    rng = np.random.default_rng(10)
    edges = np.linspace(-1.5, 1.5, 13)
    exact = np.diff(norm.cdf(edges, scale=np.sqrt(KT / 1.3)))

    def shown(count):
        x, difference = oscillators(rng, n=20_000, stiffness=1.0, other=1.3, count=count)
        return np.array([np.histogram(frame, edges)[0] for frame in x]) / count, difference

    many, far = shown(200)
    few, near = shown(10)
    weights = boltzmann_weights(near, thermal_eV=KT)
    assert effective_fraction(boltzmann_weights(far, thermal_eV=KT)) < 0.02
    assert effective_fraction(weights) > 0.5
    alone = np.abs(first_order(many, far).mean(axis=0) - exact).max()
    reweighted = weighted_ratio_blocks(weights, few, np.ones(len(few)), np.arange(len(few)))
    found = first_order(many, far, share=share) + reweighted - first_order(few, near, share=share)
    errors = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - exact), 4 * errors)
    assert np.abs(found.mean(axis=0) - exact).max() < 0.3 * alone


def test_the_first_orders_overlap_goes_by_one_over_the_square():
    rng = np.random.default_rng(13)
    for spread in (0.5, 1.7):
        weights = first_order_weights(KT * spread * rng.normal(size=100_000), thermal_eV=KT)
        assert weights.sum() == pytest.approx(1)
        assert effective_fraction(weights) == pytest.approx(1 / (1 + spread**2), rel=0.03)


def test_blocks_in_fewer_units_keep_the_mean_and_its_error():
    blocks = np.random.default_rng(14).normal(loc=3.0, size=(100_003, 1))
    fewer = in_units(blocks, 1000)
    assert fewer.mean() == pytest.approx(blocks.mean())
    assert fewer.std(ddof=1) / np.sqrt(1000) == pytest.approx(1 / np.sqrt(100_003), rel=0.1)
    np.testing.assert_allclose(in_units(blocks[:7], 7), blocks[:7])


def test_a_ratio_to_first_order_is_that_of_both_means_and_melts_are_units():
    rng = np.random.default_rng(11)
    counts, difference = rng.poisson(6.0, size=(40, 7)).astype(float), KT * rng.normal(size=40)
    total = counts.sum(axis=1)
    blocks = first_order(counts, difference, denominator=total)
    weights = first_order_weights(difference, thermal_eV=KT)
    np.testing.assert_allclose(blocks.mean(axis=0), weights @ counts / (weights @ total))
    np.testing.assert_allclose(blocks.sum(axis=1), 1)  # every block stays a density
    again = first_order(
        np.repeat(counts, 2, axis=0),
        np.repeat(difference, 2),
        np.repeat(total, 2),
        np.repeat(np.arange(40), 2),
    )
    np.testing.assert_allclose(again, blocks)


def test_a_share_of_the_first_order_is_that_part_of_the_way():
    rng = np.random.default_rng(15)
    curves, difference = rng.normal(size=(30, 5)), KT * rng.normal(size=30)
    none, all_of_it = (first_order(curves, difference, share=share) for share in (0.0, 1.0))
    np.testing.assert_allclose(none, curves)
    np.testing.assert_allclose(
        first_order(curves, difference, share=0.3), 0.7 * none + 0.3 * all_of_it, rtol=0, atol=1e-12
    )


def test_a_constant_difference_changes_nothing_to_first_order():
    curves = np.random.default_rng(12).normal(size=(30, 5))
    np.testing.assert_allclose(first_order(curves, np.full(30, 77.0)), curves)


# The claims ----------------------------------------------------------------------------------------


def test_a_poor_overlap_decides_nothing(tmp_path):
    """Thirty oscillators, each a little stiffer: no pair of configurations has comparable weight."""
    _, difference = oscillators(np.random.default_rng(8), n=60, stiffness=1.0, other=2.0, count=30)
    fraction = effective_fraction(boltzmann_weights(difference, thermal_eV=KT))
    assert fraction < 0.1
    assert expected_fraction(1.0, 2.0, count=30) < 0.1
    evidence = Evidence(
        {
            "liquid-96-nvt": replicas(tmp_path, "nnp", 4, seed=1),
            "reference-96-reweighted": replicas(
                tmp_path,
                "pbe",
                1,
                seed=5,
                estimator="weights",
                effective_fraction=fraction,
                expected_fraction=1.0,
                effective_melts=16.0,
            ),
        },
        tier="laptop",
    )
    found = judged(evidence, "rdf-nnp-aimd/96/O-O/curve")
    assert found.verdict is Verdict.NOT_TESTED
    assert f"effective sample fraction of {fraction:.2g}, needs 0.1" in found.reason


# The stage -----------------------------------------------------------------------------------------

LABELS = {"engine": "CP2K", "engine_version": "0", "functional": "PBE", "basis": "none", "settings": {}}
SINGLE = {
    **LABELS,
    "kind": "singlepoints",
    "use": "judge",
    "start": "nnp",
    "thermostat": None,
    "timestep_fs": None,
    "unequilibrated_frames": 0,
    "licence": "CC0-1.0",
    "provenance": "a test",
    "decks": [],
    "sampler": "deepmd-96",
}


def configurations():
    """Deposited 96-atom configurations at 2.20 g/cm3 and 3000 K with their PBE energies."""
    return read_run(read_set("pbe-96-aimd-3000K"), "bks-4-3000K").select(slice(60, None, 12))


def frames_with(energies, *, melts=None, kelvin=KELVIN, part=None):
    part = part or configurations()
    return [
        Frame(
            types=part.types,
            positions=part.positions[k],
            cell=part.cells[k],
            energy_eV=float(energies[k]),
            forces=part.forces[k],
            velocities=None,
            temperature_K=kelvin,
            info={"replica": str(k if melts is None else melts[k])},
        )
        for k in range(len(part))
    ]


@pytest.fixture(scope="module", params=["deepmd-96", "hdnnp-sampler-2"])
def sampler(tmp_path_factory, request) -> Path:
    """A deposited NNP as a potential product, in a folder of its name."""
    path, record = deposited_model(request.param)
    directory = tmp_path_factory.mktemp("potential") / request.param
    directory.mkdir()
    family = request.param.split("-")[0]
    given = {"name": "s", "file": str(path), "sha256": record["sha256"], "family": family, "beside": {}}
    potential.run(Workspace(given, 1, {}, directory))
    return directory


def reweighted(tmp_path, sampler, frames, estimator="weights", *, fewer=None):
    root, work = tmp_path / "deposit", tmp_path / "work"
    about = SINGLE | {"sampler": sampler.name}
    deposited = deposit.deposit(frames, source="test", name="drawn", root=root, **about)
    work.mkdir()
    given = {**OBSERVE, "estimator": estimator, "reference": {"set": "drawn", "sha256": deposited.sha256}}
    if fewer is not None:
        others = deposit.deposit(fewer, source="test", name="fewer", root=root, **about)
        given["fewer"] = {"set": "fewer", "sha256": others.sha256}
    workspace = Workspace(given, 0, {"potential": sampler}, work)
    reweight.run(workspace, root=root)
    return dict(np.load(work / "observables.npz")), json.loads((work / "observe.json").read_text()), workspace


@pytest.mark.engine
def test_a_sampler_reweighted_to_itself_is_itself_and_pbe_is_far(tmp_path, sampler):
    part = configurations()
    n = len(part)
    system = Frames(part.types, part.positions, part.cells, part.energies_eV, part.forces)
    (own,) = parity.rerun(read_potential(sampler), [system], directory=tmp_path)

    (tmp_path / "own").mkdir()
    arrays, facts, _ = reweighted(tmp_path / "own", sampler, frames_with(own.energies + 1234.5))
    assert facts["effective_fraction"] == pytest.approx(1, abs=1e-3)
    assert facts["energy_difference_sd_kT"] < 0.05
    assert (facts["n_atoms"], facts["blocks"], facts["frames"]) == (96, n, n)
    melts = sorted(range(n), key=lambda k: f"nnp-{k}")
    about_mean = 1000 * (own.energies - own.energies.mean()) / 96
    assert list(facts["sampler_energy_meV_atom"]) == [f"nnp-{k}" for k in melts]
    found = list(facts["sampler_energy_meV_atom"].values())
    np.testing.assert_allclose(found, about_mean[melts], atol=0.05)
    assert facts["sampler"]["sha256"] == deposited_model(sampler.name)[1]["sha256"]
    # The same curves as the observe stage has of the same frames.
    (tmp_path / "observed").mkdir()
    given = {
        **OBSERVE, "blocks": 2, "skip_frames": 0, "dynamics_max_fs": None, "structure_factor": False,
        "stretch": 1.0, "reference": {"set": "pbe-96-aimd-3000K", "run": "bks-4-3000K", "sha256": ""},
    }  # fmt: skip
    observe.run(Workspace(given, 0, {}, tmp_path / "observed"))
    plain = np.load(tmp_path / "observed" / "observables.npz")
    for key in ("rdf_Si-O", "badf_O-Si-O", "coordination_SiO"):
        assert arrays[key].shape == (n, plain[key].shape[1])
        assert arrays[key].mean(axis=0).sum() == pytest.approx(plain[key].mean(axis=0).sum(), rel=0.02)
    np.testing.assert_array_equal(arrays["rdf_r"], plain["rdf_r"])
    np.testing.assert_allclose(arrays["badf_O-Si-O"].sum(axis=1), 1.0, atol=1e-6)
    # The claims take it as AIMD's.
    evidence = Evidence(
        {
            "liquid-96-nvt": [tmp_path / "observed"] * 4,
            "reference-96-reweighted": [tmp_path / "own" / "work"],
        },
        tier="laptop",
    )
    assert judged(evidence, "rdf-nnp-aimd/96/Si-O/first-peak-position").verdict in (
        Verdict.PASS,
        Verdict.INCONCLUSIVE,
    )

    # With PBE's energies what is left is what the formula says.
    (tmp_path / "pbe").mkdir()
    _, facts, workspace = reweighted(tmp_path / "pbe", sampler, frames_with(part.energies_eV))
    assert workspace.facts["effective_fraction"] == facts["effective_fraction"]
    assert 1 / n <= facts["effective_fraction"] <= 1
    assert facts["expected_fraction"] == pytest.approx(np.exp(-(facts["energy_difference_sd_kT"] ** 2)))


@pytest.mark.engine
def test_many_atoms_to_first_order_with_the_rest_of_few(tmp_path, sampler):
    """Frames of AIMD of both sizes stand for draws. What the stage adds is worked out from their energies."""
    few = configurations()
    set_of_many = read_set("pbe-216-md-nnp-3000K")
    many = read_run(set_of_many, set_of_many.runs[0].id).select(slice(40, None, 12))
    parts = {"few": few, "many": many}
    labelled = {name: frames_with(part.energies_eV, part=part) for name, part in parts.items()}
    curves, difference = {}, {}
    for name, part in parts.items():
        system = Frames(part.types, part.positions, part.cells, part.energies_eV, part.forces)
        (tmp_path / name).mkdir()
        (own,) = parity.rerun(read_potential(sampler), [system], directory=tmp_path / name)
        difference[name] = part.energies_eV - own.energies
        # Weights of a sampler that has the labels' energies are equal: blocks are what each frame shows.
        (tmp_path / f"{name} alone").mkdir()
        own_energies = frames_with(own.energies, part=part)
        curves[name] = reweighted(tmp_path / f"{name} alone", sampler, own_energies)[0]
    (tmp_path / "found").mkdir()
    arrays, facts, _ = reweighted(
        tmp_path / "found", sampler, labelled["many"], "first-order", fewer=labelled["few"]
    )
    share = len(many) / (len(many) + len(few))
    assert facts["own_share_of_first_order"] == pytest.approx(share)

    def mean(name, key, weights):
        return weights @ curves[name][key]

    # Blocks are in the order of melts' names, as "nnp-10" before "nnp-2".
    for name, values in difference.items():
        difference[name] = values[sorted(range(len(values)), key=lambda k: f"nnp-{k}")]
    partly, wholly = (
        {name: first_order_weights(values, thermal_eV=KT, share=f) for name, values in difference.items()}
        for f in (share, 1.0)
    )
    exact = boltzmann_weights(difference["few"], thermal_eV=KT)
    for key in ("rdf_Si-O", "coordination_SiO"):
        points = curves["few"][key].shape[1]
        expected = mean("many", key, wholly["many"])
        expected[:points] = (
            mean("many", key, partly["many"])[:points]
            + mean("few", key, exact)
            - mean("few", key, partly["few"])
        )
        assert np.abs(expected - mean("many", key, wholly["many"])).max() > 1e-4
        np.testing.assert_allclose(arrays[key].mean(axis=0), expected, rtol=0, atol=2e-4)
    turned = [
        100 * (curves[name]["coordination_SiO"][:, 4].mean() - mean(name, "coordination_SiO", weights)[4])
        for name, weights in (("many", wholly["many"]), ("few", wholly["few"]))
    ]
    assert facts["first_order"]["defects"]["value"] == pytest.approx(turned[0], abs=0.01)
    assert facts["fewer"]["first_order"]["defects"]["value"] == pytest.approx(turned[1], abs=0.01)
    beyond = 100 * (mean("few", "coordination_SiO", wholly["few"]) - mean("few", "coordination_SiO", exact))
    assert facts["fewer"]["beyond"]["defects"]["value"] == pytest.approx(beyond[4], abs=0.01)
    assert facts["fewer"]["n_atoms"] == 96
    spread = share * facts["energy_difference_sd_kT"]
    assert facts["expected_fraction"] == pytest.approx(1 / (1 + spread**2))
    assert len(facts["fewer"]["sampler_energy_meV_atom"]) == len(few)
    # A set that stands for both sizes has its means by weights, of angles and rings too.
    (tmp_path / "few weights").mkdir()
    by_weights, weighed, _ = reweighted(tmp_path / "few weights", sampler, labelled["few"])
    (tmp_path / "both").mkdir()
    both, added, _ = reweighted(
        tmp_path / "both", sampler, labelled["few"], "first-order", fewer=labelled["few"]
    )
    for key in ("badf_Si-O-Si", "rdf_Si-O", "coordination_SiO"):
        np.testing.assert_allclose(both[key].mean(axis=0), by_weights[key].mean(axis=0), atol=1e-12)
    assert added["counts"]["two_rings"]["mean"] == pytest.approx(weighed["counts"]["two_rings"]["mean"])
    turned_deg = (by_weights["badf_Si-O-Si"] - curves["few"]["badf_Si-O-Si"]).mean(axis=0)
    shift = added["fewer"]["first_order"]["Si-O-Si"]["value"] + added["fewer"]["beyond"]["Si-O-Si"]["value"]
    assert shift == pytest.approx(turned_deg @ both["angle_deg"], abs=0.01)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"melts": [1] * 99}, "found 1 melt, expected at least 2"),
        ({"kelvin": None}, "found frames at 3000, 4000 K, expected one temperature"),
    ],
)
def test_a_set_that_cannot_be_reweighted_is_refused(tmp_path, sampler, options, message):
    frames = frames_with(configurations().energies_eV, **({} if "kelvin" in options else options))
    if "kelvin" in options:
        hot = frames_with(configurations().energies_eV, kelvin=4000.0)
        frames = [*frames[:3], *hot[3:]]
    with pytest.raises(SuiteError, match=message) as caught:
        reweighted(tmp_path, sampler, frames)
    assert "\n" not in str(caught.value)


def test_draws_that_were_too_early_are_left_out(tmp_path):
    frames = frames_with(configurations().energies_eV)
    deposited = deposit.deposit(frames, source="t", name="drawn", root=tmp_path, **SINGLE)
    early = {"nnp-1", "nnp-4"}
    runs = [replace(run, unequilibrated_frames=int(run.id in early)) for run in deposited.runs]
    whole, left = (reweight._read(one) for one in (deposited, replace(deposited, runs=runs)))
    assert set(whole.melts) - set(left.melts) == early
    kept = [k for k, run in enumerate(deposited.runs) if run.id not in early]
    np.testing.assert_array_equal(left.energies_eV, whole.energies_eV[kept])
    assert [left.melts[unit] for unit in left.units] == [deposited.runs[k].melt for k in kept]


def test_another_sampler_and_other_sets_are_refused(tmp_path):
    (tmp_path / "model.pb").write_bytes(b"another network")
    deposited = deposit.deposit(
        frames_with(configurations().energies_eV), source="t", name="drawn", root=tmp_path / "d", **SINGLE
    )
    (tmp_path / "work").mkdir()
    given = {**OBSERVE, "estimator": "weights", "reference": {"set": "drawn", "sha256": deposited.sha256}}
    with pytest.raises(SuiteError, match=r"model\.pb: found sha256 .* expected the sampler of drawn"):
        reweight.run(Workspace(given, 0, {"potential": tmp_path}, tmp_path / "work"), root=tmp_path / "d")
    name = "pbe-96-bks-singlepoints"
    given["reference"] = {"set": name, "sha256": read_set(name).sha256}
    with pytest.raises(SuiteError, match="expected single points to judge, with their sampler"):
        reweight.run(Workspace(given, 0, {"potential": tmp_path}, tmp_path / "work"))


# The deposit and the plan --------------------------------------------------------------------------


def test_the_sampler_is_recorded_and_cannot_change(tmp_path):
    frames = frames_with(configurations().energies_eV)
    deposited = deposit.deposit(frames[:3], source="t", name="drawn", root=tmp_path, **SINGLE)
    assert deposited.sampler == {"model": "deepmd-96", "sha256": deposited_model("deepmd-96")[1]["sha256"]}
    assert summary(deposited)["sampler"] == "deepmd-96"
    more = {**SINGLE, "append": True, "root": tmp_path, "name": "drawn", "source": "t"}
    for wrong in ("deepmd-216", None):
        with pytest.raises(SuiteError, match=r"found sampler .* expected .* to append"):
            deposit.deposit(frames[3:], **{**more, "sampler": wrong})
    assert deposit.deposit(frames[3:], **more).frames == len(frames)
    with pytest.raises(SuiteError, match="--sampler: found singlepoints to train, expected single points"):
        deposit.deposit(frames, source="t", name="x", root=tmp_path, **{**SINGLE, "use": "train"})
    with pytest.raises(SuiteError, match="unknown-model"):
        deposit.deposit(frames, source="t", name="x", root=tmp_path, **{**SINGLE, "sampler": "unknown-model"})


def test_the_plan_has_the_stage_when_such_a_set_is_deposited(tmp_path, monkeypatch):
    sets = [found for found in list_sets() if found.sampler is None]
    monkeypatch.setattr("jobs.campaign.parts.references.list_sets", lambda: sets)
    assert "--sampler" in campaigns.build_campaign("smoke").unavailable["reference-96-reweighted"]
    deposit.deposit(
        frames_with(configurations().energies_eV), source="t", name="drawn", root=tmp_path, **SINGLE
    )
    sets += list_sets(root=tmp_path)
    planned = campaigns.build_campaign("smoke")
    (stage,) = planned.labels["reference-96-reweighted"]
    assert (stage.kind, stage.parameters["estimator"]) == ("reweight", "weights")
    model, record = deposited_model("deepmd-96")
    assert stage.inputs["potential"].parameters["sha256"] == record["sha256"] == file_sha256(model)
    assert "reference-96-reweighted" not in planned.unavailable
    # Each size has a reason of its own, whatever became of the other's sets.
    other = {**sets[-1].facts, "sampler": {"model": "deepmd-216", "sha256": "of another model"}}
    sets[-1] = replace(sets[-1], facts=other)
    unavailable = campaigns.build_campaign("smoke").unavailable
    assert "no longer the sampler of drawn" in unavailable["reference-96-reweighted"]
    assert "no single points of 216 atoms" in unavailable["reference-216-reweighted"]


def test_many_atoms_are_planned_by_weights_and_to_first_order(tmp_path, monkeypatch):
    """With the largest set of fewer atoms of the same sampler and temperature."""
    (few,) = (found for found in list_sets() if found.name == "pbe-96-hdnnp-sampler-2")
    facts = {**few.facts, "atoms": {"Si": 72, "O": 144}}
    many = replace(few, name="many", sha256="many", facts=facts, types=np.repeat([0, 1], [72, 144]))
    hot = replace(few, name="hot", sha256="hot", facts={**few.facts, "temperatures_K": [4000.0]})
    fewer = replace(few, name="fewer", sha256="fewer", runs=few.runs[:10])
    sets = [*(found for found in list_sets() if found.sampler is None), fewer, few, many, hot]
    monkeypatch.setattr("jobs.campaign.parts.references.list_sets", lambda: sets)
    labels = campaigns.build_campaign("smoke").labels
    by_weights, linear = labels["reference-216-reweighted"]
    assert by_weights.parameters["estimator"] == "weights"
    assert "fewer" not in by_weights.parameters
    assert linear.parameters["estimator"] == "first-order"
    assert linear.parameters["fewer"] == {"set": few.name, "sha256": few.sha256}
    assert len(labels["reference-96-reweighted"]) == 2
    (alone,) = labels["reference-96-reweighted@4000"]
    assert alone.parameters["reference"]["set"] == "hot"
