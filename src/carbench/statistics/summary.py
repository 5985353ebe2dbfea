"""The answer in tables: a row a backbone, a row a pair of backbones, the headline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.statistics.confidence_intervals import (
    Interval,
    difference_interval,
    share_error,
    share_interval,
)
from carbench.statistics.estimates import Estimate, Score, estimate, estimate_together
from carbench.statistics.evaluated_runs import Runs
from carbench.statistics.jackknife import Groups, Numbers
from carbench.statistics.paired_comparisons import Comparison, compare
from carbench.statistics.prediction_costs import Cost
from carbench.statistics.scores import ClassScores, part_scores

# Columns of `dvc exp show` about the chosen backbone, and where summary.csv has them.
HEADLINE = {
    "accuracy": "accuracy",
    "low": "accuracy_low",
    "high": "accuracy_high",
    "leak_gap": "leak_gap",
    "onnx_ms": "onnx_ms",
    "macs": "macs",
}
# Columns that are empty where no image is leaked.
LEAK = (
    *("leaked_accuracy", "leaked_low", "leaked_high"),
    *("clean_as_published", "clean_as_published_low", "clean_as_published_high"),
    *("leak_gap", "leak_gap_low", "leak_gap_high"),
)


@dataclass(frozen=True)
class Judged:
    """How one backbone did: on the clean images, on the leaked and on all as published.

    The last two are None where no image is leaked.
    """

    clean: ClassScores
    leaked: Score | None
    published: ClassScores | None


@dataclass(frozen=True)
class Rule:
    """How the summary is made.

    Attributes:
        confidence: of the intervals.
        margin: a difference that does not matter, in parts of one.
        mix: (K,) share of each class in deployment; None: as in the clean test images.
        mix_name: the mix in words.
    """

    confidence: float
    margin: float
    mix: Numbers | None
    mix_name: str


def judge(runs: Runs, groups: Groups) -> dict[str, Judged]:
    """Score every backbone."""
    answers = runs.answers

    def scored(predicted: NDArray[np.int64]) -> ClassScores:
        return ClassScores(groups, answers.labels, predicted, len(answers.classes))

    judged = {}
    for name in runs.backbones:
        clean = scored(runs.clean_answers(name))
        if runs.clean.all():
            judged[name] = Judged(clean, None, None)
            continue
        leaked = answers.tested(name) & ~runs.clean
        (on_leaked,) = part_scores(groups, answers.right(name), leaked[None])
        judged[name] = Judged(clean, on_leaked, scored(answers.predicted[name]))
    return judged


def summarize(
    runs: Runs,
    judged: dict[str, Judged],
    calibration: dict[str, dict[str, Interval]],
    choice: list[dict[str, str]],
    costs: dict[str, Cost],
    rule: Rule,
) -> tuple[pd.DataFrame, list[Comparison]]:
    """Return the summary (a row a backbone, the chosen first) and the comparisons of all pairs.

    Args:
        runs: of all backbones.
        judged: their scores.
        calibration: NLL and calibration error of each, by their columns.
        choice: the rows of choice.csv, which say what was chosen on val.
        costs: what stage cost says of each backbone.
        rule: of the intervals.
    """
    ranked = sorted(choice, key=lambda row: -int(row["chosen"]))  # stable: then the best on val
    order = [row["backbone"] for row in ranked]
    chosen = order[0]

    def together(score: Callable[[Judged], Score]) -> dict[str, Estimate]:
        return estimate_together({name: score(judged[name]) for name in order})

    scores = {name: judged[name].clean.accuracy(rule.mix) for name in order}
    accuracies = estimate_together(scores)
    balanced = together(lambda each: each.clean.balanced_accuracy())
    f1 = together(lambda each: each.clean.macro_f1())
    leak = _leak(runs, judged, order, rule.confidence)
    comparisons = compare(accuracies, rule.confidence, rule.margin)
    tied = {chosen} | {
        each.other for each in comparisons if each.backbone == chosen and not each.significant
    }
    rows = []
    for row in ranked:
        name = row["backbone"]
        metrics, cost = runs.metrics[name], costs[name]
        rows.append(
            {
                "backbone": name,
                "model": cost.model,
                "chosen": int(name == chosen),
                "tied": int(name in tied),
                "seeds": " ".join(map(str, runs.seeds)),
                **{key: float(row[key]) for key in ("val_accuracy", "val_low", "val_high")},
                **_share("accuracy", accuracies[name], rule.confidence),
                "confidence": rule.confidence,
                "training_noise": int(accuracies[name].knows_trainings),
                "training_part": share_error(accuracies[name]).training_part,
                "deployment_mix": rule.mix_name,
                **_exported(judged[name].clean, runs.seeds, int(row["seed"]), rule),
                "accuracy_by_seed": " ".join(f"{value:.6f}" for value in scores[name].by_training),
                **_share("balanced_accuracy", balanced[name], rule.confidence),
                **_share("macro_f1", f1[name], rule.confidence),
                **{
                    column: value
                    for key, interval in calibration[name].items()
                    for column, value in named(key, interval).items()
                },
                "temperature": float(np.mean([document["temperature"] for document in metrics])),
                "test_images": int(runs.clean.sum()),
                "test_groups": Groups(runs.answers.groups).count(runs.clean),
                **leak[name],
                "parameters": cost.parameters,
                "macs": cost.macs,
                "onnx_bytes": cost.onnx_bytes,
                **named("onnx_ms", cost.latency_ms),
                **named("onnx_end_to_end_ms", cost.end_to_end_ms),
                "onnx_memory_mb": cost.memory_mb,
                **named("torch_ms", cost.torch_ms),
                "runtime": cost.runtime,
                "machine": cost.machine,
            }
        )
    return pd.DataFrame(rows), comparisons


def comparison_table(comparisons: list[Comparison]) -> pd.DataFrame:
    """Return a row a pair."""
    columns = ["backbone", "other", *named("difference", Interval(0, 0, 0))]
    plain = ["p_value", "p_adjusted", "significant", "better", "equivalent"]
    plain += ["detectable", "detectable_half", "training_part"]
    rows = [
        {"backbone": each.backbone, "other": each.other}
        | named("difference", each.difference)
        | {column: getattr(each, column) for column in plain}
        | {"significant": int(each.significant)}
        for each in comparisons
    ]
    return pd.DataFrame(rows, columns=[*columns, *plain])


def headline(summary: pd.DataFrame, comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the columns of `dvc exp show`: the chosen backbone, then the accuracy of each.

    Accuracies, their interval, ``leak_gap`` and ``detectable`` are parts of one. ``tied`` names the
    backbones that the test does not tell apart from the chosen one; ``detectable`` is of the pair
    of the chosen one and its closest rival, the best of the others on val; null without a rival.
    """
    chosen = summary.iloc[0]
    name = str(chosen["backbone"])
    rivals = summary["backbone"][1:]
    tied = rivals[summary["tied"] == 1]
    return {
        "chosen": name,
        **{key: _plain(chosen[column]) for key, column in HEADLINE.items()},
        "tied": " ".join(tied) or "none",
        "detectable": _plain(_versus(comparisons, name, rivals.iloc[0]).detectable)
        if len(rivals)
        else None,
        "accuracy_of": {
            str(row["backbone"]): _plain(row["accuracy"]) for _, row in summary.iterrows()
        },
    }


