"""Variance: how much an accuracy varies with test images, seed and split."""

from __future__ import annotations

from carbench.params.report import ReportParams
from carbench.report.sections.section import Section
from carbench.report.study_results import Study
from carbench.report.tables.result_tables import Optional, Row, read_rows


class VariancePart(Row):
    """A row of variance_parts.csv: a standard deviation, or in ``note`` why there is none."""

    backbone: str
    part: str
    deviation: Optional
    low: Optional
    high: Optional
    degrees_of_freedom: Optional
    note: str


def gather(study: Study, params: ReportParams) -> list[VariancePart]:
    """Read the parts of the chosen backbone."""
    rows = read_rows(study.sources.tables / "variance_parts.csv", VariancePart)
    return [row for row in rows if row.backbone == study.chosen.backbone]


SECTION = Section(
    "variance_parts", "Variance between seeds and splits", gather, {}, ("variance_parts",)
)
