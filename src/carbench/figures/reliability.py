"""reliability: is a backbone right as often as it says? Before and after temperature."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbench.figures.colours import MUTED, PAPER
from carbench.figures.layout import caption, columns_of, panels
from carbench.figures.style import Style, percent_axis
from carbench.figures.summary import Row, read_rows
from carbench.params.plot import ReliabilityParams


class Bin(Row):
    """A row of reliability.csv: the pictures of one bin of confidence, seeds pooled."""

    backbone: str
    calibrated: bool
    bin: int
    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


def draw(table: Path, style: Style, params: ReliabilityParams) -> Figure:
    """Draw reliability.csv."""
    bins = read_rows(table, Bin)
    names = list(dict.fromkeys(each.backbone for each in bins))
    side = min(style.width / columns_of(len(names)), 0.42 * style.width)
    figure, grid = panels(style, names, side, extra=4.5)
    for axes, name in zip(grid, names, strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for calibrated in (False, True):
            if params.show in ("both", "after" if calibrated else "before"):
                own = [each for each in bins if each.backbone == name]
                _line(axes, [each for each in own if each.calibrated == calibrated], style)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.grid()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.xaxis.set_major_formatter(percent_axis())
        axes.yaxis.set_major_formatter(percent_axis())
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, borderaxespad=0.2)
    caption(
        figure,
        "across: how sure it says it is; up: how often it is right\n"
        "on the dashed line confidence can be taken at its word",
        style,
    )
    return figure


def _line(axes: Axes, bins: list[Bin], style: Style) -> None:
    """A line through the bins, with their intervals; hollow before temperature."""
    after = bool(bins) and bins[0].calibrated
    colour = style.focus if after else style.warning
    for each in bins:
        axes.plot([each.confidence] * 2, [each.low, each.high], color=colour, linewidth=0.8)
    axes.plot(
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        "o-" if after else "s--",
        color=colour,
        linewidth=1.4,
        markersize=4.5,
        markerfacecolor=colour if after else PAPER,
        markeredgewidth=1.2,
        label="after temperature" if after else "as trained",
    )
