"""Results that several sections of the report share; each file is read once, when needed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from carbench.core.tables import read_chunks, read_header, read_json
from carbench.cost.file_names import CONDITIONS, MEASURED
from carbench.data.split.table import FOLD, count_splits, split_column
from carbench.report.tables.result_tables import (
    BackboneRow,
    ChoiceRow,
    ComparisonRow,
    LatencyRow,
    RecallRow,
    read_rows,
    read_summary,
)

PARTS = {"train": "Training", "val": "Validation", "test": "Clean test"}


@dataclass(frozen=True)
class Rival:
    """Another backbone; a positive difference in ``versus`` favours the chosen one."""

    backbone: BackboneRow
    versus: ComparisonRow


@dataclass(frozen=True)
class CostResults:
    """The measurements of stage cost, and their conditions (conditions.json)."""

    rows: list[LatencyRow]
    conditions: dict[str, Any]

    @property
    def configurations(self) -> list[LatencyRow]:
        """The rows of one backbone, one per configuration; all backbones have the same ones."""
        return [row for row in self.rows if row.backbone == self.rows[0].backbone]

    def of(self, backbone: BackboneRow, like: LatencyRow) -> LatencyRow:
        """Return the row of a backbone in the configuration of the row ``like``."""
        wanted = like.model_copy(update={"backbone": backbone.backbone}).configuration
        return next(row for row in self.rows if row.configuration == wanted)

    @property
    def batched(self) -> LatencyRow:
        """The configuration whose throughput is shown: the served runtime, in batches."""
        served = [row for row in self.configurations if row.runtime == "onnx" and row.threads == 1]
        return max(served, key=lambda row: row.images)


@dataclass(frozen=True)
class ResultPaths:
    """Paths of the outputs of the stages; ``tables`` is the output of stage aggregate."""

    data: Path
    audit: Path
    split: Path
    residual: Path
    train: Path
    choice: Path
    evaluate: Path
    cost: Path
    tables: Path
    screen: Path
    shortlist: Path
    learning_curve: Path
    figures: Path


@dataclass(frozen=True)
class StudyResults:
    """The outputs of a study. Backbones are ordered: the chosen one first, then by val accuracy."""

    sources: ResultPaths

    @cached_property
    def backbones(self) -> list[BackboneRow]:
        """The rows of summary.csv."""
        return read_summary(self.sources.tables / "summary.csv")

    @property
    def chosen(self) -> BackboneRow:
        """The backbone to deploy."""
        return self.backbones[0]

    @cached_property
    def rivals(self) -> list[Rival]:
        """The other backbones, each compared with the chosen one."""
        comparisons = read_rows(self.sources.tables / "comparisons.csv", ComparisonRow)
        pairs = [*comparisons, *(each.reversed for each in comparisons)]
        versus = {each.other: each for each in pairs if each.backbone == self.chosen.backbone}
        return [Rival(other, versus[other.backbone]) for other in self.backbones[1:]]

    @property
    def tied(self) -> list[Rival]:
        """Backbones that are not significantly different from the chosen one on test."""
        return [rival for rival in self.rivals if rival.backbone.tied]

    @property
    def better(self) -> list[Rival]:
        """Backbones that are significantly better than the chosen one on test."""
        return [
            each for each in self.rivals if not each.backbone.tied and each.versus.difference < 0
        ]

    @property
    def worse(self) -> list[Rival]:
        """Backbones that are significantly worse than the chosen one on test."""
        return [
            each for each in self.rivals if not each.backbone.tied and each.versus.difference > 0
        ]

    @cached_property
    def choices(self) -> list[ChoiceRow]:
        """The rows of choice.csv, the best on val first."""
        return read_rows(self.sources.choice, ChoiceRow)

    @property
    def choice(self) -> ChoiceRow:
        """The row of choice.csv for the chosen backbone."""
        return next(each for each in self.choices if each.chosen)

    @cached_property
    def recalls(self) -> list[RecallRow]:
        """Recall of the chosen backbone on each class, the weakest first."""
        rows = read_rows(self.sources.tables / "recall.csv", RecallRow)
        own = [row for row in rows if row.backbone == self.chosen.backbone]
        return sorted(own, key=lambda row: row.recall)

    @cached_property
    def audit(self) -> dict[str, Any]:
        """The content of audit.json."""
        found: dict[str, Any] = read_json(self.sources.audit / "audit.json")
        return found

    @cached_property
    def cost(self) -> CostResults:
        """The measurements of stage cost."""
        folder = self.sources.cost
        return CostResults(read_rows(folder / MEASURED, LatencyRow), read_json(folder / CONDITIONS))

    @cached_property
    def splits(self) -> int:
        """Number of splits; each training run used one of them."""
        return count_splits(read_header(self.sources.split))

    @cached_property
    def rotates(self) -> bool:
        """Whether a test image of one split is in train or val of another."""
        columns = [split_column(number) for number in range(self.splits)]
        return any(
            "test" in own and len(set(own)) > 1
            for chunk in read_chunks(self.sources.split, columns)
            for own in set(zip(*chunk, strict=True))
        )

    @cached_property
    def parts(self) -> dict[str, Counter[str]]:
        """Number of images by class and part; leaked test images are a separate part."""
        counts: Counter[tuple[str, ...]] = Counter()
        for chunk in read_chunks(self.sources.split, ("class", "split", "leaked")):
            counts.update(zip(*chunk, strict=True))
        parts: dict[str, Counter[str]] = defaultdict(Counter)
        for (label, split, leaked), count in counts.items():
            parts[label]["leaked" if leaked == "1" else split] += count
        return dict(sorted(parts.items()))

    @property
    def totals(self) -> Counter[str]:
        """Number of images by part, for all classes together."""
        return sum(self.parts.values(), Counter())

    @property
    def folds(self) -> int:
        """Number of folds; 0 if there is a single test set."""
        return sum(part.startswith(FOLD) for part in self.totals)

    @property
    def columns(self) -> dict[str, str]:
        """The parts, in reading order, with their displayed names."""
        folds = sorted((part for part in self.totals if part.startswith(FOLD)), key=_fold)
        names = {part: f"Fold {_fold(part)}" for part in folds} or dict(PARTS)
        others = {"leaked": "Leaked test", "excluded": "Excluded"}
        return names | {part: name for part, name in others.items() if self.totals[part]}

    def run(self, folder: Path, backbone: BackboneRow, seed: int) -> Path:
        """Return the folder of one training run in the output of a stage."""
        return folder / backbone.backbone / str(seed)


def _fold(part: str) -> int:
    return int(part.removeprefix(FOLD))
