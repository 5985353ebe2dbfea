"""differences: paired differences between backbones, one row per pair, with intervals."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import DifferencesParams
from carbench.report.plotting.colours import MUTED
from carbench.report.plotting.forest import LegendEntry, Panel, forest_plot
from carbench.report.plotting.layout import message_figure
from carbench.report.plotting.row_layout import PlotPoint, PlotRow
from carbench.report.plotting.style import Mark, Style
from carbench.report.tables.formatting import points, points_interval
from carbench.report.tables.result_tables import ComparisonRow, read_rows

# With more pairs, only those of the chosen backbone are drawn; the table contains all.
MOST_PAIRS = 6


def draw(table: Path, style: Style, params: DifferencesParams) -> Figure:
    """Draw the figure from comparisons.csv, whose first row starts with the chosen backbone."""
    pairs = read_rows(table, ComparisonRow)
    if not pairs:
        return message_figure(style, "there is only one backbone, and nothing to compare it with")
    chosen = pairs[0].backbone
    shown = pairs if len(pairs) <= MOST_PAIRS else with_chosen(pairs)
    # If every pair includes the chosen backbone, each row is named after the other one.
    single = all(pair.backbone == chosen for pair in shown)
    rows = [
        PlotRow(
            pair.other if single else f"{pair.backbone} − {pair.other}",
            [_point(pair, style)],
            points(pair.difference, sign=True),
            points_interval(pair.difference_low, pair.difference_high) if params.intervals else "",
            bold=not single and pair.backbone == chosen,
        )
        for pair in shown
    ]
    what = f"{chosen} minus each other backbone" if single else "first backbone minus second"
    times = f" for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    title = f"{what}, on the same clean test images; intervals corrected{times}"
    if not times:
        title = f"{what}, on the same clean test images"
    key = [
        LegendEntry("first is better", Mark(style.focus, "o")),
        LegendEntry("first is worse", Mark(style.warning, "D")),
        LegendEntry("not significant", Mark(MUTED, "o"), hollow=True),
    ]
    kinds = {_kind(pair) for pair in shown}
    label = "difference in accuracy, percentage points"
    key = [each for kind, each in enumerate(key) if kind in kinds]
    if single:
        key = [LegendEntry(k.text.replace("first", chosen), k.mark, k.hollow) for k in key]
    return forest_plot(style, [Panel(rows, label, points=True)], title, key)


def with_chosen(pairs: list[ComparisonRow]) -> list[ComparisonRow]:
    """Return the pairs with the first row's backbone, which is put first, in table order."""
    chosen = pairs[0].backbone
    own = [pair for pair in pairs if chosen in (pair.backbone, pair.other)]
    return [pair if pair.backbone == chosen else pair.reversed for pair in own]


def _kind(pair: ComparisonRow) -> int:
    """Return 0 if the first is better, 1 if worse, 2 if the difference is not significant."""
    return 2 if not pair.significant else 0 if pair.difference > 0 else 1


def _point(pair: ComparisonRow, style: Style) -> PlotPoint:
    colour, shape = ((style.focus, "o"), (style.warning, "D"), (MUTED, "o"))[_kind(pair)]
    interval = pair.difference_low, pair.difference_high
    return PlotPoint(pair.difference, colour, shape, not pair.significant, interval)
