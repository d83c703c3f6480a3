"""The observe stage as a whole: its products, its blocks, its memory, its refusals."""

import json
import tracemalloc

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.silica import MASSES_AMU, cristobalite
from jobs.observables import msd
from jobs.observables.correlation import correlation_sums
from jobs.observables.rdf import pair_counts, partial_rdf
from jobs.stages.observations import observe
from jobs.store.workspace import Workspace
from tests.base.test_trajectory import write_md

PARAMETERS = {
    "skip_frames": 10,
    "blocks": 4,
    "rdf_bin_angstrom": 0.02,
    "angle_bin_degree": 1.0,
    "angle_cutoffs_angstrom": {"Si-Si": 3.5, "Si-O": 2.2, "O-O": 3.1},
    "dynamics_max_fs": 100.0,
    "structure_factor": True,
    "stretch": 1.0,
}
PERIOD_FS = 40.0
STEP_FS = 2.0


@pytest.fixture
def vibrating():
    """Cristobalite (96 x 2 atoms) whose atoms swing at 834 1/cm, drifting through the box as a whole."""
    crystal = cristobalite(2, displacement_angstrom=0.0, seed=0)
    rng = np.random.default_rng(1)
    phase = rng.random((1, crystal.n_atoms, 3)) * 2 * np.pi
    time = (np.arange(210) * STEP_FS)[:, None, None]
    frequency = 2 * np.pi / PERIOD_FS
    drift = np.array([0.01, -0.02, 0.005])
    positions = crystal.positions + 0.08 * np.sin(frequency * time + phase) + drift * time
    velocities = 0.08 * frequency * np.cos(frequency * time + phase) + drift
    return positions, velocities, crystal.types, crystal.edges


def observed(tmp_path, source, *, name="work", **changes):
    work = tmp_path / name
    work.mkdir()
    parameters = {**PARAMETERS, **changes}
    inputs = {} if source is None else {"trajectory": source}
    observe.run(Workspace(parameters, seed=0, inputs=inputs, directory=work))
    with np.load(work / "observables.npz") as arrays:
        return dict(arrays), json.loads((work / "observe.json").read_text())


@pytest.fixture
def product(tmp_path, vibrating):
    return write_md(tmp_path / "md", *vibrating)


def test_products_of_a_vibrating_crystal(tmp_path, product, vibrating):
    arrays, facts = observed(tmp_path, product)
    positions, velocities, types, cell = vibrating
    blocks = 4
    for key, values in arrays.items():
        one = ("rdf_r", "angle_deg", "vaf_time_fs", "vdos_wavenumber_cm", "msd_time_fs", "sq_q", "tr_r",
               "thermo_time_fs", "thermo_temperature_K", "thermo_total_eV", "temperature_K")  # fmt: skip
        assert values.shape == ((len(values),) if key in one else (blocks, values.shape[-1])), key
        assert np.isfinite(values).all() or key.startswith("badf"), key
    assert (facts["frames"], facts["skip_frames"], facts["block_frames"]) == (200, 10, 50)
    assert facts["warnings"] == []
    assert facts["density_g_cm3"] == pytest.approx(2.174, abs=0.01)

    # Structure: perfect tetrahedra but for the vibration.
    assert (arrays["coordination_SiO"][:, 4] == 1).all()
    assert (arrays["coordination_OSi"][:, 2] == 1).all()
    assert facts["counts"]["defects_si"]["mean"] == facts["counts"]["two_rings"]["mean"] == 0
    mean = (arrays["badf_O-Si-O"] * arrays["angle_deg"]).sum(axis=1) / arrays["badf_O-Si-O"].sum(axis=1)
    np.testing.assert_allclose(mean, 109.47, atol=0.3)
    np.testing.assert_allclose(arrays["badf_O-Si-O"].sum(axis=1), 1.0)
    bond = arrays["rdf_r"][np.argmax(arrays["rdf_Si-O"], axis=1)]
    np.testing.assert_allclose(bond, 7.16 * np.sqrt(3) / 8, atol=0.06)
    # The blocks are these frames.
    stride = facts["structure_stride"]
    held = positions[10 + 50 : 10 + 100 : stride]
    counts = pair_counts(held, types, cell, bin_angstrom=0.02)
    g = partial_rdf(counts, n_si=64, n_o=128, n_frames=len(held), cell=cell, bin_angstrom=0.02)
    np.testing.assert_allclose(arrays["rdf_O-O"][1], g[2])

    # Dynamics: the drift is gone, the rest is the oscillator.
    masses = MASSES_AMU[types]
    moving = msd.remove_drift(velocities[10:], masses)
    n_lags = len(arrays["vaf_time_fs"])
    assert n_lags == 51
    origins = (200 - 51 + 1) // 4
    first = 200 - 51 + 1 - 4 * origins + 2 * origins
    series = moving[first : first + origins + 50, types == 1].reshape(origins + 50, -1)
    expected = correlation_sums(series, n_origins=origins, n_lags=51)
    np.testing.assert_allclose(arrays["vaf_O"][2], expected / expected[0], atol=1e-9)
    cosine = np.cos(2 * np.pi * arrays["vaf_time_fs"] / PERIOD_FS)
    np.testing.assert_allclose(arrays["vaf_Si"], np.tile(cosine, (4, 1)), atol=0.05)
    peak = arrays["vdos_wavenumber_cm"][np.argmax(arrays["vdos_Si"], axis=1)]
    np.testing.assert_allclose(peak, 1 / (PERIOD_FS * 2.99792458e-5), atol=60)
    swing = 3 * 0.08**2 * (1 - np.cos(2 * np.pi * arrays["msd_time_fs"] / PERIOD_FS))
    np.testing.assert_allclose(arrays["msd_O"].mean(axis=0), swing, atol=0.002)
    assert arrays["msd_time_fs"][-1] <= 200 * STEP_FS / 2

    for fit in facts["diffusion"].values():  # atoms that swing do not diffuse
        assert fit["coefficient_cm2_s"] is None
        assert fit["from_fs"] == pytest.approx(50 * STEP_FS / 6)

    # Temperature: 3 (N - 1) degrees of freedom, drift excluded; thermo only of the frames in use.
    kinetic = np.einsum("fnx,fnx,n->f", moving, moving, masses).mean() / 2 * 103.642696
    temperature = kinetic / (1.5 * 191 * 8.617333262e-5)
    np.testing.assert_allclose(arrays["temperature_K"], temperature, rtol=0.05)
    assert arrays["thermo_time_fs"][0] == pytest.approx(1020.0)
    assert len(arrays["thermo_time_fs"]) == 200


