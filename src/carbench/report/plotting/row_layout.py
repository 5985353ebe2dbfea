"""Rows of a figure, from top to bottom: their names and numbers, and rules between them.

In a narrow figure they stand above what is drawn in the row, which has the whole width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from carbench.report.plotting.colours import INK, MUTED, PAPER, RULE
from carbench.report.plotting.style import Style, shorten


@dataclass(frozen=True)
class PlotPoint:
    """A mark in a row, with its interval if it has one.

    Attributes:
        rise: how far above the middle of its row it stands, in rows.
        size: of the mark, in points.
    """

    value: float
    colour: str
    shape: str = "o"
    hollow: bool = False
    interval: tuple[float, float] | None = None
    rise: float = 0.0
    size: float = 7.0


@dataclass(frozen=True)
class PlotRow:
    """A name, what is drawn beside it, and the value and interval in words."""

    name: str
    points: Sequence[PlotPoint]
    value: str = ""
    interval: str = ""
    bold: bool = False


def label_rows(axes: Axes, rows: Sequence[PlotRow], style: Style, named: bool = True) -> None:
    """Give axes a row for each name, from top to bottom, and thin rules between them."""
    axes.set_ylim(len(rows) - 0.5, -0.55)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color=RULE, linewidth=0.6, zorder=0.5)
    if style.narrow:
        axes.set_yticks([])
        for place, row in enumerate(rows):
            # Neither the grid nor a line at zero runs through the letters.
            axes.axhspan(place - 0.49, place - 0.06, color=PAPER, linewidth=0, zorder=1.2)
            _above(axes, place, row, style)
        return
    room = max(24, style.max_characters(0.3 * style.width))
    names = [shorten(row.name, room) if named else "" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", labelsize=style.font_size * 0.95, labelcolor=INK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.bold else "normal")


def marker_offset(style: Style) -> float:
    """How far below the middle of a row its marks stand, in rows."""
    return 0.12 if style.narrow else 0.0


def annotate_values(axes: Axes, rows: Sequence[PlotRow], style: Style) -> None:
    """Write the numbers of rows right of their intervals."""
    size = style.font_size
    for place, row in enumerate(rows):
        _write(axes, row.value, (1, place), size, fontsize=0.95 * size)
        _write(axes, row.interval, (1, place), 6.5 * size, color=MUTED, fontsize=0.9 * size)


def _above(axes: Axes, place: int, row: PlotRow, style: Style) -> None:
    """Write a row's name and numbers over its interval."""
    small = 0.85 * style.font_size
    interval = 0.62 * small * len(row.interval) + (6 if row.interval else 0)
    written = interval + 0.62 * style.font_size * len(row.value)
    room = max(6, style.max_characters(style.width - written / 72 - 0.25))
    height = place - 0.26
    weight = "bold" if row.bold else "normal"
    _write(axes, shorten(row.name, room), (0, height), fontweight=weight)
    _write(axes, row.interval, (1, height), ha="right", color=MUTED, fontsize=small)
    _write(axes, row.value, (1, height), -interval, ha="right")


def _write(
    axes: Axes, text: str, place: tuple[float, float], right: float = 0, **text_options: Any
) -> None:
    """Write at a part of the width and a row, so many points further right."""
    axes.annotate(
        text,
        place,
        (right, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        **({"color": INK} | text_options),
    )
