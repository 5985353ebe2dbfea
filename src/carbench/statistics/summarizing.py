"""The answer in tables: a row a backbone, a row a pair of backbones, the headline."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from carbench.params.aggregate import AggregateParams
from carbench.statistics.bootstrap import Bootstrap, Score
from carbench.statistics.comparing import Comparison, compare
from carbench.statistics.intervals import Interval, difference_interval, share_interval
from carbench.statistics.runs import Runs
from carbench.statistics.scoring import ClassScores, part_scores

# Columns of `dvc exp show` about the chosen backbone, and where summary.csv has them.
HEADLINE = {
    "accuracy": "accuracy",
    "low": "accuracy_low",
    "high": "accuracy_high",
    "leak_gap": "leak_gap",
    "latency_ms": "latency_ms",
    "macs": "macs",
}
# Metrics that are means over trainings, without interval.
CALIBRATION = ("nll", "ece", "nll_calibrated", "ece_calibrated")


@dataclass(frozen=True)
class Judged:
    """How one backbone did: on the clean pictures, on the leaked and on all as published.

    The last two are None where no picture is leaked.
    """

    clean: ClassScores
    leaked: Score | None
    published: Score | None


def judge(runs: Runs, bootstrap: Bootstrap) -> dict[str, Judged]:
    """Score every backbone."""
    answers = runs.answers
    judged = {}
    for name in runs.backbones:
        clean = ClassScores(
            bootstrap, answers.labels, runs.clean_answers(name), len(answers.classes)
        )
        if runs.clean.all():
            judged[name] = Judged(clean, None, None)
            continue
        tested = answers.tested(name)
        parts = np.stack([tested & ~runs.clean, tested])
        judged[name] = Judged(clean, *part_scores(bootstrap, answers.right(name), parts))
    return judged


def summarize(
    runs: Runs,
    judged: dict[str, Judged],
    choice: list[dict[str, str]],
    costs: dict[str, dict[str, Any]],
    params: AggregateParams,
) -> tuple[pd.DataFrame, list[Comparison]]:
    """Return the summary (a row a backbone, the chosen first) and the comparisons of all pairs.

    Args:
        runs: of all backbones.
        judged: their scores.
        choice: the rows of choice.csv, which say what was chosen on val.
        costs: the document of stage cost by backbone.
        params: of the intervals.
    """
    ranked = sorted(choice, key=lambda row: -int(row["chosen"]))  # stable: then the best on val
    chosen = ranked[0]["backbone"]
    accuracies = {
        row["backbone"]: judged[row["backbone"]].clean.accuracy().estimate() for row in ranked
    }
    comparisons = compare(accuracies, params.confidence, params.seed)
    tied = {chosen} | {
        each.other for each in comparisons if each.backbone == chosen and not each.significant
    }
    rows = []
    for row in ranked:
        name = row["backbone"]
        scores, metrics, cost = judged[name].clean, runs.metrics[name], costs[name]
        seeds = scores.accuracy()
        rows.append(
            {
                "backbone": name,
                "model": cost["model"],
                "chosen": int(name == chosen),
                "tied": int(name in tied),
                "seeds": " ".join(map(str, runs.seeds)),
                **{key: float(row[key]) for key in ("val_accuracy", "val_low", "val_high")},
                **_share("accuracy", seeds, params),
                "confidence": params.confidence,
                "training_noise": int(accuracies[name].knows_trainings),
                "accuracy_by_seed": " ".join(f"{value:.6f}" for value in seeds.by_training),
                **_share("balanced_accuracy", scores.balanced_accuracy(), params),
                **_share("macro_f1", scores.macro_f1(), params),
                **{key: runs.mean(name, "clean", key) for key in CALIBRATION},
                "temperature": float(np.mean([document["temperature"] for document in metrics])),
                "test_images": int(runs.clean.sum()),
                "test_groups": accuracies[name].groups,
                **_leak(judged[name], runs, params),
                "parameters": cost["parameters"],
                "macs": cost["macs"],
                "latency_ms": cost["latency_ms"]["median"],
                "throughput": cost["throughput"],
                "peak_memory_mb": cost["peak_memory_mb"],
                "device": cost["device"],
            }
        )
    return pd.DataFrame(rows), comparisons


def comparison_table(comparisons: list[Comparison]) -> pd.DataFrame:
    """Return a row a pair."""
    columns = ["backbone", "other", *named("difference", Interval(0, 0, 0))]
    columns += ["p_value", "p_adjusted", "significant", "detectable"]
    rows = [
        {
            "backbone": each.backbone,
            "other": each.other,
            **named("difference", each.difference),
            "p_value": each.p_value,
            "p_adjusted": each.p_adjusted,
            "significant": int(each.significant),
            "detectable": each.detectable,
        }
        for each in comparisons
    ]
    return pd.DataFrame(rows, columns=columns)


def headline(summary: pd.DataFrame, comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the columns of `dvc exp show`: the chosen backbone, then the accuracy of each.

    Accuracies, their interval, ``leak_gap`` and ``detectable`` are parts of one. ``tied`` names the
    backbones that the test does not tell apart from the chosen one; ``detectable`` is the median
    over the pairs with it, null where it is the only one.
    """
    chosen = summary.iloc[0]
    name = str(chosen["backbone"])
    detectable = [each.detectable for each in comparisons if each.backbone == name]
    tied = summary["backbone"][1:][summary["tied"] == 1]
    return {
        "chosen": name,
        **{key: _plain(chosen[column]) for key, column in HEADLINE.items()},
        "tied": " ".join(tied) or "none",
        "detectable": _plain(median(detectable)) if detectable else None,
        "accuracy_of": {
            str(row["backbone"]): _plain(row["accuracy"]) for _, row in summary.iterrows()
        },
    }


def named(name: str, interval: Interval, short: bool = False) -> dict[str, float]:
    """Return the three columns of an interval: x, x_low, x_high, or ``short``: x, low, high."""
    before = "" if short else f"{name}_"
    return {name: interval.value, f"{before}low": interval.low, f"{before}high": interval.high}


def _share(name: str, score: Score, params: AggregateParams) -> dict[str, float]:
    return named(name, share_interval(score.estimate(), params.confidence))


def _leak(judged: Judged, runs: Runs, params: AggregateParams) -> dict[str, Any]:
    """What the leaked pictures add; where there are none, published is clean, the rest empty."""
    found: dict[str, Any] = {"leaked_images": int((~runs.clean).sum())}
    clean = judged.clean.accuracy()
    if judged.leaked is None or judged.published is None:
        found |= dict.fromkeys(("leaked_accuracy", "leaked_low", "leaked_high"))
        found |= _accuracy("published", clean, params)
        return found | dict.fromkeys(("leak_gap", "leak_gap_low", "leak_gap_high"))
    gap = judged.published.minus(clean).estimate()
    return {
        **found,
        **_accuracy("leaked", judged.leaked, params),
        **_accuracy("published", judged.published, params),
        **named("leak_gap", difference_interval(gap, params.confidence)),
    }


def _accuracy(part: str, score: Score, params: AggregateParams) -> dict[str, float]:
    interval = share_interval(score.estimate(), params.confidence)
    columns = (f"{part}_accuracy", f"{part}_low", f"{part}_high")
    return dict(zip(columns, (interval.value, interval.low, interval.high), strict=True))


def _plain(value: Any) -> Any:
    """Return a number that JSON can hold: a hundredth of a point, which a column has room for."""
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) > 1 else round(float(value), 4)
