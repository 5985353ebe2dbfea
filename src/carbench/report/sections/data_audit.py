"""Data audit: what the audit found in the images, and the training, validation and test sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carbench.core.tables import read_chunks, read_json
from carbench.params.report import ReportParams
from carbench.report.embedded_images import select_duplicate_pairs
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults


@dataclass(frozen=True)
class DuplicateExamples:
    """Pairs of duplicates to show, and the estimate of missed duplicates from stage split."""

    pairs: list[dict[str, Any]]
    residual: dict[str, Any]


def load(study: StudyResults, params: ReportParams) -> DuplicateExamples:
    """Read what the section needs."""
    examples = study.audit["examples"]
    shown = {pair[side] for pair in examples for side in ("first", "second")}
    published = {
        image: split
        for chunk in read_chunks(study.sources.data / "manifest.csv", ("image", "published"))
        for image, split in zip(*chunk, strict=True)
        if image in shown
    }
    return DuplicateExamples(
        select_duplicate_pairs(examples, published, params.duplicate_pairs),
        read_json(study.sources.residual),
    )


SECTION = ReportSection(
    "data_audit",
    "Data audit",
    load,
    {
        "leak": "Clean, published and leaked accuracy of each backbone, and its leak gap",
        "classes": "Images and duplicates of each class, and its leakage",
    },
)
