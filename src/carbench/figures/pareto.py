"""pareto: accuracy against cost, and the backbones that no other beats in both."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullLocator

from carbench.figures.colours import INK, MUTED
from carbench.figures.labels import Label, place_labels
from carbench.figures.style import Style, log_ticks, percent_axis
from carbench.figures.summary import read_summary
from carbench.params.plot import ParetoParams


def draw(table: Path, style: Style, params: ParetoParams) -> Figure:
    """Draw summary.csv."""
    backbones = read_summary(table)
    figure = Figure(figsize=(style.width, style.width * 0.56))
    axes = figure.subplots()
    if params.log_scale:
        axes.set_xscale("log")
    costs = {each.backbone: float(getattr(each, params.cost)) for each in backbones}
    accuracies = {each.backbone: each.accuracy for each in backbones}
    best = frontier(accuracies, costs)
    for each in backbones:
        colour = style.focus if each.chosen else INK if each.backbone in best else MUTED
        x = costs[each.backbone]
        axes.plot([x, x], [each.accuracy_low, each.accuracy_high], color=colour, linewidth=1.2)
        axes.plot(x, each.accuracy, "o", color=colour, markersize=9 if each.chosen else 6)
    axes.margins(x=0.12, y=0.08)
    title = "clean test pictures named correctly"
    cost_axes(axes, title, params.cost, params.log_scale, backbones[0].device)
    frontier_line(axes, [(costs[name], accuracies[name]) for name in best])
    figure.draw_without_rendering()
    labels = [
        Label(
            each.backbone,
            (costs[each.backbone], each.accuracy),
            INK if each.backbone in best or each.chosen else MUTED,
            bold=each.chosen,
        )
        for each in backbones
    ]
    place_labels(axes, labels, style)
    return figure


def frontier(accuracies: dict[str, float], costs: dict[str, float]) -> list[str]:
    """Return the names, cheapest first, that are more accurate than all cheaper ones."""
    names: list[str] = []
    highest = -1.0
    for name in sorted(accuracies, key=lambda name: (costs[name], -accuracies[name])):
        if accuracies[name] > highest:
            names.append(name)
            highest = accuracies[name]
    return names


def cost_axes(axes: Axes, title: str, cost: str, log_scale: bool, device: str = "") -> None:
    """Give axes of accuracy against cost their grid, labels and ticks."""
    axes.grid()
    axes.tick_params(length=0, which="both")
    axes.spines[:].set_visible(False)
    axes.yaxis.set_major_formatter(percent_axis())
    axes.set_title(title, color=MUTED, fontweight="normal", fontsize="medium")
    if cost == "latency_ms":
        axes.set_xlabel(f"time for one picture on {device}, milliseconds")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        what = {"macs": "multiply-adds for one picture", "parameters": "parameters"}[cost]
        axes.set_xlabel(what)
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NO-BREAK SPACE}"))
    if log_scale:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(log_ticks(*axes.get_xlim()))


def frontier_line(axes: Axes, steps: list[tuple[float, float]]) -> None:
    """Draw the accuracy that can be had for each cost, to the edge of the figure.

    Args:
        axes: with their final limits.
        steps: cost and accuracy of the names of :func:`frontier`, cheapest first.
    """
    limits = axes.get_xlim(), axes.get_ylim()
    x, y = zip(*steps, (limits[0][1], steps[-1][1]), strict=True)
    axes.plot(
        x, y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), drawstyle="steps-post", zorder=1.5
    )
    axes.set(xlim=limits[0], ylim=limits[1])
