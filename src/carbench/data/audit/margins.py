"""Detects uniform margins: white borders, black bars, the empty background of a studio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# left, top, right, bottom, as in Pillow
Box = tuple[int, int, int, int]

# A row or column is uniform if these percentiles of its brightness differ by at most MAX_SPREAD:
# this tolerates JPEG artefacts and thin lines.
MAX_SPREAD = 16
PERCENTILES = (2, 98)
# Largest fraction that is removed on each side.
MAX_MARGIN = 0.4


def content_box(image: NDArray[np.uint8]) -> Box:
    """Return the box of a grey image (H, W) without uniform rows and columns at its margins.

    Copies with and without a border have the same content box, uniform if the image itself has a
    uniform background: margins need not have a single colour.
    """
    height, width = image.shape
    left, top, right, bottom = 0, 0, width, height
    ends = [0, -1]
    if not _uniform(image[ends]).any() and not _uniform(image.T[ends]).any():
        return left, top, right, bottom  # the usual case
    while True:
        rows = _uniform(image[:, left:right])
        higher, lower = _shrink(rows, top, bottom)
        columns = _uniform(image[higher:lower].T)
        nearer, further = _shrink(columns, left, right)
        if (nearer, higher, further, lower) == (left, top, right, bottom):
            return left, top, right, bottom
        left, top, right, bottom = nearer, higher, further, lower


def _uniform(lines: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which lines (L, P) are uniform."""
    least, most = (
        np.partition(lines, round((lines.shape[1] - 1) * part / 100), axis=1)[
            :, round((lines.shape[1] - 1) * part / 100)
        ].astype(int)
        for part in PERCENTILES
    )
    return np.asarray(most - least <= MAX_SPREAD)


def _shrink(uniform: NDArray[np.bool_], start: int, end: int) -> tuple[int, int]:
    """Move start and end inwards over uniform lines, as far as allowed."""
    most = int(MAX_MARGIN * len(uniform))
    while start < most and uniform[start]:
        start += 1
    while end > len(uniform) - most and uniform[end - 1]:
        end -= 1
    return start, end
