"""curves: training curves of each backbone, one line per seed, with the selected epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from carbench.params.plot import CurvesParams
from carbench.report.plotting.colours import MUTED
from carbench.report.plotting.layout import caption, column_count, panel_grid
from carbench.report.plotting.style import Mark, Style, log_ticks, percent_axis
from carbench.report.tables.result_tables import TableRow, read_rows

TITLES = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "train_loss": "training loss",
}


class EpochRow(TableRow):
    """A row of curves.csv."""

    backbone: str
    seed: int
    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    chosen: bool


def draw(table: Path, style: Style, params: CurvesParams) -> Figure:
    """Draw the figure from curves.csv, which lists the chosen backbone first."""
    epochs = read_rows(table, EpochRow)
    names = list(dict.fromkeys(epoch.backbone for epoch in epochs))
    columns = column_count(len(names), style)
    height = min(max(0.8 * style.width / columns, 0.26 * style.width), 2.9)
    figure, grid = panel_grid(style, names, height, extra=6)
    runs = {name: _runs(epochs, name, params.metric) for name in names}
    for place, (axes, name) in enumerate(zip(grid, names, strict=True)):
        _axes(axes, params.metric)
        _lines(axes, runs[name], style, style.mark(place))
    if params.metric != "val_accuracy":
        grid[0].set_yticks(log_ticks(*grid[0].get_ylim()))
    floor = grid[0].get_ylim()[0]
    for axes, name in zip(grid, names, strict=True):
        # A vertical line from each mark to its epoch on the axis.
        for run in runs[name]:
            axes.plot([run.kept[0]] * 2, [floor, run.kept[1]], color=MUTED, linewidth=0.7, zorder=1)
        axes.set_ylim(bottom=floor)
    seeds = max(len(own) for own in runs.values())
    lines = "; one line per training run (seed)" if seeds > 1 else ""
    caption(figure, f"{TITLES[params.metric]}{lines}; marks: the epochs that were kept", style)
    figure.supxlabel("epoch", fontsize=style.font_size * 0.9, color=MUTED)
    return figure


@dataclass(frozen=True)
class _Run:
    """The points of one seed and the selected one, as (epoch, value)."""

    points: list[tuple[int, float]]
    kept: tuple[int, float]


def _runs(epochs: list[EpochRow], name: str, metric: str) -> list[_Run]:
    own = [epoch for epoch in epochs if epoch.backbone == name]
    result = []
    for seed in dict.fromkeys(epoch.seed for epoch in own):
        run = [epoch for epoch in own if epoch.seed == seed]
        kept = next(epoch for epoch in run if epoch.chosen)
        points = [(epoch.epoch, float(getattr(epoch, metric))) for epoch in run]
        result.append(_Run(points, (kept.epoch, float(getattr(kept, metric)))))
    return result


def _lines(axes: Axes, runs: list[_Run], style: Style, mark: Mark) -> None:
    """Draw one line per seed of a backbone, and list the selected epochs below its name."""
    for run in runs:
        axes.plot(*zip(*run.points, strict=True), color=mark.colour, linewidth=1.1)
    for run in runs:
        axes.plot(*run.kept, mark.shape, color=mark.colour, markersize=6)
    kept = sorted({run.kept[0] for run in runs})
    epochs_text = ", ".join(map(str, kept[:4])) + (", …" if len(kept) > 4 else "")
    axes.annotate(
        f"kept: epoch{'s' if len(kept) > 1 else ''} {epochs_text}",
        (0, 1),
        (0, -1),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=style.font_size * 0.85,
        color=MUTED,
    )


def _axes(axes: Axes, metric: str) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0, which="both")
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.16)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    if metric == "val_accuracy":
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_formatter(percent_axis())
    else:
        # The loss of the first epochs can be so large that a linear axis would hide the others.
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
