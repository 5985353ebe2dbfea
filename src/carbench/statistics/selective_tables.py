"""Result tables of selective prediction: decisions.csv, sets.csv and risk_coverage.csv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import Score, estimate_jointly
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.jackknife import Groups
from carbench.statistics.reliability import confidences
from carbench.statistics.scores import ratio_scores, subset_scores
from carbench.statistics.selective_metrics import (
    FittedThresholds,
    SelectivePredictions,
    apply_thresholds,
    error_rate_intervals,
    prediction_set_metrics,
    selective_metrics,
)
from carbench.statistics.summary import interval_columns

# Fractions of answered images at the points of the risk-coverage curve.
COVERAGES = np.arange(1, 21) / 20


def decisions_on_clean_images(
    runs: EvaluatedRuns, backbone: str, thresholds: list[FittedThresholds]
) -> SelectivePredictions:
    """Apply the thresholds of a backbone to its clean test images."""
    tested = runs.clean & runs.aligned.tested(backbone)
    trainings = runs.probabilities(backbone, calibrated=True)
    return apply_thresholds(runs.aligned.labels, tested, trainings, thresholds)


def decision_table(
    groups: Groups,
    decisions: dict[str, SelectivePredictions],
    thresholds: dict[str, list[FittedThresholds]],
    confidence: float,
) -> pd.DataFrame:
    """Return decisions.csv: one row per backbone; values that were not requested are empty.

    ``thresholds`` are those of all seeds; ``answered`` is the fraction of clean test images above
    them, ``error`` the error rate among these; ``covered`` the fraction of sets that contain the
    true class, ``set_size`` their mean size, ``single`` the fraction with one class.
    """
    columns = ["backbone", "max_error", "guaranteed", "thresholds"]
    for name in ("answered", "error"):
        columns += interval_columns(name, Interval(0, 0, 0))
    columns += ["set_coverage", "set_thresholds"]
    for name in ("covered", "set_size"):
        columns += interval_columns(name, Interval(0, 0, 0))
    columns.append("single")
    answered = selective_metrics(groups, _requested(decisions, "answered"), confidence)
    sets = prediction_set_metrics(groups, _requested(decisions, "set_sizes"), confidence)
    rows = []
    for name, own in decisions.items():
        first = thresholds[name][0]
        row: dict[str, Any] = {"backbone": name}
        if name in answered:
            share, error = answered[name]
            row |= {"max_error": first.max_error, "guaranteed": first.confidence}
            row["thresholds"] = " ".join(
                f"{each.confidence_threshold:.6g}" for each in thresholds[name]
            )
            row |= interval_columns("answered", share) | (
                interval_columns("error", error) if error else {}
            )
        if own.set_sizes is not None:
            covered, size = sets[name]
            row["set_coverage"] = first.set_coverage
            row["set_thresholds"] = " ".join(
                f"{each.set_threshold:.6g}" for each in thresholds[name]
            )
            row |= interval_columns("covered", covered) | interval_columns("set_size", size)
            row["single"] = (own.set_sizes == 1).sum() / own.tested.sum()
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def set_table(
    runs: EvaluatedRuns,
    groups: Groups,
    decisions: dict[str, SelectivePredictions],
    confidence: float,
) -> pd.DataFrame:
    """Return sets.csv: coverage and mean size of the prediction sets by backbone and class."""
    columns = [
        "backbone",
        "class",
        "images",
        *interval_columns("covered", Interval(0, 0, 0), short=True),
    ]
    columns.append("set_size")
    labels, classes = runs.aligned.labels, runs.aligned.classes
    counts = np.bincount(labels[runs.clean], minlength=len(classes))
    present = np.flatnonzero(counts)
    requested = _requested(decisions, "set_sizes")
    of_class = labels == present[:, None]
    scores = {
        name: subset_scores(groups, own.covered, own.tested & of_class[:, None])
        for name, own in requested.items()
    }
    estimates = [
        estimate_jointly({name: own[row] for name, own in scores.items()})
        for row in range(len(present))
    ]
    rows = []
    for name, own in requested.items():
        assert own.set_sizes is not None
        for row, index in enumerate(present):
            covered = share_interval(estimates[row][name], confidence)
            rows.append(
                {"backbone": name, "class": classes[index], "images": counts[index]}
                | interval_columns("covered", covered, short=True)
                | {"set_size": own.set_sizes[own.tested & of_class[row]].mean()}
            )
    return pd.DataFrame(rows, columns=columns)


def risk_coverage_table(
    runs: EvaluatedRuns,
    groups: Groups,
    decisions: dict[str, SelectivePredictions],
    thresholds: dict[str, list[FittedThresholds]],
    confidence: float,
) -> pd.DataFrame:
    """Return risk_coverage.csv: one row per backbone and fraction of answered clean images.

    Each training run answers its most confident predictions, after temperature scaling; ``error``
    is the error rate among them, ``threshold`` the mean of the lowest answered confidences.
    Intervals treat the set of answered images as fixed. With a target error rate (``max_error``), a
    last row per backbone, ``fitted`` 1, has the result of the thresholds from val.
    """
    columns = ["backbone", "coverage", "images", "threshold", "error", "low", "high"]
    columns += ["max_error", "fitted"]
    scores: dict[str, list[Score]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in decisions:
        base = {"backbone": name, "max_error": thresholds[name][0].max_error}
        tested = runs.clean & runs.aligned.tested(name)
        stated = np.where(tested, confidences(runs, name, calibrated=True), -1.0)
        order = np.argsort(-stated, axis=1, kind="stable")
        ranks = np.empty(order.shape, np.int64)
        np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
        answered = ranks < np.ceil(COVERAGES[:, None] * tested.sum(axis=1) - 1e-9)[..., None]
        whole = np.broadcast_to(tested, answered.shape)
        correct = answered & runs.aligned.correct(name)
        scores[name] = ratio_scores(groups, correct, answered, whole)
        rows[name] = [
            base
            | {"coverage": coverage, "images": int(member.sum()), "fitted": 0}
            | {"threshold": np.where(member, stated, 1.0).min(axis=1).mean()}
            for coverage, member in zip(COVERAGES, answered, strict=True)
        ]
    for number in range(len(COVERAGES)):
        wrong = error_rate_intervals(
            {name: own[number] for name, own in scores.items()}, confidence
        )
        for name, error in wrong.items():
            rows[name][number] |= interval_columns("error", error, short=True)
    fitted = selective_metrics(groups, _requested(decisions, "answered"), confidence)
    for name, (share, found) in fitted.items():
        given = decisions[name].answered
        if found is None or given is None:
            continue
        values = [
            each.confidence_threshold
            for each in thresholds[name]
            if each.confidence_threshold is not None
        ]
        rows[name].append(
            {"backbone": name, "max_error": thresholds[name][0].max_error, "fitted": 1}
            | {"coverage": share.value, "images": int(given.sum())}
            | {"threshold": float(np.mean(values))}
            | interval_columns("error", found, short=True)
        )
    return pd.DataFrame([row for own in rows.values() for row in own], columns=columns)


def _requested(
    decisions: dict[str, SelectivePredictions], what: str
) -> dict[str, SelectivePredictions]:
    """Return the backbones for which thresholds or sets were requested."""
    return {name: own for name, own in decisions.items() if getattr(own, what) is not None}
