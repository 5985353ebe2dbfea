"""confusion: what is taken for what - a matrix a backbone, rows true, columns predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from carbench.figures.colours import INK, MUTED
from carbench.figures.layout import draw_cells
from carbench.figures.style import Style, shorten
from carbench.figures.summary import Row, read_rows
from carbench.params.plot import ConfusionParams

GAP = 0.15  # inches between matrices
UPRIGHT = 10  # with more classes the names below stand upright: slanted, they would touch

Matrix = NDArray[np.float64]


class Cell(Row):
    """A row of confusion.csv."""

    backbone: str
    true: str = Field(alias="class")
    predicted: str
    count: int


def draw(table: Path, style: Style, params: ConfusionParams) -> Figure:
    """Draw confusion.csv."""
    cells = read_rows(table, Cell)
    classes = list(dict.fromkeys(cell.true for cell in cells))
    counts = _matrices(cells, classes)
    names = [shorten(name, 20) for name in classes]
    grid = Grid.fitting(style, len(counts), names)
    figure = Figure(figsize=(style.width, grid.height))
    figure.set_layout_engine("none")
    highest = max(matrix.max() for matrix in counts.values())
    for index, (name, matrix) in enumerate(counts.items()):
        axes = figure.add_axes(grid.place(index))
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        shades = shares if params.normalize else matrix / highest
        _cells(axes, shades, 100 * shares if params.normalize else matrix, style, grid)
        _names(axes, names, grid, index)
        right = f" – {100 * matrix.trace() / matrix.sum():.1f} %"
        size = min(style.font_size, 72 * grid.side / 14)
        room = int(72 * grid.side / (0.68 * size)) - len(right)
        axes.set_title(shorten(name, max(room, 8)) + right, color=INK, fontsize=size)
    unit = "percent of each true class" if params.normalize else "pictures, all seeds together"
    figure.text(
        0.01,
        1 - 0.08 / grid.height,
        f"rows: true class; columns: answer; {unit}",
        ha="left",
        va="top",
        fontsize=style.font_size * 0.9,
        color=MUTED,
    )
    return figure


@dataclass(frozen=True)
class Grid:
    """Where the matrices stand; all lengths in inches, letters in points."""

    width: float
    height: float
    columns: int
    panels: int
    side: float
    letters: float
    margin: float
    line: float

    @classmethod
    def fitting(cls, style: Style, panels: int, names: list[str]) -> Grid:
        """Matrices as large as the width allows, with room for the class names."""
        columns = min(panels, 2) if panels in (1, 2, 4) or len(names) > UPRIGHT else 3
        letters = style.font_size * 0.85
        longest = max(len(name) for name in names)
        for _ in range(2):  # the size of the letters and of the matrices depend on each other
            margin = 0.6 * letters * longest / 72 + 0.1
            side = min((style.width - margin - GAP * columns) / columns, 3.6)
            letters = min(letters, 72 * side / len(names) * 0.66)
        line = style.row_height(2)
        height = 2 * line + -(-panels // columns) * (side + line)
        # Slanted names need less height than their length.
        height += margin * (1 if len(names) > UPRIGHT else 0.65)
        return cls(style.width, height, columns, panels, side, letters, margin, line)

    def place(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width, height of a matrix as parts of the figure."""
        row, column = divmod(index, self.columns)
        left = self.margin + column * (self.side + GAP)
        top = 2 * self.line + row * (self.side + self.line)
        return (
            left / self.width,
            1 - (top + self.side) / self.height,
            self.side / self.width,
            self.side / self.height,
        )


def _matrices(cells: list[Cell], classes: list[str]) -> dict[str, Matrix]:
    """Return (classes, classes) counts of each backbone."""
    position = {name: index for index, name in enumerate(classes)}
    matrices: dict[str, Matrix] = {}
    for cell in cells:
        empty = np.zeros((len(classes), len(classes)))
        matrix = matrices.setdefault(cell.backbone, empty)
        matrix[position[cell.true], position[cell.predicted]] = cell.count
    return matrices


def _cells(axes: Axes, shades: Matrix, shown: Matrix, style: Style, grid: Grid) -> None:
    """Draw the cells, with numbers where they fit; an empty cell stays paper."""
    letters = min(style.font_size * 0.85, 72 * grid.side / len(shades) * 0.38)
    texts = [[f"{value:.0f}" if value else "" for value in line] for line in shown]
    draw_cells(axes, np.where(shades > 0, shades, np.nan), texts, style.shades, letters)


def _names(axes: Axes, names: list[str], grid: Grid, index: int) -> None:
    """Class names on the outer matrices only."""
    places = [place + 0.5 for place in range(len(names))]
    left = index % grid.columns == 0
    bottom = index + grid.columns >= grid.panels
    axes.tick_params(length=0, labelsize=grid.letters)
    axes.set_yticks(places, names if left else [""] * len(names))
    axes.set_xticks(places, names if bottom else [""] * len(names))
    upright = len(names) > UPRIGHT
    for label in axes.get_xticklabels():
        label.set_rotation(90 if upright else 45)
        label.set_rotation_mode("anchor")
        label.set_horizontalalignment("right")
        label.set_verticalalignment("center" if upright else "top")
