"""Rows of a figure, from top to bottom: names, numbers and separating lines.

In a narrow figure, the names and numbers are above the marks, which use the whole width.
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
        rise: offset above the middle of its row, in rows.
        size: marker size in points.
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
    """A name, the marks beside it, and the value and interval as text."""

    name: str
    points: Sequence[PlotPoint]
    value: str = ""
    interval: str = ""
    bold: bool = False


def label_rows(axes: Axes, rows: Sequence[PlotRow], style: Style, named: bool = True) -> None:
    """Set up one row per name on the axes, from top to bottom, with thin separating lines."""
    axes.set_ylim(len(rows) - 0.5, -0.55)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color=RULE, linewidth=0.6, zorder=0.5)
    if style.narrow:
        axes.set_yticks([])
        for place, row in enumerate(rows):
            # Hides the grid and the line at zero behind the text.
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
    """Return the offset of marks below the middle of their row, in rows."""
    return 0.12 if style.narrow else 0.0


def annotate_values(axes: Axes, rows: Sequence[PlotRow], style: Style) -> None:
    """Write the value and interval of each row to the right of the axes."""
    size = style.font_size
    for place, row in enumerate(rows):
        _write(axes, row.value, (1, place), size, fontsize=0.95 * size)
        _write(axes, row.interval, (1, place), 6.5 * size, color=MUTED, fontsize=0.9 * size)


def _above(axes: Axes, place: int, row: PlotRow, style: Style) -> None:
    """Write a row's name and numbers above its marks."""
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
    """Write text at ``place`` (fraction of the width, row), shifted right by ``right`` points."""
    axes.annotate(
        text,
        place,
        (right, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        **({"color": INK} | text_options),
    )
