"""Does a confidence of 80 % mean 80 % right? Before and after the temperature fitted on val."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.statistics.confidence_intervals import share_interval
from carbench.statistics.estimates import estimate
from carbench.statistics.evaluated_runs import Runs
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import part_scores


def reliability_table(runs: Runs, groups: Groups, bins: int, confidence: float) -> pd.DataFrame:
    """Return reliability.csv: a row a backbone, uncalibrated or calibrated, and bin.

    The clean images of all seeds are pooled, sorted by confidence and cut into bins of equal
    count. Columns: images (answers in the bin), the mean confidence, the accuracy, its interval.
    """
    rows = []
    for name in runs.backbones:
        given = runs.clean & runs.answers.tested(name)
        right = runs.answers.right(name)
        for calibrated in (0, 1):
            sure = confidences(runs, name, bool(calibrated))
            members = equal_mass(sure, given, bins)
            scores = part_scores(groups, right, members)
            for number, (member, score) in enumerate(zip(members, scores, strict=True)):
                interval = share_interval(estimate(score), confidence)
                row: dict[str, Any] = {
                    "backbone": name,
                    "calibrated": calibrated,
                    "bin": number,
                    "images": int(member.sum()),
                    "confidence": sure[member].mean(),
                    "accuracy": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                }
                rows.append(row)
    return pd.DataFrame(rows)


def equal_mass(sure: NDArray[np.float64], given: NDArray[np.bool_], bins: int) -> NDArray[np.bool_]:
    """Return (bins, S, N): which of the given answers, (S, N), are in each bin by confidence."""
    places = np.flatnonzero(given)
    order = places[np.argsort(sure.ravel()[places], kind="stable")]
    parts = np.array_split(order, min(bins, len(order)))
    members = np.zeros((len(parts), *given.shape), np.bool_)
    for member, part in zip(members, parts, strict=True):
        member.ravel()[part] = True
    return members


def confidences(runs: Runs, backbone: str, calibrated: bool) -> NDArray[np.float64]:
    """Return (S, N) the probability of the predicted class; 0 where not tested."""
    sure = np.zeros(runs.answers.predicted[backbone].shape)
    for row, (places, probabilities) in zip(
        sure, runs.probabilities(backbone, calibrated), strict=True
    ):
        row[places] = probabilities.max(axis=1)
    return sure
