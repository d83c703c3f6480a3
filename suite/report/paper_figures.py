"""The paper's five figures redrawn from this run's observables, with 95% bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.base.units import FS_PER_PS
from jobs.reference.paper import read_experiment
from suite.judging.evidence import Evidence
from suite.report.plotting import (
    INKS,
    METHODS,
    Array,
    Drawing,
    Panel,
    Series,
    Sketch,
    as_panel,
    dress,
    fit_y,
    new_canvas,
    room_for_inset,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING_TEXT = "short AIMD from a BKS start, used for training: informs, is no reference"
PAIRS = ("O-O", "Si-O", "Si-Si")
TRIPLETS = ("O-O-O", "O-Si-O", "Si-O-Si", "Si-Si-Si", "Si-Si-O", "Si-O-O")
DISTANCE_AXIS = "r (Å)"
SIZES = (216, 96)  # the paper's N in Figs 1 and 2, and that of the AIMD that can be had
OF_SIZE = {
    216: "The paper's N. Insets: DeePMD-96 against DeePMD-216.",
    96: "What the verdicts against AIMD of 96 atoms compare.",
}
REWEIGHTED_BINS = "The reweighted PBE, of few frames, is drawn in bins of {}."
AIMD_TRAINING = Series("aimd-training", "training", TRAINING_TEXT)
HDNNP_96 = Series("liquid-96-hdnnp", "hdnnp-96", "HDNNP-96")
DEEPMD_96 = Series("motion-96-nvt", "deepmd-96", "DeePMD-96")
BKS_96 = Series("motion-96-bks", "bks", "BKS")
NVE_96 = Series("liquid-96-nve", "deepmd-96-nve", "DeePMD-96, NVE", " (insets)")
# Insets of Figs 1 and 2: both NNPs at one N and volume.
NETWORKS_216 = (
    Series("liquid-216-nvt", "deepmd-216", "DeePMD-216"),
    Series("liquid-216-nvt-96", "deepmd-96", "DeePMD-96", " (insets)"),
)


def _aimd(evidence: Evidence, size: int) -> tuple[Series, ...]:
    """AIMD of a size that is a reference; without any at N = 96, what was used for training, marked so."""
    series = (
        Series(f"reference-{size}-nnp", "aimd", "AIMD started from the NNP"),
        Series(f"reference-{size}-bks", "aimd-bks", "AIMD started from BKS"),
    )
    there = tuple(one for one in series if one.label in evidence)
    return there or (*series, *((AIMD_TRAINING,) if size == 96 else ()))


def _liquid(evidence: Evidence, size: int, *, merged: int) -> tuple[Series, ...]:
    """PBE, BKS and the NNPs of one size, all at that N: what the claims of that size compare.

    Of the reweighted PBE, a hundred frames in all, `merged` bins are drawn as one.
    """
    equilibrium = Series(f"reference-{size}-reweighted", "pbe-reweighted", "PBE, reweighted", merged=merged)
    bks = Series(f"liquid-{size}-bks", "bks", "BKS")
    network = Series(f"liquid-{size}-nvt", f"deepmd-{size}", f"DeePMD-{size}")
    return (*_aimd(evidence, size), equilibrium, bks, network, *((HDNNP_96,) if size == 96 else ()))


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
        series = _liquid(evidence, size, merged=1 if pair == "Si-O" else 4)
        outlines = sketch.draw(axes, series, "rdf_r", key, x_range=(1.0, 7.4))
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
        f"box. {OF_SIZE[size]} {REWEIGHTED_BINS.format('0.08 Å, Si-O of 0.02 Å')}"
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
        outlines = sketch.draw(axes, _liquid(evidence, size, merged=4), "angle_deg", key)
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
        f"the middle atom is the centre. {OF_SIZE[size]} {REWEIGHTED_BINS.format('4°')}"
    )
    return sketch.finish(f"fig2-{size}", f"Fig 2. Bond angle distributions, N = {size}", caption, panels)


def _sides(size: int) -> tuple[Series, ...]:
    """Both sides of the paired comparison at one N."""
    return (
        Series(f"paired-{size}-aimd", "aimd", "AIMD from the same frames"),
        Series(f"paired-{size}-bks", "bks", "BKS from the same frames"),
        Series(f"paired-{size}-nnp", f"deepmd-{size}", f"DeePMD-{size} from the same frames"),
    )


def _paired_panel(
    sketch: Sketch,
    *,
    size: int,
    name: str,
    x_key: str,
    y_key: str,
    labels: tuple[str, str],
    x_range: tuple[float, float],
    x_scale: float = 1.0,
) -> Panel | None:
    """One quantity of all sides, and inset what MD has in excess of AIMD, from the differences by pair."""
    canvas, axes = new_canvas()
    outlines = sketch.draw(axes, _sides(size), x_key, y_key, x_range=x_range, x_scale=x_scale)
    if not outlines:
        return None
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=x_range)
    fit_y(axes, outlines, floor=None if x_key == "vaf_time_fs" else 0.0)
    inset = room_for_inset(axes, outlines)
    excess = []
    for side, method in (("bks", "bks"), ("nnp", f"deepmd-{size}")):
        curve = sketch.excess(size, side, x_key, y_key)
        if curve is None:
            continue
        x = curve.x * x_scale
        keep = (x >= x_range[0]) & (x <= x_range[1])
        low, high = (curve.mean + sign * curve.half_width for sign in (-1, 1))
        colour = METHODS[method].ink
        inset.plot(x[keep], curve.mean[keep], color=colour, linewidth=1.0)
        inset.fill_between(x[keep], low[keep], high[keep], color=colour, alpha=0.25, linewidth=0)
        excess.append((x[keep], low[keep], high[keep]))
    if excess:
        fit_y(inset, excess, floor=None)
        inset.set_xlim(*x_range)
        inset.locator_params(nbins=4)
    return as_panel(canvas, name, f"{labels[1]} from the same frames, N = {size}")


def paired(evidence: Evidence, size: int) -> Drawing:
    """Figs 1, 2 and 4 at a fixed bond network: all sides from the same frames of AIMD, and differences."""
    sketch = Sketch(evidence)
    panels = [
        _paired_panel(
            sketch,
            size=size,
            name=f"paired-{size}-{pair}",
            x_key="rdf_r",
            y_key=f"rdf_{pair}",
            labels=(DISTANCE_AXIS, f"g(r), {pair}"),
            x_range=(1.0, 5.6),
        )
        for pair in PAIRS
    ]
    panels += [
        _paired_panel(
            sketch,
            size=size,
            name=f"paired-{size}-{triplet}",
            x_key="angle_deg",
            y_key=f"badf_{triplet}",
            labels=(f"angle {triplet} (°)", "density (1/°)"),
            x_range=(30.0, 180.0),
        )
        for triplet in TRIPLETS[:4]
    ]
    panels += [
        _paired_panel(
            sketch,
            size=size,
            name=f"paired-{size}-vaf-{species}",
            x_key="vaf_time_fs",
            y_key=f"vaf_{species}",
            labels=("t (ps)", f"VAF, {species}"),
            x_range=(0.0, 0.198),
            x_scale=1 / FS_PER_PS,
        )
        for species in ("Si", "O")
    ]
    caption = (
        f"Figs 1, 2 and 4 at a fixed bond network, N = {size}: the NNP and BKS from the frame, positions "
        "and velocities, of each AIMD run at which its own start is forgotten, as long and in the same "
        "ensemble. Insets: what each has in excess of AIMD, with 95% intervals from the differences pair by "
        "pair, in which the bonds that both sides share cancel."
    )
    return sketch.finish(f"paired-{size}", f"Figs 1, 2, 4 from the same frames, N = {size}", caption, panels)


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
        scale, window = 1 / FS_PER_PS, (0.0, 0.2)
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
    long = next((label for label in ("msd-long", "liquid-96-nvt") if label in evidence), None)
    if long and evidence.products[long] != evidence.products.get(DEEPMD_96.label):
        series = (*series, Series(long, "deepmd-96-large", "DeePMD-96, long run"))
    scale = 1 / FS_PER_PS
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
