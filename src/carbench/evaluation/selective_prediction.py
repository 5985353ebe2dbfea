"""Confidence thresholds below which a model abstains, for a target error rate of its answers.

Selective classification (El-Yaniv and Wiener, JMLR 2010; Geifman and El-Yaniv, NeurIPS 2017): of
the answered images, those above a threshold, at most the target fraction may be wrong. The
threshold is fitted on images that were not used for training: the lowest one whose error rate is,
by an exact test, below the target. As many thresholds are tried and one may pass by chance, the
tests are corrected for their number (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then
test", Annals of Applied Statistics 2025). Testing after each image, in the order of confidence, is
a repeated test of accumulating data (Armitage, McPherson and Rowe, JRSS A 1969): all tests have the
same nominal level (Pocock, Biometrika 1977). It is so small that, if the error rate were equal to
the target everywhere, the probability that any test passes would be at most the specified one.

This assumes that the lower the confidence, the more probable an error; otherwise confidence would
be of no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtri, bdtrik

# No confidence is above this threshold: no image is answered.
ABSTAIN = 1.0
HALVINGS = 20


@dataclass(frozen=True)
class Threshold:
    """A confidence threshold, and its results on the images on which it was fitted.

    Attributes:
        value: images with a higher confidence are answered; ABSTAIN if no threshold meets the
            target.
        images: number of images on which it was fitted.
        answered: number of these that are answered.
        wrong: number of wrong answers.
        bound: upper bound of the error rate (Clopper and Pearson, Biometrika 1934, at the nominal
            level); 1 if no image is answered.
    """

    value: float
    images: int
    answered: int
    wrong: int
    bound: float


def fit_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], max_error: float, level: float
) -> Threshold:
    """Return the lowest threshold that meets the target error rate with a given certainty.

    For at least the fraction ``level`` of such samples, the true error rate of the answers is at
    most ``max_error``.

    Args:
        confidence: (N,) for independent images: one per duplicate group.
        right: (N,) whether the prediction is correct.
        max_error: target error rate, above 0 and below 1.
        level: certainty, such as 0.95.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    below = np.append(sure[1:], 0.0)  # thresholds that answer 1, 2, ... images
    nominal = nominal_level(len(sure), max_error, level)
    answered, wrong = np.arange(1, len(sure) + 1), np.cumsum(~right[order])
    # Equally confident images are answered together.
    passed = (bdtr(wrong, answered, max_error) <= nominal) & (sure > below)
    if not passed.any():
        return Threshold(ABSTAIN, len(sure), 0, 0, 1.0)
    last = int(np.flatnonzero(passed)[-1])
    bound = float(bdtri(float(wrong[last]), last + 1, nominal))
    return Threshold(float(below[last]), len(sure), last + 1, int(wrong[last]), bound)


@cache
def nominal_level(images: int, max_error: float, level: float) -> float:
    """Return the nominal level of the tests after 1, 2, ... images.

    This is the largest level at which the probability that any test passes is at most
    ``1 - level``, if each image is wrong with probability ``max_error``.
    """
    low, high = 0.0, 1 - level
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _any_passes(images, max_error, middle) > 1 - level:
            high = middle
        else:
            low = middle
    return low


def _any_passes(images: int, max_error: float, nominal: float) -> float:
    """Return the exact probability that any of the tests after 1 to ``images`` images passes."""
    counts = np.arange(1, images + 1)
    # Maximum number of errors with which each test passes; -1 if it never passes. The inverse
    # is 0 in that case, and may be off by one because of rounding.
    most = np.floor(bdtrik(nominal, counts, max_error))
    most += bdtr(most + 1, counts, max_error) <= nominal
    most -= bdtr(most, counts, max_error) > nominal
    most = most.astype(np.int64)
    running = np.zeros(int(most[-1]) + 2)  # probability by number of errors, if no test passed
    running[0] = 1.0
    passes = 0.0
    for allowed in most:
        running[1:] = running[1:] * (1 - max_error) + running[:-1] * max_error
        running[0] *= 1 - max_error
        passes += running[: allowed + 1].sum()
        running[: allowed + 1] = 0.0
    return float(passes)
