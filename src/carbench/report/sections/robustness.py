"""Robustness: accuracy on corrupted images and on subsets of the test images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import RobustnessRow, SliceRow, read_rows

COMPARED = 5  # number of backbones in the tables of slices, including the chosen one


@dataclass(frozen=True)
class RobustnessResults:
    """Accuracy under corruptions and on slices.

    Attributes:
        corruptions: those that were tested, "none" first; empty if there were no others.
        robustness: by backbone, one row per corruption.
        slices: by slice and value, one row for each of the first backbones.
    """

    corruptions: list[str]
    robustness: dict[str, list[RobustnessRow]]
    slices: dict[str, dict[str, list[SliceRow]]]


def load(study: StudyResults, params: ReportParams) -> RobustnessResults:
    """Read what the section needs."""
    robustness: dict[str, list[RobustnessRow]] = defaultdict(list)
    for row in read_rows(study.sources.tables / "robustness.csv", RobustnessRow):
        robustness[row.backbone].append(row)
    tried = [row.corruption for row in robustness[study.chosen.backbone]]
    compared = [each.backbone for each in study.backbones[:COMPARED]]
    slices: dict[str, dict[str, list[SliceRow]]] = {}
    for part in read_rows(study.sources.tables / "slices.csv", SliceRow):
        if part.backbone in compared:
            slices.setdefault(part.slice, {}).setdefault(part.value, []).append(part)
    for values in slices.values():
        for rows in values.values():
            rows.sort(key=lambda row: compared.index(row.backbone))
    return RobustnessResults(tried if len(tried) > 1 else [], dict(robustness), slices)


SECTION = ReportSection(
    "robustness",
    "Robustness",
    load,
    {"robustness": "Accuracy of the chosen backbone on corrupted images, with its interval"},
    ("robustness", "slices"),
)
