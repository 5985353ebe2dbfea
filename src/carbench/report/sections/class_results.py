"""Results by class: recall, confusions and the most confident errors of the chosen backbone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from carbench.core.tables import read_json, read_table
from carbench.params.report import ReportParams
from carbench.report.plotting.attribution_overlay import Pixels, read_explanations
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import MistakeRow, RecallRow, read_rows


@dataclass(frozen=True)
class ClassResult:
    """Recall of the chosen backbone on one class, and its most frequent confusion."""

    recall: RecallRow
    taken_for: str | None
    taken_share: float


@dataclass(frozen=True)
class ClassResults:
    """Results by class, the weakest first, and the most confident mistakes.

    Attributes:
        mistakes: each with the model input, (S, S, 3), and its attribution map, (S, S).
        explained_by: the attribution method.
    """

    results: list[ClassResult]
    mistakes: list[tuple[MistakeRow, Pixels, Pixels]]
    explained_by: str | None


def load(study: StudyResults, params: ReportParams) -> ClassResults:
    """Read what the section needs."""
    tables = study.sources.tables
    images, maps = read_explanations(tables / "mistakes.npz")
    mistakes = read_rows(tables / "mistakes.csv", MistakeRow)[: params.mistakes]
    run = study.run(study.sources.evaluate, study.chosen, study.chosen.seeds[0])
    return ClassResults(
        _results(study),
        [(each, images[each.row], maps[each.row]) for each in mistakes],
        read_json(run / "metrics.json")["explained_by"],
    )


def _results(study: StudyResults) -> list[ClassResult]:
    columns = ("backbone", "class", "predicted", "count")
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for row in read_table(study.sources.tables / "confusion.csv", columns):
        if row["backbone"] == study.chosen.backbone:
            confusion[row["class"]][row["predicted"]] += int(row["count"])
    results = []
    for recall in study.recalls:
        counts = confusion[recall.label]
        wrong = Counter({name: n for name, n in counts.items() if n and name != recall.label})
        taken_for, times = wrong.most_common(1)[0] if wrong else (None, 0)
        results.append(ClassResult(recall, taken_for, times / max(counts.total(), 1)))
    return results


SECTION = ReportSection(
    "class_results",
    "Results by class",
    load,
    {
        "recall": "Recall of each class by the chosen backbone, with its interval",
        "confusion": "Confusion matrix of each backbone: true classes versus predicted classes",
    },
    ("recall", "confusion", "mistakes"),
)
