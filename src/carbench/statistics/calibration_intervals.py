"""Intervals of what punishes false confidence: the negative log likelihood, the calibration error.

Both are of clean test images, before and after the temperature that was fitted on val.
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
        runs: of all backbones.
        groups: of their images.
        bins: of equal mass, of the calibration error.
        confidence: of the intervals.
    """
    found: dict[str, dict[str, Interval]] = {name: {} for name in runs.backbones}
    for suffix, calibrated in (("", False), ("_calibrated", True)):
        losses, errors, noises = {}, {}, {}
        for name in runs.backbones:
            tested = runs.clean & runs.aligned.tested(name)
            loss, sure = np.zeros(tested.shape), np.zeros(tested.shape)
            for row, (positions, probabilities) in enumerate(runs.probabilities(name, calibrated)):
                true = probabilities[np.arange(len(positions)), runs.aligned.labels[positions]]
                loss[row, positions] = -np.log(true.clip(min=MIN_PROBABILITY))
                sure[row, positions] = probabilities.max(axis=1)
            whole = tested[None]
            (losses[name],) = ratio_scores(
                groups, (loss * tested)[None], whole, whole, is_share=False
            )
            errors[name], noises[name] = calibration_error_score(
                groups, runs.aligned.correct(name), sure, tested, bins
            )
        for name, estimate in estimate_jointly(losses).items():
            found[name][f"nll{suffix}"] = loss_interval(estimate, confidence)
        for name, estimate in estimate_jointly(errors).items():
            interval = calibration_error_interval(estimate, noises[name], confidence)
            found[name][f"ece{suffix}"] = interval
    return found


def loss_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a mean loss: Student's, on the logarithm of the loss.

    Losses are positive and have a long tail upwards, which the logarithm makes more even.
    """
    if estimate.value <= 0:
        return Interval(estimate.value, estimate.value, estimate.value)
    factor = exp(standard_error(estimate).half_width(confidence) / estimate.value)
    return Interval(estimate.value, estimate.value / factor, estimate.value * factor)


def calibration_error_interval(estimate: Estimate, noise: float, confidence: float) -> Interval:
    """Return the interval of an expected calibration error.

    The measured error is too large on average: of a bin that is right as often as it says, chance
    makes a distance, and distances do not cancel. How much too large depends on the true error, and
    is most where that is zero (the error of a sum is at most the sum of the errors). The lower end
    is therefore freed of all of it, ``noise``, and the upper end of none: the interval may be too
    wide, and holds the truth also where the truth is zero, where resampling alone fails.

    Args:
        estimate: of :func:`calibration_error_score`.
        noise: of the same.
        confidence: of the interval.
    """
    half = standard_error(estimate).half_width(confidence)
    low, high = estimate.value - noise - half, estimate.value + half
    return Interval(estimate.value, max(low, 0.0), min(high, 1.0))


def calibration_error_score(
    groups: Groups, correct: BoolArray, sure: FloatArray, tested: BoolArray, bins: int
) -> tuple[Score, float]:
    """Return the expected calibration error of equal-mass bins, and what chance makes of none.

    The error is that of :func:`carbench.evaluation.metrics.calibration_error`; the edges of the
    bins are held fixed while groups are left out. Trainings that were tested on different images
    (folds) are binned together: a mean of their errors would be larger for being of fewer images.

    Args:
        groups: of the N images.
        right: (S, N) is the answer right?
        sure: (S, N) the probability of the predicted class.
        tested: (S, N) the images that count.
        bins: how many.

    Returns:
        The score, and the mean error if each bin were right as often as it says: of a normal
        variable around zero the mean distance is its standard deviation times the root of 2/pi.
    """
    numbers = training_rounds(tested, groups.splits)
    rounds = [numbers == number for number in range(numbers.max() + 1)]
    tested = np.stack([(tested & own[:, None]).any(axis=0) for own in rounds])
    gaps = np.stack([((correct - sure) * own[:, None]).sum(axis=0) for own in rounds]) * tested
    sure = np.stack([(sure * own[:, None]).sum(axis=0) for own in rounds])
    parts = np.stack(
        [equal_mass_bins(own, given, bins) for own, given in zip(sure, tested, strict=True)]
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
