"""Tables of predictions: one row per image, with the probabilities of all classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.data.split.table import SplitRow

# Significant digits: the small probabilities of a confident model determine its confidence at
# another temperature.
DIGITS = ".6g"


def prediction_columns(classes: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """Return the columns of :func:`prediction_rows`, in their order in a file.

    ``further`` are additional columns of the caller that describe the images.
    """
    image = ("image", "class", "group", *further)
    return [*image, "predicted", "confidence", *map(_column, classes)]


def prediction_rows(
    rows: Sequence[SplitRow], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one row per image.

    Args:
        rows: the N images.
        probabilities: (N, K), uncalibrated, in the order of ``rows`` and ``classes``.
        classes: the K class names.
    """
    predicted = probabilities.argmax(axis=1)
    for row, winner, chances in zip(rows, predicted, probabilities, strict=True):
        yield {
            "image": row.image,
            "class": row.label,
            "group": row.group,
            "predicted": classes[winner],
            "confidence": f"{chances[winner]:{DIGITS}}",
            **{
                _column(name): f"{chance:{DIGITS}}"
                for name, chance in zip(classes, chances, strict=True)
            },
        }


def _column(name: str) -> str:
    return f"p:{name}"
