"""Glossary of the report's terms. Other sections link to a term where they first use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.core.tables import read_table
from carbench.params.report import ReportParams
from carbench.report.sections.screening import read_screening
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults

# Written by benchmarks/coverage.py: coverage of 95 % intervals, by number of seeds.
COVERAGE = Path(__file__).parents[1] / "coverage.csv"


@dataclass(frozen=True)
class Coverage:
    """Lowest and highest fraction of simulated intervals that contained the true value."""

    seeds: int
    lowest: float
    highest: float


@dataclass(frozen=True)
class GlossaryData:
    """Whether screening terms occur, and the simulated coverage for such a study, if known."""

    screened: bool
    covered: Coverage | None


def load(study: StudyResults, params: ReportParams) -> GlossaryData:
    """Read what the section needs."""
    simulated_coverage = {
        int(row["seeds"]): Coverage(int(row["seeds"]), float(row["lowest"]), float(row["highest"]))
        for row in read_table(COVERAGE, ("seeds", "lowest", "highest"))
    }
    seeds = len(study.chosen.seeds)
    # The simulation covers only 95 % intervals and training runs on a single split.
    simulated = not study.folds and study.splits == 1 and study.chosen.confidence == 0.95
    return GlossaryData(
        read_screening(study) is not None, simulated_coverage.get(seeds) if simulated else None
    )


SECTION = ReportSection("glossary", "Glossary", load)
