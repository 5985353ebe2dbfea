"""Metrics of the class probabilities of one set of images.

Implemented here because importing scikit-learn would take 3 s of every evaluation; the tests
compare all metrics with scikit-learn's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[Any]


def measure(
    probabilities: Probabilities, labels: Labels, classes: list[str], bins: int
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy, macro F1, NLL, calibration error, recall by class.

    Args:
        probabilities: (N, K), rows sum to one.
        labels: (N,) true class indices.
        classes: the K class names.
        bins: number of bins of the calibration error.
    """
    predicted = probabilities.argmax(axis=1)
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (labels, predicted), 1)
    hits, true, predicted_counts = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    recalls = np.divide(hits, true, out=np.full(len(classes), np.nan), where=true > 0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(balanced_accuracy(hits, true)),
        "macro_f1": float(macro_f1(hits, true, predicted_counts)),
        **measure_calibration(probabilities, labels, bins),
        "recall": {
            name: None if np.isnan(recall) else float(recall)
            for name, recall in zip(classes, recalls, strict=True)
        },
    }


def measure_calibration(
    probabilities: Probabilities, labels: Labels, bins: int
) -> dict[str, float]:
    """Return NLL and calibration error, the metrics that temperature scaling changes.

    The arguments are those of :func:`measure`.
    """
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "nll": float(-np.log(likelihood.clip(min=np.finfo(float).tiny)).mean()),
        "ece": calibration_error(probabilities, labels, bins),
    }


def balanced_accuracy(hits: Counts, true: Counts) -> Counts:
    """Return the mean recall of the classes that have images.

    Args:
        hits: (..., K) correct predictions by class.
        true: (..., K) images by class.
    """
    recalls = np.divide(hits, true, out=np.zeros(true.shape), where=true > 0)
    return _mean_where(recalls, true > 0)


def macro_f1(hits: Counts, true: Counts, predicted_counts: Counts) -> Counts:
    """Return the mean F1 of the classes that have images or predictions.

    Args:
        hits, true: as for :func:`balanced_accuracy`.
        predicted_counts: (..., K) predictions by class.
    """
    both = true + predicted_counts
    return _mean_where(
        np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0), both > 0
    )


def _mean_where(values: Counts, counts: NDArray[np.bool_]) -> Counts:
    """Return the mean over the last axis of the values where ``counts`` is true; nan if none is."""
    number = counts.sum(axis=-1)
    mean: Counts = np.full(number.shape, np.nan)
    np.divide(values.sum(axis=-1), number, out=mean, where=number > 0)
    return mean


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int) -> float:
    """Return the expected calibration error with equal-mass bins, between 0 and 1.

    Images are sorted by the probability of the predicted class and cut into ``bins`` parts of
    equal count; the error is the mean, weighted by count, of |accuracy - mean confidence|
    (Naeini et al., AAAI 2015, with the adaptive bins of Nixon et al., CVPRW 2019).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(correct[part].mean() - confidence[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))
