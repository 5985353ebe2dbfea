"""Finds what frames an image: white borders, black bars, the empty backdrop of a studio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# left, top, right, bottom, as Pillow counts
Box = tuple[int, int, int, int]

# A row belongs to the margin if nearly all of its pixels have the same brightness: JPEG rings a
# little, and a hair may cross it.
SPREAD = 16
NEARLY_ALL = (2, 98)  # percentiles
# From each side no more than this part may go.
MOST = 0.4


def without_margins(image: NDArray[np.uint8]) -> Box:
    """Return the box that is left of a grey image (H, W) when even rows and columns are cut off.

    Two copies of an image, one with a border and one without, are left with the same box of it,
    also where the image itself stands on white: what is cut off need not have one colour.
    """
    height, width = image.shape
    left, top, right, bottom = 0, 0, width, height
    ends = [0, -1]
    if not _even(image[ends]).any() and not _even(image.T[ends]).any():
        return left, top, right, bottom  # most images
    while True:
        rows = _even(image[:, left:right])
        higher, lower = _inner(rows, top, bottom)
        columns = _even(image[higher:lower].T)
        nearer, further = _inner(columns, left, right)
        if (nearer, higher, further, lower) == (left, top, right, bottom):
            return left, top, right, bottom
        left, top, right, bottom = nearer, higher, further, lower


def _even(lines: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which lines (L, P) have next to no detail."""
    least, most = (
        np.partition(lines, round((lines.shape[1] - 1) * part / 100), axis=1)[
            :, round((lines.shape[1] - 1) * part / 100)
        ].astype(int)
        for part in NEARLY_ALL
    )
    return np.asarray(most - least <= SPREAD)


def _inner(even: NDArray[np.bool_], start: int, end: int) -> tuple[int, int]:
    """Move start and end inwards over even lines, as far as is allowed."""
    most = int(MOST * len(even))
    while start < most and even[start]:
        start += 1
    while end > len(even) - most and even[end - 1]:
        end -= 1
    return start, end
