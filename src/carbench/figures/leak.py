"""leak: what the published test set would have claimed, and the gap that its twins make."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbench.figures.colours import INK, MUTED, PAPER
from carbench.figures.layout import forest_axes, nothing
from carbench.figures.style import Style
from carbench.figures.summary import Backbone, known, read_summary
from carbench.params.plot import LeakParams


def draw(table: Path, style: Style, params: LeakParams) -> Figure:
    """Draw summary.csv."""
    backbones = read_summary(table)
    if any(each.leak_gap is None for each in backbones):
        return nothing(style, "no leak: no test picture has a twin among those that were learned")
    height = style.row_height(2.2 * len(backbones) + 7)
    figure = Figure(figsize=(style.width, height))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for row, backbone in enumerate(backbones):
        _accuracies(left, row, backbone, style, params)
        _gap(right, row, backbone, style)
    labels = [each.backbone for each in backbones]
    for axes in (left, right):
        forest_axes(axes, labels, style)
        axes.margins(x=0.08)
    left.set_xlabel("test pictures named correctly", color=MUTED)
    right.axvline(0, color=MUTED, linewidth=0.9)
    right.set_xlabel("leak gap: published minus clean", color=MUTED)
    handles, names = left.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    figure.legend(
        list(once.values()), list(once), loc="outside upper left", ncols=3, borderaxespad=0.2
    )
    return figure


def _accuracies(axes: Axes, row: int, backbone: Backbone, style: Style, params: LeakParams) -> None:
    """Three marks of three shapes; only the clean one is filled."""
    clean = [backbone.accuracy, backbone.accuracy_low, backbone.accuracy_high]
    published = [backbone.published_accuracy, backbone.published_low, backbone.published_high]
    leaked = [backbone.leaked_accuracy, backbone.leaked_low, backbone.leaked_high]
    marks = [
        ("clean pictures", "o", INK, INK, known(*clean)),
        ("as published", "D", style.warning, PAPER, known(*published)),
        ("leaked pictures", "s", style.warning, PAPER, known(*leaked)),
    ]
    for step, (label, shape, edge, face, (value, low, high)) in enumerate(marks):
        if label.startswith("leaked") and not params.show_leaked:
            continue
        place = row + 0.2 * (step - 1)
        axes.plot([low, high], [place, place], color=edge, linewidth=1.2)
        axes.plot(
            value,
            place,
            shape,
            markersize=6,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=1.3,
            linestyle="none",
            label=label,
        )


def _gap(axes: Axes, row: int, backbone: Backbone, style: Style) -> None:
    gap, *interval = known(backbone.leak_gap, backbone.leak_gap_low, backbone.leak_gap_high)
    axes.plot(interval, [row, row], color=style.warning, linewidth=2)
    axes.plot(gap, row, "o", color=style.warning, markersize=7)
