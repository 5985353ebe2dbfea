"""Distribution-free confidence intervals of measured times, whose outliers are always slow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import quantile_test


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the median of N values, and the bounds of a confidence interval of the true median.

    The bounds are order statistics: whatever the distribution, the number of values below its
    median is binomial (Conover, Practical Nonparametric Statistics, 3rd ed., 1999, section 3.2;
    David and Nagaraja, Order Statistics, 3rd ed., 2003, section 7.1). With too few values (fewer
    than 6 for 95 %) there is no such interval, and the bounds are zero and infinity.
    """
    found = quantile_test(values, p=0.5).confidence_interval(confidence)
    low, high = float(found.low), float(found.high)
    known = np.isfinite([low, high]).all()
    return float(np.median(values)), low if known else 0.0, high if known else float("inf")


def is_slower(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> bool:
    """Return whether the first of two configurations is significantly slower.

    The ratio is computed within each round, in which both had the same disturbances; the first is
    slower if the interval of the median ratio is above 1.

    Args:
        ours: (N,) milliseconds, by round.
        theirs: (N,) milliseconds, in the same rounds.
        confidence: level of the interval.
    """
    _, low, _ = median_interval(np.divide(ours, theirs).tolist(), confidence)
    return low > 1
