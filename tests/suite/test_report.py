"""The report on synthetic observables: known curves with correlated noise, in the products' format."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from suite.judging.against_aimd import BKS_TOO
from suite.judging.checks import load_claims
from suite.judging.evidence import Evidence, Observation
from suite.report.accuracy_figures import by_temperature, frame_errors, parity, root_mean, spread
from suite.report.cost_figure import COST_CURVES
from suite.report.findings import SUBJECTS, findings, subject
from suite.report.page import band_text, bar, headline, interval_text, number, write_report
from suite.report.paper_figures import (
    PAIRS,
    TRAINING_TEXT,
    TRIPLETS,
    angle_distributions,
    displacements,
    glass,
    radial_distributions,
)
from suite.report.plotting import INKS, METHODS, PANEL_INCHES, Series, Sketch, mean_curve, room_for_inset
from tests.helpers.synthetic_evidence import cost_point, write_cost
from tests.helpers.synthetic_evidence import write_heldout as write_melts
from tests.helpers.synthetic_evidence import write_observation as write_facts

# first peak: position (A), height, width (A); second peak likewise; where the core ends (A)
PEAKS = {
    "Si-O": ((1.63, 12.0, 0.09), (4.1, 0.7, 0.35), 2.9),
    "O-O": ((2.65, 2.7, 0.20), (5.0, 0.3, 0.4), 2.4),
    "Si-Si": ((3.12, 2.9, 0.22), (5.1, 0.5, 0.4), 2.9),
}
ANGLES = {
    "O-O-O": ((60, 6), (105, 25)),
    "O-Si-O": ((108, 12),),
    "Si-O-Si": ((138, 17),),
    "Si-Si-Si": ((60, 6), (105, 20)),
    "Si-Si-O": ((22, 8), (95, 30)),
    "Si-O-O": ((35, 6), (120, 22)),
}
VOID = {"br", "hr", "img", "input", "link", "meta"}


def correlated_noise(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """First-order autoregressive noise of unit variance along the last axis."""
    from scipy.signal import lfilter

    memory = 0.9
    white = generator.normal(size=shape) * np.sqrt(1 - memory**2)
    return np.asarray(lfilter([1.0], [1.0, -memory], white, axis=-1))


def write_observation(
    directory: Path, *, seed: int, n_atoms: int = 96, shift: float = 0.0, noise: float = 0.02, blocks: int = 8
) -> Path:
    """An `observe` product with every curve; `shift` (A) moves the peaks, as another method would."""
    generator = np.random.default_rng(seed)
    directory.mkdir(parents=True)

    def noisy(curve: np.ndarray) -> np.ndarray:
        scale = noise * np.abs(curve).max() * np.sqrt(np.abs(curve) / np.abs(curve).max() + 0.02)
        return curve + scale * correlated_noise(generator, (blocks, curve.size))

    arrays: dict[str, np.ndarray] = {}
    half_box = (n_atoms / (2.2 * 6.02214e23 / 20.028 / 1e24)) ** (1 / 3) / 2
    r = arrays["rdf_r"] = np.arange(0.01, half_box, 0.02)
    for pair, (*peaks, core) in PEAKS.items():
        curve = 1 / (1 + np.exp(-(r - core - shift) / 0.12))
        for position, height, width in peaks:
            curve = curve + height * np.exp(-0.5 * ((r - position - shift) / width) ** 2)
        arrays[f"rdf_{pair}"] = np.clip(noisy(curve), 0, None)
    degrees = arrays["angle_deg"] = np.arange(0.5, 180)
    for triplet, humps in ANGLES.items():
        curve = np.sum(
            [np.exp(-0.5 * ((degrees - at - 40 * shift) / width) ** 2) for at, width in humps], axis=0
        )
        arrays[f"badf_{triplet}"] = np.clip(noisy(curve / curve.sum()), 0, None)
    times = arrays["vaf_time_fs"] = np.arange(0.0, 500, 2)
    wavenumbers = arrays["vdos_wavenumber_cm"] = np.arange(0.0, 1700, 10)
    for species, (first, second) in {"Si": (13, 40), "O": (30, 15)}.items():
        vaf = np.exp(-times / 60) * (np.cos(times / first) + np.cos(times / second)) / 2
        arrays[f"vaf_{species}"] = noisy(vaf)
        kernel = np.cos(np.outer(wavenumbers * 1.88365e-4, times)) * np.exp(-times / 150)
        arrays[f"vdos_{species}"] = noisy(np.clip(kernel @ vaf, 0, None))
    lags = arrays["msd_time_fs"] = np.unique(np.geomspace(2, 10000, 60).astype(int)).astype(float)
    for species, plateau in {"Si": 0.25, "O": 0.4}.items():
        bump = 0.04 * np.exp(-(((lags - 200) / 90) ** 2))
        msd = plateau / (1 + (plateau / (2.6e-5 * lags**2))) + 2e-5 * lags + bump
        wobble = 1 + 3 * noise * correlated_noise(generator, (blocks, lags.size))
        arrays[f"msd_{species}"] = np.abs(msd * wobble)
    arrays["tr_r"] = r
    mixed = np.mean([arrays[f"rdf_{pair}"][0] for pair in PAIRS], axis=0)
    arrays["tr_neutron"] = noisy(4 * np.pi * 0.066 * r * mixed)
    np.savez_compressed(directory / "observables.npz", **arrays)  # type: ignore[arg-type]
    facts = {"n_atoms": n_atoms, "n_si": n_atoms // 3, "temperature_K": 3000.0, "density_g_cm3": 2.2}
    (directory / "observe.json").write_text(json.dumps(facts))
    return directory


def write_heldout(directory: Path, *, seed: int, error: float) -> Path:
    """A `parity` product: 4 runs at each of 4 temperatures, predicted forces off by `error` eV/A rms."""
    generator = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    frames, atoms = 64, 96
    temperature = np.repeat([2000.0, 3000.0, 4000.0, 5000.0], frames // 4)
    frame = np.repeat(np.arange(frames), atoms)
    reference = generator.normal(size=(frames * atoms, 3)) * np.sqrt(temperature[frame] / 1500)[:, None]
    np.savez_compressed(
        directory / "heldout.npz",
        temperature_K=temperature,
        melt=np.array([f"melt-{index // 4}" for index in range(frames)]),
        n_atoms=np.full(frames, atoms),
        energy_reference_eV=np.full(frames, -900.0),
        energy_predicted_eV=-900.1 + 0.1 * generator.normal(size=frames),
        forces_reference=reference,
        forces_predicted=reference + error * generator.normal(size=reference.shape),
        species=np.tile(np.repeat([0, 1], [32, 64]), frames),
        frame=frame,
    )
    (directory / "parity.json").write_text(json.dumps({"potential": "synthetic"}))
    return directory


def write_training(directory: Path, *, seed: int) -> Path:
    """A `train` product's learning curve and summary."""
    generator = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    lines = ["step,force_rmse_heldout_eV_A,force_rmse_train_eV_A"]
    for step in range(0, 20001, 200):
        error = 0.3 + 1.5 * np.exp(-step / 2500)
        lines.append(f"{step},{error * generator.lognormal(sigma=0.05):.5f},{error:.5f}")
    (directory / "lcurve.csv").write_text("\n".join(lines) + "\n")
    (directory / "train.json").write_text(json.dumps({"steps": 20000}))
    return directory


