"""Paired comparisons, of all backbones or of chosen pairs, corrected for their number.

The largest of many differences is large by chance. Single-step max-|t| (Westfall and Young 1993;
Hothorn, Bretz and Westfall, Biometrical Journal 2008) asks how large the largest standardised
difference would be if no backbones differed. It uses how the differences hang together (all share
their images, some share a backbone) and is therefore sharper than Bonferroni or Holm. Intervals
and p-values come from the same distribution: an interval excludes zero if and only if its adjusted
p-value is at most 1 - confidence.
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
    around,
    difference_error,
)
from carbench.statistics.estimates import Estimate
from carbench.statistics.jackknife import FloatArray

# How probably a difference of the detectable size would be found.
POWER = 0.8
# Draws of the largest difference by chance: its 95 % quantile is then known to 0.3 %. They are
# always the same ones, so that the same answers give the same verdict.
DRAWS, CHUNK, SEED = 100_000, 2_000, 0


@dataclass(frozen=True)
class PairedComparison:
    """Two estimates, such as backbones, on the same images.

    Attributes:
        backbone, other: the names of the two.
        difference: first minus second; the interval holds for all pairs together.
        p_value: as if this were the only pair.
        p_adjusted: for the largest of all pairs.
        significant: whether the interval excludes zero.
        detectable: the true difference that would come out significant in 80 of 100 such studies.
        detectable_half: the one that would in half of them.
        better: how probable it is that the first is better, as if this were the only pair.
        equivalent: how probable that neither is better by more than the margin; likewise.
        training_part: how much of the squared width comes from trainings, as far as they differ and
            as few as they are.
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
    """Return comparisons of pairs, corrected for the number of all of them.

    Args:
        estimates: of one share by name, of one family.
        confidence: of all intervals together, such as 0.95.
        margin: a difference that does not matter, in parts of one.
        pairs: which names to compare, in this order; None: all, in the order of the dictionary.
        draws: of the largest difference by chance.
    """
    if pairs is None:
        pairs = list(combinations(estimates, 2))
    differences = [estimates[first].minus(estimates[second]) for first, second in pairs]
    errors = [difference_error(difference) for difference in differences]
    largest = _largest_by_chance(estimates, pairs, draws)
    # The order statistic that makes intervals and p-values agree.
    rank = int(np.ceil((len(largest) + 1) * confidence - 1e-9))
    alone = -ndtri((1 - confidence) / 2)
    critical = max(float(largest[rank - 1]), alone)
    tail = float(ndtr(-critical))
    comparisons = []
    for (first, second), estimate, error in zip(pairs, differences, errors, strict=True):
        p_value = error.p_value(estimate.value)
        standing = -ndtri(p_value / 2)  # the normal deviate that is as rare as this difference
        rarer = len(largest) - int(np.searchsorted(largest, standing))
        adjusted = (1 + rarer) / (1 + len(largest))
        half = error.quantile(tail) * error.size
        interval = around(estimate.value, half)
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
    """Return how probable it is that the true difference is above ``margin``.

    For one pair alone: the posterior probability without prior knowledge, which is Student's
    distribution around the difference that was found.
    """
    return difference_error(difference).below(difference.value - margin)


def detectable_difference(error: StandardError, tail: float) -> float:
    """Return the true difference that would be found with a probability of 80 %.

    The quantile that a difference has to pass plus the one that it passes four times in five, in
    standard errors of the difference (Bloom, Evaluation Review 1995); at most 1.
    """
    return min((error.quantile(tail) + error.quantile(1 - POWER)) * error.size, 1.0)


def _largest_by_chance(
    estimates: dict[str, Estimate], pairs: Sequence[tuple[str, str]], draws: int
) -> FloatArray:
    """Return (R,) the largest |standardised difference| of all pairs where none differ, sorted.

    Drawn from the normal distribution that has the covariances of the estimates: of all through
    their images, of each with itself through its trainings, which are independent.
    """
    # In alphabetic order, so that the order in which backbones are named changes no draw.
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
    told = spread > 1e-12  # two that answer alike do not differ by chance, either
    turned = (contrasts[told] @ root) / spread[told, None]
    largest = np.zeros(draws)
    rng = np.random.default_rng(SEED)
    for part in np.array_split(largest, -(-draws // CHUNK)):
        drawn = rng.standard_normal((len(part), len(names))) @ turned.T
        part[:] = np.abs(drawn).max(axis=1, initial=0.0)
    return np.sort(largest)
