"""Results of selective prediction and prediction sets with the thresholds of stage calibrate.

The thresholds are fitted on val; nothing is selected here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, read_table
from carbench.evaluation.conformal import prediction_sets
from carbench.evaluation.selective_prediction import ABSTAIN
from carbench.statistics.confidence_intervals import Interval, share_interval, standard_error
from carbench.statistics.estimates import Estimate, Score, estimate_jointly
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import BoolArray, ratio_scores, subset_scores


@dataclass(frozen=True)
class FittedThresholds:
    """Thresholds of one training run from stage calibrate; None if they were not requested.

    Attributes:
        max_error: target error rate among the answered images.
        confidence: confidence level at which the target holds.
        confidence_threshold: images are answered if the confidence is above it.
        set_coverage: target fraction of sets that contain the true class.
        set_threshold: minimum probability of the classes in a set.
    """

    max_error: float | None
    confidence: float | None
    confidence_threshold: float | None
    set_coverage: float | None
    set_threshold: float | None


@dataclass(frozen=True)
class SelectivePredictions:
    """Selective predictions and prediction sets of one backbone for N images, as (S, N) arrays.

    Attributes:
        tested: images to include.
        correct: whether the most likely class is the true one.
        answered: whether the confidence is above the threshold; None if there is no threshold.
        always_abstains: whether all training runs abstain on every image.
        set_sizes: number of classes in the set; None if sets were not requested.
        covered: whether the set contains the true class.
    """

    tested: BoolArray
    correct: BoolArray
    answered: BoolArray | None
    always_abstains: bool
    set_sizes: NDArray[np.float64] | None
    covered: BoolArray


def read_thresholds(
    path: Path, backbones: list[str], seeds: list[int]
) -> dict[str, list[FittedThresholds]]:
    """Return thresholds.csv by backbone, one per seed.

    Raises:
        CarbenchError: the file is missing, damaged, or lacks a training run.
    """
    keys = ("max_error", "confidence", "threshold", "set_coverage", "set_threshold")
    rows = {(row["backbone"], row["seed"]): row for row in read_table(path, ("seed", *keys))}
    found: dict[str, list[FittedThresholds]] = {}
    for name in backbones:
        for seed in seeds:
            if (name, str(seed)) not in rows:
                raise damaged(path, f"no row for {name}, seed {seed}")
            values = [rows[name, str(seed)][key] for key in keys]
            found.setdefault(name, []).append(
                FittedThresholds(*(float(value) if value else None for value in values))
            )
    return found


def apply_thresholds(
    labels: NDArray[np.int64],
    tested: BoolArray,
    trainings: Iterable[tuple[NDArray[np.intp], NDArray[np.float64]]],
    thresholds: list[FittedThresholds],
) -> SelectivePredictions:
    """Apply the thresholds of each training run to its predictions.

    Args:
        labels: (N,) true class indices.
        tested: (S, N) images to include.
        trainings: indices of the images and their calibrated probabilities, per training run.
        thresholds: thresholds of each training run.
    """
    correct, answered, covered = (np.zeros(tested.shape, np.bool_) for _ in range(3))
    set_sizes = np.zeros(tested.shape)
    for row, ((positions, probabilities), own) in enumerate(
        zip(trainings, thresholds, strict=True)
    ):
        true = labels[positions]
        correct[row, positions] = probabilities.argmax(axis=1) == true
        if own.confidence_threshold is not None:
            answered[row, positions] = probabilities.max(axis=1) > own.confidence_threshold
        if own.set_threshold is not None:
            sets = prediction_sets(probabilities, own.set_threshold)
            covered[row, positions] = sets[np.arange(len(positions)), true]
            set_sizes[row, positions] = sets.sum(axis=1)
    first = thresholds[0]
    return SelectivePredictions(
        tested,
        correct & tested,
        answered & tested if first.confidence_threshold is not None else None,
        all(
            own.confidence_threshold is not None and own.confidence_threshold >= ABSTAIN
            for own in thresholds
        ),
        set_sizes * tested if first.set_threshold is not None else None,
        covered & tested,
    )


def selective_metrics(
    groups: Groups, decisions: Mapping[str, SelectivePredictions], confidence: float
) -> dict[str, tuple[Interval, Interval | None]]:
    """Return the fraction of answered images and the error rate among them, by backbone.

    The error rate is None if nothing is answered.
    """
    shares, correct = {}, {}
    for name, own in decisions.items():
        assert own.answered is not None
        if own.always_abstains:
            continue
        tested, answered = own.tested[None], own.answered[None]
        (shares[name],) = subset_scores(groups, answered, tested)
        if answered.any():
            (correct[name],) = ratio_scores(groups, own.correct & answered, answered, tested)
    wrong = error_rate_intervals(correct, confidence)
    estimates = estimate_jointly(shares)
    return {
        name: (share_interval(estimates[name], confidence), wrong.get(name))
        if name in estimates
        else (Interval(0.0, 0.0, 0.0), None)
        for name in decisions
    }


def prediction_set_metrics(
    groups: Groups, decisions: Mapping[str, SelectivePredictions], confidence: float
) -> dict[str, tuple[Interval, Interval]]:
    """Return the coverage of the prediction sets and their mean size, by backbone."""
    covered, set_sizes = {}, {}
    for name, own in decisions.items():
        assert own.set_sizes is not None
        tested = own.tested[None]
        (covered[name],) = subset_scores(groups, own.covered, tested)
        (set_sizes[name],) = ratio_scores(
            groups, own.set_sizes[None], tested, tested, is_share=False
        )
    means = estimate_jointly(set_sizes)
    return {
        name: (share_interval(estimate, confidence), set_size_interval(means[name], confidence))
        for name, estimate in estimate_jointly(covered).items()
    }


def set_size_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a mean set size, which is at least one."""
    half = standard_error(estimate).half_width(confidence)
    return Interval(estimate.value, max(estimate.value - half, 1.0), estimate.value + half)


def error_rate_intervals(correct: Mapping[str, Score], confidence: float) -> dict[str, Interval]:
    """Return error rates by backbone, from the scores of correct predictions."""
    intervals = {
        name: share_interval(estimate, confidence)
        for name, estimate in estimate_jointly(correct).items()
    }
    return {
        name: Interval(1 - own.value, 1 - own.high, 1 - own.low) for name, own in intervals.items()
    }
