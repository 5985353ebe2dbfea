"""Calibration: whether stated probabilities match the accuracy."""

from __future__ import annotations

from typing import Any

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults


def load(study: StudyResults, params: ReportParams) -> dict[str, Any]:
    """Return nothing: the section needs only the shared tables."""
    return {}


SECTION = ReportSection(
    "calibration",
    "Calibration",
    load,
    {"reliability": "Accuracy versus stated confidence, before and after temperature scaling"},
    ("reliability",),
)
