"""Intervals of measured times, which have no known distribution: outliers are always slow ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import quantile_test


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the median of N values, and the bounds of an interval that holds the true one.

    The bounds are order statistics: whatever the distribution, the number of values below its
    median is binomial (Conover, Practical Nonparametric Statistics, 3rd ed., 1999, section 3.2;
    David and Nagaraja, Order Statistics, 3rd ed., 2003, section 7.1). Of few values there is no
    such interval, and the bounds are zero and infinity: 6 are needed for 95 %.
    """
    found = quantile_test(values, p=0.5).confidence_interval(confidence)
    low, high = float(found.low), float(found.high)
    known = np.isfinite([low, high]).all()
    return float(np.median(values)), low if known else 0.0, high if known else float("inf")


def is_slower(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> bool:
    """Say whether the first of two configurations takes longer, by more than chance.

    Ratios are taken within each round, in which both were disturbed by the same; it is slower where
    the interval of the median ratio lies above 1.

    Args:
        ours: (N,) milliseconds, by round.
        theirs: (N,) milliseconds, in the same rounds.
        confidence: of the interval.
    """
    _, low, _ = median_interval(np.divide(ours, theirs).tolist(), confidence)
    return low > 1
