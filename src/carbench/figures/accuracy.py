"""accuracy: a row a backbone - mean accuracy, its interval, its seeds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbench.figures.colours import INK, MUTED, RULE
from carbench.figures.style import Style, percent_axis, shorten
from carbench.figures.summary import Backbone, read_summary
from carbench.params.plot import AccuracyParams


def draw(table: Path, style: Style, params: AccuracyParams) -> Figure:
    """Draw summary.csv."""
    backbones = read_summary(table)
    height = style.row_height(2.8 * len(backbones) + 8)
    figure = Figure(figsize=(style.width, height))
    axes = figure.subplots()
    for row, backbone in enumerate(backbones):
        _estimate(axes, row, backbone, style)
        if params.show_seeds and len(backbone.seeds) > 1:
            axes.plot(
                backbone.accuracy_by_seed,
                [row + 0.27] * len(backbone.seeds),
                marker="o",
                markersize=3.2,
                linestyle="none",
                color=MUTED,
                markeredgewidth=0,
                label="one seed",
            )
    _rows(axes, backbones, style)
    _key(figure, axes)
    return figure


def _estimate(axes: Axes, row: int, backbone: Backbone, style: Style) -> None:
    colour = style.focus if backbone.chosen else INK
    interval = [backbone.accuracy_low, backbone.accuracy_high]
    axes.plot(interval, [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
    label = "chosen on validation" if backbone.chosen else "not chosen"
    axes.plot(backbone.accuracy, row, "o", color=colour, markersize=8, label=label)


def _rows(axes: Axes, backbones: list[Backbone], style: Style) -> None:
    """Names on the left, numbers on the right, thin rules between."""
    axes.set_ylim(len(backbones) - 0.5, -0.55)
    axes.set_yticks(range(len(backbones)), [shorten(each.backbone, 24) for each in backbones])
    axes.tick_params(axis="y", length=0, labelsize=style.font_size, labelcolor=INK)
    for row, (label, backbone) in enumerate(zip(axes.get_yticklabels(), backbones, strict=True)):
        if backbone.chosen:
            label.set_fontweight("bold")
        numbers = [
            (f"{100 * backbone.accuracy:.1f} %", 10, INK),
            (f"{100 * backbone.accuracy_low:.1f} – {100 * backbone.accuracy_high:.1f}", 70, MUTED),
        ]
        for text, offset, colour in numbers:
            axes.annotate(
                text,
                (1, row),
                (offset * style.font_size / 10, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                color=colour,
            )
    axes.margins(x=0.06)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.xaxis.set_major_formatter(percent_axis())
    axes.set_xlabel("clean test pictures named correctly: mean and interval", color=MUTED)
    for row in range(1, len(backbones)):
        axes.axhline(row - 0.5, color=RULE, linewidth=0.6)


def _key(figure: Figure, axes: Axes) -> None:
    """Each kind of mark once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(reversed(labels), reversed(handles), strict=True))
    order = list(dict.fromkeys(labels))
    figure.legend(
        [once[label] for label in order],
        order,
        loc="outside upper left",
        ncols=3,
        borderaxespad=0.2,
    )
