"""Summary of the study: summary.csv, comparisons.csv and metrics.json."""

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
from carbench.statistics.estimates import Estimate, Score, estimate, estimate_jointly
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.jackknife import FloatArray, Groups
from carbench.statistics.paired_comparisons import PairedComparison, compare_pairs
from carbench.statistics.prediction_costs import Cost
from carbench.statistics.scores import ClassScores, subset_scores

# Metrics of the chosen backbone that `dvc exp show` lists, and their columns in summary.csv.
METRICS = {
    "accuracy": "accuracy",
    "low": "accuracy_low",
    "high": "accuracy_high",
    "leak_gap": "leak_gap",
    "onnx_ms": "onnx_ms",
    "macs": "macs",
}
# Columns that are empty if no test image is leaked.
LEAK_COLUMNS = (
    *("leaked_accuracy", "leaked_low", "leaked_high"),
    *("clean_as_published", "clean_as_published_low", "clean_as_published_high"),
    *("leak_gap", "leak_gap_low", "leak_gap_high"),
)


@dataclass(frozen=True)
class BackboneScores:
    """Scores of one backbone on the clean, the leaked and all published test images.

    The last two are None if no image is leaked.
    """

    clean: ClassScores
    leaked: Score | None
    published: ClassScores | None


@dataclass(frozen=True)
class SummaryOptions:
    """Options of the summary.

    Attributes:
        confidence: confidence level of the intervals.
        margin: largest irrelevant difference, as a fraction.
        mix: (K,) fraction of each class in deployment; None: as in the clean test images.
        mix_name: description of the mix.
    """

    confidence: float
    margin: float
    mix: FloatArray | None
    mix_name: str


def score_backbones(runs: EvaluatedRuns, groups: Groups) -> dict[str, BackboneScores]:
    """Score every backbone."""
    aligned = runs.aligned

    def scored(predicted: NDArray[np.int64]) -> ClassScores:
        return ClassScores(groups, aligned.labels, predicted, len(aligned.classes))

    scores_by_backbone = {}
    for name in runs.backbones:
        clean = scored(runs.clean_predictions(name))
        if runs.clean.all():
            scores_by_backbone[name] = BackboneScores(clean, None, None)
            continue
        leaked = aligned.tested(name) & ~runs.clean
        (on_leaked,) = subset_scores(groups, aligned.correct(name), leaked[None])
        scores_by_backbone[name] = BackboneScores(clean, on_leaked, scored(aligned.predicted[name]))
    return scores_by_backbone


def summarize(
    runs: EvaluatedRuns,
    scores_by_backbone: dict[str, BackboneScores],
    calibration: dict[str, dict[str, Interval]],
    choice: list[dict[str, str]],
    costs: dict[str, Cost],
    options: SummaryOptions,
) -> tuple[pd.DataFrame, list[PairedComparison]]:
    """Return the summary, one row per backbone, the chosen one first, and all pairwise comparisons.

    Args:
        runs: evaluations of all backbones.
        scores_by_backbone: their scores.
        calibration: intervals of NLL and calibration error of each backbone, by column.
        choice: rows of choice.csv, with the selection on val.
        costs: cost of each backbone, from stage cost.
        options: confidence level, margin and class mix.
    """
    ranked = sorted(choice, key=lambda row: -int(row["chosen"]))  # stable: then the best on val
    order = [row["backbone"] for row in ranked]
    chosen = order[0]

    def together(score: Callable[[BackboneScores], Score]) -> dict[str, Estimate]:
        return estimate_jointly({name: score(scores_by_backbone[name]) for name in order})

    scores = {name: scores_by_backbone[name].clean.accuracy(options.mix) for name in order}
    accuracies = estimate_jointly(scores)
    balanced = together(lambda each: each.clean.balanced_accuracy())
    f1 = together(lambda each: each.clean.macro_f1())
    leak = _leak(runs, scores_by_backbone, order, options.confidence)
    comparisons = compare_pairs(accuracies, options.confidence, options.margin)
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
                **_share("accuracy", accuracies[name], options.confidence),
                "confidence": options.confidence,
                "training_noise": int(accuracies[name].includes_training_variance),
                "training_part": share_error(accuracies[name]).training_part,
                "deployment_mix": options.mix_name,
                **_exported(scores_by_backbone[name].clean, runs.seeds, int(row["seed"]), options),
                "accuracy_by_seed": " ".join(f"{value:.6f}" for value in scores[name].by_training),
                **_share("balanced_accuracy", balanced[name], options.confidence),
                **_share("macro_f1", f1[name], options.confidence),
                **{
                    column: value
                    for key, interval in calibration[name].items()
                    for column, value in interval_columns(key, interval).items()
                },
                "temperature": float(np.mean([document["temperature"] for document in metrics])),
                "test_images": int(runs.clean.sum()),
                "test_groups": Groups(runs.aligned.groups).count(runs.clean),
                **leak[name],
                "parameters": cost.parameters,
                "macs": cost.macs,
                "onnx_bytes": cost.onnx_bytes,
                **interval_columns("onnx_ms", cost.latency_ms),
                **interval_columns("onnx_end_to_end_ms", cost.end_to_end_ms),
                "onnx_memory_mb": cost.memory_mb,
                **interval_columns("torch_ms", cost.torch_ms),
                "runtime": cost.runtime,
                "machine": cost.machine,
            }
        )
    return pd.DataFrame(rows), comparisons


