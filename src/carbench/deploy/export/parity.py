"""Whether the exported model says of every test image what the trained one says."""

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
    """How two models agree on the same images.

    Attributes:
        images: how many there are.
        same_top1: of how many both predict the same class, and that which stage evaluate wrote.
        largest_difference: of any probability.
        tolerance: what that difference may be, at most.
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
    """Raise :class:`CarbenchError` if the exported model is not the trained one."""
    if parity.same_top1 < parity.images:
        raise CarbenchError(
            run,
            found=f"another class for {parity.images - parity.same_top1} of {parity.images} "
            "test images once it was exported",
            expected="the class that stage evaluate wrote, for every image",
            fix="evaluate on the CPU (evaluate.device: cpu), or export another seed",
        )
    if parity.largest_difference > parity.tolerance:
        raise CarbenchError(
            "params.yaml",
            key="export.tolerance",
            found=f"a probability that is {parity.largest_difference:.2g} off after the export",
            expected=f"at most {parity.tolerance:.2g}",
            fix="raise export.tolerance if you can live with that",
        )
