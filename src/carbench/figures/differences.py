"""differences: every backbone against every other, on the same pictures, as a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from carbench.figures.colours import INK
from carbench.figures.layout import caption, draw_cells, nothing
from carbench.figures.style import Style, shorten
from carbench.figures.summary import Comparison, read_rows
from carbench.params.plot import DifferencesParams

NEUTRAL = 0.5  # the middle of the shades: no colour


def draw(table: Path, style: Style, params: DifferencesParams) -> Figure:
    """Draw comparisons.csv: row minus column in points; coloured where it is more than chance."""
    pairs = read_rows(table, Comparison)
    if not pairs:
        return nothing(style, "one backbone only: there is nothing to compare it with")
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.backbone, pair.other)))
    known = {(pair.backbone, pair.other): pair for pair in pairs}
    known |= {(pair.other, pair.backbone): pair.reversed for pair in pairs}
    largest = max(abs(pair.difference) for pair in pairs) or 1.0
    shades = np.full((len(names), len(names)), NEUTRAL)
    texts = [[""] * len(names) for _ in names]
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            pair = known.get((name, other))
            if pair is None:
                texts[row][column] = "–"
                continue
            if pair.significant:
                shades[row, column] = NEUTRAL + 0.5 * pair.difference / largest
            texts[row][column] = _text(pair, params.intervals)
    longest = max(len(shorten(name, 20)) for name in names)
    side = min(style.width * 0.95 - 0.62 * style.row_height(longest + 1), len(names) * 0.95)
    height = side + 0.45 * style.row_height(longest) + style.row_height(5)
    figure = Figure(figsize=(style.width, height))
    axes = figure.subplots()
    room = 72 * side / len(names)
    letters = min(style.font_size * 0.9, room * (0.13 if params.intervals else 0.25))
    draw_cells(axes, shades, texts, style.diverging, letters)
    places = [place + 0.5 for place in range(len(names))]
    axes.set_yticks(places, [shorten(name, 20) for name in names])
    axes.set_xticks(places, [shorten(name, 20) for name in names])
    size = min(style.font_size, 0.6 * room)
    axes.tick_params(length=0, labelsize=size, labelcolor=INK)
    for label in axes.get_xticklabels():
        label.set(rotation=40, rotation_mode="anchor", ha="right", va="top")
    caption(
        figure,
        "row minus column, in points of accuracy on the same clean test pictures\n"
        f"coloured: told apart after correction for {len(pairs)} comparison"
        f"{'' if len(pairs) == 1 else 's'}; white: not told apart",
        style,
    )
    return figure


def _text(pair: Comparison, interval: bool) -> str:
    value = f"{100 * pair.difference:+.1f}"
    if interval:
        value += f"\n{100 * pair.difference_low:+.1f} to {100 * pair.difference_high:+.1f}"
    return value.replace("-", "−")
