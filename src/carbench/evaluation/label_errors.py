"""Images whose label is probably wrong: confident learning.

Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021, from probabilities of models that did
not learn from the image. A class counts as confident where its probability is at least the mean
that it has over the images labelled so; an image is suspect where the likeliest confident class
is another than its label. Written out instead of imported from cleanlab, which loads scikit-learn
for 1.6 s; a test holds the list and its order to cleanlab's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# cleanlab's allowance for rounding, when a probability is held against a class's mean.
ROUNDING = 1e-6


def suggest_labels(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (N,) the class that each image probably shows: its label, if that is not in doubt.

    Args:
        probabilities: (N, K), out of sample.
        labels: (N,) the given class indices.
    """
    count = probabilities.shape[1]
    means = np.full(count, np.inf)
    for label in np.unique(labels):
        means[label] = probabilities[labels == label, label].mean()
    confident = probabilities >= means - ROUNDING
    likeliest = np.where(confident, probabilities, -1.0).argmax(axis=1)
    doubtful = confident.any(axis=1) & (probabilities.argmax(axis=1) != labels)
    suggested: NDArray[np.int64] = np.where(doubtful, likeliest, labels)
    return suggested
