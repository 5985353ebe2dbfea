"""Prediction sets with a target coverage, by split conformal prediction.

Least ambiguous sets (Sadinle, Lei and Wasserman, JASA 2019): all classes whose probability reaches
a threshold. The threshold is a quantile of the probabilities of the true classes on images that
were not used for training, corrected for their number. The set of a new image that is exchangeable
with these then contains its class with at least the target probability (Vovk, Gammerman and Shafer
2005; Angelopoulos and Bates, Foundations and Trends in Machine Learning 2023).
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fit_set_threshold(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], coverage: float
) -> float:
    """Return the minimum probability of a class in a prediction set.

    For at least ``ceil((n + 1) * coverage)`` of n images, the true class reaches it. It is 0 if n
    is too small to exclude any class.

    Args:
        probabilities: (n, K) for independent images: one per duplicate group.
        labels: (n,) true class indices.
        coverage: target fraction of sets that contain the true class, below 1.
    """
    true = np.sort(probabilities[np.arange(len(labels)), labels])
    missed = min(floor((len(true) + 1) * (1 - coverage) + 1e-9), len(true))
    return float(true[missed - 1]) if missed else 0.0


def prediction_sets(
    probabilities: NDArray[np.floating[Any]], threshold: float
) -> NDArray[np.bool_]:
    """Return whether each class is in the set of each image, (N, K).

    The most probable class always is: an empty set would be useless and never correct.

    Args:
        probabilities: (N, K).
        threshold: result of :func:`fit_set_threshold`.
    """
    sets: NDArray[np.bool_] = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets
