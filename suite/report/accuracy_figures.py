"""How far the potentials are from first principles: held-out errors, training, the learning curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from suite.judging.evidence import Evidence, Observation
from suite.judging.reasons import UNAVAILABLE, NotTested
from suite.judging.statistics import Groups, estimate, mean_of
from suite.report.plotting import (
    INKS,
    METHODS,
    Array,
    Drawing,
    Panel,
    Series,
    Sketch,
    as_panel,
    new_canvas,
    plain_log_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARITY = (
    Series("parity-96", "deepmd-96", "DeePMD-96"),
    Series("parity-216", "deepmd-216", "DeePMD-216"),
    Series("parity-hdnnp-96", "hdnnp-96", "HDNNP-96"),
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
            color=METHODS[series.method].ink,
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
    colour = METHODS[series.method].ink
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
                color=method.ink,
                linestyle=method.linestyle,
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
    colour = METHODS[LEARNING.method].ink
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
