"""Selective prediction: thresholds and prediction sets from val, and their results on test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import OptionalNumber, SpaceSeparated, TableRow, read_rows


class DecisionRow(TableRow):
    """A row of decisions.csv: results of a backbone's validation thresholds on clean test images.

    ``max_error`` and ``set_coverage`` are None if no target was set; ``error`` is None if no image
    is answered.
    """

    backbone: str
    max_error: OptionalNumber
    guaranteed: OptionalNumber
    thresholds: Annotated[list[float], SpaceSeparated]
    answered: OptionalNumber
    answered_low: OptionalNumber
    answered_high: OptionalNumber
    error: OptionalNumber
    error_low: OptionalNumber
    error_high: OptionalNumber
    set_coverage: OptionalNumber
    covered: OptionalNumber
    covered_low: OptionalNumber
    covered_high: OptionalNumber
    set_size: OptionalNumber
    set_size_low: OptionalNumber
    set_size_high: OptionalNumber
    single: OptionalNumber

    @property
    def fitted(self) -> list[float]:
        """The thresholds of the training runs that do not always abstain, sorted."""
        return sorted(each for each in self.thresholds if each < 1)


class SetCoverageRow(TableRow):
    """A row of sets.csv: coverage and size of the prediction sets for the images of a class."""

    backbone: str
    label: str = Field(alias="class")
    images: int
    covered: float
    low: float
    high: float
    set_size: float


@dataclass(frozen=True)
class SelectivePrediction:
    """Content of the section.

    ``decisions``: one row per backbone, the chosen one first; ``sets``: one row per class for the
    chosen backbone, the lowest coverage first.
    """

    decisions: list[DecisionRow]
    sets: list[SetCoverageRow]


def load(study: StudyResults, params: ReportParams) -> SelectivePrediction:
    """Read what the section needs."""
    tables = study.sources.tables
    rows = read_rows(tables / "sets.csv", SetCoverageRow)
    own = [row for row in rows if row.backbone == study.chosen.backbone]
    return SelectivePrediction(
        read_rows(tables / "decisions.csv", DecisionRow), sorted(own, key=lambda row: row.covered)
    )


SECTION = ReportSection(
    "selective_prediction",
    "Selective prediction",
    load,
    {"risk_coverage": "Error rate among the answered images versus the fraction answered"},
    ("decisions", "risk_coverage", "sets"),
)