SOURCES = {
    # label: (atoms, shift, noise, replicas)
    "liquid-96-nvt": (96, 0.0, 0.02, 4),
    "liquid-96-nve": (96, 0.0, 0.02, 2),
    "liquid-96-bks": (96, 0.05, 0.02, 2),
    "motion-96-nvt": (96, 0.0, 0.02, 4),
    "motion-96-bks": (96, 0.05, 0.02, 2),
    "liquid-216-nvt": (216, 0.0, 0.015, 4),
    "liquid-216-nvt-96": (216, 0.01, 0.015, 2),
    "liquid-216-bks": (216, 0.05, 0.015, 2),
    "reference-96-nnp": (96, 0.0, 0.05, 1),
    "reference-96-bks": (96, 0.01, 0.05, 1),
    "reference-216-nnp": (216, 0.0, 0.04, 3),
    "vdos-2592": (2592, 0.0, 0.004, 1),
    "glass-96": (216, 0.01, 0.03, 5),
    "glass-216": (216, 0.0, 0.03, 5),
    "msd-long": (96, 0.0, 0.01, 2),
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Everything an overnight run would have."""
    root = tmp_path_factory.mktemp("products")
    products = {
        label: [
            write_observation(
                root / label / str(k), seed=hash_of(label) + k, n_atoms=atoms, shift=shift, noise=noise
            )
            for k in range(replicas)
        ]
        for label, (atoms, shift, noise, replicas) in SOURCES.items()
    }
    for number_, (label, error) in enumerate({"96": 0.25, "216": 0.3, "96-bks": 1.2}.items()):
        products[f"parity-{label}"] = [write_heldout(root / f"parity-{label}", seed=number_, error=error)]
    for size in ("96", "216"):
        products[f"train-{size}"] = [write_training(root / f"train-{size}-{k}", seed=k) for k in range(2)]
    products["cost"] = [root / "cost"]
    write_cost(
        root / "cost",
        [
            cost_point(engine, n, core_us=[us, 1.1 * us])
            for engine, us in {"cp2k": 4e5, "deepmd": 40.0, "bks": 5.0}.items()
            for n in (96, 216, 648)
        ],
    )
    return Evidence(products)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Hardly anything: DeePMD-96 alone, and AIMD that was used for training."""
    root = tmp_path_factory.mktemp("few")
    return Evidence(
        {
            "liquid-96-nvt": [write_observation(root / "nvt", seed=1)],
            "motion-96-nvt": [write_observation(root / "motion", seed=1)],
            "aimd-training": [write_observation(root / "aimd", seed=2, noise=0.06, blocks=2)],
            "reference-216-nnp": [],
        }
    )


def hash_of(label: str) -> int:
    """A seed that does not change between processes."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(label)) % 100_000


def claim(identity: str, verdict: str, **changes: object) -> dict[str, object]:
    name = identity.split("/")[0]
    return {
        "id": identity,
        "claim": name,
        "class": {"parity": "supplementary", "precondition": name, "fault": name}.get(name, "paper"),
        "comparison_kind": "equilibrium",
        "where": "Fig 1, N = 216",
        "paper": "DeePMD has the first peak where AIMD has it.",
        "statement": "First peak of g(r) <Si-O> lies where AIMD has it",
        "comparison": "DeePMD-216 against AIMD",
        "distance": "position of the first maximum",
        "value": 0.0042,
        "ci_low": 0.0021,
        "ci_high": 0.0063,
        "band_low": -0.02,
        "band_high": 0.02,
        "why_band": "a shift of 0.02 A is <1% of the bond",
        "unit": "Å",
        "verdict": verdict,
        "n_eff": 23.4,
        "p_family": 0.0123,
        "reason": "",
        "tier": "laptop",
        "deviations": [],
        "needs": ["liquid-216-nvt"],
        "seconds": 0.12,
        **changes,
    }


def untested(identity: str, reason: str) -> dict[str, object]:
    nothing = dict.fromkeys(("value", "ci_low", "ci_high", "n_eff", "p_family"), None)
    return claim(identity, "NOT TESTED", reason=reason, **nothing)


def write_claims(directory: Path, claims: list[dict[str, object]], faults: list[dict[str, object]]) -> Path:
    results = {
        "schema": 1,
        "tier": "laptop",
        "start_from": "frames",
        "date": "2026-11-23 12:00 UTC",
        "deviations": ["N = 96 and 216 only", "training 20 000 steps, not 1 000 000"],
        "broken": {},
        "claims": claims,
        "faults": faults,
        "provenance": {
            "hardware": {"cpu": "a processor", "cores": 2, "system": "Linux"},
            "versions": {"deepmd-kit": "3.2.0", "numpy": "1.26"},
            "commands": ["pytest suite/"],
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "claims.json").write_text(json.dumps(results))
    return directory


class Reader(HTMLParser):
    """Checks nesting, and collects ids, texts and what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.fetched.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()
        if opened != tag and opened in ("li", "p", "td", "tr", "th", "dt", "dd"):
            raise AssertionError(f"<{opened}> closed by </{tag}>")
        assert opened == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(path: Path) -> tuple[str, Reader]:
    page = path.read_text()
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    repeated = {identity for identity in reader.ids if reader.ids.count(identity) > 1}
    assert not repeated
    assert all(target.startswith(("#", "data:")) for target in reader.fetched)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not re.search(r"\b(nan|inf|NaN|None|Infinity)\b", " ".join(reader.text))
    targets = set(re.findall(r'(?:url\(|href=")#([^)"]+)', page))
    assert targets <= set(reader.ids)
    return page, reader


MANY = [
    claim("rdf-nnp-aimd/Si-O/first-peak-position", "PASS"),
    claim("rdf-nnp-aimd/O-O/first-peak-position", "FAIL", value=0.031, ci_low=0.027, ci_high=0.035),
    claim("rdf-bks/Si-O/first-peak-position", "INCONCLUSIVE", ci_high=0.023, reason="twice the data"),
    claim(
        "parity/3000/forces", "PASS", value=231.4, ci_low=228.0, ci_high=235.0, band_low=None, band_high=300
    ),
    untested("glass-neutron/Si-O", "this tier makes no glass"),
    untested("glass-partials/O-O", "this tier makes no glass"),
]
FAULTS: list[dict[str, object]] = [
    {
        "fault": "fault-hot",
        "what": "3300 K run declared 3000 K",
        "caught_by": ["rdf-nnp-aimd/Si-O/first-peak-position"],
        "verdicts": {
            "rdf-nnp-aimd/Si-O/first-peak-position": "FAIL",
            "rdf-nnp-aimd/O-O/first-peak-position": "FAIL",
            "glass-neutron/Si-O": "NOT TESTED",
        },
    },
    {"fault": "fault-thermostat", "what": "velocity rescaling", "caught_by": [], "verdicts": {}},
]


def test_full_report_is_whole_self_contained_and_quick(tmp_path: Path, full: Evidence) -> None:
    results = write_claims(tmp_path / "overnight", MANY, FAULTS)
    started = time.process_time()
    path = write_report(results, full)
    assert time.process_time() - started < 10, "core-seconds, so that a busy machine does not decide"
    page, reader = read_page(path)
    for one in MANY:
        assert f"claim-{one['id']}" in reader.ids
    figures = (
        "fig1-216-Si-O fig1-96-Si-O fig2-216-O-O-O fig2-96-O-O-O fig3-tr_neutron fig4-vaf-Si fig4-vdos-O"
    )
    for panel in (*figures.split(), "fig5-O", "training", "cost"):
        assert any(identity.startswith(f"{panel}-") for identity in reader.ids), panel
        assert (results / "figures" / f"{panel}.svg").read_text().startswith("<svg xmlns=")
    assert "&lt;Si-O&gt;" in page, "text of a claim is escaped"
    assert "caught by none" in page
    assert "pass and none fails" not in page, "the parity that passes is a supplementary check"
    assert "Some checks fail, of: rdf-nnp-aimd (1 of 2)." in page
    assert page.count("<details><summary>why this band</summary>a shift of 0.02 Å is &lt;1% of the bond") == 6
    assert len(page) < 6_000_000


def test_report_with_hardly_any_data_says_why(tmp_path: Path, laptop: Evidence) -> None:
    reason = "no AIMD at N = 216 is deposited"
    claims = [untested(f"badf-nnp-aimd/{triplet}", reason) for triplet in TRIPLETS]
    page, reader = read_page(write_report(write_claims(tmp_path / "laptop", claims, []), laptop))
    assert reason in page
    assert page.count(f"</svg>{TRAINING_TEXT}, N = 96</li>") == 4, "in the legends of Figs 1, 2, 4 and 5"
    assert page.count("</svg>DeePMD-96, N = 96</li>") == 4
    assert "Nothing was decided" in page
    assert "No fault was planted" in page
    assert not any(identity.startswith("fig3-") for identity in reader.ids)
    assert "and so the figure is empty" in page


def test_report_without_any_product(tmp_path: Path) -> None:
    claims = [untested("parity/forces", "nothing was trained")]
    page, _ = read_page(write_report(write_claims(tmp_path / "smoke", claims, []), Evidence({})))
    assert page.count("and so the figure is empty") == 13


def test_same_results_give_the_same_page(tmp_path: Path, laptop: Evidence) -> None:
    results = write_claims(tmp_path / "laptop", MANY, FAULTS)
    assert write_report(results, laptop).read_text() == write_report(results, laptop).read_text()


def test_bad_results_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no such file"):
        write_report(tmp_path, Evidence({}))
    (tmp_path / "claims.json").write_text('{"schema": 7}')
    with pytest.raises(SuiteError, match=r"claims\.json: found schema 7, expected 1"):
        write_report(tmp_path, Evidence({}))
    with pytest.raises(SuiteError, match="GOOD"):
        write_report(write_claims(tmp_path / "bad", [claim("parity/x", "GOOD")], []), Evidence({}))
    assert not (tmp_path / "bad" / "report.html").exists()


def test_interval_covers_the_true_curve_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    x = np.linspace(0, 1, 400)
    inside = []
    for _ in range(60):
        observations = [{"x": x, "y": np.sin(x) + generator.normal(size=(8, x.size))} for _ in range(2)]
        curve = mean_curve(observations, "x", "y")  # type: ignore[arg-type]
        inside.append(np.mean(np.abs(curve.mean - np.sin(x)) < curve.half_width))
    assert 0.94 < np.mean(inside) < 0.985, "the inefficiency of few blocks is at least one, so a little wide"


def test_replicas_are_the_unit_once_there_are_four() -> None:
    """Blocks of one replica that agree with each other must not make the interval narrow."""
    x = np.linspace(0, 1, 5)
    replicas = [{"x": x, "y": np.full((8, 5), float(k))} for k in range(4)]
    curve = mean_curve(replicas, "x", "y")  # type: ignore[arg-type]
    assert curve.half_width[0] == pytest.approx(3.1824 * np.std([0, 1, 2, 3], ddof=1) / 2, rel=1e-4)


def test_neighbouring_points_of_a_noisy_curve_are_drawn_as_their_mean() -> None:
    x = np.arange(10.0)
    runs = [{"x": x, "y": np.array([x, x + 2.0])}]
    curve = mean_curve(runs, "x", "y", merged=4)  # type: ignore[arg-type]
    np.testing.assert_allclose(curve.x, [1.5, 5.5])  # two points at the end are left out
    np.testing.assert_allclose(curve.mean, [2.5, 6.5])


def test_the_reweighted_set_that_judges_is_drawn(tmp_path: Path) -> None:
    facts = {"estimator": "weights", "expected_fraction": 0.3, "effective_melts": 16.0}
    poor = write_facts(tmp_path / "poor", seed=1, shift=0.3, effective_fraction=0.02, **facts)
    good = write_facts(tmp_path / "good", seed=2, effective_fraction=0.3, **facts)
    series = Series("reference-96-reweighted", "pbe-reweighted", "PBE")
    sketch = Sketch(Evidence({series.label: [poor, good]}))
    curve = sketch.curve(series, "rdf_r", "rdf_Si-O")
    assert curve is not None
    np.testing.assert_allclose(curve.mean, Observation(good)["rdf_Si-O"].mean(axis=0))
    alone = Sketch(Evidence({series.label: [poor]}))
    assert alone.curve(series, "rdf_r", "rdf_Si-O") is None
    assert "has an effective sample fraction of 0.02, needs 0.1" in alone.missing["PBE"]


def test_curves_meet_on_what_all_runs_cover() -> None:
    long, short = np.linspace(0, 10, 51), np.linspace(0, 5, 26)
    curve = mean_curve(
        [{"x": long, "y": long[None, :] * 2}, {"x": short, "y": short[None, :] * 2}],  # type: ignore[list-item]
        "x",
        "y",
    )
    assert curve.x[-1] == 5
    np.testing.assert_allclose(curve.mean, 2 * curve.x)


@pytest.mark.parametrize("peak", [20.0, 60.0, 90.0, 110.0, 160.0])
def test_insets_cover_no_curve(peak: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL_INCHES)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.add_axes((0.15, 0.16, 0.81, 0.73))
    x = np.linspace(0, 180, 400)
    y = np.exp(-0.5 * ((x - peak) / 20) ** 2)
    axes.plot(x, y)
    axes.set(xlim=(0, 180), ylim=(0, 1))
    inset = room_for_inset(axes, [(x, y, y)])
    inset.plot(x, y)
    box = inset.get_tightbbox(renderer)
    assert box is not None
    assert not any(box.contains(*point) for point in axes.transData.transform(np.column_stack([x, y])))
    assert axes.get_ylim()[1] > y.max()


def test_methods_keep_one_colour_and_every_colour_is_one_ink() -> None:
    lights = [ink.light for ink in INKS.values()]
    assert len(set(lights)) == len(lights)
    assert all(method.colour in INKS for method in METHODS.values())


def test_engines_have_their_own_colour_in_the_cost_figure() -> None:
    own = {"cp2k": "aimd", "espresso": "aimd", "deepmd": "deepmd-96", "bks": "bks", "tersoff": "tersoff"}
    own |= {"hdnnp": "hdnnp-96"}
    for (engine, setting), (method, _) in COST_CURVES.items():
        assert METHODS[method].colour == own[engine], (engine, setting)
    assert len({method for method, _ in COST_CURVES.values()}) == len(COST_CURVES), "each curve by itself"


def test_parity_errors_are_those_planted(full: Evidence) -> None:
    drawing = parity(full)
    for panel, planted in zip(drawing.panels, (0.25, 0.30, 1.20), strict=False):
        found = re.search(r"rms error ([\d.]+) eV/Å", panel.body)
        assert found
        assert float(found[1]) == pytest.approx(planted, rel=0.02)


def test_parity_draws_forces_and_energies_by_temperature(full: Evidence) -> None:
    drawing = parity(full)
    assert [panel.name for panel in drawing.panels][-2:] == ["parity-temperature", "parity-energy"]
    assert "rms force error (eV/Å)" in drawing.panels[-2].body
    assert "sd of energy error (meV/atom)" in drawing.panels[-1].body
    assert "N = 96 atoms" in drawing.caption


def melts_of(directory: Path, *, seed: int, offset_eV: float = 0.0) -> Observation:
    """A training's held-out frames, always the same ones, its energies on a zero of their own."""
    write_melts(directory, error=0.2, seed=seed, runs=5)
    with np.load(directory / "heldout.npz") as content:
        arrays = dict(content)
    arrays["energy_predicted_eV"] = arrays["energy_predicted_eV"] + offset_eV
    np.savez(directory / "heldout.npz", **arrays)  # type: ignore[arg-type]
    return Observation(directory, ("parity.json", "heldout.npz"))


def test_seeds_over_the_same_melts_do_not_narrow_the_bars(tmp_path: Path) -> None:
    """Melts are the unit: a training four times over knows no more of them than once."""
    one = melts_of(tmp_path / "one", seed=1)
    for column, function in ((0, root_mean), (2, spread)):
        once, often = (by_temperature(one, frame_errors([one] * count)[column], function) for count in (1, 4))
        np.testing.assert_allclose(often.values, once.values)
        np.testing.assert_allclose(often.half_widths, once.half_widths)
        assert (once.half_widths > 0).all()


def test_a_zero_of_energy_of_its_own_is_no_error_of_a_training(tmp_path: Path) -> None:
    seeds = [melts_of(tmp_path / str(k), seed=k, offset_eV=100.0 * k) for k in range(3)]
    found = by_temperature(seeds[0], frame_errors(seeds)[2], spread)
    np.testing.assert_allclose(found.values, 1000 * 0.02 * 0.2, rtol=0.35)  # meV/atom, as written


def test_figures_draw_like_with_like_and_say_its_n(full: Evidence) -> None:
    """The run that AIMD of 96 atoms judges stands beside it; no curve of another N is in its panels."""
    for draw in (radial_distributions, angle_distributions):
        small, large = ([series.text for series in draw(full, size).legend] for size in (96, 216))
        assert small == [
            "AIMD started from the NNP, N = 96",
            "AIMD started from BKS, N = 96",
            "BKS, N = 96",
            "DeePMD-96, N = 96",
        ]
        assert large == [
            "AIMD started from the NNP, N = 216",
            "BKS, N = 216",
            "DeePMD-216, N = 216",
            "DeePMD-96, N = 216 (insets)",
        ]
    assert glass(full).legend[0].text == "glass by DeePMD-96, N = 216", "as in the runs"


def test_displacements_name_their_units(full: Evidence) -> None:
    text = displacements(full).panels[0].body
    assert "t (ps)" in text
    assert "MSD, Si (Å²)" in text


def test_headline_counts_the_papers_claims_apart() -> None:
    outcomes = [
        ("paper", "PASS"),
        ("paper", "NOT TESTED"),
        ("precondition", "FAIL"),
        ("supplementary", "TOO SHORT"),
        ("fault", "PASS"),
        ("paper", "PASS"),
    ]
    assert headline(outcomes) == (
        "the paper's claims: 2 PASS, 1 NOT TESTED; supplementary checks: 1 TOO SHORT; "
        "planted faults: 1 PASS; preconditions: 1 FAIL"
    )
    assert headline(outcomes[:1]) == "the paper's claims: 1 PASS"


def test_a_failed_precondition_stands_at_the_top_with_what_rests_on_it(tmp_path: Path) -> None:
    failed = "precondition/temperature/liquid-216-nvt"
    claims = [
        claim("rdf-bks/Si-O/farther", "PASS", reason="its run was too cold", doubts=[failed]),
        claim("rdf-bks/O-O/farther", "PASS", doubts=[f"{failed}-96"]),
        claim("parity/3000/forces", "PASS"),
        claim("fault/hot", "PASS"),
        claim(failed, "FAIL", value=0.9, ci_low=0.89, ci_high=0.91, band_low=0.95, band_high=1.05, unit=""),
        claim(f"{failed}-96", "PASS"),
    ]
    page, reader = read_page(write_report(write_claims(tmp_path, claims, []), Evidence({})))
    text = " ".join(" ".join(reader.text).split())
    assert "The 1 verdict that rests on it proves nothing by itself : rdf-bks (1)." in text
    assert page.index("Preconditions that failed") < page.index('id="claims"')
    assert page.count('<span class="fail">↳ its run was too cold</span>') == 1
    assert page.index('id="claim-rdf-bks/Si-O/farther"') < page.index('id="claim-parity/3000/forces"')
    assert page.index('id="claim-parity/3000/forces"') < page.index(f'id="claim-{failed}"')
    assert '<td class="value pass">2</td>' in page, "the paper's claims alone"
    assert (
        page.index('id="scoreboard"') < page.index("Preconditions that failed") < page.index('id="figures"')
    )
    assert page.index('id="figures"') < page.index('id="claims"'), "the figures come before the table"
    assert "<b>preconditions</b> 1 PASS, 1 FAIL" in page
    assert "<b>planted faults</b> 1 PASS" in page
    assert "of: rdf-bks (2 of 2)." in page


def test_each_figure_says_what_holds_what_does_not_and_what_was_not_seen(tmp_path: Path) -> None:
    claims = [
        claim("rdf-bks/Si-O/farther", "PASS", where="Fig. 1"),
        claim("rdf-bks/O-O/farther", "FAIL", where="Fig. 1"),
        claim("rdf-nnp-aimd/216/O-O/curve", "NOT TESTED", where="Fig. 1", reason="no AIMD of 216: none"),
        claim("parity/96/force", "TOO SHORT", where="Fig. 1"),
        claim("iterate/liquid", "PASS", where="Sec. IV", same_as="rdf-bks/Si-O/farther"),
        claim("vaf-paired/Si", "INCONCLUSIVE", where="Fig. 4a,b", reason="no power at this tier"),
    ]
    first, fourth = findings(claims)
    assert first.title.startswith("Fig. 1")
    assert first.holds.endswith("farther off than the NNP's (1 of 2).")
    assert first.fails.endswith("farther off than the NNP's (1 of 2).")
    assert first.unseen == "1 of 3 checks: no AIMD of 216 (1)."
    assert first.beside == "Our checks beside it: 1 TOO SHORT."
    fast = "glass of 648 atoms quenched at 1e+14 K/s, printed is 1e+12"
    remarks = [f"{fast}; preconditions that fail: glass-96 (temperature)", fast, ""]
    rows = [claim(f"network-kept/{n}", "PASS", where="Fig. 3", reason=said) for n, said in enumerate(remarks)]
    (third,) = findings(rows)
    assert third.holds == f"a bond network that cooling does not change (3 of 3) ({fast})."
    assert fourth.holds == "Nothing of the paper was shown to hold."
    assert fourth.unseen == "1 of 1 checks: no power at this tier (1)."
    _, reader = read_page(write_report(write_claims(tmp_path, claims, []), Evidence({})))
    text = " ".join(" ".join(reader.text).split())
    assert text.index("What was found") < text.index("Deviations from the paper")
    assert first.unseen in text


def test_every_claim_of_the_paper_has_words_for_a_sentence() -> None:
    of_the_paper = [{"id": check.id} for check in load_claims() if check.category == "paper"]
    assert {subject(row) for row in of_the_paper} == set(SUBJECTS.values())


def test_a_claim_that_says_two_things_is_not_said_to_hold_for_one_of_them() -> None:
    rows = [
        claim("n2p2-stability/broken-runs/3000", "INCONCLUSIVE", where="Sec. II B"),
        claim("n2p2-stability/out-of-range/3000", "PASS", where="Sec. II B"),
        claim("iterate/liquid/vaf-O", "PASS", where="Sec. IV"),
        claim("iterate/glass/O-O", "FAIL", where="Sec. IV"),
    ]
    (found,) = findings(rows)
    assert found.holds == (
        "symmetry-function potentials that leave the range of their data (1 of 1); "
        "a child that leaves the liquid as it was (1 of 1)."
    )
    assert found.fails == "a child that improves the glass (1 of 1)."


def test_a_pass_that_bks_shares_is_counted() -> None:
    rows = [
        claim("badf-paired/216/O-O-O/mean", "PASS", where="Fig. 2", reason=f"{BKS_TOO} (0.15 [0.1, 0.2]): x"),
        claim("badf-paired/216/O-O-O/curve", "PASS", where="Fig. 2"),
    ]
    (found,) = findings(rows)
    assert "(2 of 2, 1 of which BKS passes too)" in found.holds


def test_reasons_that_differ_in_what_was_measured_are_one(tmp_path: Path) -> None:
    reasons = {
        "a/1": "it decides: they are 0.0187 apart (-0.062 to 0.1); about 13 times the data would decide",
        "a/2": "it decides: they are -1.2e-05 apart (-0.1 to 0.2); about 2 times the data would decide",
        "a/3": "no AIMD of 216 atoms",
        "a/4": "no AIMD of 96 atoms",
    }
    claims = [untested(identity, reason) for identity, reason in reasons.items()]
    page, _ = read_page(write_report(write_claims(tmp_path, claims, []), Evidence({})))
    listed = page[page.index('id="untested"') :]
    one = "it decides: they are … apart (… to …); about … times the data would decide"
    assert f"<b>{one}</b> (2)" in listed
    assert "<b>no AIMD of 216 atoms</b> (1)" in listed


def test_a_count_has_no_interval() -> None:
    assert interval_text(claim("a/b", "PASS", value=0.0, ci_low=0.0, ci_high=0.0)) == "0"
    assert interval_text(claim("a/b", "PASS")) == "0.0042 [0.0021,\u00a00.0063]"


def test_numbers_carry_the_digits_of_their_error() -> None:
    assert number(1.61234, 0.0041) == "1.6123"
    assert number(231.4, 3.5) == "231.4"
    assert number(-12345.0, 400.0) == "-12345"
    assert number(None) == number(float("nan")) == "–"


def test_bands_in_words_and_drawn() -> None:
    one_sided = claim("a/b", "PASS", band_low=None, band_high=0.02)
    assert band_text(one_sided) == "≤ 0.02"
    drawn = bar(one_sided)
    assert drawn is not None
    assert drawn.band_open_low
    assert drawn.band_start == 0 < drawn.low < drawn.value < drawn.high < drawn.band_end < 1
    assert bar(untested("a/b", "none")) is None
