"""Probable label errors: images whose label is probably wrong."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import TableRow, read_rows


class LabelErrorRow(TableRow):
    """A row of label_errors.csv: an image whose label is probably wrong, the most certain first."""

    rank: int
    image: str
    label: str = Field(alias="class")
    suggested: str
    score: float
    suggested_score: float
    trainings: int
    part: str
    group: int


@dataclass(frozen=True)
class LabelErrors:
    """The rows to show, one per duplicate group, and the number of all rows."""

    shown: list[LabelErrorRow]
    total: int


def load(study: StudyResults, params: ReportParams) -> LabelErrors | None:
    """Read what the section needs; None if there are no rows to show."""
    rows = read_rows(study.sources.tables / "label_errors.csv", LabelErrorRow)
    first = {each.group: each for each in reversed(rows)}
    shown = sorted(first.values(), key=lambda row: row.rank)[: params.label_errors]
    return LabelErrors(shown, len(rows)) if shown else None


SECTION = ReportSection("label_errors", "Probable label errors", load, tables=("label_errors",))
