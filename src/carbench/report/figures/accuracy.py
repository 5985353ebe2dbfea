"""accuracy: mean accuracy of each backbone, with its interval and its seeds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import AccuracyParams
from carbench.report.plotting.colours import MUTED
from carbench.report.plotting.forest import LegendEntry, Panel, forest_plot
from carbench.report.plotting.row_layout import PlotPoint, PlotRow
from carbench.report.plotting.style import Mark, Style
from carbench.report.tables.formatting import percent, percent_interval
from carbench.report.tables.result_tables import BackboneRow, read_summary

SEED = Mark(MUTED, "o")


def draw(table: Path, style: Style, params: AccuracyParams) -> Figure:
    """Draw the figure from summary.csv."""
    backbones = read_summary(table)
    rows = [_row(place, each, style, params) for place, each in enumerate(backbones)]
    seeds = params.show_seeds and len(backbones[0].seeds) > 1
    key = [LegendEntry("chosen on the validation set", style.mark(0), size=7)]
    if seeds:
        key.append(LegendEntry("one training run (seed)", SEED, size=3.2))
    title = "accuracy on clean test images: mean and interval"
    return forest_plot(style, [Panel(rows, "accuracy")], title, key)


def _row(place: int, backbone: BackboneRow, style: Style, params: AccuracyParams) -> PlotRow:
    mark = style.mark(place)
    interval = backbone.accuracy_low, backbone.accuracy_high
    points = [PlotPoint(backbone.accuracy, mark.colour, mark.shape, interval=interval, size=8)]
    if params.show_seeds and len(backbone.seeds) > 1:
        points += [
            PlotPoint(value, SEED.colour, SEED.shape, rise=-0.27, size=3)
            for value in backbone.accuracy_by_seed
        ]
    return PlotRow(
        backbone.backbone,
        points,
        percent(backbone.accuracy, space=" "),
        percent_interval(*interval),
        bold=backbone.chosen,
    )
