"""Results by class or corruption: the chosen backbone with intervals, others as marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from carbench.report.plotting.forest import LegendEntry, Panel, forest_plot
from carbench.report.plotting.row_layout import PlotPoint, PlotRow
from carbench.report.plotting.style import Style
from carbench.report.tables.formatting import percent, percent_interval, points_interval
from carbench.report.tables.formatting import points as in_points


@dataclass(frozen=True)
class IntervalEstimate:
    """A fraction or a difference of fractions, with its interval."""

    value: float
    low: float
    high: float


def draw_grouped_intervals(
    style: Style,
    estimates: Mapping[str, Mapping[str, IntervalEstimate]],
    labels: Mapping[str, str],
    title: str,
    axis: str,
    points: bool = False,
    reference: float | None = None,
) -> Figure:
    """Draw the first backbone with intervals, one row per label, and others as open marks.

    Args:
        style: colours and sizes; backbones beyond its marks are not drawn.
        estimates: by backbone and row, the chosen backbone first; all with the same rows.
        labels: the rows to draw, with their displayed names.
        title: caption of the figure.
        axis: axis label.
        points: whether values are differences, shown in percentage points.
        reference: position of a dashed line.
    """
    shown = dict(list(estimates.items())[: len(style.marks)])
    rows = []
    for label, name in labels.items():
        drawn = [_point(style, place, own[label]) for place, own in enumerate(shown.values())]
        chosen = next(iter(shown.values()))[label]
        value = in_points(chosen.value, sign=True) if points else percent(chosen.value, 0, " ")
        interval = points_interval if points else percent_interval
        # The chosen backbone is drawn last, on top of the others.
        rows.append(PlotRow(name, drawn[::-1], value, interval(chosen.low, chosen.high)))
    if left_out := len(estimates) - len(shown):
        title += f"\n{left_out} more backbone{' is' if left_out == 1 else 's are'} in the table"
    key = [
        LegendEntry(name, style.mark(place), hollow=place > 0, size=5 if place else 7)
        for place, name in enumerate(shown)
    ]
    panel = Panel(rows, axis, points, reference)
    return forest_plot(style, [panel], title, key if len(key) > 1 else ())


def _point(style: Style, place: int, estimate: IntervalEstimate) -> PlotPoint:
    mark = style.mark(place)
    if place:
        # Below the line of the chosen backbone, because the marks are often close together.
        return PlotPoint(estimate.value, mark.colour, mark.shape, hollow=True, size=4.5, rise=-0.25)
    interval = estimate.low, estimate.high
    return PlotPoint(estimate.value, mark.colour, mark.shape, interval=interval)
