"""Calibration: whether stated probabilities match the accuracy."""

from __future__ import annotations

from typing import Any

from carbench.params.report import ReportParams
from carbench.report.sections.section import Section
from carbench.report.study_results import Study


def gather(study: Study, params: ReportParams) -> dict[str, Any]:
    """The section needs only the shared tables."""
    return {}


SECTION = Section(
    "calibration",
    "Calibration",
    gather,
    {"reliability": "Accuracy versus stated confidence, before and after temperature scaling"},
    ("reliability",),
)