def test_120_steps_of_2_fs_reach_the_end_of_fig_4(tmp_path, vibrating):
    """As short as AIMD with use judge may be (issue: 120 steps after the first 40)."""
    positions, velocities, types, cell = vibrating
    source = write_md(tmp_path / "md", positions[:160], velocities[:160], types, cell)
    arrays, _ = observed(tmp_path, source, skip_frames=40, blocks=8, dynamics_max_fs=1000.0)
    time, vaf = arrays["vaf_time_fs"], arrays["vaf_Si"]
    assert time[-1] >= 0.9 * 200
    np.testing.assert_allclose(vaf.mean(0), np.cos(2 * np.pi * time / PERIOD_FS), atol=0.05)


def test_a_run_too_short_for_the_vaf_shows_its_structure(tmp_path, vibrating):
    """The deposited run of 216 atoms that ended after 78 steps: 32 frames are left in 8 blocks."""
    positions, velocities, types, cell = vibrating
    source = write_md(tmp_path / "md", positions[:79], velocities[:79], types, cell)
    short, facts = observed(tmp_path, source, skip_frames=40, blocks=8, dynamics_max_fs=1000.0)
    assert facts["warnings"] == ["32 frames are too few for 8 blocks of time origins: neither VAF nor VDOS"]
    assert not any(key.startswith(("vaf", "vdos")) for key in short)
    assert {"rdf_Si-O", "badf_O-Si-O", "msd_Si", "thermo_total_eV"} <= set(short)
    longer = write_md(tmp_path / "longer", positions[:88], velocities[:88], types, cell)
    arrays, facts = observed(tmp_path, longer, name="more", skip_frames=40, blocks=8, dynamics_max_fs=1000.0)
    assert (facts["warnings"], len(arrays["vaf_Si"])) == ([], 8)


def test_a_shift_changes_nothing(tmp_path, vibrating):
    positions, *rest = vibrating
    there, _ = observed(tmp_path, write_md(tmp_path / "a", positions, *rest), name="wa")
    moved, _ = observed(tmp_path, write_md(tmp_path / "b", positions + 123.4, *rest), name="wb")
    for key in there:
        scale = np.nanmax(np.abs(there[key])) or 1.0
        # A pair at the edge of a bin may change sides.
        atol = 0.02 * scale if key.startswith(("rdf", "badf", "tr")) else 1e-7 * scale
        np.testing.assert_allclose(moved[key], there[key], atol=atol, err_msg=key)


