"""Paired comparisons of all backbones or of given pairs, corrected for multiple testing.

The largest of many differences is large by chance. The single-step max-|t| test (Westfall and Young
1993; Hothorn, Bretz and Westfall, Biometrical Journal 2008) uses the null distribution of the
largest standardised difference. It takes the correlation of the differences into account (all share
their images, some share a backbone) and is therefore more powerful than Bonferroni or Holm.
Intervals and p-values come from the same distribution: an interval excludes zero if and only if its
adjusted p-value is at most 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtr, ndtri

from carbench.statistics.confidence_intervals import (
    Interval,
    StandardError,
    clip_interval,
    difference_error,
)
from carbench.statistics.estimates import Estimate
from carbench.statistics.jackknife import FloatArray

# Power at which a difference counts as detectable.
POWER = 0.8
# Monte Carlo draws of the null distribution: its 95 % quantile is then known to 0.3 %. The seed is
# fixed, so that the same predictions always give the same result.
DRAWS, CHUNK, SEED = 100_000, 2_000, 0


@dataclass(frozen=True)
class PairedComparison:
    """Comparison of two estimates, such as the accuracies of two backbones, on the same images.

    Attributes:
        backbone, other: names of the two.
        difference: first minus second; the intervals of all pairs hold jointly.
        p_value: unadjusted.
        p_adjusted: corrected for all pairs.
        significant: whether the interval excludes zero.
        detectable: true difference that would be significant in 80 of 100 such studies.
        detectable_half: true difference that would be significant in half of them.
        better: probability that the first is better, for this pair alone.
        equivalent: probability that neither is better by more than the margin, for this pair alone.
        training_part: part of the squared interval width that is due to the variance between
            training runs and to their small number.
    """

    backbone: str
    other: str
    difference: Interval
    p_value: float
    p_adjusted: float
    significant: bool
    detectable: float
    detectable_half: float
    better: float
    equivalent: float
    training_part: float


def compare_pairs(
    estimates: dict[str, Estimate],
    confidence: float,
    margin: float,
    pairs: Sequence[tuple[str, str]] | None = None,
    draws: int = DRAWS,
) -> list[PairedComparison]:
    """Return comparisons of pairs, corrected for their number.

    Args:
        estimates: estimates of one fraction by name, made by one call of ``estimate_jointly``.
        confidence: joint confidence level of all intervals, such as 0.95.
        margin: largest irrelevant difference, as a fraction.
        pairs: names to compare, in this order; None: all, in the order of the dictionary.
        draws: number of Monte Carlo draws.
    """
    if pairs is None:
        pairs = list(combinations(estimates, 2))
    differences = [estimates[first].minus(estimates[second]) for first, second in pairs]
    errors = [difference_error(difference) for difference in differences]
    largest = _max_statistic_draws(estimates, pairs, draws)
    # The order statistic for which intervals and p-values agree.
    rank = int(np.ceil((len(largest) + 1) * confidence - 1e-9))
    alone = -ndtri((1 - confidence) / 2)
    critical = max(float(largest[rank - 1]), alone)
    tail = float(ndtr(-critical))
    comparisons = []
    for (first, second), estimate, error in zip(pairs, differences, errors, strict=True):
        p_value = error.p_value(estimate.value)
        z_score = -ndtri(p_value / 2)  # normal deviate with the same p-value
        rarer = len(largest) - int(np.searchsorted(largest, z_score))
        adjusted = (1 + rarer) / (1 + len(largest))
        half = error.quantile(tail) * error.size
        interval = clip_interval(estimate.value, half)
        comparisons.append(
            PairedComparison(
                first,
                second,
                interval,
                p_value,
                max(adjusted, p_value),
                interval.low > 0 or interval.high < 0,
                detectable_difference(error, tail),
                min(half, 1.0),
                probability_above(estimate, 0.0),
                probability_above(estimate, -margin) - probability_above(estimate, margin),
                error.training_part,
            )
        )
    return comparisons


def probability_above(difference: Estimate, margin: float) -> float:
    """Return the probability that the true difference is above ``margin``.

    For this pair alone: the posterior probability under a flat prior, which is Student's
    distribution around the observed difference.
    """
    return difference_error(difference).cdf(difference.value - margin)


def detectable_difference(error: StandardError, tail: float) -> float:
    """Return the minimum detectable difference at a power of 80 %, at most 1.

    The sum of the quantiles of the significance level and of the power, times the standard error of
    the difference (Bloom, Evaluation Review 1995).
    """
    return min((error.quantile(tail) + error.quantile(1 - POWER)) * error.size, 1.0)


def _max_statistic_draws(
    estimates: dict[str, Estimate], pairs: Sequence[tuple[str, str]], draws: int
) -> FloatArray:
    """Return (R,) sorted draws of the largest |standardised difference| under the null hypothesis.

    The normal distribution has the covariance of the estimates: shared test images correlate all of
    them, independent training runs add to the diagonal.
    """
    # In alphabetical order, so that the draws do not depend on the order of the backbones.
    names = sorted({name for pair in pairs for name in pair})
    groups = min((estimates[name].groups for name in names), default=1)
    deviations = np.stack([estimates[name].deviations for name in names]) if names else np.empty(0)
    covariance = deviations @ deviations.T * ((groups - 1) / groups)
    covariance += np.diag([max(estimates[name].training_variance, 0.0) for name in names])
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(min=0))
    contrasts = np.zeros((len(pairs), len(names)))
    for row, (first, second) in zip(contrasts, pairs, strict=True):
        row[names.index(first)] += 1
        row[names.index(second)] -= 1
    spread = np.sqrt(np.einsum("pi,ij,pj->p", contrasts, covariance, contrasts).clip(min=0))
    distinct = spread > 1e-12  # identical predictions have no variance
    standardised = (contrasts[distinct] @ root) / spread[distinct, None]
    largest = np.zeros(draws)
    rng = np.random.default_rng(SEED)
    for part in np.array_split(largest, -(-draws // CHUNK)):
        drawn = rng.standard_normal((len(part), len(names))) @ standardised.T
        part[:] = np.abs(drawn).max(axis=1, initial=0.0)
    return np.sort(largest)
