"""recall: recall of the chosen backbone by class, with other backbones for comparison."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import RecallParams
from carbench.report.plotting.grouped_intervals import IntervalEstimate, draw_grouped_intervals
from carbench.report.plotting.layout import MOST_ROWS
from carbench.report.plotting.style import Style
from carbench.report.tables.result_tables import RecallRow, read_rows


def draw(table: Path, style: Style, params: RecallParams) -> Figure:
    """Draw the figure from recall.csv, which lists the chosen backbone first."""
    results = read_rows(table, RecallRow)
    chosen = results[0].backbone
    own = {each.label: each for each in results if each.backbone == chosen}
    order = list(own)
    if params.order == "weakest":
        order.sort(key=lambda label: own[label].recall)
    shown = order[:MOST_ROWS]
    estimates: dict[str, dict[str, IntervalEstimate]] = {}
    for each in results:
        estimate = IntervalEstimate(each.recall, each.low, each.high)
        estimates.setdefault(each.backbone, {})[each.label] = estimate
    title = f"recall of {chosen} by class, on clean test images, with interval"
    if len(shown) < len(order):
        title += f"\nthe first {len(shown)} of {len(order)} classes"
    labels = {label: f"{label} ({own[label].images})" for label in shown}
    return draw_grouped_intervals(
        style, estimates, labels, title, "recall (in parentheses: number of images)"
    )
