"""Below which confidence a model should not answer, so that its answers keep a wanted error.

Selective classification (El-Yaniv and Wiener, JMLR 2010; Geifman and El-Yaniv, NeurIPS 2017): of
the images that are answered, those above a threshold, at most the wanted part may be wrong. The
threshold is found on images that were not trained on: the lowest whose error is, by an exact
test, below the wanted one. Many thresholds are tried, and one may pass by luck; their number is
paid for (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then test", Annals of Applied
Statistics 2025). To go down the images by confidence and to test after each is to test
accumulating data repeatedly (Armitage, McPherson and Rowe, JRSS A 1969): every test has the same
nominal level (Pocock, Biometrika 1977), which is so small that, were the error everywhere the
wanted one, any of them would pass as rarely as agreed.

That an image is wrong the more probably the less confident the model is, is assumed: it is what
makes confidence worth anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtri, bdtrik

# No confidence is above it: nothing is answered.
ABSTAIN = 1.0
HALVINGS = 20


@dataclass(frozen=True)
class Threshold:
    """Where a model begins to answer, and what the images that it was fitted on say of that.

    Attributes:
        value: answer where the confidence is above it; NEVER where no threshold keeps the error.
        images: how many it was fitted on.
        answered: how many of these it answers.
        wrong: how many of those are wrong.
        bound: the upper bound of the error (Clopper and Pearson, Biometrika 1934, at the nominal
            level); 1 where nothing is answered.
    """

    value: float
    images: int
    answered: int
    wrong: int
    bound: float


def fit_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], max_error: float, level: float
) -> Threshold:
    """Return the lowest threshold whose error is at most the wanted one, as far as can be told.

    In at least ``level`` of such samples the true error of what is answered is at most
    ``max_error``.

    Args:
        confidence: (N,) of independent images: one of each duplicate group.
        right: (N,) is the answer right?
        max_error: the wanted error, above 0 and below 1.
        level: how sure to be of it, such as 0.95.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    below = np.append(sure[1:], 0.0)  # the threshold that answers so many
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
    """Return the level of each of the tests after 1, 2, ... images.

    The largest at which, if each image is wrong with probability ``max_error``, any test passes
    with a probability of at most ``1 - level``.
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
    """Return how probably any of the tests after 1 ... ``images`` images passes, exactly."""
    counts = np.arange(1, images + 1)
    # The most errors with which each test passes, and -1 where none is one too many. The inverse
    # says 0 there, and may be off by rounding.
    most = np.floor(bdtrik(nominal, counts, max_error))
    most += bdtr(most + 1, counts, max_error) <= nominal
    most -= bdtr(most, counts, max_error) > nominal
    most = most.astype(np.int64)
    running = np.zeros(int(most[-1]) + 2)  # paths with so many errors that never passed
    running[0] = 1.0
    passes = 0.0
    for allowed in most:
        running[1:] = running[1:] * (1 - max_error) + running[:-1] * max_error
        running[0] *= 1 - max_error
        passes += running[: allowed + 1].sum()
        running[: allowed + 1] = 0.0
    return float(passes)
