"""The recommendation: what to deploy, how certain that is, and how it was decided."""

from __future__ import annotations

from dataclasses import dataclass

from carbench.params.report import ReportParams
from carbench.report.sections.screening import ScreeningResults, read_screening
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import ChoiceRow, ComparisonRow


@dataclass(frozen=True)
class Recommendation:
    """Content of the first section that is not in the shared tables.

    Attributes:
        closest: comparison with the closest rival, the best of the others on val; None if there is
            only one backbone.
        guess: the most common class, and its fraction of the clean test images.
        cheaper: backbones that the rule for ties allowed and that cost less than the chosen one.
    """

    closest: ComparisonRow | None
    guess: tuple[str, float]
    cheaper: list[ChoiceRow]
    screening: ScreeningResults | None


def load(study: StudyResults, params: ReportParams) -> Recommendation:
    """Read what the section needs."""
    most = max(study.recalls, key=lambda each: (each.images, each.label))
    share = most.images / sum(each.images for each in study.recalls)
    return Recommendation(
        study.rivals[0].versus if study.rivals else None,
        (most.label, share),
        _cheaper(study),
        read_screening(study),
    )


def _cheaper(study: StudyResults) -> list[ChoiceRow]:
    chosen = study.choice
    if chosen.cost_tied:
        return []
    return [each for each in study.choices if each.eligible and each.cost < chosen.cost]


SECTION = ReportSection(
    "recommendation",
    "Recommendation",
    load,
    {"accuracy": "Accuracy of each backbone on the clean test images, with its interval"},
)