def comparison_table(comparisons: list[PairedComparison]) -> pd.DataFrame:
    """Return comparisons.csv: one row per pair."""
    columns = ["backbone", "other", *interval_columns("difference", Interval(0, 0, 0))]
    plain = ["p_value", "p_adjusted", "significant", "better", "equivalent"]
    plain += ["detectable", "detectable_half", "training_part"]
    rows = [
        {"backbone": each.backbone, "other": each.other}
        | interval_columns("difference", each.difference)
        | {column: getattr(each, column) for column in plain}
        | {"significant": int(each.significant)}
        for each in comparisons
    ]
    return pd.DataFrame(rows, columns=[*columns, *plain])


def summary_metrics(summary: pd.DataFrame, comparisons: list[PairedComparison]) -> dict[str, Any]:
    """Return the metrics of `dvc exp show`: the chosen backbone, then the accuracy of each.

    Accuracies, their interval, ``leak_gap`` and ``detectable`` are fractions. ``tied`` lists the
    backbones that do not differ significantly from the chosen one on test; ``detectable`` refers to
    the chosen one and the best of the others on val; it is null if there is no other.
    """
    chosen = summary.iloc[0]
    name = str(chosen["backbone"])
    rivals = summary["backbone"][1:]
    tied = rivals[summary["tied"] == 1]
    return {
        "chosen": name,
        **{key: _plain(chosen[column]) for key, column in METRICS.items()},
        "tied": " ".join(tied) or "none",
        "detectable": _plain(_versus(comparisons, name, rivals.iloc[0]).detectable)
        if len(rivals)
        else None,
        "accuracy_of": {
            str(row["backbone"]): _plain(row["accuracy"]) for _, row in summary.iterrows()
        },
    }


def interval_columns(name: str, interval: Interval, short: bool = False) -> dict[str, float]:
    """Return the columns of an interval: x, x_low, x_high, or with ``short`` x, low, high."""
    before = "" if short else f"{name}_"
    return {name: interval.value, f"{before}low": interval.low, f"{before}high": interval.high}


def _versus(comparisons: list[PairedComparison], one: str, other: str) -> PairedComparison:
    return next(each for each in comparisons if {each.backbone, each.other} == {one, other})


def _share(name: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    return interval_columns(name, share_interval(estimate, confidence))


def _exported(
    scores: ClassScores, seeds: list[int], seed: int, options: SummaryOptions
) -> dict[str, float | int]:
    """Return the accuracy of the exported run; its interval covers other test images only."""
    found = estimate(scores.of_training(seeds.index(seed)).accuracy(options.mix))
    return {"exported_seed": seed} | _columns(
        "exported_accuracy", "exported", found, options.confidence
    )


def _leak(
    runs: EvaluatedRuns,
    scores_by_backbone: dict[str, BackboneScores],
    order: list[str],
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """Return the columns about leakage; without leaked images, published equals clean.

    Clean and published test images have different class mixes, and some classes are easier. The gap
    is therefore the difference of accuracies at one mix, that of the published test set (direct
    standardisation).
    """
    leaked_images = {"leaked_images": int((~runs.clean).sum())}
    published = {
        name: scores_by_backbone[name].published or scores_by_backbone[name].clean for name in order
    }
    as_published = estimate_jointly({name: published[name].accuracy() for name in order})
    found: dict[str, dict[str, Any]] = {
        name: leaked_images
        | _columns("published_accuracy", "published", as_published[name], confidence)
        for name in order
    }
    leaked_scores = {name: scores_by_backbone[name].leaked for name in order}
    leaked = estimate_jointly(
        {name: score for name, score in leaked_scores.items() if score is not None}
    )
    if not leaked:
        return {name: columns | dict.fromkeys(LEAK_COLUMNS) for name, columns in found.items()}
    counts = np.bincount(runs.aligned.labels, minlength=len(runs.aligned.classes))
    mix = counts / counts.sum()
    clean = {name: scores_by_backbone[name].clean.accuracy(mix) for name in order}
    alike = estimate_jointly(clean)
    gaps = estimate_jointly(
        {name: published[name].accuracy(mix).minus(clean[name]) for name in order}
    )
    for name, columns in found.items():
        columns |= _columns("leaked_accuracy", "leaked", leaked[name], confidence)
        columns |= _share("clean_as_published", alike[name], confidence)
        columns |= interval_columns("leak_gap", difference_interval(gaps[name], confidence))
    return found


def _columns(value: str, part: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    interval = share_interval(estimate, confidence)
    columns = (value, f"{part}_low", f"{part}_high")
    return dict(zip(columns, (interval.value, interval.low, interval.high), strict=True))


def _plain(value: Any) -> Any:
    """Return a JSON number, rounded to a hundredth of a percentage point, or None."""
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) > 1 else round(float(value), 4)
