"""The paper's five figures redrawn from this run's observables, with 95% bands; errors, training and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.cost_record import AIMD, curves
from jobs.observables import scaling
from jobs.reference import read_experiment
from suite.evidence import Evidence, Observation
from suite.plotting import (
    INKS,
    METHODS,
    PANEL_INCHES,
    Array,
    Drawing,
    Panel,
    Series,
    Sketch,
    as_panel,
    dress,
    fit_y,
    new_canvas,
    plain_log_ticks,
    room_for_inset,
)
from suite.statistics import Groups, estimate, mean_of
from suite.verdict import UNAVAILABLE, NotTested

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEMTOSECONDS_PER_PICOSECOND = 1000.0
TRAINING_TEXT = "short AIMD from a BKS start, used for training: informs, judges nothing"
PAIRS = ("O-O", "Si-O", "Si-Si")
TRIPLETS = ("O-O-O", "O-Si-O", "Si-O-Si", "Si-Si-Si", "Si-Si-O", "Si-O-O")
DISTANCE_AXIS = "r (Å)"
SIZES = (216, 96)  # the paper's N in Figs 1 and 2, and that of the AIMD that can be had
OF_SIZE = {
    216: "The paper's N. Insets: DeePMD-96 against DeePMD-216.",
    96: "What the verdicts against AIMD of 96 atoms compare.",
}
AIMD_TRAINING = Series("aimd-training", "training", TRAINING_TEXT)
DEEPMD_96 = Series("liquid-96-nvt", "deepmd-96", "DeePMD-96")
BKS_96 = Series("liquid-96-bks", "bks", "BKS")
NVE_96 = Series("liquid-96-nve", "deepmd-96-nve", "DeePMD-96, NVE", " (insets)")
# Insets of Figs 1 and 2: both networks at one N and volume.
NETWORKS_216 = (
    Series("liquid-216-nvt", "deepmd-216", "DeePMD-216"),
    Series("liquid-216-nvt-96", "deepmd-96", "DeePMD-96", " (insets)"),
)


def _aimd(evidence: Evidence, size: int) -> tuple[Series, ...]:
    """AIMD of a size that may judge; without any at N = 96, what was used for training, marked so."""
    series = (
        Series(f"reference-{size}-nnp", "aimd", "AIMD started from the NNP"),
        Series(f"reference-{size}-bks", "aimd-bks", "AIMD started from BKS"),
    )
    there = tuple(one for one in series if one.label in evidence)
    return there or (*series, *((AIMD_TRAINING,) if size == 96 else ()))


def _liquid(evidence: Evidence, size: int) -> tuple[Series, ...]:
    """AIMD, BKS and the network of one size, all at that N: what the claims of that size compare."""
    bks = Series(f"liquid-{size}-bks", "bks", "BKS")
    network = Series(f"liquid-{size}-nvt", f"deepmd-{size}", f"DeePMD-{size}")
    return (*_aimd(evidence, size), bks, network)


def _with_inset(
    sketch: Sketch,
    axes: Axes,
    outlines: Sequence[tuple[Array, Array, Array]],
    series: Sequence[Series],
    x_key: str,
    y_key: str,
    *,
    x_scale: float = 1.0,
    x_range: tuple[float, float],
) -> Axes | None:
    """Draw an inset comparing `series`, if all of them exist; returns it."""
    if not all(one.label in sketch.evidence for one in series):
        for one in series:
            sketch.curve(one, x_key, y_key)
        return None
    inset = room_for_inset(axes, outlines)
    inner = sketch.draw(inset, series, x_key, y_key, x_scale=x_scale, x_range=x_range)
    if inner:
        fit_y(inset, inner, floor=None if min(float(low.min()) for _, low, _ in inner) < 0 else 0.0)
        inset.set_xlim(*x_range)
        inset.locator_params(nbins=4)
    return inset


def radial_distributions(evidence: Evidence, size: int) -> Drawing:
    """Fig 1: partial g(r) of the liquid at 3000 K at one N; insets at 216 DeePMD-96 against DeePMD-216."""
    sketch = Sketch(evidence)
    panels = []
    for pair in PAIRS:
        canvas, axes = new_canvas()
        key = f"rdf_{pair}"
        outlines = sketch.draw(axes, _liquid(evidence, size), "rdf_r", key, x_range=(1.0, 7.4))
        if not outlines:
            continue
        axes.set(xlabel=DISTANCE_AXIS, ylabel=f"g(r), {pair}", xlim=(1.0, max(x[-1] for x, _, _ in outlines)))
        fit_y(axes, outlines)
        if size == 216:
            _with_inset(sketch, axes, outlines, NETWORKS_216, "rdf_r", key, x_range=(1.0, 5.6))
        name = f"fig1-{size}-{pair}"
        panels.append(as_panel(canvas, name, f"Partial radial distribution function {pair}, N = {size}"))
    caption = (
        f"Partial radial distribution functions of liquid silica at 3000 K, all at N = {size}, to half the "
        f"box. {OF_SIZE[size]}"
    )
    return sketch.finish(f"fig1-{size}", f"Fig 1. Radial distribution functions, N = {size}", caption, panels)


def angle_distributions(evidence: Evidence, size: int) -> Drawing:
    """Fig 2: the six partial bond angle distributions of the liquid at 3000 K at one N."""
    from matplotlib.ticker import FuncFormatter

    sketch = Sketch(evidence)
    panels = []
    for triplet in TRIPLETS:
        canvas, axes = new_canvas()
        key = f"badf_{triplet}"
        outlines = sketch.draw(axes, _liquid(evidence, size), "angle_deg", key)
        if not outlines:
            continue
        axes.set(xlabel=f"angle {triplet} (°)", ylabel="density (10⁻³/°)", xlim=(0, 180))
        axes.set_xticks(range(0, 181, 30))
        fit_y(axes, outlines)
        inset = None
        if size == 216:
            inset = _with_inset(sketch, axes, outlines, NETWORKS_216, "angle_deg", key, x_range=(0.0, 180.0))
        for shown in (axes, inset):
            if shown is not None:
                shown.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
        panels.append(
            as_panel(canvas, f"fig2-{size}-{triplet}", f"Bond angle distribution {triplet}, N = {size}")
        )
    caption = (
        f"Partial bond angle distributions of liquid silica at 3000 K, all at N = {size}, normalised to one; "
        f"the middle atom is the centre. {OF_SIZE[size]}"
    )
    return sketch.finish(f"fig2-{size}", f"Fig 2. Bond angle distributions, N = {size}", caption, panels)


def glass(evidence: Evidence) -> Drawing:
    """Fig 3: neutron T(r) and partial g(r) of the quenched glass, with the measured mean distances."""
    sketch = Sketch(evidence)
    series = (
        Series("glass-96", "deepmd-96", "glass by DeePMD-96"),
        Series("glass-216", "deepmd-216", "glass by DeePMD-216"),
    )
    measured = {pair: read_experiment()[f"bond-{pair}"] for pair in PAIRS}
    plots = [("tr_r", "tr_neutron", "neutron T(r) (Å⁻²)")] + [
        ("rdf_r", f"rdf_{pair}", f"g(r), {pair}") for pair in PAIRS
    ]
    panels = []
    for x_key, y_key, axis in plots:
        canvas, axes = new_canvas()
        outlines = sketch.draw(axes, series, x_key, y_key, x_range=(1.0, 8.0))
        if not outlines:
            continue
        axes.set(xlabel=DISTANCE_AXIS, ylabel=axis, xlim=(1.0, 8.0))
        fit_y(axes, outlines)
        axes.set_ylim(top=1.22 * axes.get_ylim()[1])  # the experiment's names stand above the curves
        colour = INKS["experiment"].light
        for pair, row in measured.items():
            if row.value is None or y_key not in ("tr_neutron", f"rdf_{pair}"):
                continue
            axes.axvline(row.value, ymax=0.8, color=colour, linewidth=0.8, zorder=1)
            axes.text(
                row.value, 0.97, f"{pair}\n{row.value:g}", ha="right" if pair == "O-O" else "left", va="top",
                transform=axes.get_xaxis_transform(), fontsize=6.5, color=colour,
            )  # fmt: skip
        panels.append(as_panel(canvas, f"fig3-{y_key}", f"Glass at 300 K: {axis}"))
    sources = "; ".join(sorted({row.source for row in measured.values()}))
    caption = (
        "The glass at 300 K: neutron total pair correlation function and partial g(r). "
        f"Vertical lines: measured mean distances ({sources})."
    )
    return sketch.finish("fig3", "Fig 3. The glass", caption, panels)


def velocities(evidence: Evidence) -> Drawing:
    """Fig 4: partial velocity autocorrelation to 0.2 ps (insets NVE against NVT), and the VDOS."""
    sketch = Sketch(evidence)
    aimd = _aimd(evidence, 96)
    panels = []
    for species in ("Si", "O"):
        canvas, axes = new_canvas()
        scale, window = 1 / FEMTOSECONDS_PER_PICOSECOND, (0.0, 0.2)
        key = f"vaf_{species}"
        outlines = sketch.draw(
            axes, (*aimd, BKS_96, DEEPMD_96), "vaf_time_fs", key, x_scale=scale, x_range=window
        )
        if not outlines:
            continue
        fit_y(axes, outlines, floor=None)
        axes.set(xlabel="t (ps)", ylabel=f"VAF, {species}", xlim=window)
        axes.locator_params(axis="x", nbins=5)
        _with_inset(
            sketch, axes, outlines, (DEEPMD_96, NVE_96), "vaf_time_fs", key, x_scale=scale, x_range=window
        )
        panels.append(as_panel(canvas, f"fig4-vaf-{species}", f"Velocity autocorrelation of {species}"))
    for species in ("Si", "O"):
        canvas, axes = new_canvas()
        large = Series("vdos-2592", "deepmd-96-large", "DeePMD-96", " (VDOS)")
        outlines = sketch.draw(
            axes, (*aimd, DEEPMD_96, large), "vdos_wavenumber_cm", f"vdos_{species}", x_range=(0.0, 1600.0)
        )
        if not outlines:
            continue
        fit_y(axes, outlines, floor=None)
        axes.set(xlabel="wavenumber (1/cm)", ylabel=f"VDOS, {species} (10⁻³ cm)", xlim=(0, 1600))
        axes.yaxis.set_major_formatter(lambda value, _: f"{1000 * value:g}")
        panels.append(as_panel(canvas, f"fig4-vdos-{species}", f"Vibrational density of states of {species}"))
    caption = (
        "Partial velocity autocorrelation functions at 3000 K, N = 96, normalised to their start "
        "(insets: NVE against NVT), and vibrational densities of states from them, each from all of its "
        "correlation function: the shorter a run, the less it resolves."
    )
    return sketch.finish("fig4", "Fig 4. Velocity autocorrelation and VDOS", caption, panels)


def displacements(evidence: Evidence) -> Drawing:
    """Fig 5: mean square displacement, log-log, with the same in linear scale inset."""
    sketch = Sketch(evidence)
    aimd = _aimd(evidence, 96)
    series = (*aimd, BKS_96, DEEPMD_96)
    if "msd-long" in evidence:
        series = (*series, Series("msd-long", "deepmd-96-large", "DeePMD-96, long run"))
    scale = 1 / FEMTOSECONDS_PER_PICOSECOND
    panels = []
    for species in ("Si", "O"):
        canvas, axes = new_canvas((4.1, 3.3))
        axes.set(xscale="log", yscale="log", xlabel="t (ps)", ylabel=f"MSD, {species} (Å²)")
        axes.minorticks_off()
        key = f"msd_{species}"
        outlines = sketch.draw(axes, series, "msd_time_fs", key, x_scale=scale, x_range=(1e-9, math.inf))
        outlines = [(x, low, high) for x, low, high in outlines if (high > 0).any()]
        if not outlines:
            continue
        longest = max(float(x[-1]) for x, _, _ in outlines)
        shortest = min(float(x[0]) for x, _, _ in outlines)
        highest = max(float(high.max()) for _, _, high in outlines)
        middle = [((low + high) / 2, x) for x, low, high in outlines]
        lowest = min(float(mean[mean > 0].min()) for mean, _ in middle)
        # The inset takes the lower right corner: the curve there must stay above it.
        start = 10 ** (math.log10(shortest) + 0.45 * math.log10(longest / shortest))
        above = min(float(mean[x >= start].min()) for mean, x in middle if (x >= start).any())
        share = 0.55  # of the panel's height, inset with its labels
        floor = (math.log10(above) - share * math.log10(highest * 2)) / (1 - share)
        axes.set(xlim=(shortest, longest), ylim=(min(10**floor, lowest / 2), highest * 2))
        inset = axes.inset_axes((0.56, 0.13, 0.41, 0.36))
        dress(inset, font_points=6.5)
        inner = sketch.draw(inset, series, "msd_time_fs", key, x_scale=scale, in_legend=False)
        fit_y(inset, inner)
        inset.set_xlim(0, longest)
        inset.locator_params(nbins=4)
        panels.append(as_panel(canvas, f"fig5-{species}", f"Mean square displacement of {species}"))
    caption = "Mean square displacement at 3000 K, double logarithmic; insets: the same in linear scales."
    return sketch.finish("fig5", "Fig 5. Mean square displacement", caption, panels)


PARITY = (
    Series("parity-96", "deepmd-96", "DeePMD-96"),
    Series("parity-216", "deepmd-216", "DeePMD-216"),
    Series("parity-96-bks", "bks", "BKS"),
)


def parity(evidence: Evidence) -> Drawing:
    """Held-out forces, predicted against PBE; rms errors of forces and energies at each temperature."""
    sketch = Sketch(evidence)
    panels: list[Panel | None] = []
    found: list[tuple[Series, list[Observation]]] = []
    for series in PARITY:
        try:
            found.append((series, evidence.heldout(series.label)))
        except UNAVAILABLE as reason:
            sketch.missing[series.text] = str(reason)
            continue
        sketch.drawn[series.text] = series
        reference, predicted = (
            np.concatenate([np.ravel(one[key]) for one in found[-1][1]])
            for key in ("forces_reference", "forces_predicted")
        )
        panels.append(_force_density(series, reference, predicted))
    if found:
        errors = [(series, seeds[0], *frame_errors(seeds)) for series, seeds in found]
        forces = [(series, by_temperature(one, force, root_mean)) for series, one, force, _, _ in errors]
        energies = [(series, by_temperature(one, energy, spread)) for series, one, _, _, energy in errors]
        _, heldout, _, size, _ = errors[0]
        scale = by_temperature(heldout, size, root_mean)
        for name, axis, points, dashes in (
            ("parity-temperature", "rms force error (eV/Å)", forces, scale),
            ("parity-energy", "sd of energy error (meV/atom)", energies, None),
        ):
            panels.append(_errors_by_temperature(name, axis, points, scale=dashes))
    sizes = sorted({int(size) for _, seeds in found for size in np.unique(seeds[0]["n_atoms"])})
    caption = (
        f"Held-out melts of N = {' and '.join(map(str, sizes))} atoms, predictions against PBE. Forces "
        "(denser: more atoms; diagonal: perfect); then by temperature the rms error of a force component "
        "(grey dashes: the rms of the PBE force components themselves), and the standard deviation of the "
        "energy error. Bars: 95% intervals over melts, seeds averaged by frame; a single frame has none."
    )
    return sketch.finish("parity", "Held-out forces and energies", caption, panels)


def _errors_by_temperature(
    name: str, axis: str, points: Sequence[tuple[Series, ByTemperature]], *, scale: ByTemperature | None
) -> Panel | None:
    """Values with intervals at each temperature, a colour for each potential; `scale` as grey dashes.

    None where no temperature has a value: energies of single frames have no spread.
    """
    canvas, axes = new_canvas()
    axes.set(xlabel="T (K)", ylabel=axis, yscale="log")
    for place, (series, found) in enumerate(points):
        shift = 60.0 * (place - (len(points) - 1) / 2)  # K, so that bars do not cover each other
        axes.errorbar(
            found.temperatures_K + shift,
            found.values,
            yerr=[np.minimum(found.half_widths, 0.999 * found.values), found.half_widths],
            color=INKS[METHODS[series.method].colour].light,
            marker="o",
            markersize=3.5,
            linewidth=0,
            elinewidth=1.1,
            capsize=2,
        )
    drawn = [found for _, found in points]
    if scale is not None:
        drawn.append(scale)
        axes.plot(
            scale.temperatures_K, scale.values, color=INKS["muted"].light, marker="_", markersize=14,
            linewidth=0,
        )  # fmt: skip
    # A bar over two melts can reach to zero: the values set the scale.
    values = np.concatenate([found.values for found in drawn])
    if np.isnan(values).all():
        return None
    axes.set_ylim(np.nanmin(values) / 2.5, np.nanmax(values) * 1.8)
    axes.set_xticks(np.unique(np.concatenate([found.temperatures_K for found in drawn])))
    axes.margins(x=0.08)
    plain_log_ticks(axes)
    return as_panel(canvas, name, f"{axis} at each temperature")


def _force_density(series: Series, reference: Array, predicted: Array) -> Panel:
    canvas, axes = new_canvas()
    reach = float(np.quantile(np.abs(reference), 0.9995))
    counts, _, _ = np.histogram2d(reference, predicted, bins=110, range=[[-reach, reach]] * 2)
    colour = INKS[METHODS[series.method].colour].light
    image = np.zeros((*counts.shape, 4))
    image[..., :3] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    image[..., 3] = np.where(counts.T > 0, 0.25 + 0.75 * np.log1p(counts.T) / np.log1p(counts.max()), 0.0)
    axes.imshow(image, extent=(-reach, reach, -reach, reach), origin="lower", aspect="auto", zorder=3)
    axes.plot([-reach, reach], [-reach, reach], color=INKS["ink"].light, linewidth=0.7, zorder=4)
    rms = math.sqrt(float(np.mean((predicted - reference) ** 2)))
    axes.text(
        0.03, 0.96, f"rms error {rms:.3f} eV/Å", transform=axes.transAxes, va="top", fontsize=8.0,
        color=INKS["ink"].light,
    )  # fmt: skip
    axes.set(xlabel="PBE force component (eV/Å)", ylabel=f"{series.text} (eV/Å)")
    return as_panel(canvas, f"parity-{series.method}", f"Held-out forces by {series.text} against PBE")


def frame_errors(seeds: Sequence[Observation]) -> tuple[Array, Array, Array]:
    """Of each held-out frame: mean square force error, mean square force, and the energies' errors per atom.

    Squares in (eV/A)^2 averaged over seeds, shape (frames,); energies in meV/atom, shape (frames, seeds).
    """
    squares, energies = [], []
    for one in seeds:
        frame = np.asarray(one["frame"])
        atoms = np.bincount(frame)
        squares.append(
            [
                np.bincount(frame, (forces**2).mean(axis=1)) / atoms
                for forces in (one["forces_predicted"] - one["forces_reference"], one["forces_reference"])
            ]
        )
        energies.append(1000 * (one["energy_predicted_eV"] - one["energy_reference_eV"]) / one["n_atoms"])
    error, size = np.mean(squares, axis=0)
    return error, size, np.stack(energies, axis=1)


def root_mean(groups: Groups) -> float:
    """Root of the mean of squares."""
    return math.sqrt(float(mean_of(groups)))


def spread(groups: Groups) -> float:
    """Standard deviation of energies' errors: every training has a zero of energy of its own."""
    return math.sqrt(float(np.concatenate(groups).var(axis=0).mean()))


