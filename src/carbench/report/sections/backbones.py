"""Comparison of the backbones: accuracy, differences, cost and training curves."""

from __future__ import annotations

from typing import Any

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults


def load(study: StudyResults, params: ReportParams) -> dict[str, Any]:
    """Return what the section needs in addition to the shared tables: the price of a core-hour."""
    return {"core_hour": params.price_per_core_hour}


SECTION = ReportSection(
    "backbones",
    "Comparison of the backbones",
    load,
    {
        "differences": "Differences in accuracy between pairs of backbones, with intervals",
        "pareto": "Accuracy of each backbone versus its cost, with the Pareto front",
        "curves": "Training curves of each backbone, with the epochs that were kept",
    },
    ("summary", "comparisons", "choice", "measured", "curves"),
)
