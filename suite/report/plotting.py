"""How curves of products become panels: colours, one SVG for each panel, bands, insets, legends.

Every panel is an SVG of its own, so that a page can flow panels in columns on a wide screen and one below
the other on a phone. Colours are written as fixed codes of the light palette and are turned into CSS
variables for the page (`Panel.themed`), which is how one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from suite.judging.checks import REWEIGHTED
from suite.judging.curves import read_curves
from suite.judging.distances import paired_differences
from suite.judging.evidence import Evidence, Observation
from suite.judging.pairs import read_pairs
from suite.judging.reasons import UNAVAILABLE, NotTested
from suite.judging.reweighted import judging_reference
from suite.judging.statistics import mean_interval, mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Array = NDArray[np.float64]

WIDEST_BAND = 0.25  # of its curve's range, as far as axes and insets make room for it
DRAWN_POINTS = 500  # per curve; more is below the line width of a panel
PANEL_INCHES = (4.1, 3.0)


@dataclass(frozen=True)
class Ink:
    """A colour on light and on dark paper."""

    light: str
    dark: str


@dataclass(frozen=True)
class Method:
    """How one source of data looks in every figure."""

    colour: str  # key of INKS
    dash: tuple[float, ...] = ()  # in line widths; empty is solid
    width_points: float = 1.3

    @property
    def ink(self) -> str:
        """Its colour on light paper."""
        return INKS[self.colour].light

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """Its dashes, as Matplotlib takes them."""
        return (0, self.dash) if self.dash else "-"


# Okabe and Ito's hues, darkened or lightened for contrast on either paper. Each light code is used once:
# it is the code that `Panel.themed` replaces.
INKS: Mapping[str, Ink] = {
    "ink": Ink("#1f2328", "#e6e8eb"),
    "muted": Ink("#6a737d", "#9aa4af"),
    "rule": Ink("#d8dce1", "#3a414a"),
    "paper": Ink("#fffffe", "#14171b"),
    "aimd": Ink("#101112", "#fafbfc"),
    "aimd-bks": Ink("#77808a", "#98a2ad"),
    "deepmd-216": Ink("#0072b2", "#56b4e9"),
    "deepmd-96": Ink("#00875f", "#2fcf9f"),
    "bks": Ink("#d55e00", "#ff9447"),
    "hdnnp-96": Ink("#7a5bbf", "#b9a3f0"),
    "experiment": Ink("#b3487f", "#e79bc2"),
    "tersoff": Ink("#7a7300", "#d3c93f"),
    "training": Ink("#7d7466", "#b9ae9c"),
}
METHODS: Mapping[str, Method] = {
    "aimd": Method("aimd", width_points=1.8),
    "aimd-bks": Method("aimd-bks", (2.5, 1.2), 1.8),
    "pbe-reweighted": Method("aimd", (1.0, 1.0), 2.2),
    "deepmd-216": Method("deepmd-216"),
    "deepmd-96": Method("deepmd-96", (5, 1.2)),
    "bks": Method("bks", (5, 1.5, 1, 1.5)),
    "hdnnp-96": Method("hdnnp-96", (3, 1, 1, 1, 1, 1)),
    "deepmd-96-nve": Method("deepmd-96", (1.2, 1.2), 2.0),
    "deepmd-96-large": Method("deepmd-96", width_points=1.9),
    "experiment": Method("experiment"),
    "tersoff": Method("tersoff", (2, 1.2)),
    "aimd-espresso": Method("aimd", (2.5, 1.2), 1.8),
    "training": Method("training", (1, 1.4)),
}


@dataclass(frozen=True)
class Series:
    """One line of a figure: where its data are, how it is drawn, what the legend says (`note` after N).

    `merged` neighbouring points are drawn as their mean, where few frames make a noisy curve.
    """

    label: str
    method: str
    text: str
    note: str = ""
    merged: int = 1


@dataclass(frozen=True)
class Panel:
    """One drawing: a file name without suffix, what a screen reader says, and what is inside its SVG."""

    name: str
    alternative: str
    size_points: tuple[float, float]
    body: str

    @property
    def standalone(self) -> str:
        """A file of its own, on white, in the light colours."""
        width, height = self.size_points
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'stroke-linejoin="round">'
            f'<rect width="100%" height="100%" fill="#ffffff"/>{self.body}</svg>\n'
        )

    @property
    def themed(self) -> str:
        """For the page: colours as CSS variables (`--c-ink` ...), ids that no other panel has."""
        body = self.body
        for key, ink in INKS.items():
            body = body.replace(ink.light, f"var(--c-{key})")
        body = body.replace('id="', f'id="{self.name}-').replace("url(#", f"url(#{self.name}-")
        body = body.replace('href="#', f'href="#{self.name}-')
        width, height = self.size_points
        label = escape(self.alternative)
        return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}</svg>'


@dataclass(frozen=True)
class Drawing:
    """A figure of the report: its panels, its legend, what it could not draw and why."""

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    legend: tuple[Series, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A mean curve and half the width of its 95% interval (NaN where one sample gives none)."""

    x: Array
    mean: Array
    half_width: Array


