"""How good the one model that is exported is on the clean test images, and when it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from carbench.models.temperature import temper
from carbench.params.choose import DeploymentMix
from carbench.statistics.class_mix import class_shares
from carbench.statistics.confidence_intervals import Interval, difference_interval, share_interval
from carbench.statistics.estimates import Score, estimate
from carbench.statistics.jackknife import Groups
from carbench.statistics.predictions import read_probabilities
from carbench.statistics.scores import ClassScores, subset_scores
from carbench.statistics.selective_metrics import (
    FittedThresholds,
    apply_thresholds,
    prediction_set_metrics,
    selective_metrics,
)


def accuracy_of(
    table: pd.DataFrame, classes: list[str], mix: DeploymentMix, confidence: float
) -> Interval:
    """Return the accuracy on the clean images of a predictions.csv, for a mix of classes.

    The interval is of other test images only: there is but this one training.

    Raises:
        CarbenchError: ``mix`` does not fit the classes.
    """
    clean = table[table["leaked"] == 0]
    codes = pd.Index(classes)
    labels, predicted = (
        codes.get_indexer(pd.Index(clean[column])).astype(np.int64)
        for column in ("class", "predicted")
    )
    groups = Groups(clean["group"].to_numpy(np.int64))
    scores = ClassScores(groups, labels, predicted[None], len(classes))
    return share_interval(estimate(scores.accuracy(class_shares(mix, classes))), confidence)


def mean_accuracy(summary: dict[str, str]) -> dict[str, Any]:
    """Return the accuracy of a backbone, the mean of its trainings, from its row of summary.csv."""
    return {
        "value": float(summary["accuracy"]),
        "low": float(summary["accuracy_low"]),
        "high": float(summary["accuracy_high"]),
        "trainings": len(summary["seeds"].split()),
    }


def measure_int8(
    table: pd.DataFrame, winners: Sequence[str], file: Path, confidence: float
) -> dict[str, Any]:
    """Return what the 8-bit model loses on the clean images of a predictions.csv.

    Args:
        table: what stage evaluate wrote.
        winners: the 8-bit model's class for each of its rows.
        file: the 8-bit model.
        confidence: of the intervals.
    """
    truth = table["class"].to_numpy()
    said = np.array(winners)
    rights = [(table["predicted"] == table["class"]).to_numpy(), said == truth]
    full, small = _scores(table, rights)
    clean = (table["leaked"] == 0).to_numpy()
    same = (said == table["predicted"].to_numpy())[clean]
    return {
        "accuracy": vars(share_interval(estimate(small), confidence)),
        "difference": vars(difference_interval(estimate(small.minus(full)), confidence)),
        "same_top1": float(same.mean()),
        "bytes": file.stat().st_size,
    }


def measure_decisions(
    predictions: Path, temperature: float, thresholds: FittedThresholds, confidence: float
) -> dict[str, Any]:
    """Return the thresholds from val, and what they come to on the clean images.

    Args:
        predictions: what stage evaluate wrote.
        temperature: of the model.
        thresholds: what stage calibrate found for this training.
        confidence: of the intervals.
    """
    table, probabilities, labels = read_probabilities(predictions)
    clean = (table["leaked"] == 0).to_numpy()[None]
    positions = np.arange(len(table))
    decisions = apply_thresholds(
        labels, clean, [(positions, temper(probabilities, temperature))], [thresholds]
    )
    groups = Groups(table["group"].to_numpy(np.int64))
    found: dict[str, Any] = {
        "max_error": thresholds.max_error,
        "guaranteed": thresholds.confidence,
        "threshold": thresholds.confidence_threshold,
        "set_coverage": thresholds.set_coverage,
        "set_threshold": thresholds.set_threshold,
    }
    if decisions.answered is not None:
        ((answered, error),) = selective_metrics(groups, {"": decisions}, confidence).values()
        found |= {"answered": vars(answered), "error": error and vars(error)}
    if decisions.set_sizes is not None:
        ((covered, size),) = prediction_set_metrics(groups, {"": decisions}, confidence).values()
        found |= {"covered": vars(covered), "set_size": vars(size)}
    return found


def _scores(table: pd.DataFrame, rights: list[Any]) -> list[Score]:
    groups = Groups(table["group"].to_numpy(np.int64))
    correct = np.stack(rights)[:, None, :]
    clean = (table["leaked"] == 0).to_numpy()
    return subset_scores(groups, correct, np.broadcast_to(clean, correct.shape))
