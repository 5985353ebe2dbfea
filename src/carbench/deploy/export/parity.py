"""Parity check: the exported and the trained model predict the same for all test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.core.errors import CarbenchError

Probabilities = NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """Agreement of two models on the same images.

    Attributes:
        images: number of images.
        same_top1: number of images for which both models, and stage evaluate, predict the same
            class.
        largest_difference: largest difference of any probability.
        tolerance: maximum permitted difference.
    """

    images: int
    same_top1: int
    largest_difference: float
    tolerance: float


def measure_parity(
    exported: Probabilities, trained: Probabilities, evaluated: list[int], tolerance: float
) -> Parity:
    """Compare the probabilities (N, K) of both models, and the N predictions of stage evaluate."""
    winners = exported.argmax(axis=1)
    same = (winners == trained.argmax(axis=1)) & (winners == np.array(evaluated))
    return Parity(
        len(exported), int(same.sum()), float(np.abs(exported - trained).max()), tolerance
    )


def require_parity(parity: Parity, run: Path) -> None:
    """Raise :class:`CarbenchError` if the exported and the trained model disagree."""
    if parity.same_top1 < parity.images:
        raise CarbenchError(
            run,
            found=f"a different class for {parity.images - parity.same_top1} of {parity.images} "
            "test images after the export",
            expected="the class that stage evaluate predicted, for every image",
            fix="evaluate on the CPU (evaluate.device: cpu), or export another seed",
        )
    if parity.largest_difference > parity.tolerance:
        raise CarbenchError(
            "params.yaml",
            key="export.tolerance",
            found=f"a probability that differs by {parity.largest_difference:.2g} after the export",
            expected=f"at most {parity.tolerance:.2g}",
            fix="increase export.tolerance if this difference is acceptable",
        )
