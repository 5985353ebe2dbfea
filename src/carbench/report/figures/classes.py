"""classes: images and duplicates of each class, and leakage of the published test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carbench.core.tables import read_json
from carbench.params.plot import ClassesParams
from carbench.report.plotting.colours import INK, MUTED
from carbench.report.plotting.layout import MOST_ROWS
from carbench.report.plotting.row_layout import PlotRow, label_rows, marker_offset
from carbench.report.plotting.style import Style, percent_axis
from carbench.report.tables.formatting import percent


def draw(table: Path, style: Style, params: ClassesParams) -> Figure:
    """Draw the figure from audit.json."""
    audit = read_json(table)
    classes: dict[str, dict[str, int]] = audit["by_class"]
    order = sorted(classes)
    if params.order == "size":
        order.sort(key=lambda label: -classes[label]["images"])
    shown = order[:MOST_ROWS]
    leaks: dict[str, dict[str, int]] = audit["leak"]["by_class"]
    panels = 2 if leaks else 1
    lines = panels * (3 * len(shown) + 4) if style.narrow else 1.9 * len(shown) + 4
    figure = Figure(figsize=(style.width, style.row_height(lines + 3)))
    grid = (
        figure.subplots(panels, 1, squeeze=False).ravel()
        if style.narrow
        else figure.subplots(1, panels, squeeze=False, width_ratios=[3, 2][:panels]).ravel()
    )
    rows = [PlotRow(label, ()) for label in shown]
    _sizes(grid[0], [classes[label] for label in shown], style)
    label_rows(grid[0], rows, style)
    grid[0].xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    grid[0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    more = "" if len(shown) == len(order) else f" (the first {len(shown)} of {len(order)} classes)"
    grid[0].set_xlabel(f"images{more}", color=MUTED)
    if leaks:
        _leaks(grid[1], [leaks.get(label) for label in shown], style)
        label_rows(grid[1], rows, style, named=False)
        grid[1].set_xlim(0, 1)
        grid[1].xaxis.set_major_locator(MaxNLocator(nbins=4))
        grid[1].xaxis.set_major_formatter(percent_axis())
    for axes in grid:
        axes.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=2 if style.narrow else 3, borderaxespad=0.2)
    return figure


def _bar(style: Style) -> float:
    """Return the height of a bar, in rows."""
    return 0.34 if style.narrow else 0.62


def _sizes(axes: Axes, classes: list[dict[str, int]], style: Style) -> None:
    """Draw stacked bars: one image per duplicate group, near duplicates, identical files."""
    rows = [place + marker_offset(style) for place in range(len(classes))]
    groups = [each["groups"] for each in classes]
    near = [each["unique"] - each["groups"] for each in classes]
    exact = [each["images"] - each["unique"] for each in classes]
    both = [first + second for first, second in zip(groups, near, strict=True)]
    bar = _bar(style)
    axes.barh(rows, groups, bar, color=style.focus, label="distinct images")
    outline: dict[str, Any] = {"edgecolor": style.warning, "linewidth": 0.8}
    axes.barh(
        rows, near, bar, groups, color="none", hatch="////", label="near duplicates", **outline
    )
    axes.barh(rows, exact, bar, both, color=style.warning, label="identical files", **outline)


def _leaks(axes: Axes, leaks: list[dict[str, int] | None], style: Style) -> None:
    """Draw the fraction of each class's published test images that have a training duplicate."""
    for row, counts in enumerate(leaks):
        if counts is None or not counts["test_images"]:
            continue
        part = counts["near_or_exact"] / counts["test_images"]
        height = row + marker_offset(style)
        axes.barh(height, part, _bar(style), color=style.warning, alpha=0.85)
        axes.annotate(
            percent(part, 0, " "),
            (part, height),
            (4, 0) if part < 0.8 else (-4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if part < 0.8 else "right",
            color=INK,
            fontsize=style.font_size * 0.85,
        )
    axes.set_xlabel("published test images with a\nduplicate in the training data", color=MUTED)
