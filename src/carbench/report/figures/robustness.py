"""robustness: accuracy on corrupted images, of the chosen backbone and others."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import RobustnessParams
from carbench.report.plotting.grouped_intervals import IntervalEstimate, draw_grouped_intervals
from carbench.report.plotting.layout import message_figure
from carbench.report.plotting.style import Style
from carbench.report.tables.result_tables import RobustnessRow, read_rows

CLEAN = "none"


def draw(table: Path, style: Style, params: RobustnessParams) -> Figure:
    """Draw the figure from robustness.csv, which lists the chosen backbone first."""
    results = read_rows(table, RobustnessRow)
    if all(each.corruption == CLEAN for each in results):
        return message_figure(style, "no corruptions were tested: evaluate.corruptions is empty")
    dropping = params.show == "drop"
    estimates: dict[str, dict[str, IntervalEstimate]] = {}
    for each in results:
        own = estimates.setdefault(each.backbone, {})
        if not dropping:
            own[each.corruption] = IntervalEstimate(each.accuracy, each.low, each.high)
        elif each.corruption != CLEAN:
            own[each.corruption] = IntervalEstimate(
                each.drop or 0.0, each.drop_low or 0.0, each.drop_high or 0.0
            )
    chosen, first = next(iter(estimates.items()))
    labels = {row: "uncorrupted" if row == CLEAN else row for row in first}
    if dropping:
        title = f"accuracy that {chosen} loses when clean test images are corrupted"
        return draw_grouped_intervals(
            style, estimates, labels, title, "accuracy lost, points", points=True
        )
    title = f"accuracy of {chosen} on corrupted clean test images; dashed: uncorrupted"
    return draw_grouped_intervals(
        style, estimates, labels, title, "accuracy", reference=first[CLEAN].value
    )
