"""How far a model's probabilities must be tempered to be believed.

One number, the temperature, divides the logits; it changes no prediction, only how sure it is
(Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Few pictures, all predicted right, would ask for a temperature of zero.
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the temperature, between 0.05 and 20, at which the labels are likeliest.

    Args:
        logits: (N, K) of pictures that were not trained on.
        labels: (N,) true class indices.
    """
    exact = logits.astype(np.float64)
    found = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(exact / np.exp(log_temperature), labels),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the mean over pictures of -log p(true class), in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
