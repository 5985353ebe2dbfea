"""pareto: accuracy against cost, and the backbones that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import EngFormatter, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from carbench.figures.colours import INK, MUTED
from carbench.figures.style import Style, log_ticks, percent_axis, shorten
from carbench.figures.summary import Backbone, read_summary
from carbench.params.plot import ParetoParams

Point = Sequence[float]

# Where a label may stand: offset in points from its point, and the corner that stands there.
PLACES = [
    ((x, y), "left" if x > 0 else "right", "bottom" if y > 0 else "top")
    for distance in (0, 12, 24)
    for y in (4 + distance, -4 - distance)
    for x in (7, -7)
]


def draw(table: Path, style: Style, params: ParetoParams) -> Figure:
    """Draw summary.csv."""
    backbones = read_summary(table)
    figure = Figure(figsize=(style.width, style.width * 0.56))
    axes = figure.subplots()
    if params.log_scale:
        axes.set_xscale("log")
    costs = {each.backbone: float(getattr(each, params.cost)) for each in backbones}
    best = frontier(backbones, costs)
    for each in backbones:
        colour = style.focus if each.chosen else INK if each.backbone in best else MUTED
        x = costs[each.backbone]
        axes.plot([x, x], [each.accuracy_low, each.accuracy_high], color=colour, linewidth=1.2)
        axes.plot(x, each.accuracy, "o", color=colour, markersize=9 if each.chosen else 6)
    axes.margins(x=0.12, y=0.08)
    _axes(axes, params, backbones[0].device)
    _frontier_line(axes, [each for each in backbones if each.backbone in best], costs)
    figure.draw_without_rendering()
    _labels(axes, backbones, costs, best, style)
    return figure


def frontier(backbones: list[Backbone], costs: dict[str, float]) -> list[str]:
    """Return the backbones, cheapest first, that are more accurate than all cheaper ones."""
    names: list[str] = []
    highest = -1.0
    for each in sorted(backbones, key=lambda each: (costs[each.backbone], -each.accuracy)):
        if each.accuracy > highest:
            names.append(each.backbone)
            highest = each.accuracy
    return names


def _axes(axes: Axes, params: ParetoParams, device: str) -> None:
    axes.grid()
    axes.tick_params(length=0, which="both")
    axes.spines[:].set_visible(False)
    axes.yaxis.set_major_formatter(percent_axis())
    axes.set_title(
        "clean test pictures named correctly", color=MUTED, fontweight="normal", fontsize="medium"
    )
    if params.cost == "latency_ms":
        axes.set_xlabel(f"time for one picture on {device}, milliseconds")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        what = {"macs": "multiply-adds for one picture", "parameters": "parameters"}[params.cost]
        axes.set_xlabel(what)
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NO-BREAK SPACE}"))
    if params.log_scale:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(log_ticks(*axes.get_xlim()))


def _frontier_line(axes: Axes, best: list[Backbone], costs: dict[str, float]) -> None:
    """Steps: what accuracy can be had for so much. It goes on to the edge of the figure."""
    steps = sorted((costs[each.backbone], each.accuracy) for each in best)
    limits = axes.get_xlim(), axes.get_ylim()
    x, y = zip(*steps, (limits[0][1], steps[-1][1]), strict=True)
    axes.plot(
        x, y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), drawstyle="steps-post", zorder=1.5
    )
    axes.set(xlim=limits[0], ylim=limits[1])


def _labels(
    axes: Axes, backbones: list[Backbone], costs: dict[str, float], best: list[str], style: Style
) -> None:
    """Name the points, each where it hides least."""
    taken = _drawn(axes)
    for each in backbones:
        colour = INK if each.backbone in best or each.chosen else MUTED
        candidates = [
            axes.annotate(
                shorten(each.backbone, 28),
                (costs[each.backbone], each.accuracy),
                xytext=offset,
                textcoords="offset points",
                ha=across,
                va=upwards,
                color=colour,
                fontsize=style.font_size * 0.9,
                fontweight="bold" if each.chosen else "normal",
            )
            for offset, across, upwards in PLACES
        ]
        label = min(candidates, key=lambda one: _hidden(one, taken, axes.bbox))
        for candidate in candidates:
            if candidate is not label:
                candidate.remove()
        taken.append(label.get_window_extent())


def _drawn(axes: Axes) -> list[Bbox]:
    """Boxes, in pixels, around the lines and points of a figure, and a little air."""
    boxes = []
    for line in axes.lines:
        corners = axes.transData.transform(line.get_xydata())
        if line.get_drawstyle() == "steps-post":
            turns = [(after[0], before[1]) for before, after in pairwise(corners)]
            path = [point for pair in zip(corners, turns, strict=False) for point in pair]
            boxes += [_around(first, second, 2) for first, second in pairwise([*path, corners[-1]])]
        elif len(corners) > 1:
            boxes.append(_around(corners[0], corners[-1], 2))
        else:
            boxes.append(_around(corners[0], corners[0], 6))
    return boxes


def _around(first: Point, second: Point, air: float) -> Bbox:
    left, right = sorted((first[0], second[0]))
    low, high = sorted((first[1], second[1]))
    return Bbox([[left - air, low - air], [right + air, high + air]])


def _hidden(label: Annotation, taken: list[Bbox], room: Bbox) -> float:
    """How much area a label would share with what stands there, or lose outside the figure."""
    box = label.get_window_extent()
    shared = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, room)
    lost = box.width * box.height - (inside.width * inside.height if inside else 0)
    return float(sum(part.width * part.height for part in shared if part) + 2 * lost)