@dataclass(frozen=True)
class ByTemperature:
    """Numbers at each temperature with half of their 95% intervals; NaN where frames are too few."""

    temperatures_K: Array
    values: Array
    half_widths: Array


def by_temperature(
    heldout: Observation, of_frame: Array, function: Callable[[Groups], float]
) -> ByTemperature:
    """A function of the frames of each temperature; melts are the units, as in the claim."""
    values, halves = [], []
    temperatures = np.unique(heldout["temperature_K"])
    for temperature in temperatures:
        chosen = heldout["temperature_K"] == temperature
        melts = [of_frame[chosen & (heldout["melt"] == melt)] for melt in np.unique(heldout["melt"][chosen])]
        values.append(function(melts) or math.nan)  # 0 is the spread of a single frame
        try:
            found = estimate(lambda s: function(s["melts"]), {"melts": melts})
            halves.append((found.ci_high - found.ci_low) / 2)
        except NotTested:
            halves.append(math.nan)
    return ByTemperature(temperatures, np.array(values), np.array(halves))


TRAINING = (
    Series("train-96", "deepmd-96", "DeePMD-96"),
    Series("train-216", "deepmd-216", "DeePMD-216"),
)


def training(evidence: Evidence) -> Drawing:
    """Rms force error on held-out frames against training steps, one line per seed."""
    import pandas as pd

    sketch = Sketch(evidence)
    canvas, axes = new_canvas()
    for series in TRAINING:
        try:
            trainings = evidence.train(series.label)
        except UNAVAILABLE as reason:
            sketch.missing[series.text] = str(reason)
            continue
        method = METHODS[series.method]
        for one in trainings:
            table = pd.read_csv(one.directory / "lcurve.csv")
            axes.plot(
                table["step"],
                table["force_rmse_heldout_eV_A"],
                color=INKS[method.colour].light,
                linestyle=(0, method.dash) if method.dash else "-",
                linewidth=1.1,
            )
            sketch.drawn[series.text] = series
    panels = []
    if sketch.drawn:
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlabel="training step", ylabel="held-out rms force error (eV/Å)", yscale="log")
        axes.margins(x=0.02, y=0.06)
        plain_log_ticks(axes)
        panels.append(as_panel(canvas, "training", "Held-out force error against training steps"))
    caption = "Rms force error on held-out batches while the potentials trained, one line per seed."
    return sketch.finish("training", "Error while training", caption, panels)


