"""What MD costs against the number of atoms, by engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.cost import scaling
from jobs.cost.record import AIMD, NATIVE_CURVE, curves
from suite.judging.evidence import Evidence
from suite.judging.reasons import UNAVAILABLE
from suite.report.plotting import (
    INKS,
    METHODS,
    PANEL_INCHES,
    Array,
    Drawing,
    Series,
    Sketch,
    as_panel,
    new_canvas,
)

COST_CURVES: Mapping[tuple[str, str], tuple[str, str]] = {
    # (engine, setting) -> (method, legend)
    ("cp2k", "aimd"): ("aimd", "AIMD (CP2K)"),
    ("espresso", "aimd"): ("aimd-espresso", "AIMD (Quantum ESPRESSO)"),
    ("deepmd", "plain"): ("deepmd-96", "DeePMD, plain default"),
    ("deepmd", "tuned"): ("deepmd-96-nve", "DeePMD, tuned"),
    ("deepmd", "tuned" + NATIVE_CURVE): ("deepmd-96-large", "DeePMD, native kernel"),
    ("hdnnp", "tuned" + NATIVE_CURVE): ("hdnnp-96", "HDNNP-96, native kernel"),
    ("bks", "tuned"): ("bks", "BKS"),
    ("tersoff", "tuned"): ("tersoff", "Tersoff"),
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
        colour = method.ink
        sketch.drawn[text] = Series("cost", key, text)
        per_atom = {size: point["us_per_step_atom"] for size, point in sizes.items()}
        for size, samples in per_atom.items():
            drawn_sizes.add(size)
            axes.plot(np.full(len(samples), size), samples, "o", color=colour, markersize=2.6, zorder=4)
        x = np.geomspace(min(sizes), max(sizes) * (30 if engine in AIMD else 1), 60)
        fitted = _cost_fit(engine, per_atom, x)
        if fitted is not None:
            inside = x <= max(sizes)
            axes.plot(
                x[inside],
                fitted[inside],
                color=colour,
                linewidth=method.width_points,
                linestyle=method.linestyle,
            )
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
