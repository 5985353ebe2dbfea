"""Forest plots: rows with a name, marks with intervals on a common axis, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from carbench.report.plotting.colours import MUTED, PAPER
from carbench.report.plotting.layout import caption, wrap_text
from carbench.report.plotting.row_layout import (
    PlotPoint,
    PlotRow,
    annotate_values,
    label_rows,
    marker_offset,
)
from carbench.report.plotting.style import Mark, Style, percent_axis, points_axis, shorten

# A wider interval is hardly informative and is drawn dotted.
VERY_WIDE = 0.5
DOTTED = f"dotted: an interval wider than {100 * VERY_WIDE:.0f} points"


@dataclass(frozen=True)
class Panel:
    """Rows on one axis.

    Attributes:
        label: axis label.
        points: whether values are differences, shown in percentage points with a line at zero.
        reference: position of a dashed line.
        share: width relative to the other panels.
    """

    rows: Sequence[PlotRow]
    label: str
    points: bool = False
    reference: float | None = None
    share: float = 1.0


@dataclass(frozen=True)
class LegendEntry:
    """A mark and its meaning."""

    text: str
    mark: Mark
    hollow: bool = False
    size: float = 6.0


def forest_plot(
    style: Style, panels: Sequence[Panel], title: str, key: Sequence[LegendEntry] = ()
) -> Figure:
    """Draw panels with the same rows side by side, or stacked in a narrow figure."""
    count = len(panels[0].rows)
    if any(_very_wide(point) for panel in panels for row in panel.rows for point in row.points):
        title += f"; {DOTTED}"
    lines = len(wrap_text(title, style).split("\n")) + len(key) / (2 if style.narrow else 3)
    each = (3.9 * count + 4) if style.narrow else 2.4 * count
    height = style.row_height((len(panels) * each if style.narrow else each + 4) + 1.3 * lines + 1)
    figure = Figure(figsize=(style.width, height))
    if style.narrow:
        grid = figure.subplots(len(panels), 1, squeeze=False).ravel()
    else:
        shares = [panel.share for panel in panels]
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=shares).ravel()
    for place, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        _panel(axes, panel, style, named=style.narrow or place == 0)
    caption(figure, title, style)
    if key:
        _key(figure, key, style)
    return figure


def _panel(axes: Axes, panel: Panel, style: Style, named: bool) -> None:
    if panel.points:
        axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    if panel.reference is not None:
        axes.axvline(panel.reference, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for place, row in enumerate(panel.rows):
        for point in row.points:
            _draw(axes, place + marker_offset(style) - point.rise, point)
    label_rows(axes, panel.rows, style, named)
    if not style.narrow:
        annotate_values(axes, panel.rows, style)
    axes.margins(x=0.04)
    axes.grid(axis="x")
    bins = (4 if style.narrow else 7) if panel.share >= 1 else 4
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(points_axis() if panel.points else percent_axis())
    axes.set_xlabel(panel.label, color=MUTED)


def _draw(axes: Axes, height: float, point: PlotPoint) -> None:
    if point.interval:
        axes.plot(
            point.interval,
            [height, height],
            color=point.colour,
            linewidth=0.26 * point.size,
            solid_capstyle="round",
            linestyle=(0, (1, 2)) if _very_wide(point) else "-",
        )
    axes.plot(
        point.value,
        height,
        point.shape,
        color=point.colour,
        markersize=point.size,
        markerfacecolor=PAPER if point.hollow else point.colour,
        markeredgewidth=1.3 if point.hollow else 0.6,
    )


def _very_wide(point: PlotPoint) -> bool:
    return point.interval is not None and point.interval[1] - point.interval[0] > VERY_WIDE


def _key(figure: Figure, key: Sequence[LegendEntry], style: Style) -> None:
    longest = max(len(each.text) for each in key)
    most = style.max_characters(size=0.9)
    columns = max(1, min(len(key), most // (longest + 6)))
    handles = [
        Line2D(
            [],
            [],
            marker=each.mark.shape,
            color=each.mark.colour,
            markersize=each.size,
            markerfacecolor=PAPER if each.hollow else each.mark.colour,
            linestyle="none",
            label=shorten(each.text, most - 6),
        )
        for each in key
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, borderaxespad=0.2)
