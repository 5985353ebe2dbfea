"""Robustness: accuracy on corrupted images and on subsets of the test images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from carbench.params.report import ReportParams
from carbench.report.sections.section import Section
from carbench.report.study_results import Study
from carbench.report.tables.result_tables import Robustness, Slice, read_rows

COMPARED = 5  # backbones side by side in the tables of slices: the chosen one and the next


@dataclass(frozen=True)
class Conditions:
    """Accuracy under corruptions and on slices.

    Attributes:
        corruptions: those that were tested, "none" first; empty if there were no others.
        robustness: by backbone, one row per corruption.
        slices: by slice and value, one row for each of the first backbones.
    """

    corruptions: list[str]
    robustness: dict[str, list[Robustness]]
    slices: dict[str, dict[str, list[Slice]]]


def gather(study: Study, params: ReportParams) -> Conditions:
    """Read what the section needs."""
    robustness: dict[str, list[Robustness]] = defaultdict(list)
    for row in read_rows(study.sources.tables / "robustness.csv", Robustness):
        robustness[row.backbone].append(row)
    tried = [row.corruption for row in robustness[study.chosen.backbone]]
    compared = [each.backbone for each in study.backbones[:COMPARED]]
    slices: dict[str, dict[str, list[Slice]]] = {}
    for part in read_rows(study.sources.tables / "slices.csv", Slice):
        if part.backbone in compared:
            slices.setdefault(part.slice, {}).setdefault(part.value, []).append(part)
    for values in slices.values():
        for rows in values.values():
            rows.sort(key=lambda row: compared.index(row.backbone))
    return Conditions(tried if len(tried) > 1 else [], dict(robustness), slices)


SECTION = Section(
    "robustness",
    "Robustness",
    gather,
    {"robustness": "Accuracy of the chosen backbone on corrupted images, with its interval"},
    ("robustness", "slices"),
)
