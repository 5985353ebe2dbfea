"""Result tables by class, by slice and by corruption, and the confusion counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.evaluation.slices import group_by_slice
from carbench.statistics.confidence_intervals import (
    Interval,
    difference_interval,
    share_error,
    share_interval,
)
from carbench.statistics.estimates import Estimate, estimate_jointly
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.jackknife import Groups
from carbench.statistics.predictions import COLUMNS, read_tables
from carbench.statistics.scores import ClassScores, subset_scores
from carbench.statistics.summary import interval_columns


def recall_table(
    runs: EvaluatedRuns, scores: dict[str, ClassScores], confidence: float
) -> pd.DataFrame:
    """Return recall.csv: one row per backbone and class with clean test images."""
    counts = np.bincount(runs.aligned.labels[runs.clean], minlength=len(runs.aligned.classes))
    estimates = {
        index: estimate_jointly({name: scores[name].recall(index) for name in runs.backbones})
        for index, count in enumerate(counts)
        if count
    }
    rows = [
        {"backbone": name, "class": label, "images": counts[index]}
        | _share("recall", estimates[index][name], confidence)
        for name in runs.backbones
        for index, label in enumerate(runs.aligned.classes)
        if counts[index]
    ]
    return pd.DataFrame(rows)


def slice_table(runs: EvaluatedRuns, groups: Groups, confidence: float) -> pd.DataFrame:
    """Return slices.csv: accuracy on terciles of the clean test images by image size."""
    clean = np.flatnonzero(runs.clean)
    images = runs.aligned.images.iloc[clean]
    records = images[["class", "width", "height"]].to_dict("records")
    parts = group_by_slice(
        [{str(key): value for key, value in row.items()} for row in records], "size"
    )
    members = np.zeros((len(parts), len(runs.clean)), np.bool_)
    for row, own in zip(members, parts.values(), strict=True):
        row[clean[own]] = True
    scores = {}
    for name in runs.backbones:
        tested = members[:, None] & runs.aligned.tested(name)
        own_scores = subset_scores(groups, runs.aligned.correct(name), tested)
        scores[name] = dict(zip(parts, own_scores, strict=True))
    estimates = {
        value: estimate_jointly({name: own[value] for name, own in scores.items()})
        for value in parts
    }
    rows = [
        {"backbone": name, "slice": "size", "value": value, "images": int(row.sum())}
        | _share("accuracy", estimates[value][name], confidence)
        for name in runs.backbones
        for value, row in zip(parts, members, strict=True)
    ]
    return pd.DataFrame(rows)


def robustness_table(runs: EvaluatedRuns, groups: Groups, confidence: float) -> pd.DataFrame:
    """Return robustness.csv: accuracy under each corruption and its drop from the clean images.

    Corruption ``none`` comes first. There are no rows if no corruptions were tested.
    """
    columns = ["backbone", "corruption", "accuracy", "low", "high", "training_part"]
    columns += interval_columns("drop", Interval(0.0, 0.0, 0.0))
    positions = {
        name: [folder / "robustness.csv" for folder in own] for name, own in runs.folders.items()
    }
    tables = read_tables(positions, (*COLUMNS, "corruption"))
    names = list(next(iter(tables.values()))[0]["corruption"].unique())
    scores = {}
    for backbone, own in tables.items() if names else ():
        tested = np.broadcast_to(
            runs.clean & runs.aligned.tested(backbone),
            (len(names) + 1, len(own), len(runs.clean)),
        )
        correct = [runs.aligned.correct(backbone)]
        for corruption in names:
            correct.append(
                _right(runs, [table[table["corruption"] == corruption] for table in own])
            )
        found = subset_scores(groups, np.stack(correct), tested)
        scores[backbone] = dict(zip(["none", *names], found, strict=True))
    rows = {}
    for corruption in ["none", *names] if scores else ():
        accuracies = estimate_jointly({name: own[corruption] for name, own in scores.items()})
        drops = estimate_jointly(
            {name: own["none"].minus(own[corruption]) for name, own in scores.items()}
        )
        for name in scores:
            drop = Interval(0.0, 0.0, 0.0)
            if corruption != "none":
                drop = difference_interval(drops[name], confidence)
            rows[name, corruption] = (
                {"backbone": name, "corruption": corruption}
                | _share("accuracy", accuracies[name], confidence)
                | interval_columns("drop", drop)
            )
    ordered = [rows[name, corruption] for name in scores for corruption in ["none", *names]]
    return pd.DataFrame(ordered, columns=columns)


def _share(name: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    """Return a fraction, its interval, and the part of the squared width due to training runs."""
    return interval_columns(name, share_interval(estimate, confidence), short=True) | {
        "training_part": share_error(estimate).training_part
    }


def confusion_table(runs: EvaluatedRuns) -> pd.DataFrame:
    """Return confusion.csv: counts of clean test images by true and predicted class, all seeds."""
    classes = runs.aligned.classes
    tables = []
    for name in runs.backbones:
        counts = np.zeros((len(classes), len(classes)), np.int64)
        for predicted in runs.clean_predictions(name):
            given = predicted >= 0
            np.add.at(counts, (runs.aligned.labels[given], predicted[given]), 1)
        tables += [
            {
                "backbone": name,
                "class": label,
                "predicted": predicted_label,
                "count": counts[row, column],
            }
            for column, predicted_label in enumerate(classes)
            for row, label in enumerate(classes)
        ]
    return pd.DataFrame(tables)


def _right(runs: EvaluatedRuns, tables: list[pd.DataFrame]) -> NDArray[np.bool_]:
    """Return (S, N) whether the prediction for the corrupted image is correct."""
    correct = np.zeros((len(tables), len(runs.clean)), np.bool_)
    for row, table in zip(correct, tables, strict=True):
        positions = runs.aligned.positions(table["image"])
        row[positions] = (table["class"] == table["predicted"]).to_numpy()
    return correct
