"""leak: accuracy on clean, published and leaked test images, and the leak gap."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import LeakParams
from carbench.report.plotting.colours import INK
from carbench.report.plotting.forest import LegendEntry, Panel, forest_plot
from carbench.report.plotting.layout import message_figure
from carbench.report.plotting.row_layout import PlotPoint, PlotRow
from carbench.report.plotting.style import Mark, Style
from carbench.report.tables.formatting import points, points_interval
from carbench.report.tables.result_tables import BackboneRow, not_none, read_summary


def draw(table: Path, style: Style, params: LeakParams) -> Figure:
    """Draw the figure from summary.csv."""
    backbones = read_summary(table)
    if any(each.leak_gap is None for each in backbones):
        return message_figure(
            style, "no duplicate of a test image was found in the training or validation set"
        )
    key = [
        LegendEntry("clean images", Mark(INK, "o")),
        LegendEntry("as published", Mark(style.warning, "D"), True),
    ]
    if params.show_leaked:
        key.append(LegendEntry("leaked images", Mark(style.warning, "s"), True))
    left = [PlotRow(each.backbone, _accuracies(each, key), bold=each.chosen) for each in backbones]
    right = [_gap(each, style) for each in backbones]
    panels = [
        Panel(left, "accuracy"),
        Panel(right, "leak gap, points", points=True, share=0.62),
    ]
    title = "accuracy by kind of test image; the leak gap is published minus clean"
    return forest_plot(style, panels, title, key)


def _accuracies(backbone: BackboneRow, key: list[LegendEntry]) -> list[PlotPoint]:
    """Return two or three marks of different shapes; only the clean one is filled."""
    clean = [backbone.accuracy, backbone.accuracy_low, backbone.accuracy_high]
    published = [backbone.published_accuracy, backbone.published_low, backbone.published_high]
    leaked = [backbone.leaked_accuracy, backbone.leaked_low, backbone.leaked_high]
    drawn = []
    for step, each in enumerate(key):
        value, low, high = not_none(*(clean, published, leaked)[step])
        mark, rise = each.mark, 0.17 * ((len(key) - 1) / 2 - step)
        drawn.append(PlotPoint(value, mark.colour, mark.shape, each.hollow, (low, high), rise, 5))
    return drawn


def _gap(backbone: BackboneRow, style: Style) -> PlotRow:
    gap, low, high = not_none(backbone.leak_gap, backbone.leak_gap_low, backbone.leak_gap_high)
    point = PlotPoint(gap, style.warning, interval=(low, high))
    interval = points_interval(low, high) if style.narrow else ""
    return PlotRow(backbone.backbone, [point], points(gap, sign=True), interval, backbone.chosen)
