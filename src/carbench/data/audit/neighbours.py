"""Finds for each view of an image those of other images with the most similar outlines.

Every view is compared with every other, a tile of the table at a time: memory stays small, and no
approximate index can miss a pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from carbench.core.parallel import thread_map
from carbench.data.audit.looks import Looks
from carbench.data.audit.outlines import coded, mirrored

# A tile of the table of similarities that fits the caches.
ROWS, COLUMNS = 512, 4096


@dataclass(frozen=True)
class Candidates:
    """Pairs of views (first, second) of different images, the second perhaps mirrored.

    Attributes:
        first: (C,) the view of the image with the lower number.
        second: (C,) the other image's.
        mirrored: (C,) bool, whether the second is to be flipped.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    mirrored: NDArray[np.bool_]


def candidates(looks: Looks, neighbours: int, flipped: bool) -> Candidates:
    """Return pairs of images of which one is among the other's nearest ``neighbours``.

    Each pair of images comes once as it is and, if ``flipped``, once mirrored, by those of their
    views that are most similar; in the order of images.
    """
    if not len(looks.image_of):
        return Candidates(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, bool))
    codes = coded(looks.outlines)
    # float32 holds the lengths of codes, too, exactly but for the last root.
    lengths = np.sqrt((codes.astype(np.int64) ** 2).sum(1)).astype(np.float32)
    search = partial(_nearest, codes, lengths, looks.image_of, neighbours, flipped)
    found = list(thread_map(search, range(0, len(codes), ROWS), max_pending=8))
    row, column, turned, similar = (np.concatenate(each) for each in zip(*found, strict=True))
    return _distinct(looks, row, column, turned, similar)


def _nearest(
    codes: NDArray[np.int8],
    lengths: NDArray[np.float32],
    image_of: NDArray[np.intp],
    neighbours: int,
    flipped: bool,
    top: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_], NDArray[np.float32]]:
    """Return row, column, mirrored and similarity of the nearest of ``ROWS`` views from ``top``."""
    rows = codes[top : top + ROWS].astype(np.float32)
    own = image_of[top : top + ROWS, None]
    scale = 1 / np.maximum(lengths[top : top + ROWS, None], 1)
    # Best first; the same similarity: the lower column first, as it is before mirrored.
    best = np.full((len(rows), neighbours), -np.inf, np.float32)
    place = np.zeros((len(rows), neighbours), np.intp)
    for turn in (False, True) if flipped else (False,):
        for left in range(0, len(codes), COLUMNS):
            block = codes[left : left + COLUMNS].astype(np.float32)
            similar = rows @ (mirrored(block) if turn else block).T
            similar *= scale
            similar /= np.maximum(lengths[left : left + COLUMNS], 1)
            similar[own == image_of[left : left + COLUMNS]] = -np.inf
            best, place = _merged(best, place, similar, left + turn * len(codes))
    found = np.isfinite(best)
    column = place[found]
    row = np.broadcast_to(np.arange(len(rows))[:, None] + top, best.shape)[found]
    return row, column % len(codes), column >= len(codes), best[found]


def _merged(
    best: NDArray[np.float32], place: NDArray[np.intp], similar: NDArray[np.float32], left: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Merge a tile of similarities, whose first column has the number ``left``, into the best."""
    rows, neighbours = best.shape
    if np.isneginf(best[:, -1]).any():
        most = min(neighbours, similar.shape[1])
        row, column = np.nonzero(similar >= -np.partition(-similar, most - 1)[:, most - 1 : most])
    else:
        row, column = np.nonzero(similar > best[:, -1:])
    if not len(row):
        return best, place
    row = np.concatenate((np.repeat(np.arange(rows), neighbours), row))
    every = np.concatenate((best.ravel(), similar[row[best.size :], column]))
    where = np.concatenate((place.ravel(), column + left))
    order = np.lexsort((where, -every, row))
    starts = np.searchsorted(row[order], np.arange(rows))
    kept = order[starts[:, None] + np.arange(neighbours)]
    return every[kept], where[kept]


def _distinct(
    looks: Looks,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    turned: NDArray[np.bool_],
    similar: NDArray[np.float32],
) -> Candidates:
    """Keep one pair of views of each pair of images: the most similar."""
    swap = looks.image_of[row] > looks.image_of[column]
    first, second = np.where(swap, column, row), np.where(swap, row, column)
    images = looks.image_of[first], looks.image_of[second]
    order = np.lexsort((second, first, -similar, turned, images[1], images[0]))
    keys = np.stack((images[0], images[1], turned))[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
    kept = order[new]
    return Candidates(first[kept], second[kept], turned[kept])
