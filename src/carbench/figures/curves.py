"""curves: how each backbone learned - the mean of its seeds in a band, the others faint behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from carbench.figures.colours import MUTED, RULE
from carbench.figures.layout import caption, columns_of, panels
from carbench.figures.style import Style, log_ticks, percent_axis
from carbench.figures.summary import Row, read_rows
from carbench.params.plot import CurvesParams

TITLES = {
    "val_accuracy": "validation pictures named correctly",
    "val_loss": "loss on validation pictures",
    "train_loss": "loss on training pictures",
}


class Epoch(Row):
    """A row of curves.csv."""

    backbone: str
    seed: int
    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    chosen: bool


def draw(table: Path, style: Style, params: CurvesParams) -> Figure:
    """Draw curves.csv."""
    epochs = read_rows(table, Epoch)
    names = list(dict.fromkeys(epoch.backbone for epoch in epochs))
    height = min(max(0.62 * style.width / columns_of(len(names)), 0.2 * style.width), 2.9)
    figure, grid = panels(style, names, height, extra=4)
    runs = {name: _runs(epochs, name, params.metric) for name in names}
    for axes, name in zip(grid, names, strict=True):
        for other in names:
            if other != name:
                line, _, _ = _band(runs[other])
                axes.plot(*zip(*line, strict=True), color=RULE, linewidth=1)
        line, low, high = _band(runs[name])
        reached = [epoch for epoch, _ in line]
        axes.fill_between(reached, low, high, color=style.focus, alpha=0.2, linewidth=0)
        axes.plot(*zip(*line, strict=True), color=style.focus, linewidth=1.4)
        for run in runs[name]:
            axes.plot(*run.kept, "o", color=style.focus, markersize=4.5)
        _axes(axes, params.metric)
    seeds = max(len(own) for own in runs.values())
    band = "; mean and range of the seeds" if seeds > 1 else ""
    caption(figure, f"{TITLES[params.metric]}{band}; dots: the epochs that were kept", style)
    figure.supxlabel("epoch", fontsize=style.font_size * 0.9, color=MUTED)
    return figure


@dataclass(frozen=True)
class _Run:
    """One seed's points and the one that was kept: (epoch, value)."""

    points: dict[int, float]
    kept: tuple[int, float]


def _runs(epochs: list[Epoch], name: str, metric: str) -> list[_Run]:
    own = [epoch for epoch in epochs if epoch.backbone == name]
    result = []
    for seed in dict.fromkeys(epoch.seed for epoch in own):
        run = [epoch for epoch in own if epoch.seed == seed]
        kept = next(epoch for epoch in run if epoch.chosen)
        points = {epoch.epoch: float(getattr(epoch, metric)) for epoch in run}
        result.append(_Run(points, (kept.epoch, points[kept.epoch])))
    return result


def _band(runs: list[_Run]) -> tuple[list[tuple[int, float]], list[float], list[float]]:
    """The mean, lowest and highest value of each epoch, over the seeds that reached it."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch, value in run.points.items():
            values.setdefault(epoch, []).append(value)
    line = [(epoch, sum(own) / len(own)) for epoch, own in sorted(values.items())]
    ordered = [values[epoch] for epoch, _ in line]
    return line, [min(own) for own in ordered], [max(own) for own in ordered]


def _axes(axes: Axes, metric: str) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0, which="both")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    if metric == "val_accuracy":
        axes.yaxis.set_major_formatter(percent_axis())
    else:
        # The first epochs of a fresh model can be far off and would flatten all that follow.
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks(log_ticks(*axes.get_ylim()))
