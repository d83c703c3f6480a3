"""The report's tables: numbers of curves that are known, and what is missing said."""

import json

import numpy as np
import pytest

from suite.judging.evidence import Evidence
from suite.report.page import number
from suite.report.tables import GLASS_QUANTITIES, QUANTITIES, diffusion_table, glass_table, reference_table
from tests.helpers.synthetic_evidence import replicas, write_observation

COUNTS = {
    "two_rings": {"mean": 0.25, "blocks": [0.0, 0.5] * 4},
    "sisi_below_2.5": {"mean": 0.125, "blocks": [0.0, 0.0, 0.0, 0.5] * 2},
    "defects_si": {"mean": 0.05, "blocks": [0.04, 0.06] * 4},
    "defects_o": {"mean": 0.03, "blocks": [0.03] * 8},
}


def reweighted(tmp_path, *, fraction):
    return write_observation(
        tmp_path / "reweighted",
        seed=9,
        temperature_K=3000.0,
        effective_fraction=fraction,
        effective_frames=60 * fraction,
        effective_melts=60 * fraction,
        frames=60,
        sampler={"model": "sampler-3000K", "sha256": "0"},
        energy_difference_sd_meV_atom=20.0,
        energy_difference_sd_kT=7.4,
        expected_fraction=1e-24,
        estimator="weights",
    )


def cells(table, quantity):
    row = next(row for row in table.rows if row[0].startswith(quantity))
    return dict(zip(table.heads, row, strict=True))


def test_of_two_reweighted_sets_the_one_that_judges_is_shown(tmp_path):
    poor = reweighted(tmp_path / "a", fraction=0.02)
    good = reweighted(tmp_path / "b", fraction=0.4)
    facts = json.loads((good / "observe.json").read_text()) | {"expected_fraction": 0.3}
    (good / "observe.json").write_text(json.dumps(facts))
    both, alone = (
        reference_table(Evidence({"reference-96-reweighted": runs}), number)
        for runs in ([poor, good], [good])
    )
    assert both.rows == alone.rows
    assert sum("decides nothing" in note for note in both.notes) == 1
    assert sum("judges" in note for note in both.notes) == 1


def test_a_reference_to_first_order_says_what_each_size_adds(tmp_path):
    def shift(*values):
        names = ("Si-O-Si", "Si-Si-Si", "O-O-O", "defects")
        return {
            name: {"value": value, "standard_error": 0.2} for name, value in zip(names, values, strict=True)
        }

    poor = reweighted(tmp_path / "a", fraction=0.02)
    fewer = {
        **json.loads((reweighted(tmp_path / "c", fraction=0.4) / "observe.json").read_text()),
        "expected_fraction": 0.3, "n_atoms": 24, "energy_difference_sd_kT": 1.1,
        "first_order": shift(0.68, 0.13, 0.01, -0.92), "beyond": shift(-0.52, -0.1, 0, 0.04),
        "largest_weight": 0.196,
    }  # fmt: skip
    linear = reweighted(tmp_path / "b", fraction=0.3)
    facts = json.loads((linear / "observe.json").read_text())
    facts |= {
        "estimator": "first-order", "blocks": 60, "energy_difference_sd_kT": 2.2, "fewer": fewer,
        "first_order": shift(0.75, -0.27, -0.06, -0.59), "own_share_of_first_order": 0.2,
    }  # fmt: skip
    (linear / "observe.json").write_text(json.dumps(facts))
    table = reference_table(Evidence({"reference-216-reweighted": [poor, linear]}), number)
    assert table.heads == ("", "PBE single points, N = 216, first-order", "known")
    (note,) = (note for note in table.notes if "first-order: 60 frames" in note)
    assert ": judges. " in note
    atoms = facts["n_atoms"]
    assert (
        ". Of the first order 20% are its own, the rest and what lies beyond are of 24 atoms, effective "
        "fraction 0.4, largest weight 20%. Added to the draws (standard errors): mean Si-O-Si (deg): "
        f"first order of {atoms} atoms 0.75 ± 0.2, of 24 0.68 ± 0.2, beyond, of 24 -0.52 ± 0.2; "
    ) in note
    assert note.endswith(
        f"(%): first order of {atoms} atoms -0.59 ± 0.2, of 24 -0.92 ± 0.2, beyond, of 24 0.04 ± 0.2"
    )


