"""Exact nearest neighbours of each view among the views of other images, by HOG descriptor.

All pairs of views are compared, one tile at a time: memory stays small, and no pair is missed, as
an approximate index might.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from carbench.core.parallel import thread_map
from carbench.data.audit.hog import mirror_descriptors, quantize_descriptors
from carbench.data.audit.views import Views

# Size of a tile of the similarity matrix that fits the caches.
ROWS, COLUMNS = 512, 4096


@dataclass(frozen=True)
class ViewPairs:
    """C pairs of views of different images.

    Attributes:
        first: (C,) views of the image with the lower index.
        second: (C,) views of the other image.
        mirrored: (C,) bool, whether the second view is flipped.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    mirrored: NDArray[np.bool_]


def nearest_pairs(views: Views, neighbours: int, flipped: bool) -> ViewPairs:
    """Return pairs of images in which one is among the nearest ``neighbours`` of the other.

    Each pair of images occurs at most once unmirrored and, if ``flipped``, once mirrored, with its
    most similar views; sorted by image.
    """
    if not len(views.image_of):
        return ViewPairs(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, bool))
    codes = quantize_descriptors(views.descriptors)
    # In float32 the lengths of codes are exact up to the square root.
    lengths = np.sqrt((codes.astype(np.int64) ** 2).sum(1)).astype(np.float32)
    search = partial(_nearest, codes, lengths, views.image_of, neighbours, flipped)
    found = list(thread_map(search, range(0, len(codes), ROWS), max_pending=8))
    row, column, flips, similarity = (np.concatenate(each) for each in zip(*found, strict=True))
    return _best_views(views, row, column, flips, similarity)


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
    # Sorted by similarity, then by column, unmirrored before mirrored.
    best = np.full((len(rows), neighbours), -np.inf, np.float32)
    columns = np.zeros((len(rows), neighbours), np.intp)
    for turn in (False, True) if flipped else (False,):
        for left in range(0, len(codes), COLUMNS):
            block = codes[left : left + COLUMNS].astype(np.float32)
            similarity = rows @ (mirror_descriptors(block) if turn else block).T
            similarity *= scale
            similarity /= np.maximum(lengths[left : left + COLUMNS], 1)
            similarity[own == image_of[left : left + COLUMNS]] = -np.inf
            best, columns = _merge_tile(best, columns, similarity, left + turn * len(codes))
    found = np.isfinite(best)
    column = columns[found]
    row = np.broadcast_to(np.arange(len(rows))[:, None] + top, best.shape)[found]
    return row, column % len(codes), column >= len(codes), best[found]


def _merge_tile(
    best: NDArray[np.float32], columns: NDArray[np.intp], similarity: NDArray[np.float32], left: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Merge a tile of similarities, starting at column ``left``, into the best so far."""
    rows, neighbours = best.shape
    if np.isneginf(best[:, -1]).any():
        most = min(neighbours, similarity.shape[1])
        row, column = np.nonzero(
            similarity >= -np.partition(-similarity, most - 1)[:, most - 1 : most]
        )
    else:
        row, column = np.nonzero(similarity > best[:, -1:])
    if not len(row):
        return best, columns
    row = np.concatenate((np.repeat(np.arange(rows), neighbours), row))
    every = np.concatenate((best.ravel(), similarity[row[best.size :], column]))
    where = np.concatenate((columns.ravel(), column + left))
    order = np.lexsort((where, -every, row))
    starts = np.searchsorted(row[order], np.arange(rows))
    kept = order[starts[:, None] + np.arange(neighbours)]
    return every[kept], where[kept]


def _best_views(
    views: Views,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    flips: NDArray[np.bool_],
    similarity: NDArray[np.float32],
) -> ViewPairs:
    """Return the most similar pair of views of each pair of images."""
    swap = views.image_of[row] > views.image_of[column]
    first, second = np.where(swap, column, row), np.where(swap, row, column)
    images = views.image_of[first], views.image_of[second]
    order = np.lexsort((second, first, -similarity, flips, images[1], images[0]))
    keys = np.stack((images[0], images[1], flips))[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
    kept = order[new]
    return ViewPairs(first[kept], second[kept], flips[kept])
