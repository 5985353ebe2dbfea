"""Reliability diagrams: accuracy by confidence, before and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.statistics.confidence_intervals import share_interval
from carbench.statistics.estimates import estimate
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import subset_scores


def reliability_table(
    runs: EvaluatedRuns, groups: Groups, bins: int, confidence: float
) -> pd.DataFrame:
    """Return reliability.csv: one row per backbone, calibration state and bin.

    The predictions for clean images of all seeds are pooled, sorted by confidence and divided into
    bins of equal size. Columns: images (predictions in the bin), mean confidence, accuracy and its
    interval.
    """
    rows = []
    for name in runs.backbones:
        tested = runs.clean & runs.aligned.tested(name)
        correct = runs.aligned.correct(name)
        for calibrated in (0, 1):
            stated = confidences(runs, name, bool(calibrated))
            members = equal_mass_bins(stated, tested, bins)
            scores = subset_scores(groups, correct, members)
            for number, (member, score) in enumerate(zip(members, scores, strict=True)):
                interval = share_interval(estimate(score), confidence)
                row: dict[str, Any] = {
                    "backbone": name,
                    "calibrated": calibrated,
                    "bin": number,
                    "images": int(member.sum()),
                    "confidence": stated[member].mean(),
                    "accuracy": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                }
                rows.append(row)
    return pd.DataFrame(rows)


def equal_mass_bins(
    confidence: NDArray[np.float64], tested: NDArray[np.bool_], bins: int
) -> NDArray[np.bool_]:
    """Return (bins, S, N) masks of the tested predictions in each equal-mass confidence bin."""
    positions = np.flatnonzero(tested)
    order = positions[np.argsort(confidence.ravel()[positions], kind="stable")]
    parts = np.array_split(order, min(bins, len(order)))
    members = np.zeros((len(parts), *tested.shape), np.bool_)
    for member, part in zip(members, parts, strict=True):
        member.ravel()[part] = True
    return members


def confidences(runs: EvaluatedRuns, backbone: str, calibrated: bool) -> NDArray[np.float64]:
    """Return (S, N) the probability of the predicted class; 0 where not tested."""
    confidence = np.zeros(runs.aligned.predicted[backbone].shape)
    for row, (positions, probabilities) in zip(
        confidence, runs.probabilities(backbone, calibrated), strict=True
    ):
        row[positions] = probabilities.max(axis=1)
    return confidence