def test_the_reference_is_reported_with_errors_beside_what_is_known(tmp_path):
    runs = replicas(tmp_path, "reference-96-nnp", 4, seed=1, counts=COUNTS)
    evidence = Evidence(
        {"reference-96-nnp": runs, "reference-96-reweighted": [reweighted(tmp_path, fraction=0.02)]}
    )
    table = reference_table(evidence, number)
    nnp = "AIMD from NNP starts, N = 96"
    assert table.heads == ("", nnp, "known")  # the reweighted one decides nothing
    assert len(table.rows) == len(QUANTITIES)
    for quantity, truth, within in (
        ("first Si-O", 1.637, 0.01),
        ("first O-O", 2.66, 0.03),
        ("O around Si", 4.05, 0.02),
        ("O-Si-O, mean", 108.0, 3.0),
        ("O-O-O, first maximum", 60.0, 1.0),
    ):
        value, half = (float(text) for text in cells(table, quantity)[nnp].split(" ± "))
        assert value == pytest.approx(truth, abs=within), quantity
        assert 0 < half < within
    assert float(cells(table, "2-rings")[nnp].split(" ± ")[0]) == pytest.approx(0.25)
    assert float(cells(table, "Si not 4-fold")[nnp].split(" ± ")[0]) == pytest.approx(5.0)
    assert cells(table, "first Si-O")["known"].startswith("1.63")
    remembered = cells(table, "Si-O-Si, mean")["known"]
    assert "138.5" in remembered
    assert "140 ± 5" in remembered
    assert "M, informs only" in remembered
    said = " ".join(table.notes)
    assert (
        "fraction 0.02 (1.2 frames), 1e-24 expected: decides nothing: has an effective sample fraction"
        in said
    )
    assert "20.0 meV/atom, 7.40 kT" in said
    assert "AIMD from BKS starts, N = 96: this tier has no reference-96-bks" in said


def quench(root, *, seed, rings):
    """A quenched glass of 216 Si: 95% of them with 4 O and 5% with 5, 2% of the O with 3 Si and 1% with 1."""
    counts = {**COUNTS, "two_rings": {"mean": rings, "blocks": [rings] * 8}}
    directory = write_observation(root / str(seed), seed=seed, n_atoms=648, n_si=216, counts=counts)
    with np.load(directory / "observables.npz") as content:
        arrays = dict(content)
    arrays["coordination_OSi"] = np.tile([0.0, 0.01, 0.97, 0.02, 0, 0, 0, 0, 0, 0], (8, 1))
    np.savez(directory / "observables.npz", **arrays)
    return directory


def test_the_glass_is_reported_beside_experiment(tmp_path):
    rings = (1.0, 2.0, 3.0, 4.8)
    evidence = Evidence({"glass-96": [quench(tmp_path, seed=i, rings=n) for i, n in enumerate(rings)]})
    table = glass_table(evidence, number)
    head = "DeePMD-96, N = 648, 2.200 g/cm³, 4 quenches"
    assert table.heads == ("", head, "known")
    assert len(table.rows) == len(GLASS_QUANTITIES)
    found = {row[0]: row[1].split(" ± ") for row in table.rows}
    for quantity, truth in (
        ("O around Si", 4.05),
        ("Si with 5 O (%)", 5.0),
        ("Si with 3 O (%)", 0.0),
        ("Si around O", 2.01),
        ("O with 1 Si (%)", 1.0),
        ("O with 3 Si (%)", 2.0),
    ):
        assert float(found[quantity][0]) == pytest.approx(truth, abs=0.06 * truth), quantity
    value, half = (float(text) for text in found["2-rings (two Si sharing two O) per 100 Si"])
    assert value == pytest.approx(100 * np.mean(rings) / 216, abs=0.06)
    assert half == pytest.approx(3.182 * 100 * np.std(rings, ddof=1) / 216 / 2, rel=0.05), (
        "quenches are units"
    )
    assert cells(table, "O around Si")["known"] == "4 (O around Si; S)"
    assert "1.61 Å" in cells(table, "first Si-O")["known"]


def test_without_a_glass_there_is_no_table():
    assert glass_table(Evidence({}), number).rows == ()


def test_no_reference_is_said_not_drawn():
    table = reference_table(Evidence({}, absent={"aimd-training": "nothing deposited"}), number)
    assert table.rows == ()
    assert any("nothing deposited" in note for note in table.notes)


def test_diffusion_is_quoted_only_where_it_is_diffusive(tmp_path):
    """MSD = 6 D t in the liquid at 5000 K, a plateau at 3000 K."""

    def run(name, msd_of, kelvin):
        directory = write_observation(tmp_path / name, seed=1, temperature_K=kelvin)
        (directory / "observe.json").write_text(json.dumps({"temperature_K": kelvin}))
        with np.load(directory / "observables.npz") as content:
            arrays = dict(content)
        for species in ("Si", "O"):
            arrays[f"msd_{species}"] = np.tile(msd_of(arrays["msd_time_fs"]), (8, 1))
        np.savez(directory / "observables.npz", **arrays)
        return directory

    rates = (0.95e-5, 1e-5, 1.05e-5)  # A2/fs; times 0.1 in cm2/s
    hot = [run(f"hot-{rate}", lambda t, rate=rate: 6 * rate * t, 5000.0) for rate in rates]
    cold = [run(f"cold-{i}", lambda t: 0.3 + 1e-7 * t, 3000.0) for i in range(2)]
    table = diffusion_table(Evidence({"liquid-96-nvt@5000": hot, "liquid-96-nvt": cold}))
    found = {(row[0], row[2]): row for row in table.rows}
    assert found["liquid-96-nvt@5000", "Si"][5].startswith("1.00e-06 ± ")
    assert found["liquid-96-nvt@5000", "O"][3] == "0.0417 to 0.108", "as in transport-accuracy"
    assert found["liquid-96-nvt@5000", "O"][4].startswith("1.00")
    assert found["liquid-96-nvt", "Si"][5] == "none: not diffusive there"
    assert found["liquid-96-nvt", "Si"][1] == "3000"
