"""pareto: accuracy versus cost, with the Pareto front."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullLocator

from carbench.params.plot import ParetoParams
from carbench.report.plotting.colours import INK, MUTED
from carbench.report.plotting.layout import wrap_text
from carbench.report.plotting.point_labels import Label, place_labels
from carbench.report.plotting.style import Style, log_ticks, percent_axis
from carbench.report.tables.result_tables import read_summary

# Column of summary.csv for each ``plot.pareto.cost``.
COLUMNS = {"latency_ms": "onnx_ms", "macs": "macs", "parameters": "parameters"}


def draw(table: Path, style: Style, params: ParetoParams) -> Figure:
    """Draw the figure from summary.csv."""
    backbones = read_summary(table)
    figure = Figure(figsize=(style.width, style.width * (1.05 if style.narrow else 0.56)))
    axes = figure.subplots()
    if params.log_scale:
        axes.set_xscale("log")
    column = COLUMNS[params.cost]
    costs = {each.backbone: float(getattr(each, column)) for each in backbones}
    accuracies = {each.backbone: each.accuracy for each in backbones}
    best = pareto_front(accuracies, costs)
    for place, each in enumerate(backbones):
        mark, x = style.mark(place), costs[each.backbone]
        axes.plot([x, x], [each.accuracy_low, each.accuracy_high], color=mark.colour, linewidth=1.2)
        if params.cost == "latency_ms":
            sides = [each.onnx_ms_low, each.onnx_ms_high]
            axes.plot(sides, [each.accuracy] * 2, color=mark.colour, linewidth=1.2)
        size = 9 if each.chosen else 6
        axes.plot(x, each.accuracy, mark.shape, color=mark.colour, markersize=size)
    axes.margins(x=0.12, y=0.08)
    title = "accuracy on clean test images"
    format_cost_axes(axes, title, params.cost, params.log_scale, style, backbones[0].runtime)
    draw_pareto_front(axes, [(costs[name], accuracies[name]) for name in best])
    labels = [
        Label(
            each.backbone,
            (costs[each.backbone], each.accuracy),
            INK if each.backbone in best or each.chosen else MUTED,
            bold=each.chosen,
        )
        for each in backbones
    ]
    place_labels(figure, axes, labels, style)
    return figure


def pareto_front(accuracies: dict[str, float], costs: dict[str, float]) -> list[str]:
    """Return the names that are more accurate than all cheaper ones, cheapest first."""
    names: list[str] = []
    highest = -1.0
    for name in sorted(accuracies, key=lambda name: (costs[name], -accuracies[name])):
        if accuracies[name] > highest:
            names.append(name)
            highest = accuracies[name]
    return names


def format_cost_axes(
    axes: Axes, title: str, cost: str, log_scale: bool, style: Style, runtime: str = ""
) -> None:
    """Set grid, labels and ticks of axes that show accuracy versus cost.

    ``runtime``: the runtime in which latencies were measured.
    """
    axes.grid()
    axes.tick_params(length=0, which="both")
    axes.spines[:].set_visible(False)
    axes.yaxis.set_major_formatter(percent_axis())
    title = wrap_text(title, style)
    axes.set_title(title, color=MUTED, fontweight="normal", fontsize=style.font_size * 0.9)
    if cost == "latency_ms":
        axes.set_xlabel(f"milliseconds per image, model only\n{runtime}")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        what = {"macs": "multiply-adds per image", "parameters": "parameters"}[cost]
        axes.set_xlabel(what)
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NO-BREAK SPACE}"))
    if not log_scale:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if style.narrow else 8))
    if log_scale:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(log_ticks(*axes.get_xlim()))


def draw_pareto_front(axes: Axes, steps: list[tuple[float, float]]) -> None:
    """Draw the highest accuracy at each cost as a step line, up to the edge of the axes.

    Args:
        axes: axes whose limits are final.
        steps: cost and accuracy of each name from :func:`pareto_front`, cheapest first.
    """
    limits = axes.get_xlim(), axes.get_ylim()
    x, y = zip(*steps, (limits[0][1], steps[-1][1]), strict=True)
    axes.plot(
        x, y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), drawstyle="steps-post", zorder=1.5
    )
    axes.set(xlim=limits[0], ylim=limits[1])
