"""How figures are laid out: a panel a backbone, intervals in rows, cells with numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from carbench.figures.colours import INK, MUTED, RULE
from carbench.figures.style import Style, percent_axis, shorten

MOST_ROWS = 40  # of a figure with a row a class; more would be a wall of text


@dataclass(frozen=True)
class Estimate:
    """A part of one, with its interval."""

    value: float
    low: float
    high: float


def panels(
    style: Style, names: Sequence[str], height: float, extra: float = 3
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a titled panel for each name, all with the same axes.

    Args:
        style: colours and sizes.
        names: the titles, in reading order.
        height: of a panel, in inches.
        extra: lines of text above and below the panels.
    """
    columns = columns_of(len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(style.width, rows * height + style.row_height(extra)))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(shorten(name, 70 // columns), color=INK)
    for axes in grid[len(names) :]:
        axes.remove()
    # Where nothing stands below a panel, it has a scale of its own.
    for axes in grid[max(len(names) - columns, 0) : len(names)]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, list(grid[: len(names)])


def columns_of(count: int) -> int:
    """Return how many panels stand side by side."""
    return min(count, 4 if count == 4 or count > 6 else 3)


def caption(figure: Figure, text: str, style: Style) -> None:
    """Say above a figure what it shows."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=style.font_size * 0.9, color=MUTED)


def nothing(style: Style, text: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure = Figure(figsize=(style.width, style.row_height(5)))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
    return figure


def forest(
    style: Style,
    estimates: Mapping[str, Mapping[str, Estimate]],
    title: str,
    labels: Mapping[str, str],
    reference: Mapping[str, float],
) -> Figure:
    """Draw intervals in rows, a panel a backbone, the other backbones as faint dots behind.

    Args:
        style: colours and sizes.
        estimates: by backbone and row; all backbones have the same rows.
        title: what the figure shows.
        labels: what to call each row.
        reference: by backbone, where a vertical line stands; may be empty.
    """
    rows = list(next(iter(estimates.values())))
    figure, grid = panels(style, list(estimates), style.row_height(1.75 * len(rows) + 3.5))
    for axes, (name, own) in zip(grid, estimates.items(), strict=True):
        if name in reference:
            axes.axvline(reference[name], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for other in estimates:
            if other != name:
                values = [each.value for each in estimates[other].values()]
                axes.plot(values, range(len(rows)), "o", color=RULE, markersize=4, zorder=1.5)
        for place, each in enumerate(own.values()):
            axes.plot([each.low, each.high], [place, place], color=style.focus, linewidth=1.6)
            axes.plot(each.value, place, "o", color=style.focus, markersize=5.5)
        forest_axes(axes, [labels[row] for row in rows], style)
    caption(figure, title, style)
    return figure


def forest_axes(axes: Axes, labels: Sequence[str], style: Style) -> None:
    """Rows from top to bottom, percent from left to right."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [shorten(label, 26) for label in labels])
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelsize=style.font_size * 0.9, labelcolor=INK)
    axes.grid(axis="x")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(percent_axis())


def draw_cells(
    axes: Axes,
    shades: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    colours: Colormap,
    letters: float,
) -> None:
    """Draw a matrix of squares with texts in them; where a shade is NaN, the cell stays empty.

    Args:
        axes: where.
        shades: (rows, columns) between 0 and 1.
        texts: what stands in each cell.
        colours: of the shades.
        letters: size of the texts in points; too small ones are left out.
    """
    # Loaded where it draws: that takes longer than any other figure as a whole.
    import seaborn

    seaborn.heatmap(
        shades,
        mask=np.isnan(shades),
        vmin=0,
        vmax=1,
        annot=np.array(texts) if letters >= 5 else False,
        fmt="",
        annot_kws={"fontsize": letters, "linespacing": 1.4},
        cmap=colours,
        cbar=False,
        square=True,
        linewidths=0.4,
        linecolor=RULE,
        xticklabels=False,
        yticklabels=False,
        ax=axes,
    )
    axes.spines[:].set_visible(True)
