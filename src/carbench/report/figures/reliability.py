"""reliability: reliability diagrams, large for the chosen backbone and small for the others."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carbench.params.plot import ReliabilityParams
from carbench.report.plotting.colours import INK, MUTED, PAPER
from carbench.report.plotting.layout import MainPanelLayout, caption, wrap_text
from carbench.report.plotting.style import Style, percent_axis, shorten
from carbench.report.tables.result_tables import TableRow, read_rows

MOST_OTHERS = 8


class ReliabilityRow(TableRow):
    """A row of reliability.csv: the images in one confidence bin, pooled over seeds."""

    backbone: str
    calibrated: bool
    bin: int
    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


def draw(table: Path, style: Style, params: ReliabilityParams) -> Figure:
    """Draw the figure from reliability.csv, which lists the chosen backbone first."""
    bins = read_rows(table, ReliabilityRow)
    shown = {"before": (False,), "after": (True,), "both": (False, True)}[params.show]
    bins = [each for each in bins if each.calibrated in shown]
    names = list(dict.fromkeys(each.backbone for each in bins))[: MOST_OTHERS + 1]
    title = "accuracy (y) versus stated confidence (x)"
    title += "\ndashed line: perfect calibration"
    head = style.row_height(1.25 * len(wrap_text(title, style).split("\n")) + 2.2)
    bottom = style.row_height(2.4)
    hero = MainPanelLayout.fitting(style, len(names) - 1, head, style.row_height(4.6), bottom)
    figure = Figure(figsize=(style.width, hero.height))
    figure.set_layout_engine("none")
    lows = [_lowest([each for each in bins if each.backbone == name]) for name in names]
    for place, (name, box) in enumerate(zip(names, hero.boxes, strict=True)):
        axes = figure.add_axes(box)
        own = [each for each in bins if each.backbone == name]
        for calibrated in shown:
            part = [each for each in own if each.calibrated == calibrated]
            _line(axes, part, style, small=place > 0)
        _axes(axes, min(lows[1:]) if place else lows[0], style, small=place > 0)
        size = style.font_size * (0.8 if place else 1)
        room = style.max_characters(
            hero.small if place else hero.side, size / style.font_size * 1.2
        )
        axes.set_title(shorten(name, max(room, 6)), color=INK, fontsize=size)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    caption(figure, title, style)
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, 1 - (head - style.row_height(2)) / hero.height),
        ncols=2,
        borderaxespad=0.2,
    )
    return figure


def _lowest(bins: list[ReliabilityRow]) -> float:
    """Return the lower axis limit for some bins: their lowest value, rounded down to a tenth."""
    least = min(min(each.low, each.confidence) for each in bins)
    return max(0.0, int(10 * least) / 10)


def _axes(axes: Axes, low: float, style: Style, small: bool) -> None:
    air = 0.02 * (1 - low)
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(low - air, 1 + air), ylim=(low - air, 1 + air))
    for axis in (axes.xaxis, axes.yaxis):
        if small:
            axis.set_ticks([low, 1])
        else:
            axis.set_major_locator(MaxNLocator(nbins=5))
        axis.set_major_formatter(percent_axis())
    axes.grid()
    axes.tick_params(length=0, labelsize=style.font_size * (0.7 if small else 0.9))
    axes.spines[:].set_visible(False)
    if small:
        axes.set_yticklabels([])
        left, right = axes.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")


def _line(axes: Axes, bins: list[ReliabilityRow], style: Style, small: bool) -> None:
    """Draw a line through the bins, with intervals; markers are hollow if uncalibrated."""
    after = bool(bins) and bins[0].calibrated
    colour = style.focus if after else style.warning
    if not small:
        for each in bins:
            axes.plot([each.confidence] * 2, [each.low, each.high], color=colour, linewidth=0.8)
    axes.plot(
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        "o-" if after else "s--",
        color=colour,
        linewidth=1 if small else 1.4,
        markersize=2.5 if small else 4.5,
        markerfacecolor=colour if after else PAPER,
        markeredgewidth=0.7 if small else 1.2,
        label="calibrated" if after else "uncalibrated",
    )
