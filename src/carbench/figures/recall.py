"""recall: which classes each backbone knows - a row a class, a panel a backbone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.figures.layout import MOST_ROWS, Estimate, forest
from carbench.figures.style import Style
from carbench.figures.summary import Recall, read_rows
from carbench.params.plot import RecallParams


def draw(table: Path, style: Style, params: RecallParams) -> Figure:
    """Draw recall.csv."""
    results = read_rows(table, Recall)
    by_class: dict[str, list[float]] = {}
    for each in results:
        by_class.setdefault(each.label, []).append(each.recall)
    order = list(by_class)
    if params.order == "weakest":
        order.sort(key=lambda label: sum(by_class[label]) / len(by_class[label]))
    shown = order[:MOST_ROWS]
    estimates: dict[str, dict[str, Estimate]] = {}
    for label in shown:
        for each in results:
            if each.label == label:
                estimate = Estimate(each.recall, each.low, each.high)
                estimates.setdefault(each.backbone, {})[label] = estimate
    # As in the table, so that a backbone keeps its place from figure to figure.
    names = dict.fromkeys(each.backbone for each in results)
    images = {each.label: each.images for each in results}
    title = "clean test pictures of each class that are recognised, with interval"
    if len(estimates) > 1:
        title += "; faint: the other backbones"
    if len(shown) < len(order):
        title += f"\nthe first {len(shown)} of {len(order)} classes"
    return forest(
        style,
        {name: estimates[name] for name in names},
        title,
        {label: f"{label} ({images[label]})" for label in shown},
        {},
    )
