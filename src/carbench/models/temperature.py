"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

The logits are divided by one number, the temperature, which changes the confidence but not the
predicted class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bounds; the optimum for a few images that are all correct would be zero.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
BISECTIONS = 40
# Replaces probabilities that were rounded to zero.
MIN_PROBABILITY = np.finfo(np.float64).tiny


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the maximum-likelihood temperature, between 0.05 and 20.

    The mean of -log p(label) is convex in the inverse temperature; the zero of its derivative is
    found by bisection. (scipy gives the same result, but importing it takes half a second per
    training run.)

    Args:
        logits: (N, K) logits of images that were not trained on.
        labels: (N,) true class indices.
    """
    exact = logits.astype(np.float64)
    true = exact[np.arange(len(labels)), labels]
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        scaled = exact / np.exp(middle)
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (weights * exact).sum(axis=1) / weights.sum(axis=1)
        # Overconfident at this temperature: the expected logit is larger than that of the label.
        if (expected - true).mean() > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def apply_temperature(
    probabilities: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Return (N, K) probabilities at another temperature: ``p ** (1 / T)``, normalised.

    This is equivalent to dividing the logits by the temperature.
    """
    powers = probabilities.clip(min=MIN_PROBABILITY) ** (1 / temperature)
    scaled: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return scaled
