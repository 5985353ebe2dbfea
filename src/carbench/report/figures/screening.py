"""screening: probe accuracy of each screened candidate versus its cost, shortlist in colour."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import ScreeningParams
from carbench.report.figures.pareto import draw_pareto_front, format_cost_axes, pareto_front
from carbench.report.plotting.colours import INK, MUTED
from carbench.report.plotting.layout import message_figure
from carbench.report.plotting.point_labels import Label, place_labels
from carbench.report.plotting.style import Style
from carbench.report.tables.result_tables import ShortlistRow, read_rows

# Maximum number of labelled points: the shortlist first, then the Pareto front.
NAMED = 12


def draw(table: Path, style: Style, params: ScreeningParams) -> Figure:
    """Draw the figure from shortlist.csv."""
    candidates = read_rows(table, ShortlistRow)
    if not candidates:
        return message_figure(style, "no candidates were screened: screen.candidates is empty")
    figure = Figure(figsize=(style.width, style.width * (1.05 if style.narrow else 0.56)))
    axes = figure.subplots()
    if params.log_scale:
        axes.set_xscale("log")
    costs = {each.model: float(getattr(each, params.cost)) for each in candidates}
    accuracies = {each.model: each.accuracy for each in candidates}
    for each in candidates:
        x = costs[each.model]
        colour = style.focus if each.shortlisted else INK if each.trained else MUTED
        if each.shortlisted:
            axes.plot([x, x], [each.low, each.high], color=colour, linewidth=1.2)
        axes.plot(
            x,
            each.accuracy,
            "o",
            color=colour,
            markersize=7 if each.shortlisted else 4,
            fillstyle="full" if each.trained else "none",
        )
    axes.margins(x=0.08, y=0.08)
    title = "accuracy of a linear probe on training images (open: random weights)"
    format_cost_axes(axes, title, params.cost, params.log_scale, style)
    best = pareto_front(accuracies, costs)
    draw_pareto_front(axes, [(costs[name], accuracies[name]) for name in best])
    named = sorted(candidates, key=lambda one: (not one.shortlisted, one.model not in best))
    labels = [
        Label(
            each.model,
            (costs[each.model], each.accuracy),
            INK if each.shortlisted else MUTED,
            bold=each.shortlisted,
        )
        for each in named[: NAMED // 2 if style.narrow else NAMED]
        if each.shortlisted or each.model in best
    ]
    place_labels(figure, axes, labels, style)
    return figure
