"""Selective prediction: thresholds and prediction sets from val, and their results on test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from carbench.params.report import ReportParams
from carbench.report.sections.section import Section
from carbench.report.study_results import Study
from carbench.report.tables.result_tables import Optional, Row, Words, read_rows


class Decision(Row):
    """A row of decisions.csv: results of a backbone's thresholds from val on the clean test.

    ``max_error`` and ``set_coverage`` are None where they were not asked for; ``error`` is None
    where nothing is answered.
    """

    backbone: str
    max_error: Optional
    guaranteed: Optional
    thresholds: Annotated[list[float], Words]
    answered: Optional
    answered_low: Optional
    answered_high: Optional
    error: Optional
    error_low: Optional
    error_high: Optional
    set_coverage: Optional
    covered: Optional
    covered_low: Optional
    covered_high: Optional
    set_size: Optional
    set_size_low: Optional
    set_size_high: Optional
    single: Optional

    @property
    def fitted(self) -> list[float]:
        """The thresholds of the trainings that answer at all, in order."""
        return sorted(each for each in self.thresholds if each < 1)


class SetCoverage(Row):
    """A row of sets.csv: the fraction of a class's clean test images whose set contains it."""

    backbone: str
    label: str = Field(alias="class")
    images: int
    covered: float
    low: float
    high: float
    set_size: float


@dataclass(frozen=True)
class Sureness:
    """What the section says.

    ``decisions``: of each backbone, the chosen one first; ``sets``: of the chosen one by class, the
    class least often held first.
    """

    decisions: list[Decision]
    sets: list[SetCoverage]


def gather(study: Study, params: ReportParams) -> Sureness:
    """Read what the section needs."""
    tables = study.sources.tables
    rows = read_rows(tables / "sets.csv", SetCoverage)
    own = [row for row in rows if row.backbone == study.chosen.backbone]
    return Sureness(
        read_rows(tables / "decisions.csv", Decision), sorted(own, key=lambda row: row.covered)
    )


SECTION = Section(
    "selective_prediction",
    "Selective prediction",
    gather,
    {"risk_coverage": "Error rate among the answered images versus the fraction answered"},
    ("decisions", "risk_coverage", "sets"),
)
