"""Variance: how much an accuracy varies with test images, seed and split."""

from __future__ import annotations

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import OptionalNumber, TableRow, read_rows


class VariancePartRow(TableRow):
    """A row of variance_parts.csv: a standard deviation, or in ``note`` why there is none."""

    backbone: str
    part: str
    deviation: OptionalNumber
    low: OptionalNumber
    high: OptionalNumber
    degrees_of_freedom: OptionalNumber
    note: str


def load(study: StudyResults, params: ReportParams) -> list[VariancePartRow]:
    """Read the parts of the chosen backbone."""
    rows = read_rows(study.sources.tables / "variance_parts.csv", VariancePartRow)
    return [row for row in rows if row.backbone == study.chosen.backbone]


SECTION = ReportSection(
    "variance_parts", "Variance between seeds and splits", load, {}, ("variance_parts",)
)
