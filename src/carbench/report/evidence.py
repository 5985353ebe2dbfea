"""Gathers what the page says from the files of the other stages; it computes next to nothing."""

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
    Robustness,
    Screened,
    Slice,
    read_rows,
    read_summary,
)
from carbench.params.screen import SCREENED
from carbench.parts import FOLD
from carbench.tables import read_json, read_table

# Tables of aggregate that are offered for download; the predictions of winner.csv are too many.
TABLES = (
    "summary",
    "comparisons",
    "recall",
    "confusion",
    "reliability",
    "robustness",
    "slices",
    "mistakes",
    "curves",
)
SHOWN = 12  # screened candidates in the report, besides the shortlist
PARTS = {"train": "Train", "val": "Validation", "test": "Clean test"}


@dataclass(frozen=True)
class Rival:
    """Another backbone; a positive difference in ``versus`` favours the chosen one."""

    backbone: Backbone
    versus: Comparison


@dataclass(frozen=True)
class ClassResult:
    """How the chosen backbone does on one class, and what it most often takes it for."""

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
class Screening:
    """What stages screen and shortlist found before anything was trained.

    Attributes:
        ranked: the screened candidates, the most accurate first.
        left_out: why the other candidates were not screened, and how many for each reason.
        minutes: measured on one machine, of all candidates together.
    """

    ranked: list[Screened]
    left_out: Counter[str]
    minutes: float

    @property
    def shortlist(self) -> list[Screened]:
        """The candidates that were worth training."""
        return [each for each in self.ranked if each.shortlisted]

    @property
    def shown(self) -> list[Screened]:
        """The rows of the report's table: the best ones, and the shortlist."""
        return [each for each in self.ranked if each.rank <= SHOWN or each.shortlisted]


@dataclass(frozen=True)
class Evidence:
    """Everything that the page shows, but its figures and pictures.

    ``backbones`` stand in the order of summary.csv, the chosen one first; ``choices`` in that of
    choice.csv, the best on val first; ``by_class`` the weakest class first. ``detectable`` is the
    smallest difference in accuracy that the test set could have shown, None with one backbone;
    ``explanations`` what the model saw in its mistakes and where it looked, ``explained_by`` how
    that was found.
    """

    backbones: list[Backbone]
    rivals: list[Rival]
    choices: list[Choice]
    screening: Screening
    detectable: float | None
    by_class: list[ClassResult]
    robustness: dict[str, list[Robustness]]
    slices: dict[str, dict[str, list[Slice]]]
    mistakes: list[Mistake]
    explanations: tuple[Pixels, Pixels]
    explained_by: str | None
    audit: dict[str, Any]
    published: dict[str, str]
    parts: dict[str, Counter[str]]
    costs: dict[str, dict[str, Any]]
    trainings: list[Training]
    files: dict[str, bytes]

    @property
    def chosen(self) -> Backbone:
        """The backbone to deploy."""
        return self.backbones[0]

    @property
    def choice(self) -> Choice:
        """The chosen backbone on the validation pictures."""
        return next(each for each in self.choices if each.chosen)

    @property
    def cheaper(self) -> list[Choice]:
        """Backbones that the rule for ties allowed, and that cost less than the chosen one."""
        return [each for each in self.choices if each.eligible and each.cost < self.choice.cost]

    @property
    def tied(self) -> list[Rival]:
        """Backbones that the test pictures cannot tell from the chosen one."""
        return [rival for rival in self.rivals if rival.backbone.tied]

    @property
    def better(self) -> list[Rival]:
        """Backbones that are better on test, by more than chance."""
        return [
            each for each in self.rivals if not each.backbone.tied and each.versus.difference < 0
        ]

    @property
    def worse(self) -> list[Rival]:
        """Backbones that are worse on test, by more than chance."""
        return [
            each for each in self.rivals if not each.backbone.tied and each.versus.difference > 0
        ]

    @property
    def best_guess(self) -> Guess:
        """What naming the commonest class for every clean test picture would get right."""
        recalls = [each.recall for each in self.by_class]
        most = max(recalls, key=lambda each: (each.images, each.label))
        return Guess(most.label, most.images / sum(each.images for each in recalls))

    @property
    def totals(self) -> Counter[str]:
        """Pictures in each part, all classes together."""
        return sum(self.parts.values(), Counter())

    @property
    def folds(self) -> int:
        """How many folds the pictures were dealt into; 0 where there is one test part."""
        return sum(part.startswith(FOLD) for part in self.totals)

    @property
    def columns(self) -> dict[str, str]:
        """The parts that pictures can be in, in reading order, and what to call them."""
        folds = sorted((part for part in self.totals if part.startswith(FOLD)), key=_fold)
        names = {part: f"Fold {_fold(part)}" for part in folds} or dict(PARTS)
        others = {"leaked": "Leaked test", "excluded": "Left out"}
        return names | {part: name for part, name in others.items() if self.totals[part]}


