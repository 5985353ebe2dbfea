"""Gathers what the page says from the files of the other stages."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbench.figures.summary import Backbone, Comparison, read_rows, read_summary
from carbench.tables import read_json, read_table


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
class Mistake:
    """A clean test picture that the chosen backbone got wrong, by its most confident seed."""

    image: str
    label: str
    predicted: str
    confidence: float
    seeds_wrong: int


@dataclass(frozen=True)
class ClassResult:
    """How the chosen backbone does on one class, seeds pooled."""

    label: str
    pictures: int
    recall: float
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
    rivals: list[Rival]
    audit: dict[str, Any]
    published: dict[str, str]
    parts: dict[str, Counter[str]]
    costs: dict[str, dict[str, Any]]
    mistakes: list[Mistake]
    by_class: list[ClassResult]
    trainings: list[Training]

    @property
    def chosen(self) -> Backbone:
        """The backbone to deploy."""
        return self.backbones[0]

    @property
    def best_guess(self) -> Guess:
        """What naming the commonest class for every clean test picture would get right."""
        most = max(self.by_class, key=lambda result: (result.pictures, result.label))
        return Guess(most.label, most.pictures / sum(each.pictures for each in self.by_class))

    @property
    def totals(self) -> Counter[str]:
        """Pictures in each part, all classes together."""
        return sum(self.parts.values(), Counter())


def gather(
    data: Path, audit: Path, split: Path, train: Path, evaluate: Path, cost: Path, tables: Path
) -> Evidence:
    """Read the outputs of the stages that the arguments are named after."""
    backbones = read_summary(tables / "summary.csv")
    chosen = backbones[0]
    predictions = [
        [row for row in read_table(_run(evaluate, chosen, seed) / "predictions.csv") if clean(row)]
        for seed in chosen.seeds
    ]
    published = {row["image"]: row["published"] for row in read_table(data / "manifest.csv")}
    return Evidence(
        backbones=backbones,
        rivals=_rivals(backbones, read_rows(tables / "comparisons.csv", Comparison)),
        audit=read_json(audit / "audit.json"),
        published=published,
        parts=_parts(read_table(split)),
        costs={each.backbone: read_json(cost / f"{each.backbone}.json") for each in backbones},
        mistakes=_mistakes(predictions),
        by_class=_by_class(predictions),
        trainings=[
            Training(each.backbone, seed, read_json(_run(train, each, seed) / "provenance.json"))
            for each in backbones
            for seed in each.seeds
        ],
    )


def clean(row: dict[str, str]) -> bool:
    """Whether a predicted picture has no twin in train or val."""
    return row["leaked"] == "0"


def _run(folder: Path, backbone: Backbone, seed: int) -> Path:
    return folder / backbone.backbone / str(seed)


def _rivals(backbones: list[Backbone], comparisons: list[Comparison]) -> list[Rival]:
    """The other backbones in the order of the summary: the runner-up on val first."""
    chosen, *others = backbones
    versus = {each.other: each for each in comparisons if each.backbone == chosen.backbone}
    return [Rival(other, versus[other.backbone]) for other in others]


def _parts(rows: list[dict[str, str]]) -> dict[str, Counter[str]]:
    """Pictures of each class in train, val, test (clean), leaked and excluded."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        part = "leaked" if row["leaked"] == "1" else row["split"]
        parts[row["class"]][part] += 1
    return dict(sorted(parts.items()))


def _mistakes(predictions: list[list[dict[str, str]]]) -> list[Mistake]:
    """The most confident first; of duplicates among the test pictures only one."""
    wrong = [row for rows in predictions for row in rows if row["class"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["confidence"]), row["image"]))
    seeds_wrong = Counter(row["image"] for row in wrong)
    first_of_group: dict[str, dict[str, str]] = {}
    for row in wrong:
        first_of_group.setdefault(row["group"], row)
    return [
        Mistake(
            row["image"],
            row["class"],
            row["predicted"],
            float(row["confidence"]),
            seeds_wrong[row["image"]],
        )
        for row in first_of_group.values()
    ]


def _by_class(predictions: list[list[dict[str, str]]]) -> list[ClassResult]:
    """The weakest class first."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for rows in predictions:
        for row in rows:
            said[row["class"]][row["predicted"]] += 1
    results = []
    for label, counts in sorted(said.items()):
        total = counts.total()
        wrong = Counter({name: count for name, count in counts.items() if name != label})
        taken_for, times = wrong.most_common(1)[0] if wrong else (None, 0)
        results.append(
            ClassResult(
                label, total // len(predictions), counts[label] / total, taken_for, times / total
            )
        )
    return sorted(results, key=lambda result: result.recall)
