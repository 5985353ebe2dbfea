"""Gathers what the page says from the files of the other stages: what they computed is read."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbench.figures.explanations import Pixels, read_explanations
from carbench.figures.summary import (
    Backbone,
    Choice,
    Comparison,
    Mistake,
    Recall,
    Slice,
    read_rows,
    read_summary,
)
from carbench.tables import read_json, read_table

# Tables of aggregate that the page offers for download, beside choose's.
TABLES = ("summary", "comparisons", "recall", "slices", "robustness", "reliability", "confusion")


@dataclass(frozen=True)
class Rival:
    """Another backbone; a positive difference in ``versus`` favours the chosen one."""

    backbone: Backbone
    versus: Comparison

    @property
    def tied(self) -> bool:
        """Whether this test set cannot tell the two apart."""
        return not self.versus.significant


@dataclass(frozen=True)
class ClassResult:
    """How the chosen backbone does on one class, and what it is taken for, seeds pooled."""

    recall: Recall
    taken_for: str | None
    taken_share: float


@dataclass(frozen=True)
class Guess:
    """A class, and how much of the clean test pictures it is."""

    label: str
    share: float


@dataclass(frozen=True)
class Training:
    """One training: its backbone and seed, and what train wrote of it."""

    backbone: str
    seed: int
    record: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Everything that the page shows, but its figures and pictures."""

    backbones: list[Backbone]
    choice: list[Choice]
    rivals: list[Rival]
    detectable: float | None
    audit: dict[str, Any]
    published: dict[str, str]
    parts: dict[str, Counter[str]]
    costs: dict[str, dict[str, Any]]
    mistakes: list[Mistake]
    explanations: tuple[Pixels, Pixels]
    explained_by: str | None
    by_class: list[ClassResult]
    slices: list[Slice]
    trainings: list[Training]
    downloads: dict[str, str]

    @property
    def chosen(self) -> Backbone:
        """The backbone to deploy."""
        return self.backbones[0]

    @property
    def best_guess(self) -> Guess:
        """What naming the commonest class for every clean test picture would get right."""
        most = max(self.by_class, key=lambda each: (each.recall.images, each.recall.label)).recall
        return Guess(most.label, most.images / sum(each.recall.images for each in self.by_class))

    @property
    def totals(self) -> Counter[str]:
        """Pictures in each part, all classes together."""
        return sum(self.parts.values(), Counter())

    @property
    def folds(self) -> list[str]:
        """The parts of a k-fold split; empty for other splits."""
        return sorted(name for name in self.totals if name.startswith("fold-"))


def gather(
    data: Path,
    audit: Path,
    split: Path,
    train: Path,
    choice: Path,
    evaluate: Path,
    cost: Path,
    tables: Path,
) -> Evidence:
    """Read the outputs of the stages that the arguments are named after."""
    backbones = read_summary(tables / "summary.csv")
    chosen = backbones[0]
    published = {row["image"]: row["published"] for row in read_table(data / "manifest.csv")}
    first_run = read_json(_run(evaluate, chosen, chosen.seeds[0]) / "metrics.json")
    files = {choice.name: choice} | {f"{name}.csv": tables / f"{name}.csv" for name in TABLES}
    return Evidence(
        backbones=backbones,
        choice=read_rows(choice, Choice),
        rivals=_rivals(backbones, read_rows(tables / "comparisons.csv", Comparison)),
        detectable=read_json(tables / "metrics.json")["smallest_detectable_difference"],
        audit=read_json(audit / "audit.json"),
        published=published,
        parts=_parts(read_table(split)),
        costs={each.backbone: read_json(cost / f"{each.backbone}.json") for each in backbones},
        mistakes=read_rows(tables / "mistakes.csv", Mistake),
        explanations=read_explanations(tables / "mistakes.npz"),
        explained_by=first_run["explained_by"],
        by_class=_by_class(
            [row for row in read_rows(tables / "recall.csv", Recall) if _own(row, chosen)],
            [
                row
                for row in read_table(tables / "confusion.csv")
                if row["backbone"] == chosen.backbone
            ],
        ),
        slices=[row for row in read_rows(tables / "slices.csv", Slice) if _own(row, chosen)],
        trainings=[
            Training(each.backbone, seed, read_json(_run(train, each, seed) / "provenance.json"))
            for each in backbones
            for seed in each.seeds
        ],
        downloads={name: path.read_text(encoding="utf-8") for name, path in files.items()},
    )


def _own(row: Recall | Slice, chosen: Backbone) -> bool:
    return row.backbone == chosen.backbone


def _run(folder: Path, backbone: Backbone, seed: int) -> Path:
    return folder / backbone.backbone / str(seed)


def _rivals(backbones: list[Backbone], comparisons: list[Comparison]) -> list[Rival]:
    """The other backbones in the order of the summary: the best on val first."""
    chosen, *others = backbones
    versus = {each.other: each for each in comparisons if each.backbone == chosen.backbone}
    return [Rival(other, versus[other.backbone]) for other in others]


def _parts(rows: list[dict[str, str]]) -> dict[str, Counter[str]]:
    """Pictures of each class in train, val, test (clean), folds, leaked and excluded."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        part = "leaked" if row["leaked"] == "1" else row["split"]
        parts[row["class"]][part] += 1
    return dict(sorted(parts.items()))


def _by_class(recalls: list[Recall], cells: list[dict[str, str]]) -> list[ClassResult]:
    """The weakest class first."""
    results = []
    for recall in recalls:
        said = Counter(
            {row["predicted"]: int(row["count"]) for row in cells if row["class"] == recall.label}
        )
        total = said.total()
        del said[recall.label]
        taken_for, times = said.most_common(1)[0] if said.total() else (None, 0)
        results.append(ClassResult(recall, taken_for, times / total if total else 0.0))
    return sorted(results, key=lambda result: result.recall.recall)
