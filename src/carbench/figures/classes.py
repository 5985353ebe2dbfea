"""classes: how many pictures each class has, how many are duplicates, and where the leak is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carbench.figures.colours import INK, MUTED
from carbench.figures.layout import MOST_ROWS, forest_axes
from carbench.figures.style import Style
from carbench.params.plot import ClassesParams
from carbench.tables import read_json

BAR = 0.62  # of a row


def draw(table: Path, style: Style, params: ClassesParams) -> Figure:
    """Draw audit.json."""
    audit = read_json(table)
    classes: dict[str, dict[str, int]] = audit["by_class"]
    order = sorted(classes)
    if params.order == "size":
        order.sort(key=lambda label: -classes[label]["pictures"])
    shown = order[:MOST_ROWS]
    leaks: dict[str, dict[str, int]] = audit["leak"]["by_class"]
    figure = Figure(figsize=(style.width, style.row_height(1.9 * len(shown) + 7)))
    if leaks:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        _leaks(right, [leaks.get(label) for label in shown], style)
    else:
        left = figure.subplots()
    _sizes(left, [classes[label] for label in shown], style)
    forest_axes(left, shown, style)
    left.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    left.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if leaks:
        forest_axes(right, shown, style)
        right.set_xlim(0, 1)
    more = "" if len(shown) == len(order) else f" (the first {len(shown)} of {len(order)} classes)"
    left.set_xlabel(f"pictures{more}", color=MUTED)
    figure.legend(loc="outside upper left", ncols=3, borderaxespad=0.2)
    return figure


def _sizes(axes: Axes, classes: list[dict[str, int]], style: Style) -> None:
    """Pictures that are groups of their own or the first of one, then what repeats them."""
    rows = range(len(classes))
    groups = [each["groups"] for each in classes]
    near = [each["unique"] - each["groups"] for each in classes]
    exact = [each["pictures"] - each["unique"] for each in classes]
    both = [first + second for first, second in zip(groups, near, strict=True)]
    axes.barh(rows, groups, BAR, color=style.focus, label="different pictures")
    outline: dict[str, Any] = {"edgecolor": style.warning, "linewidth": 0.8}
    axes.barh(
        rows, near, BAR, groups, color="none", hatch="////", label="near duplicates", **outline
    )
    axes.barh(rows, exact, BAR, both, color=style.warning, label="identical files", **outline)


def _leaks(axes: Axes, leaks: list[dict[str, int] | None], style: Style) -> None:
    """The part of the published test pictures that has a twin in the published training part."""
    for row, counts in enumerate(leaks):
        if counts is None or not counts["test_pictures"]:
            continue
        part = counts["near_or_exact"] / counts["test_pictures"]
        axes.barh(row, part, BAR, color=style.warning, alpha=0.85)
        axes.annotate(
            f"{100 * part:.0f} %",
            (part, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if part < 0.8 else "right",
            color=INK,
            fontsize=style.font_size * 0.85,
        )
    axes.set_xlabel("published test: twin in training", color=MUTED)
