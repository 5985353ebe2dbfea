"""Probable label errors: images whose label is probably wrong."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from carbench.params.report import ReportParams
from carbench.report.sections.section import Section
from carbench.report.study_results import Study
from carbench.report.tables.result_tables import Row, read_rows


class LabelError(Row):
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
class Doubtful:
    """The labels that are shown, one per duplicate group, and how many images are listed."""

    shown: list[LabelError]
    listed: int


def gather(study: Study, params: ReportParams) -> Doubtful | None:
    """Read what the section needs; None if no label is doubtful or none is to be shown."""
    listed = read_rows(study.sources.tables / "label_errors.csv", LabelError)
    first = {each.group: each for each in reversed(listed)}
    shown = sorted(first.values(), key=lambda row: row.rank)[: params.label_errors]
    return Doubtful(shown, len(listed)) if shown else None


SECTION = Section("label_errors", "Probable label errors", gather, tables=("label_errors",))
