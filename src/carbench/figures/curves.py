"""curves: how each backbone learned - a panel each, the others faint behind it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from carbench.figures.colours import INK, MUTED, RULE
from carbench.figures.style import Style, log_ticks, percent_axis, shorten
from carbench.figures.summary import Row, read_rows
from carbench.params.plot import CurvesParams

TITLES = {
    "val_accuracy": "validation pictures named correctly",
    "val_loss": "loss on validation pictures",
    "train_loss": "loss on training pictures",
}
Line = list[tuple[int, float]]


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
    columns = min(len(names), 4 if len(names) == 4 or len(names) > 6 else 3)
    rows = -(-len(names) // columns)
    panel = min(max(0.62 * style.width / columns, 0.2 * style.width), 0.42 * style.width)
    figure = Figure(figsize=(style.width, rows * panel + style.row_height(4)))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    means = {name: _mean(epochs, name, params.metric) for name in names}
    for axes, name in zip(panels, names, strict=False):
        for other in names:
            if other != name:
                axes.plot(*zip(*means[other], strict=True), color=RULE, linewidth=1)
        for line, chosen in _lines(epochs, name, params.metric):
            axes.plot(*zip(*line, strict=True), color=style.focus, linewidth=1)
            axes.plot(*chosen, "o", color=style.focus, markersize=5)
        axes.set_title(shorten(name, 70 // columns), color=INK)
        _axes(axes, params.metric)
    for axes in panels[len(names) :]:
        axes.remove()
    _name_axes(figure, params.metric, style)
    return figure


def _lines(epochs: list[Epoch], name: str, metric: str) -> list[tuple[Line, tuple[int, float]]]:
    """Each seed's line, and the point of the epoch that was kept."""
    own = [epoch for epoch in epochs if epoch.backbone == name]
    result = []
    for seed in dict.fromkeys(epoch.seed for epoch in own):
        run = [epoch for epoch in own if epoch.seed == seed]
        kept = next(epoch for epoch in run if epoch.chosen)
        line = [(epoch.epoch, float(getattr(epoch, metric))) for epoch in run]
        result.append((line, (kept.epoch, float(getattr(kept, metric)))))
    return result


def _mean(epochs: list[Epoch], name: str, metric: str) -> Line:
    """The mean over a backbone's seeds."""
    values: dict[int, list[float]] = {}
    for epoch in epochs:
        if epoch.backbone == name:
            values.setdefault(epoch.epoch, []).append(float(getattr(epoch, metric)))
    return [(epoch, sum(own) / len(own)) for epoch, own in values.items()]


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


def _name_axes(figure: Figure, metric: str, style: Style) -> None:
    figure.supxlabel("epoch", fontsize=style.font_size * 0.9, color=MUTED)
    figure.suptitle(
        f"{TITLES[metric]}; a line a seed, the dot is the epoch that was kept",
        x=0.01,
        ha="left",
        fontsize=style.font_size * 0.9,
        color=MUTED,
    )
