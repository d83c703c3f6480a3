"""The reference is whole: every gap resolved, nothing remembered gates, numbers are what they should be."""

import numpy as np
import pytest
import yaml

from jobs.base.errors import SuiteError
from jobs.reference.paper import REFERENCE, gating_value, read_experiment, read_paper


def test_protocol_numbers_agree_with_each_other():
    protocol = read_paper().protocol
    first, second, glass = (protocol[s] for s in ("II.A first set", "II.A second set", "II.C glass"))
    assert first["silicon"].value + first["oxygen"].value == first["atoms"].value == 96
    assert first["relaxation_steps"].value * first["timestep"].value == 1000 * first["relaxation_time"].value
    melts = protocol["II.A initial melt"]["configurations"].value
    assert melts * len(first["temperatures"].value) * 10_000 == first["frames"].value
    starts = len(second["sampler_temperatures"].value) * second["configurations_per_temperature"].value
    assert starts * second["steps_per_configuration"].value == second["frames"].value
    assert glass["atoms_of_DeePMD-96"].value % 3 == glass["atoms_of_DeePMD-216"].value % 3 == 0


def test_decay_ends_where_the_paper_gap_says():
    network = read_paper().protocol["II.B network"]
    end = 1e-3 * network["decay_rate"].value ** (1_000_000 / network["decay_steps"].value)
    assert end == pytest.approx(3.5e-8, rel=0.01)


def test_every_gap_has_a_choice_and_a_reason():
    for gap in read_paper().gaps.values():
        assert gap.chosen
        assert gap.reason
        assert gap.question


def test_unresolved_gap_is_refused(tmp_path):
    content = yaml.safe_load((REFERENCE / "paper.yml").read_text())
    content["gaps"] = [g for g in content["gaps"] if g["id"] != "sel"]
    path = tmp_path / "paper.yml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SuiteError, match=r"paper\.yml: found gaps .'sel'."):
        read_paper(path)


def test_what_is_remembered_never_gates():
    rows = read_experiment()
    assert all(not row.may_gate for row in rows.values() if row.certainty == "M")
    assert all(row.source for row in rows.values())
    assert gating_value("density") == 2.2
    with pytest.raises(SuiteError, match="may_gate: false"):
        gating_value("fine-Si-O")


def test_remembered_row_that_may_gate_is_refused(tmp_path):
    row = {"id": "x", "quantity": "q", "value": 1, "uncertainty": None, "unit": "A", "certainty": "M"}
    (tmp_path / "x.yml").write_text(yaml.safe_dump({"rows": [{**row, "may_gate": True, "source": "memory"}]}))
    with pytest.raises(SuiteError, match="expected false for what is remembered"):
        read_experiment(tmp_path)


def test_neutron_weights_follow_from_the_lengths():
    b_si, b_o = (gating_value(f"neutron-length-{s}") for s in ("Si", "O"))
    mean = b_si / 3 + 2 * b_o / 3
    weights = np.array([(b_si / 3) ** 2, 4 * b_si * b_o / 9, (2 * b_o / 3) ** 2]) / mean**2
    given = [gating_value(f"neutron-weight-{p}") for p in ("Si-Si", "Si-O", "O-O")]
    np.testing.assert_allclose(weights, given, atol=1e-4)
    assert sum(given) == pytest.approx(1, abs=2e-4)
