"""How far a model's probabilities must be tempered to be believed.

One number, the temperature, divides the logits; it changes no prediction, only how sure it is
(Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Few images, all predicted right, would ask for a temperature of zero.
LOWEST, HIGHEST = 0.05, 20.0
HALVINGS = 40
# A probability of zero is one that was too small to be written.
LEAST = np.finfo(np.float64).tiny


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the temperature, between 0.05 and 20, at which the labels are likeliest.

    The mean of -log p(label) is convex in the inverse temperature: where its slope is zero is found
    by halving. (scipy's minimiser finds the same, and takes half a second of every training to
    load.)

    Args:
        logits: (N, K) of images that were not trained on.
        labels: (N,) true class indices.
    """
    exact = logits.astype(np.float64)
    true = exact[np.arange(len(labels)), labels]
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tempered = exact / np.exp(middle)
        shares = np.exp(tempered - tempered.max(axis=1, keepdims=True))
        expected = (shares * exact).sum(axis=1) / shares.sum(axis=1)
        # The models are too sure at this temperature: they expect larger logits than are true.
        if (expected - true).mean() > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def temper(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return (N, K) probabilities at another temperature: ``p ** (1 / T)``, made to sum to one.

    The same as dividing the logits (Guo et al., ICML 2017), of which they are the softmax.
    """
    powers = probabilities.clip(min=LEAST) ** (1 / temperature)
    tempered: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return tempered