LEARNING = Series("learning-curve", "deepmd-96", "DeePMD-96")
SETTINGS = Series("learning-curve-settings", "deepmd-96", "DeePMD-96, all frames")
# Marker, dash and place beside the number of steps (a factor), so that neither hides the other.
PRECISIONS: Mapping[str, tuple[str, tuple[float, ...], float]] = {
    "float32": ("o", (), 0.97),
    "float64": ("s", (4, 1.5), 1.03),
}


def learning_curve(evidence: Evidence) -> Drawing:
    """Held-out error against training frames, and against steps by precision; every seed a dot."""
    sketch = Sketch(evidence)
    panels: list[Panel] = []
    points = _trained_points(sketch, LEARNING)
    for quantity, text in (
        ("force_rmse_eV_A", "force error (eV/Å)"),
        ("energy_sd_meV_atom", "energy error (meV/atom)"),
    ):
        if not points:
            break
        canvas, axes = new_canvas()
        _seeds(axes, points, "train_frames", quantity, dash=METHODS[LEARNING.method].dash)
        frames = sorted({point["train_frames"] for point in points})
        axes.set(xscale="log", yscale="log", xlabel="training frames", ylabel=f"held-out rms {text}")
        axes.minorticks_off()
        axes.set_xticks(frames, [str(number) for number in frames])
        axes.margins(0.08)
        plain_log_ticks(axes)
        name = "learning-" + quantity.partition("_")[0]
        panels.append(as_panel(canvas, name, f"Held-out {text} against the number of training frames"))
    settings = _trained_points(sketch, SETTINGS)
    if settings:
        canvas, axes = new_canvas()
        for precision, (marker, dash, beside) in PRECISIONS.items():
            of_kind = [
                {**point, "place": point["steps"] * beside}
                for point in settings
                if point["precision"] == precision
            ]
            if of_kind:
                places, means = _seeds(axes, of_kind, "place", "force_rmse_eV_A", dash=dash, marker=marker)
                axes.annotate(
                    precision, (places[0], means[0]), xytext=(-6 if beside < 1 else 6, 0),
                    textcoords="offset points", ha="right" if beside < 1 else "left", va="center",
                    fontsize=8.0, color=INKS["muted"].light,
                )  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlabel="training steps", ylabel="held-out rms force error (eV/Å)"
        )
        axes.minorticks_off()
        lengths = sorted({point["steps"] for point in settings})
        axes.set_xticks(lengths, [f"{number:g}" for number in lengths])
        axes.margins(x=0.25, y=0.15)
        plain_log_ticks(axes)
        panels.append(
            as_panel(canvas, "learning-settings", "Held-out force error against steps and precision")
        )
    caption = (
        "Errors on the same held-out frames (energies without their mean): every seed, with its own draw of "
        "the frames, is a dot, the line joins their root mean squares. Grey dots: an error that falls as the "
        "square root of the data."
    )
    return sketch.finish("learning-curve", "Error against training data and settings", caption, panels)


def _trained_points(sketch: Sketch, series: Series) -> list[dict[str, float]]:
    """How each training of a label was made (`parity.json`), with its held-out errors."""
    try:
        found = [one.facts for one in sketch.evidence.heldout(series.label)]
    except UNAVAILABLE as reason:
        sketch.missing[series.text] = str(reason)
        return []
    sketch.drawn[LEARNING.text] = LEARNING
    points = []
    for facts in found:
        errors = facts["heldout"]["all"]
        variance = errors["energy_rmse_meV_atom"] ** 2 - errors["energy_bias_meV_atom"] ** 2
        points.append({**facts, **errors, "energy_sd_meV_atom": math.sqrt(max(variance, 0.0))})
    return points


def _seeds(
    axes: Axes,
    points: Sequence[Mapping[str, float]],
    x_key: str,
    y_key: str,
    *,
    dash: tuple[float, ...],
    marker: str = "o",
) -> tuple[Array, Array]:
    """A dot for each point and a line through the root mean square at each x, which is returned."""
    colour = INKS[METHODS[LEARNING.method].colour].light
    x = np.array([point[x_key] for point in points], dtype=float)
    y = np.array([point[y_key] for point in points], dtype=float)
    places = np.unique(x)
    means = np.array([math.sqrt(float(np.mean(y[x == place] ** 2))) for place in places])
    axes.plot(places, means, color=colour, linewidth=1.1, linestyle=(0, dash) if dash else "-")
    axes.plot(x, y, marker, color=colour, markersize=3, alpha=0.8)
    if x_key == "train_frames" and len(places) > 1:
        axes.plot(
            places, means[0] * np.sqrt(places[0] / places), color=INKS["muted"].light, linewidth=0.8,
            linestyle=(0, (1, 2)),
        )  # fmt: skip
    return places, means


