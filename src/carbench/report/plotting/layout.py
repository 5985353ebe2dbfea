"""Figure layouts: captions, grids of equal panels, and one large panel with small ones."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbench.report.plotting.colours import INK, MUTED
from carbench.report.plotting.style import Style, shorten

MOST_ROWS = 40  # of a figure with one row per class; more would be hard to read
GAP = 0.2  # inches between panels of a MainPanelLayout
RIGHT = 0.28  # inches right of a panel, for half of its last tick label

Box = tuple[float, float, float, float]


def panel_grid(
    style: Style, names: Sequence[str], height: float, extra: float = 3
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one titled panel per name; all panels share their axes.

    Args:
        style: colours and sizes.
        names: panel titles, in reading order.
        height: height of a panel in inches.
        extra: height of the text above and below the panels, in lines.
    """
    columns = column_count(len(names), style)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(style.width, rows * height + style.row_height(extra)))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    room = style.max_characters(style.width / columns - 0.3, 1.15)
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(shorten(name, room), color=INK)
    for axes in grid[len(names) :]:
        axes.remove()
    # The lowest panel of each column has tick labels, also above an empty cell.
    for axes in grid[max(len(names) - columns, 0) : len(names)]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, list(grid[: len(names)])


def column_count(count: int, style: Style) -> int:
    """Return the number of columns for ``count`` panels."""
    return min(count, 2 if style.narrow else 4 if count == 4 or count > 6 else 3)


def caption(figure: Figure, text: str, style: Style) -> None:
    """Write a caption above a figure."""
    text = wrap_text(text, style)
    figure.suptitle(text, x=0.01, ha="left", fontsize=style.font_size * 0.9, color=MUTED)


def wrap_text(text: str, style: Style) -> str:
    """Return a text wrapped to the width of the figure."""
    room = style.max_characters(size=0.9)
    return "\n".join(textwrap.fill(line, room) for line in text.split("\n"))


def message_figure(style: Style, text: str) -> Figure:
    """Return a figure with only a message, for when there is nothing to draw."""
    text = wrap_text(text, style)
    figure = Figure(figsize=(style.width, style.row_height(2 + 1.3 * len(text.split("\n")))))
    figure.text(0.01, 0.5, text, va="center", color=MUTED)
    return figure


@dataclass(frozen=True)
class MainPanelLayout:
    """Square panels: a large one for the chosen backbone and small ones for the others.

    Attributes:
        height: height of the figure in inches.
        side: side of the large panel in inches.
        small: side of the small panels in inches; 0 if there are none.
        boxes: left, bottom, width and height of each panel as fractions of the figure, the large
            panel first.
    """

    height: float
    side: float
    small: float
    boxes: list[Box]

    @classmethod
    def fitting(
        cls, style: Style, others: int, head: float, left: float, bottom: float, low: float = 1.6
    ) -> MainPanelLayout:
        """Place small panels right of the large one, or below it in a narrow figure.

        Args:
            style: determines the width.
            others: number of small panels.
            head: space above all panels, in inches.
            left: space for labels left of the large panel, in inches.
            bottom: space for labels below the large panel, in inches.
            low: space below a small panel, in lines of text.
        """
        title, low = style.row_height(2), style.row_height(low)
        room = style.width - left - RIGHT
        side = min(room, 3.4) if style.narrow or not others else 0.52 * style.width - left
        least = title + side + bottom
        start = 0.0 if style.narrow else left + side + 2.2 * GAP
        across = style.width - start - 0.7 * GAP - RIGHT / 2

        def size(columns: int) -> float:
            """Return the side of a small panel, limited by the width and the large panel."""
            by_width = (across - GAP * (columns - 1)) / columns
            rows = -(-others // columns)
            return by_width if style.narrow else min(by_width, least / rows - title - low)

        columns = 3 if style.narrow else max(range(1, 5), key=size) if others else 1
        small = min(size(columns), 0.75 * side) if others else 0.0
        below = -(-others // columns) * (title + small + low)
        top = least if style.narrow else 0.0
        height = head + (top + below if style.narrow else max(least, below))
        places = [(left, head + title, side)]
        for index in range(others):
            row, column = divmod(index, columns)
            x = start + 0.7 * GAP + column * (small + GAP)
            places.append((x, head + top + title + row * (title + small + low), small))
        boxes = [
            (x / style.width, 1 - (y + size) / height, size / style.width, size / height)
            for x, y, size in places
        ]
        return cls(height, side, small, boxes)
