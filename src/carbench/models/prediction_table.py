"""What a model says of images, as a table: a row an image, with all its probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.data.split.table import SplitRow

# Significant ones: what a sure model leaves for the other classes is small, and decides how sure it
# is at another temperature.
DIGITS = ".6g"


def prediction_columns(classes: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """Return the columns of :func:`prediction_rows`, in their order in a file.

    ``further`` are what a caller adds of the images themselves.
    """
    image = ("image", "class", "group", *further)
    return [*image, "predicted", "confidence", *map(_column, classes)]


def prediction_rows(
    rows: Sequence[SplitRow], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row an image.

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