COST_CURVES: Mapping[tuple[str, str], tuple[str, str]] = {
    # (engine, setting) -> (method, legend)
    ("cp2k", "aimd"): ("aimd", "AIMD (CP2K)"),
    ("espresso", "aimd"): ("aimd-bks", "AIMD (Quantum ESPRESSO)"),
    ("deepmd", "plain"): ("deepmd-96", "DeePMD, plain default"),
    ("deepmd", "tuned"): ("deepmd-216", "DeePMD, tuned"),
    ("bks", "tuned"): ("bks", "BKS"),
    ("tersoff", "tuned"): ("experiment", "Tersoff"),
}


def cost(evidence: Evidence) -> Drawing:
    """us/step/atom against the number of atoms, a dot for every sample."""
    try:
        points = evidence.cost()
    except UNAVAILABLE as reason:
        return Drawing("cost", "Cost", "", missing=(f"Cost of AIMD, NNP and classical MD: {reason}",))
    return draw_cost(points)


def draw_cost(
    points: Sequence[Mapping[str, Any]],
    *,
    anchors: Sequence[tuple[float, float]] = (),
    size_inches: tuple[float, float] = PANEL_INCHES,
) -> Drawing:
    """The cost figure of measured points, with fits; `anchors` (N, us/step/atom) are others' figures."""
    sketch = Sketch(Evidence({}))
    canvas, axes = new_canvas(size_inches)
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="µs / step / atom")
    axes.minorticks_off()
    drawn_sizes = set()
    for (engine, setting), sizes in curves(points).items():
        key, text = COST_CURVES.get((engine, setting), ("deepmd-96-large", f"{engine}, {setting}"))
        method = METHODS[key]
        colour = INKS[method.colour].light
        sketch.drawn[text] = Series("cost", key, text)
        per_atom = {size: point["us_per_step_atom"] for size, point in sizes.items()}
        for size, samples in per_atom.items():
            drawn_sizes.add(size)
            axes.plot(np.full(len(samples), size), samples, "o", color=colour, markersize=2.6, zorder=4)
        x = np.geomspace(min(sizes), max(sizes) * (30 if engine in AIMD else 1), 60)
        fitted = _cost_fit(engine, per_atom, x)
        if fitted is not None:
            inside = x <= max(sizes)
            dash = (0, method.dash) if method.dash else "-"
            axes.plot(x[inside], fitted[inside], color=colour, linewidth=method.width_points, linestyle=dash)
            axes.plot(x[~inside], fitted[~inside], color=colour, linewidth=0.9, linestyle=":")
    if anchors:
        axes.plot(*zip(*anchors, strict=True), "D", color=INKS["muted"].light, markersize=4, fillstyle="none")
    axes.set_xticks(_spaced(sorted(drawn_sizes)), [str(size) for size in _spaced(sorted(drawn_sizes))])
    axes.margins(0.06)
    caption = (
        "Wall time of all cores in use per MD step and atom, every sample a dot. Lines: t = a + bN, and "
        "t = cN^p for AIMD, dotted where it is extrapolated."
    )
    panel = as_panel(
        canvas, "cost", "Cost of molecular dynamics per step and atom against the number of atoms"
    )
    return sketch.finish("cost", "Cost", caption, [panel] if drawn_sizes else [])


def _spaced(sizes: Sequence[int]) -> list[int]:
    """Sizes whose labels do not run into each other on a logarithmic axis."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size > 1.6 * kept[-1]:
            kept.append(size)
    return kept


def _cost_fit(engine: str, per_atom: Mapping[int, Sequence[float]], x: Array) -> Array | None:
    """us/step/atom of the fit through a curve, or None with too few sizes."""
    per_step = {size: [us * size for us in samples] for size, samples in per_atom.items()}
    if engine in AIMD and len(per_step) >= 2:
        power = scaling.fit_power(per_step)
        return np.asarray(power.c.value * x ** (power.p.value - 1))
    if engine not in AIMD and len(per_step) >= 3:
        line = scaling.fit_line(per_step)
        return np.asarray(line.a.value / x + line.b.value)
    return None


def draw_all(evidence: Evidence) -> list[Drawing]:
    """Every figure of the report, in the paper's order; one without data has no panels but says why."""
    return [
        *(radial_distributions(evidence, size) for size in SIZES),
        *(angle_distributions(evidence, size) for size in SIZES),
        glass(evidence),
        velocities(evidence),
        displacements(evidence),
        parity(evidence),
        training(evidence),
        learning_curve(evidence),
        cost(evidence),
    ]