def mean_curve(observations: Sequence[Observation], x_key: str, y_key: str, *, merged: int = 1) -> Curve:
    """Mean over replicas and blocks with its pointwise 95% interval, on the points that all runs cover.

    `merged` neighbouring points become one.
    """
    curves = read_curves(observations, x_key, y_key)

    def fewer(rows: Array) -> Array:
        whole = rows.shape[-1] // merged * merged
        means: Array = rows[..., :whole].reshape(*rows.shape[:-1], -1, merged).mean(axis=-1)
        return means

    x, groups = fewer(curves.x), [fewer(group) for group in curves.groups]
    try:
        return Curve(x, *mean_interval(groups))
    except NotTested:
        return Curve(x, mean_of(groups), np.full(x.shape, math.nan))


@dataclass
class Sketch:
    """Draws one figure's panels and remembers which series came out and which did not."""

    evidence: Evidence
    drawn: dict[str, Series] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def curve(self, series: Series, x_key: str, y_key: str) -> Curve | None:
        """The curve of a series, or None after noting why there is none."""
        try:
            observations = self.evidence.observables(series.label)
            if series.label.endswith(REWEIGHTED):
                observations = [judging_reference(observations)]
        except UNAVAILABLE as reason:
            self.missing[series.text] = str(reason)
            return None
        usable = [observation for observation in observations if y_key in observation]
        if not usable:
            self.missing[series.text] = f"no {y_key} in its observables"
            return None
        try:
            return mean_curve(usable, x_key, y_key, merged=series.merged)
        except UNAVAILABLE as reason:
            self.missing[series.text] = str(reason)
            return None

    def excess(self, size: int, side: str, x_key: str, y_key: str) -> Curve | None:
        """Mean difference of a side of the pairs from AIMD, and half its interval; None without them."""
        read = partial(read_curves, x_key=x_key, y_key=y_key)
        try:
            pairs = read_pairs(self.evidence, size=size, sides=(side,), read=read)
            apart = paired_differences(pairs.sides[side], pairs.sides["aimd"])
            return Curve(pairs.x, *mean_interval(apart))
        except UNAVAILABLE:
            return None

    def named(self, series: Series) -> Series:
        """A series with the number of atoms of its runs behind its name."""
        sizes = sorted({run.facts["n_atoms"] for run in self.evidence.observables(series.label)})
        number = " and ".join(str(size) for size in sizes)
        return replace(series, text=f"{series.text}, N = {number}{series.note}")

    def draw(
        self,
        axes: Axes,
        series: Iterable[Series],
        x_key: str,
        y_key: str,
        *,
        x_scale: float = 1.0,
        x_range: tuple[float, float] | None = None,
        in_legend: bool = True,
    ) -> list[tuple[Array, Array, Array]]:
        """Draw the series that exist; returns (x, lower, upper) of each as drawn."""
        outlines = []
        for one in series:
            curve = self.curve(one, x_key, y_key)
            if curve is None:
                continue
            if in_legend:
                self.drawn[one.text + one.note] = self.named(one)
            x = curve.x * x_scale
            keep = np.isfinite(curve.mean)
            if x_range is not None:
                keep &= (x >= x_range[0]) & (x <= x_range[1])
            keep &= np.arange(x.size) % max(1, int(np.count_nonzero(keep)) // DRAWN_POINTS) == 0
            if not keep.any():
                continue
            x, mean = x[keep], curve.mean[keep]
            half = np.nan_to_num(curve.half_width[keep])
            method = METHODS[one.method]
            colour = method.ink
            axes.plot(
                x,
                mean,
                color=colour,
                linewidth=method.width_points,
                linestyle=method.linestyle,
                zorder=3 if method.colour.startswith("aimd") else 4,
            )
            if half.any():
                lower = mean - half
                if axes.get_yscale() == "log":
                    lower = np.maximum(lower, mean * 1e-2)
                axes.fill_between(x, lower, mean + half, color=colour, alpha=0.2, linewidth=0, zorder=2)
            # A band of two or three units can be far wider than its curve: it does not set the scale.
            reach = WIDEST_BAND * float(np.ptp(mean))
            outlines.append(
                (x, np.maximum(mean - half, mean.min() - reach), np.minimum(mean + half, mean.max() + reach))
            )
        return outlines

    def finish(self, key: str, title: str, caption: str, panels: Sequence[Panel | None]) -> Drawing:
        """The figure, with the notes collected while its panels were drawn."""
        return Drawing(
            key=key,
            title=title,
            caption=caption,
            panels=tuple(panel for panel in panels if panel is not None),
            legend=tuple(self.drawn.values()),
            missing=tuple(f"{text}: {reason}" for text, reason in self.missing.items()),
        )


def new_canvas(size_inches: tuple[float, float] = PANEL_INCHES) -> tuple[Canvas, Axes]:
    """An empty panel, its axes dressed."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=size_inches)
    axes = canvas.add_axes((0.15, 0.16, 0.81, 0.73))
    dress(axes)
    return canvas, axes


def dress(axes: Axes, *, font_points: float = 8.5) -> None:
    """Ticks, grid, frame and labels of some axes in the page's colours."""
    ink, rule = INKS["ink"].light, INKS["rule"].light
    axes.patch.set_visible(False)
    axes.tick_params(which="both", colors=ink, labelsize=font_points, direction="in", width=0.7)
    axes.grid(visible=True, color=rule, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6)  # ticks are most of what a panel's drawing takes
    for spine in axes.spines.values():
        spine.set(color=ink, linewidth=0.8)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set(color=ink, fontsize=font_points)


def as_panel(canvas: Canvas, name: str, alternative: str) -> Panel:
    """The SVG of a canvas without prologue and metadata, numbers at 0.01 pt."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify_threshold": 0.2}):
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    # A <style> would hold for the whole page that the SVG is put in; its two settings are on the <svg>.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group()), body)
    body = re.sub(r"font: ([\d.]+)px '[^']*'(, [^;\"]*)?", r"font-size: \1px", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (round(72 * float(side), 2) for side in canvas.get_size_inches())
    return Panel(name, alternative, (width, height), body)


def room_for_inset(
    axes: Axes,
    outlines: Sequence[tuple[Array, Array, Array]],
    *,
    width: float = 0.42,
    height: float = 0.36,
) -> Axes:
    """An inset in the top corner that needs less head room; the y range grows until no curve is under it."""
    left, right = axes.get_xlim()
    bottom = axes.get_ylim()[0]
    margin, labels = 0.03, 0.13  # of the panel; `labels` is what the inset's tick labels take
    highest = max(float(upper.max()) for _, _, upper in outlines)

    def needed(start: float, end: float) -> float:
        low, high = left + start * (right - left), left + end * (right - left)
        under = [upper[(x >= low) & (x <= high)] for x, _, upper in outlines]
        peak = max((float(values.max()) for values in under if values.size), default=bottom)
        return bottom + (peak - bottom) / (1 - height - margin - labels)

    at_left, at_right = needed(0.0, width + labels), needed(1 - width - labels, 1.0)
    start = 0.1 if at_left < at_right else 1 - width - margin
    axes.set_ylim(bottom, max(min(at_left, at_right), highest + 0.06 * (highest - bottom)))
    inset = axes.inset_axes((start, 1 - height - margin, width, height))
    dress(inset, font_points=6.5)
    return inset


def fit_y(axes: Axes, outlines: Sequence[tuple[Array, Array, Array]], *, floor: float | None = 0.0) -> None:
    """The y range of what is drawn, from `floor` if given, with a little air."""
    low = min(float(lower.min()) for _, lower, _ in outlines) if floor is None else floor
    high = max(float(upper.max()) for _, _, upper in outlines)
    air = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - (air if floor is None else 0.0), high + air)


def plain_log_ticks(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 per decade, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
