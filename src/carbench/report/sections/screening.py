"""Screening: linear probes of many candidates, and the shortlist for training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from carbench.core.tables import read_table
from carbench.params.report import ReportParams
from carbench.params.screen import SCREENED
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import ShortlistRow, read_rows

SHOWN = 12  # candidates in the table, besides the shortlist


@dataclass(frozen=True)
class ScreeningResults:
    """Results of stages screen and shortlist.

    Attributes:
        ranked: the screened candidates, the most accurate first.
        left_out: why the other candidates were not screened, and how many for each reason.
        minutes: measured time for all candidates together.
    """

    ranked: list[ShortlistRow]
    left_out: Counter[str]
    minutes: float

    @property
    def shortlist(self) -> list[ShortlistRow]:
        """The candidates on the shortlist."""
        return [each for each in self.ranked if each.shortlisted]

    @property
    def shown(self) -> list[ShortlistRow]:
        """The rows of the report's table: the best ones, and the shortlist."""
        return [each for each in self.ranked if each.rank <= SHOWN or each.shortlisted]


def read_screening(study: StudyResults) -> ScreeningResults | None:
    """Read what was screened; None if nothing was."""
    ranked = read_rows(study.sources.shortlist / "shortlist.csv", ShortlistRow)
    if not ranked:
        return None
    pools = sorted(study.sources.screen.glob("*"))
    candidates = [row for pool in pools for row in read_table(pool / "candidates.csv")]
    costs = [row for pool in pools for row in read_table(pool / "cost.csv")]
    return ScreeningResults(
        ranked,
        Counter(row["status"] for row in candidates if row["status"] != SCREENED),
        sum(float(row["seconds"]) for row in costs) / 60,
    )


def load(study: StudyResults, params: ReportParams) -> ScreeningResults | None:
    """Read what the section needs."""
    return read_screening(study)


SECTION = ReportSection(
    "screening",
    "Screening",
    load,
    {"screening": "Linear-probe accuracy of each screened candidate versus its cost"},
    ("shortlist",),
)
