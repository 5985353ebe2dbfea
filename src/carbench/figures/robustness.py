"""robustness: what blur, darkness and the like cost each backbone - a panel each."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.figures.layout import Estimate, forest, nothing
from carbench.figures.style import Style
from carbench.figures.summary import Robustness, read_rows
from carbench.params.plot import RobustnessParams

CLEAN = "none"


def draw(table: Path, style: Style, params: RobustnessParams) -> Figure:
    """Draw robustness.csv."""
    results = read_rows(table, Robustness)
    if all(each.corruption == CLEAN for each in results):
        return nothing(style, "no corruptions were tried: evaluate.corruptions is empty")
    dropping = params.show == "drop"
    estimates: dict[str, dict[str, Estimate]] = {}
    for each in results:
        own = estimates.setdefault(each.backbone, {})
        if not dropping:
            own[each.corruption] = Estimate(each.accuracy, each.low, each.high)
        elif each.corruption != CLEAN:
            own[each.corruption] = Estimate(
                each.drop or 0.0, each.drop_low or 0.0, each.drop_high or 0.0
            )
    if dropping:
        title = "accuracy lost on clean test pictures when they are corrupted, with interval"
        reference = dict.fromkeys(estimates, 0.0)
    else:
        title = "accuracy on corrupted clean test pictures, with interval; dashed: as they are"
        reference = {name: own[CLEAN].value for name, own in estimates.items()}
    if len(estimates) > 1:
        title += "\nfaint: the other backbones"
    labels = {row: "as they are" if row == CLEAN else row for row in next(iter(estimates.values()))}
    return forest(style, estimates, title, labels, reference)