def test_memory_and_chunks_do_not_change_the_result(tmp_path, product, monkeypatch):
    whole, _ = observed(tmp_path, product)
    monkeypatch.setattr(observe, "_HELD_BYTES", 1 << 18)
    pieces, _ = observed(tmp_path, product, name="pieces")
    for key in whole:
        np.testing.assert_allclose(pieces[key], whole[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(observe, "_HELD_BYTES", 1 << 18)
    monkeypatch.setattr(observe, "_BATCH_ATOMS", 240)
    crystal = cristobalite(1, displacement_angstrom=0.0, seed=0)
    rng = np.random.default_rng(1)
    peaks = []
    for n_frames in (400, 400, 1600):  # the first imports
        moving = rng.normal(scale=0.05, size=(n_frames, crystal.n_atoms, 3))
        source = write_md(
            tmp_path / f"md{len(peaks)}", crystal.positions + moving, moving, crystal.types, crystal.edges
        )
        tracemalloc.start()
        observed(tmp_path, source, name=f"w{len(peaks)}", structure_factor=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Step numbers and the thermo series are all that grows: far less than the 1536 bytes of a frame.
    assert peaks[2] - peaks[1] < 1200 * 250


def test_the_planted_stretch_stretches(tmp_path, product):
    plain, _ = observed(tmp_path, product, dynamics_max_fs=None)
    longer, facts = observed(tmp_path, product, name="long", dynamics_max_fs=None, stretch=1.02)
    peaks = [a["rdf_r"][a["rdf_r"] < 2.2] for a in (plain, longer)]
    means = [
        (r * a["rdf_Si-O"].mean(0)[: len(r)]).sum() / a["rdf_Si-O"].mean(0)[: len(r)].sum()
        for r, a in zip(peaks, (plain, longer), strict=True)
    ]
    assert means[1] / means[0] == pytest.approx(1.02, abs=0.002)
    assert facts["cell_angstrom"][0] == pytest.approx(14.32 * 1.02)
    # Without velocity correlations displacements stay: they are read from frames far apart too.
    assert {key.split("_")[0] for key in plain} & {"vaf", "vdos", "msd"} == {"msd"}


def test_a_slow_dump_is_warned_of(tmp_path, vibrating):
    source = write_md(tmp_path / "slow", *vibrating, timestep_fs=2.0, dump_every=10)
    _, facts = observed(tmp_path, source, structure_factor=False)
    assert "every 20 fs is too slow" in facts["warnings"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip_frames": 205}, "found 210 frames, expected at least 213"),
        ({"skip_frames": None, "skip_fraction": 0.97}, "found 210 frames"),
        (
            {"angle_cutoffs_angstrom": {"Si-Si": 7.5, "Si-O": 2.2, "O-O": 3.1}},
            "at least twice the longest angle cut-off",
        ),
    ],
)
def test_what_cannot_be_observed_is_one_line(tmp_path, product, changes, message):
    work = tmp_path / "work"
    work.mkdir()
    parameters = {k: v for k, v in {**PARAMETERS, **changes}.items() if v is not None}
    with pytest.raises(SuiteError, match=message) as caught:
        observe.run(Workspace(parameters, seed=0, inputs={"trajectory": product}, directory=work))
    assert "\n" not in str(caught.value)
    assert not (work / "observables.npz").exists()


def test_the_deposited_aimd_run(tmp_path):
    from jobs.observables.peaks import highest_peak
    from jobs.reference.sets import list_sets

    runs = [(s, r) for s in list_sets() if s.kind == "trajectory" and s.n_atoms == 96 for r in s.runs]
    if not runs:
        pytest.skip("no trajectory of 96 atoms is deposited")
    deposited, run = runs[0]
    parameters = {
        **PARAMETERS,
        "skip_frames": 0,
        "reference": {"set": deposited.name, "run": run.id, "sha256": deposited.sha256},
    }
    observe.run(Workspace(parameters, seed=0, inputs={}, directory=tmp_path))
    facts = json.loads((tmp_path / "observe.json").read_text())
    assert facts["skip_frames"] >= run.unequilibrated_frames
    with np.load(tmp_path / "observables.npz") as arrays:
        peaks = {
            pair: highest_peak(arrays["rdf_r"], arrays[f"rdf_{pair}"].mean(0), window=window, half_width=0.1)[
                0
            ]
            for pair, window in {"Si-O": (1.3, 2.0), "O-O": (2.2, 3.2), "Si-Si": (2.7, 3.6)}.items()
        }
        coordination = arrays["coordination_SiO"].mean(0) @ np.arange(10)
        temperature = arrays["temperature_K"].mean()
    # Near a PBE glass (rows pbe-glass-* of reference/experiment): wide limits, any sane liquid passes.
    assert peaks["Si-O"] == pytest.approx(1.63, abs=0.03)
    assert peaks["O-O"] == pytest.approx(2.67, abs=0.1)
    assert peaks["Si-Si"] == pytest.approx(3.15, abs=0.12)
    assert coordination == pytest.approx(4, abs=0.3)
    assert temperature == pytest.approx(facts["temperature_K"], rel=0.1)


def test_a_random_walk_has_its_diffusion_coefficient(tmp_path, vibrating):
    _, _, types, cell = vibrating
    rng = np.random.default_rng(9)
    step = np.where(types == 0, 0.05, 0.08)[:, None]  # A per frame and axis
    walk = cell / 2 + np.cumsum(step * rng.normal(size=(810, len(types), 3)), axis=0)
    source = write_md(tmp_path / "md", walk, np.zeros_like(walk) + rng.normal(size=walk.shape), types, cell)
    _, facts = observed(tmp_path, source, structure_factor=False, dynamics_max_fs=20.0)
    for species, length in {"Si": 0.05, "O": 0.08}.items():
        fit = facts["diffusion"][species]
        # Each axis gains length^2 a frame = 2 D STEP_FS; 1 A2/fs is 0.1 cm2/s.
        exact = length**2 / (2 * STEP_FS) * 0.1
        assert fit["slope"] == pytest.approx(1, abs=0.06)
        assert fit["coefficient_cm2_s"] == pytest.approx(exact, rel=0.12)
        assert abs(fit["coefficient_cm2_s"] - exact) < 5 * fit["coefficient_se"] + 0.02 * exact
