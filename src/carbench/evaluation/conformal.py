"""Sets of classes that hold the true one as often as wanted: split conformal prediction.

Least ambiguous sets (Sadinle, Lei and Wasserman, JASA 2019): all classes whose probability reaches
a threshold. The threshold is a quantile of the probabilities that the true classes get on images
that were not trained on, corrected for their number, so that the set of a new image, exchangeable
with those, holds its class with at least the wanted probability (Vovk, Gammerman and Shafer 2005;
Angelopoulos and Bates, Foundations and Trends in Machine Learning 2023).
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fit_set_threshold(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], coverage: float
) -> float:
    """Return the probability that a class needs to be in the set.

    Of n images the true class of at least ``ceil((n + 1) * coverage)`` reaches it; 0 where n is
    too small to leave any out.

    Args:
        probabilities: (n, K) of independent images: one of each duplicate group.
        labels: (n,) true class indices.
        coverage: the wanted part of sets that hold the true class, below 1.
    """
    true = np.sort(probabilities[np.arange(len(labels)), labels])
    missed = min(floor((len(true) + 1) * (1 - coverage) + 1e-9), len(true))
    return float(true[missed - 1]) if missed else 0.0


def prediction_sets(
    probabilities: NDArray[np.floating[Any]], threshold: float
) -> NDArray[np.bool_]:
    """Return (N, K) whether each class is in the set of each image.

    The likeliest class always is: an empty set would be of no use, and can only miss the truth.

    Args:
        probabilities: (N, K).
        threshold: what :func:`fit_set_threshold` found.
    """
    sets: NDArray[np.bool_] = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets
