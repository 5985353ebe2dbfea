"""Puts the runs together: a row a backbone, a row a pair of backbones, and the choice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.bootstrap import Bootstrap
from carbench.params.aggregate import AggregateParams
from carbench.tables import read_json

HEADLINE = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "val_accuracy",
    "leak_gap",
    "latency_ms",
    "parameters",
)
MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")


@dataclass(frozen=True)
class Run:
    """One backbone x seed: its metrics.json and its predictions."""

    backbone: str
    seed: int
    metrics: dict[str, Any]
    predictions: pd.DataFrame

    @property
    def clean(self) -> pd.DataFrame:
        """Predictions of the pictures that have no twin in train or val."""
        return self.predictions[self.predictions["leaked"] == 0]


def read_runs(folder: Path, backbones: list[str], seeds: list[int]) -> list[Run]:
    """Read the runs of the study, and only those: removed backbones may still lie there."""
    runs = []
    for backbone in backbones:
        for seed in seeds:
            place = folder / backbone / str(seed)
            predictions = pd.read_csv(
                place / "predictions.csv", keep_default_na=False, dtype={"class": str}
            )
            runs.append(Run(backbone, seed, read_json(place / "metrics.json"), predictions))
    return runs


def choose(runs: list[Run]) -> str:
    """Return the backbone with the highest mean val accuracy; test pictures have no say."""
    means = {
        backbone: np.mean([run.metrics["val_accuracy"] for run in own])
        for backbone, own in _by_backbone(runs).items()
    }
    return max(means, key=lambda backbone: float(means[backbone]))


def summarize(
    runs: list[Run], costs: dict[str, dict[str, Any]], params: AggregateParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the summary (a row a backbone, the chosen first) and the paired comparisons."""
    own_runs = _by_backbone(runs)
    groups = runs[0].clean["group"].to_numpy(np.int64)
    seeds = len(next(iter(own_runs.values())))
    bootstrap = Bootstrap(groups, seeds, params.resamples, params.seed, params.confidence)
    correct = {name: _correct(own) for name, own in own_runs.items()}
    resampled = {name: bootstrap.accuracies(right) for name, right in correct.items()}
    chosen = choose(runs)
    rows = []
    for name, own in own_runs.items():
        metrics = [run.metrics for run in own]
        means = {key: _mean(metrics, "clean", key) for key in MEASURES}
        interval = bootstrap.accuracy_interval(correct[name], resampled[name])
        leaked = _mean(metrics, "leaked", "accuracy")
        every = _mean(metrics, "all", "accuracy")
        cost = costs[name]
        rows.append(
            {
                "backbone": name,
                "model": cost["model"],
                "chosen": int(name == chosen),
                "seeds": " ".join(str(run.seed) for run in own),
                "val_accuracy": float(np.mean([run["val_accuracy"] for run in metrics])),
                "accuracy": interval.value,
                "accuracy_low": interval.low,
                "accuracy_high": interval.high,
                "confidence": params.confidence,
                "accuracy_by_seed": " ".join(f"{run['clean']['accuracy']:.6f}" for run in metrics),
                **{key: means[key] for key in MEASURES if key != "accuracy"},
                "test_images": metrics[0]["clean"]["images"],
                "test_groups": metrics[0]["clean"]["groups"],
                "leaked_images": (metrics[0]["leaked"] or {"images": 0})["images"],
                "leaked_accuracy": leaked,
                "published_accuracy": every,
                "leak_gap": every - means["accuracy"] if leaked is not None else None,
                "parameters": cost["parameters"],
                "macs": cost["macs"],
                "latency_ms": cost["latency_ms"]["median"],
                "throughput": cost["throughput"],
                "peak_memory_mb": cost["peak_memory_mb"],
                "device": cost["device"],
            }
        )
    order = sorted(rows, key=lambda row: (-row["chosen"], -row["val_accuracy"]))
    values = {str(row["backbone"]): float(row["accuracy"]) for row in order}
    comparisons = []
    for first, second in combinations(values, 2):
        difference = bootstrap.interval(
            values[first] - values[second], resampled[first] - resampled[second]
        )
        comparisons.append(
            {
                "backbone": first,
                "other": second,
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
        )
    columns = ["backbone", "other", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(order), pd.DataFrame(comparisons, columns=columns)


def headline(summary: pd.DataFrame) -> dict[str, Any]:
    """Return what `dvc exp show` and `dvc metrics diff` show: the winner, then all accuracies."""
    winner = summary.iloc[0]
    return {
        "winner": {
            "backbone": str(winner["backbone"]),
            **{key: _plain(winner[key]) for key in HEADLINE},
        },
        "accuracy": {
            str(row["backbone"]): _plain(row["accuracy"]) for _, row in summary.iterrows()
        },
    }


def confusion(runs: list[Run]) -> pd.DataFrame:
    """Return counts of clean test pictures by backbone, true and predicted class, seeds pooled."""
    tables = []
    for name, own in _by_backbone(runs).items():
        pooled = pd.concat([run.clean for run in own])
        classes = [column[2:] for column in pooled.columns if column.startswith("p:")]
        counts = pd.crosstab(pooled["class"], pooled["predicted"])
        counts = counts.reindex(index=classes, columns=classes, fill_value=0)
        long = counts.rename_axis(index="class").reset_index()
        long = long.melt("class", var_name="predicted", value_name="count")
        tables.append(long.assign(backbone=name))
    return pd.concat(tables)[["backbone", "class", "predicted", "count"]]


def _correct(own: list[Run]) -> NDArray[np.bool_]:
    """Return (seeds, N): was each clean picture predicted right?"""
    return np.stack([(run.clean["class"] == run.clean["predicted"]).to_numpy() for run in own])


def _by_backbone(runs: list[Run]) -> dict[str, list[Run]]:
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.backbone, []).append(run)
    return grouped


def _mean(metrics: list[dict[str, Any]], part: str, key: str) -> Any:
    if metrics[0][part] is None:
        return None
    return float(np.mean([run[part][key] for run in metrics]))


def _plain(value: Any) -> Any:
    """Return a number that JSON can hold: six digits are more than any test set can tell."""
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) > 1 else round(float(value), 6)
