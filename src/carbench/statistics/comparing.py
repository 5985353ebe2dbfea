"""Paired comparisons, of all backbones or of chosen pairs, corrected for their number.

The largest of many differences is large by chance. Single-step max-|t| (Westfall and Young 1993;
Hothorn, Bretz and Westfall, Biometrical Journal 2008) asks how large the largest standardised
difference would be if no backbones differed. It uses how the differences hang together (all share
their pictures, some share a backbone) and is therefore sharper than Bonferroni or Holm. Intervals
and p-values come from the same distribution: an interval excludes zero if and only if its adjusted
p-value is at most 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtr, ndtri

from carbench.statistics.bootstrap import Estimate, Numbers
from carbench.statistics.intervals import Interval, StandardError, difference_error

# How probably a difference of the detectable size would be found.
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """Two estimates, such as backbones, on the same pictures.

    Attributes:
        backbone, other: the names of the two.
        difference: first minus second; the interval holds for all pairs together.
        p_value: as if this were the only pair.
        p_adjusted: for the largest of all pairs.
        significant: whether the interval excludes zero.
        detectable: the true difference that would come out significant in 80 of 100 such studies.
    """

    backbone: str
    other: str
    difference: Interval
    p_value: float
    p_adjusted: float
    significant: bool
    detectable: float


def compare(
    estimates: dict[str, Estimate],
    confidence: float,
    seed: int,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Comparison]:
    """Return comparisons of pairs, corrected for the number of all of them.

    Args:
        estimates: of one share by name, from the same resamples.
        confidence: of all intervals together, such as 0.95; there must be at least
            1 / (1 - confidence) - 1 resamples, so that anything can be that rare.
        seed: of the draws of trainings.
        pairs: which names to compare, in this order; None: all, in the order of the dictionary.
    """
    if pairs is None:
        pairs = list(combinations(estimates, 2))
    differences = [estimates[first].minus(estimates[second]) for first, second in pairs]
    errors = [difference_error(difference) for difference in differences]
    p_values = [
        error.p_value(difference.value)
        for error, difference in zip(errors, differences, strict=True)
    ]
    largest = _largest_by_chance(estimates, pairs, seed)
    # The order statistic that makes intervals and p-values agree.
    rank = int(np.ceil((len(largest) + 1) * confidence - 1e-9))
    alone = -ndtri((1 - confidence) / 2)
    critical = max(float(np.sort(largest)[rank - 1]), alone)
    tail = float(ndtr(-critical))
    comparisons = []
    for (first, second), estimate, error, p in zip(
        pairs, differences, errors, p_values, strict=True
    ):
        standing = -ndtri(p / 2)  # the normal deviate that is as rare as this difference
        adjusted = (1 + int((largest >= standing).sum())) / (1 + len(largest))
        half = error.quantile(tail) * error.size
        interval = Interval(estimate.value, estimate.value - half, estimate.value + half)
        comparisons.append(
            Comparison(
                first,
                second,
                interval,
                p,
                max(adjusted, p),
                interval.low > 0 or interval.high < 0,
                detectable_difference(error, tail),
            )
        )
    return comparisons


def detectable_difference(error: StandardError, tail: float) -> float:
    """Return the true difference that would be found with a probability of 80 %.

    The quantile that a difference has to pass plus the one that it passes four times in five, in
    standard errors of the difference (Bloom, Evaluation Review 1995).
    """
    return (error.quantile(tail) + error.quantile(1 - POWER)) * error.size


def _largest_by_chance(
    estimates: dict[str, Estimate], pairs: Sequence[tuple[str, str]], seed: int
) -> Numbers:
    """Return (R,) the largest |standardised difference| of all pairs, where none differ.

    Resamples bring the pictures' part; the trainings' part is drawn from a normal distribution, for
    each backbone apart, as trainings of different backbones are independent.
    """
    dice = np.random.default_rng(seed)
    deviations = {
        name: each.deviations
        + np.sqrt(each.training_variance) * dice.standard_normal(len(each.deviations))
        for name, each in estimates.items()
    }
    largest = np.zeros(len(next(iter(deviations.values()))))
    for first, second in pairs:
        difference = deviations[first] - deviations[second]
        spread = difference.std()
        if spread > 0:
            np.maximum(largest, np.abs(difference - difference.mean()) / spread, out=largest)
    return largest
