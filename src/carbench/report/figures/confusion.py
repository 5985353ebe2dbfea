"""confusion: confusion matrices, large for the chosen backbone and small for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from carbench.params.plot import ConfusionParams
from carbench.report.plotting.colours import INK, RULE
from carbench.report.plotting.layout import MainPanelLayout, caption, wrap_text
from carbench.report.plotting.style import Style, shorten
from carbench.report.tables.formatting import percent
from carbench.report.tables.result_tables import TableRow, read_rows

UPRIGHT = 10  # with more classes, the names below are vertical: slanted, they would overlap
SMALLEST = 5.5  # font size in points; classes that do not fit at this size are not drawn
MOST_OTHERS = 8

Matrix = NDArray[np.float64]


class ConfusionRow(TableRow):
    """A row of confusion.csv."""

    backbone: str
    true: str = Field(alias="class")
    predicted: str
    count: int


def draw(table: Path, style: Style, params: ConfusionParams) -> Figure:
    """Draw the figure from confusion.csv, which lists the chosen backbone first."""
    cells = read_rows(table, ConfusionRow)
    classes = list(dict.fromkeys(cell.true for cell in cells))
    counts = dict(list(_matrices(cells, classes).items())[: MOST_OTHERS + 1])
    right = {name: matrix.trace() / matrix.sum() for name, matrix in counts.items()}
    longest = 14 if style.narrow else 20
    names = [shorten(name, longest) for name in classes]
    margin = 0.6 * 0.85 * style.row_height(max(len(name) for name in names)) + 0.1
    bottom = margin * (1 if len(names) > UPRIGHT else 0.72) + 0.1
    unit = "percent of each true class" if params.normalize else "images, all seeds together"
    title = f"rows: true class; columns: predicted class; {unit}"
    others = len(counts) - 1
    side = MainPanelLayout.fitting(style, others, 0, margin, bottom, 0.4).side
    kept = _most_confused(next(iter(counts.values())), int(72 * side * 0.66 / SMALLEST))
    if len(kept) < len(classes):
        title += f"\nthe {len(kept)} of {len(classes)} classes with the most errors"
    head = style.row_height(1.25 * len(wrap_text(title, style).split("\n")) + 0.4)
    hero = MainPanelLayout.fitting(style, others, head, margin, bottom, 0.4)
    figure = Figure(figsize=(style.width, hero.height))
    figure.set_layout_engine("none")
    highest = max(matrix.max() for matrix in counts.values())
    for place, ((name, matrix), box) in enumerate(zip(counts.items(), hero.boxes, strict=True)):
        axes = figure.add_axes(box)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        shades = shares if params.normalize else matrix / highest
        written = 100 * shares if params.normalize else matrix
        part = np.ix_(kept, kept)
        side = hero.small if place else hero.side
        _cells(axes, shades[part], written[part], style, side, small=place > 0)
        _names(axes, [] if place else [names[index] for index in kept], style, side)
        _title(axes, name, right[name], style, side, small=place > 0)
    caption(figure, title, style)
    return figure


def _title(axes: Axes, name: str, right: float, style: Style, side: float, small: bool) -> None:
    size = 0.8 if small else 1.0
    ending = "" if small else f" – {percent(right, space=' ')}"
    room = style.max_characters(side, size * 1.2) - len(ending)
    text = shorten(name, max(room, 6)) + ending
    axes.set_title(text, color=INK, fontsize=size * style.font_size)


def _most_confused(matrix: Matrix, most: int) -> list[int]:
    """Return the indices of at most ``most`` classes, those with the most errors, in order."""
    off = matrix - np.diag(matrix.diagonal())
    wrong = off.sum(axis=0) + off.sum(axis=1)
    return sorted(np.argsort(-wrong, kind="stable")[:most].tolist())


def _matrices(cells: list[ConfusionRow], classes: list[str]) -> dict[str, Matrix]:
    """Return the counts of each backbone, (classes, classes): true by predicted class."""
    position = {name: index for index, name in enumerate(classes)}
    matrices: dict[str, Matrix] = {}
    for cell in cells:
        empty = np.zeros((len(classes), len(classes)))
        matrix = matrices.setdefault(cell.backbone, empty)
        matrix[position[cell.true], position[cell.predicted]] = cell.count
    return matrices


def _cells(
    axes: Axes, shades: Matrix, shown: Matrix, style: Style, side: float, small: bool
) -> None:
    """Draw the cells, with numbers where they fit; empty cells stay blank."""
    # Imported here, because the import takes longer than drawing any other figure.
    import seaborn

    letters = min(style.font_size * 0.85, 72 * side / len(shades) * 0.38)
    texts = [[f"{value:.0f}" if value else "" for value in line] for line in shown]
    seaborn.heatmap(
        shades,
        mask=shades == 0,
        vmin=0,
        vmax=1,
        annot=np.array(texts) if letters >= 5 and not small else False,
        fmt="",
        annot_kws={"fontsize": letters},
        cmap=style.shades,
        cbar=False,
        square=True,
        linewidths=0.4,
        linecolor=RULE,
        xticklabels=False,
        yticklabels=False,
        ax=axes,
    )
    for text in axes.texts:
        text.set_color(INK)  # seaborn assumes opaque cells; these are translucent
    axes.spines[:].set_visible(True)


def _names(axes: Axes, names: list[str], style: Style, side: float) -> None:
    """Write class names left of and below a matrix."""
    places = [place + 0.5 for place in range(len(names))]
    letters = min(style.font_size * 0.85, 72 * side / max(len(names), 1) * 0.66)
    axes.tick_params(length=0, labelsize=letters)
    axes.set_yticks(places, names)
    axes.set_xticks(places, names)
    upright = len(names) > UPRIGHT
    for label in axes.get_xticklabels():
        label.set_rotation(90 if upright else 45)
        label.set_rotation_mode("anchor")
        label.set_horizontalalignment("right")
        label.set_verticalalignment("center" if upright else "top")
