"""Tables of predictions: one row per image, with the probabilities of all classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    rows: Iterable[SplitRow], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one row per image; of many images and classes, they do not fit in memory.

    Args:
        rows: the N images.
        probabilities: (N, K), uncalibrated, in the order of ``rows`` and ``classes``.
        classes: the K class names.
    """
    columns = [_column(name) for name in classes]
    winners = winner_rows(rows, probabilities, classes)
    for row, chances in zip(winners, probabilities, strict=True):
        shown = (f"{chance:{DIGITS}}" for chance in chances.tolist())
        yield row | dict(zip(columns, shown, strict=True))


def winner_rows(
    rows: Iterable[SplitRow], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of :func:`prediction_rows` without the probabilities of all classes."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for row, winner, chance in zip(rows, predicted.tolist(), confidence.tolist(), strict=True):
        yield {
            "image": row.image,
            "class": row.label,
            "group": row.group,
            "predicted": classes[winner],
            "confidence": f"{chance:{DIGITS}}",
        }


def _column(name: str) -> str:
    return f"p:{name}"
