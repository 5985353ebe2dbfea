"""Reproducibility: training runs, recipe, versions, hardware and inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carbench.core.tables import read_json
from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults


@dataclass(frozen=True)
class Training:
    """One training run: its backbone and seed, and the record that train wrote."""

    backbone: str
    seed: int
    record: dict[str, Any]


def load(study: StudyResults, params: ReportParams) -> list[Training]:
    """Return all training runs."""
    return [
        Training(
            each.backbone,
            seed,
            read_json(study.run(study.sources.train, each, seed) / "provenance.json"),
        )
        for each in study.backbones
        for seed in each.seeds
    ]


SECTION = ReportSection("provenance", "Reproducibility", load)