def gather(
    data: Path,
    audit: Path,
    split: Path,
    train: Path,
    choice: Path,
    evaluate: Path,
    cost: Path,
    tables: Path,
    screen: Path,
    shortlist: Path,
) -> Evidence:
    """Read the outputs of the stages that the arguments are named after."""
    backbones = read_summary(tables / "summary.csv")
    chosen = backbones[0]
    first_run = read_json(_run(evaluate, chosen, chosen.seeds[0]) / "metrics.json")
    recalls = read_rows(tables / "recall.csv", Recall)
    confusions = read_table(tables / "confusion.csv", ("backbone", "class", "predicted", "count"))
    return Evidence(
        backbones=backbones,
        rivals=_rivals(backbones, read_rows(tables / "comparisons.csv", Comparison)),
        choices=read_rows(choice, Choice),
        screening=_screening(screen, shortlist / "shortlist.csv"),
        detectable=read_json(tables / "metrics.json")["detectable"],
        by_class=_by_class(chosen.backbone, recalls, confusions),
        robustness=_robustness(read_rows(tables / "robustness.csv", Robustness)),
        slices=_slices(read_rows(tables / "slices.csv", Slice)),
        mistakes=read_rows(tables / "mistakes.csv", Mistake),
        explanations=read_explanations(tables / "mistakes.npz"),
        explained_by=first_run["explained_by"],
        audit=read_json(audit / "audit.json"),
        published={row["image"]: row["published"] for row in read_table(data / "manifest.csv")},
        parts=_parts(read_table(split)),
        costs={each.backbone: read_json(cost / f"{each.backbone}.json") for each in backbones},
        trainings=[
            Training(each.backbone, seed, read_json(_run(train, each, seed) / "provenance.json"))
            for each in backbones
            for seed in each.seeds
        ],
        files={path.name: path.read_bytes() for path in (choice, shortlist / "shortlist.csv")}
        | {f"{name}.csv": (tables / f"{name}.csv").read_bytes() for name in TABLES},
    )


def _screening(screen: Path, shortlist: Path) -> Screening:
    candidates = [
        row for path in sorted(screen.glob("*/candidates.csv")) for row in read_table(path)
    ]
    costs = [row for path in sorted(screen.glob("*/cost.csv")) for row in read_table(path)]
    return Screening(
        read_rows(shortlist, Screened),
        Counter(row["status"] for row in candidates if row["status"] != SCREENED),
        sum(float(row["seconds"]) for row in costs) / 60,
    )


def _run(folder: Path, backbone: Backbone, seed: int) -> Path:
    return folder / backbone.backbone / str(seed)


def _fold(part: str) -> int:
    return int(part.removeprefix(FOLD))


def _rivals(backbones: list[Backbone], comparisons: list[Comparison]) -> list[Rival]:
    """The other backbones in the order of the summary, each compared with the chosen one."""
    chosen, *others = backbones
    pairs = [*comparisons, *(each.reversed for each in comparisons)]
    versus = {each.other: each for each in pairs if each.backbone == chosen.backbone}
    return [Rival(other, versus[other.backbone]) for other in others]


def _by_class(
    chosen: str, recalls: list[Recall], confusions: list[dict[str, str]]
) -> list[ClassResult]:
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for row in confusions:
        if row["backbone"] == chosen:
            said[row["class"]][row["predicted"]] += int(row["count"])
    results = []
    for recall in recalls:
        if recall.backbone != chosen:
            continue
        counts = said[recall.label]
        wrong = Counter({name: n for name, n in counts.items() if n and name != recall.label})
        taken_for, times = wrong.most_common(1)[0] if wrong else (None, 0)
        results.append(ClassResult(recall, taken_for, times / max(counts.total(), 1)))
    return sorted(results, key=lambda result: result.recall.recall)


def _robustness(rows: list[Robustness]) -> dict[str, list[Robustness]]:
    """By corruption, a row a backbone; empty where none was tried."""
    grouped: dict[str, list[Robustness]] = defaultdict(list)
    for row in rows:
        grouped[row.corruption].append(row)
    return dict(grouped) if len(grouped) > 1 else {}


def _slices(rows: list[Slice]) -> dict[str, dict[str, list[Slice]]]:
    """By slice and value, a row a backbone."""
    grouped: dict[str, dict[str, list[Slice]]] = {}
    for row in rows:
        grouped.setdefault(row.slice, {}).setdefault(row.value, []).append(row)
    return grouped


def _parts(rows: list[dict[str, str]]) -> dict[str, Counter[str]]:
    """Pictures of each class in each part; clean test pictures apart from leaked ones."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        part = "leaked" if row["leaked"] == "1" else row["split"]
        parts[row["class"]][part] += 1
    return dict(sorted(parts.items()))
