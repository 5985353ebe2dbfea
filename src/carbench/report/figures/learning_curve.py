"""learning_curve: validation accuracy versus training images, and its extrapolation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from carbench.params.plot import LearningCurveFigureParams
from carbench.report.plotting.colours import MUTED
from carbench.report.plotting.layout import caption, column_count, message_figure, panel_grid
from carbench.report.plotting.style import Mark, Style, percent_axis
from carbench.report.tables.result_tables import LearningCurveRow, read_rows


def draw(table: Path, style: Style, params: LearningCurveFigureParams) -> Figure:
    """Draw the figure from learning_curve.csv."""
    points = read_rows(table, LearningCurveRow)
    if not points:
        return message_figure(
            style, "no learning curve was requested: learning_curve.fractions is empty"
        )
    names = list(dict.fromkeys(point.backbone for point in points))
    columns = column_count(len(names), style)
    height = min(max(0.8 * style.width / columns, 0.3 * style.width), 2.9)
    figure, grid = panel_grid(style, names, height, extra=6)
    for place, (axes, name) in enumerate(zip(grid, names, strict=True)):
        own = [point for point in points if point.backbone == name]
        _law(axes, own, style.mark(place))
        for point in own:
            _point(axes, point, style.mark(place))
        _axes(axes, [point.images for point in own], params.log_scale, style.narrow)
    ahead = any(not point.measured for point in points)
    what = "validation accuracy, with intervals"
    caption(figure, what + ("; line: fitted power law; open: extrapolated" if ahead else ""), style)
    figure.supxlabel("training images", fontsize=style.font_size * 0.9, color=MUTED)
    return figure


def _point(axes: Axes, point: LearningCurveRow, mark: Mark) -> None:
    """Draw a measured point filled, or an extrapolated one open with a dashed interval."""
    axes.plot(
        [point.images] * 2,
        [point.low, point.high],
        color=mark.colour,
        linewidth=1.3,
        linestyle="-" if point.measured else (0, (2, 2)),
    )
    axes.plot(
        point.images,
        point.accuracy,
        mark.shape,
        color=mark.colour,
        markersize=6,
        fillstyle="full" if point.measured else "none",
    )


def _law(axes: Axes, points: list[LearningCurveRow], mark: Mark) -> None:
    """Draw the fitted power law, dashed where it is extrapolated."""
    fitted = [(point.images, point.fitted, point.measured) for point in points]
    line = [(x, y) for x, y, measured in fitted if y is not None and measured]
    beyond = [(x, y) for x, y, measured in fitted if y is not None and not measured]
    if line and beyond:
        axes.plot(*zip(*line, strict=True), color=mark.colour, linewidth=1)
        axes.plot(
            *zip(line[-1], *beyond, strict=True),
            color=mark.colour,
            linewidth=1,
            linestyle=(0, (4, 3)),
        )


def _axes(axes: Axes, counts: list[float], log_scale: bool, narrow: bool) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0, which="both")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(percent_axis())
    if log_scale:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        # Ticks at the points, or at every second one (from the last) where they would crowd.
        axes.set_xticks(counts[:: -2 if len(counts) > 5 or narrow else -1])
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
