"""Evaluation of the exported model on the clean test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from carbench.models.temperature import apply_temperature
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


def model_accuracy(
    table: pd.DataFrame, classes: list[str], mix: DeploymentMix, confidence: float
) -> Interval:
    """Return the accuracy on the clean images of a predictions.csv, for a class mix.

    The interval covers the sampling of test images only, as there is a single training run.

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


def backbone_accuracy(summary: dict[str, str]) -> dict[str, Any]:
    """Return the mean accuracy of a backbone's training runs, from its row of summary.csv."""
    return {
        "value": float(summary["accuracy"]),
        "low": float(summary["accuracy_low"]),
        "high": float(summary["accuracy_high"]),
        "trainings": len(summary["seeds"].split()),
    }


def int8_metrics(
    table: pd.DataFrame, winners: Sequence[str], file: Path, confidence: float
) -> dict[str, Any]:
    """Compare the 8-bit model with the full one on the clean images of a predictions.csv.

    Args:
        table: predictions of the full model, from stage evaluate.
        winners: class predicted by the 8-bit model for each row.
        file: the 8-bit model file.
        confidence: level of the intervals.
    """
    truth = table["class"].to_numpy()
    predicted = np.array(winners)
    correct = [(table["predicted"] == table["class"]).to_numpy(), predicted == truth]
    full, small = _scores(table, correct)
    clean = (table["leaked"] == 0).to_numpy()
    same = (predicted == table["predicted"].to_numpy())[clean]
    return {
        "accuracy": vars(share_interval(estimate(small), confidence)),
        "difference": vars(difference_interval(estimate(small.minus(full)), confidence)),
        "same_top1": float(same.mean()),
        "bytes": file.stat().st_size,
    }


def decision_metrics(
    predictions: Path, temperature: float, thresholds: FittedThresholds, confidence: float
) -> dict[str, Any]:
    """Return the thresholds, and how they perform on the clean test images.

    Args:
        predictions: predictions.csv of stage evaluate.
        temperature: softmax temperature of the model.
        thresholds: thresholds of this training run, from stage calibrate.
        confidence: level of the intervals.
    """
    table, probabilities, labels = read_probabilities(predictions)
    clean = (table["leaked"] == 0).to_numpy()[None]
    positions = np.arange(len(table))
    decisions = apply_thresholds(
        labels, clean, [(positions, apply_temperature(probabilities, temperature))], [thresholds]
    )
    groups = Groups(table["group"].to_numpy(np.int64))
    metrics: dict[str, Any] = {
        "max_error": thresholds.max_error,
        "guaranteed": thresholds.confidence,
        "threshold": thresholds.confidence_threshold,
        "set_coverage": thresholds.set_coverage,
        "set_threshold": thresholds.set_threshold,
    }
    if decisions.answered is not None:
        ((answered, error),) = selective_metrics(groups, {"": decisions}, confidence).values()
        metrics |= {"answered": vars(answered), "error": error and vars(error)}
    if decisions.set_sizes is not None:
        ((covered, size),) = prediction_set_metrics(groups, {"": decisions}, confidence).values()
        metrics |= {"covered": vars(covered), "set_size": vars(size)}
    return metrics


def _scores(table: pd.DataFrame, correct: list[Any]) -> list[Score]:
    groups = Groups(table["group"].to_numpy(np.int64))
    stacked = np.stack(correct)[:, None, :]
    clean = (table["leaked"] == 0).to_numpy()
    return subset_scores(groups, stacked, np.broadcast_to(clean, stacked.shape))