def named(name: str, interval: Interval, short: bool = False) -> dict[str, float]:
    """Return the three columns of an interval: x, x_low, x_high, or ``short``: x, low, high."""
    before = "" if short else f"{name}_"
    return {name: interval.value, f"{before}low": interval.low, f"{before}high": interval.high}


def _versus(comparisons: list[Comparison], one: str, other: str) -> Comparison:
    return next(each for each in comparisons if {each.backbone, each.other} == {one, other})


def _share(name: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    return named(name, share_interval(estimate, confidence))


def _exported(
    scores: ClassScores, seeds: list[int], seed: int, rule: Rule
) -> dict[str, float | int]:
    """The training that was best on val, alone: its interval is about other images."""
    found = estimate(scores.alone(seeds.index(seed)).accuracy(rule.mix))
    return {"exported_seed": seed} | _columns(
        "exported_accuracy", "exported", found, rule.confidence
    )


def _leak(
    runs: Runs, judged: dict[str, Judged], order: list[str], confidence: float
) -> dict[str, dict[str, Any]]:
    """What the leaked images add; where there are none, published is clean, the rest empty.

    Clean and published test images have different shares of the classes, some of which are
    easier. The gap is therefore between accuracies of one mix, that of the published test set
    (direct standardisation).
    """
    leaked_images = {"leaked_images": int((~runs.clean).sum())}
    published = {name: judged[name].published or judged[name].clean for name in order}
    as_published = estimate_together({name: published[name].accuracy() for name in order})
    found: dict[str, dict[str, Any]] = {
        name: leaked_images
        | _columns("published_accuracy", "published", as_published[name], confidence)
        for name in order
    }
    leaked_scores = {name: judged[name].leaked for name in order}
    leaked = estimate_together(
        {name: score for name, score in leaked_scores.items() if score is not None}
    )
    if not leaked:
        return {name: columns | dict.fromkeys(LEAK) for name, columns in found.items()}
    counts = np.bincount(runs.answers.labels, minlength=len(runs.answers.classes))
    mix = counts / counts.sum()
    clean = {name: judged[name].clean.accuracy(mix) for name in order}
    alike = estimate_together(clean)
    gaps = estimate_together(
        {name: published[name].accuracy(mix).minus(clean[name]) for name in order}
    )
    for name, columns in found.items():
        columns |= _columns("leaked_accuracy", "leaked", leaked[name], confidence)
        columns |= _share("clean_as_published", alike[name], confidence)
        columns |= named("leak_gap", difference_interval(gaps[name], confidence))
    return found


def _columns(value: str, part: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    interval = share_interval(estimate, confidence)
    columns = (value, f"{part}_low", f"{part}_high")
    return dict(zip(columns, (interval.value, interval.low, interval.high), strict=True))


def _plain(value: Any) -> Any:
    """Return a number that JSON can hold: a hundredth of a point, which a column has room for."""
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) > 1 else round(float(value), 4)
