"""Intervals of the negative log-likelihood and of the expected calibration error.

Both are measured on clean test images, before and after temperature scaling fitted on val.
"""

from __future__ import annotations

from math import exp

import numpy as np

from carbench.models.temperature import MIN_PROBABILITY
from carbench.statistics.confidence_intervals import Interval, standard_error
from carbench.statistics.estimates import Estimate, Score, estimate_jointly
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.jackknife import FloatArray, Groups, jackknife_variance
from carbench.statistics.reliability import equal_mass_bins
from carbench.statistics.scores import BoolArray, ratio_scores, strata, training_rounds


def calibration_intervals(
    runs: EvaluatedRuns, groups: Groups, bins: int, confidence: float
) -> dict[str, dict[str, Interval]]:
    """Return ``nll``, ``ece``, ``nll_calibrated`` and ``ece_calibrated`` of every backbone.

    Args:
        runs: evaluations of all backbones.
        groups: duplicate groups of the images.
        bins: number of equal-mass bins of the calibration error.
        confidence: confidence level of the intervals.
    """
    found: dict[str, dict[str, Interval]] = {name: {} for name in runs.backbones}
    for suffix, calibrated in (("", False), ("_calibrated", True)):
        losses, errors, noises = {}, {}, {}
        for name in runs.backbones:
            tested = runs.clean & runs.aligned.tested(name)
            loss, stated = np.zeros(tested.shape), np.zeros(tested.shape)
            for row, (positions, probabilities) in enumerate(runs.probabilities(name, calibrated)):
                true = probabilities[np.arange(len(positions)), runs.aligned.labels[positions]]
                loss[row, positions] = -np.log(true.clip(min=MIN_PROBABILITY))
                stated[row, positions] = probabilities.max(axis=1)
            whole = tested[None]
            (losses[name],) = ratio_scores(
                groups, (loss * tested)[None], whole, whole, is_share=False
            )
            errors[name], noises[name] = calibration_error_score(
                groups, runs.aligned.correct(name), stated, tested, bins
            )
        for name, estimate in estimate_jointly(losses).items():
            found[name][f"nll{suffix}"] = loss_interval(estimate, confidence)
        for name, estimate in estimate_jointly(errors).items():
            interval = calibration_error_interval(estimate, noises[name], confidence)
            found[name][f"ece{suffix}"] = interval
    return found


def loss_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return Student's interval of a mean loss, computed on the logarithm of the loss.

    Losses are positive and right-skewed; the logarithm makes them more symmetric.
    """
    if estimate.value <= 0:
        return Interval(estimate.value, estimate.value, estimate.value)
    factor = exp(standard_error(estimate).half_width(confidence) / estimate.value)
    return Interval(estimate.value, estimate.value / factor, estimate.value * factor)


def calibration_error_interval(estimate: Estimate, noise: float, confidence: float) -> Interval:
    """Return the interval of an expected calibration error.

    The measured error is biased upwards: even a perfectly calibrated bin has a nonzero gap by
    chance, and absolute gaps do not cancel. The bias depends on the true error and is largest where
    that is zero (the error of a sum is at most the sum of the errors). The whole bias, ``noise``,
    is therefore subtracted from the lower end and nothing from the upper end: the interval may be
    too wide, but it also contains a true error of zero, where resampling alone fails.

    Args:
        estimate: estimate of the score of :func:`calibration_error_score`.
        noise: bias returned by the same function.
        confidence: confidence level of the interval.
    """
    half = standard_error(estimate).half_width(confidence)
    low, high = estimate.value - noise - half, estimate.value + half
    return Interval(estimate.value, max(low, 0.0), min(high, 1.0))


def calibration_error_score(
    groups: Groups, correct: BoolArray, stated: FloatArray, tested: BoolArray, bins: int
) -> tuple[Score, float]:
    """Return the expected calibration error with equal-mass bins, and its bias.

    The error is that of :func:`carbench.evaluation.metrics.calibration_error`; bin edges are fixed
    while groups are left out. Training runs tested on different images (folds) are binned together:
    the mean of their errors would be larger because each has fewer images.

    Args:
        groups: duplicate groups of the N images.
        correct: (S, N) whether the prediction is correct.
        stated: (S, N) probability of the predicted class.
        tested: (S, N) images to include.
        bins: number of bins.

    Returns:
        The score, and the expected error of a perfectly calibrated model: the mean absolute value
        of a centred normal variable is its standard deviation times sqrt(2 / pi).
    """
    numbers = training_rounds(tested, groups.splits)
    rounds = [numbers == number for number in range(numbers.max() + 1)]
    tested = np.stack([(tested & own[:, None]).any(axis=0) for own in rounds])
    gaps = np.stack([((correct - stated) * own[:, None]).sum(axis=0) for own in rounds]) * tested
    stated = np.stack([(stated * own[:, None]).sum(axis=0) for own in rounds])
    parts = np.stack(
        [equal_mass_bins(own, given, bins) for own, given in zip(stated, tested, strict=True)]
    )  # (S, bins, N)
    columns = np.concatenate([gaps[:, None] * parts, tested[:, None]], axis=1)
    counted = columns.sum(axis=-1, dtype=np.float64)
    left = counted - groups.sums(np.moveaxis(columns, -1, 0))  # (G, S, bins + 1)
    shares, left_shares = counted[:, :-1] / counted[:, -1:], left[..., :-1] / left[..., -1:]
    number = groups.count(np.any(tested, axis=0))
    score = Score(
        np.abs(shares).sum(axis=-1),
        np.abs(left_shares).sum(axis=-1),
        counted[:, -1],
        strata(tested),
        number,
        is_share=False,
        splits=groups.splits,
    )
    spreads = np.sqrt(jackknife_variance(left_shares - shares, number))
    weights = counted[:, -1] / counted[:, -1].sum()
    return score, float(np.sqrt(2 / np.pi) * spreads.sum(axis=-1) @ weights)
