"""Finds near duplicates: images that are recompressed, cropped, rotated, framed or overlaid.

The candidates of an image are its nearest neighbours by HOG descriptor (:mod:`neighbours`), which
is fast. A candidate pair is a near duplicate if the edges of the two images, once they are aligned,
agree block by block (:mod:`alignment`), which rejects pairs that only share a layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from carbench.core.parallel import thread_map
from carbench.data.audit.alignment import aligned_agreement
from carbench.data.audit.neighbours import ViewPairs, nearest_pairs
from carbench.data.audit.review_table import ReviewedPairs
from carbench.data.audit.verdicts import DIFFERENT, DOUBTFUL, FOUND, OTHER
from carbench.data.audit.views import Views
from carbench.params.audit import AuditParams

# Pairs aligned at a time; this many fit the caches.
BATCH = 128
# Pairs that are Python objects at a time.
CHUNK = 10_000
# Number of pairs of each image that are not near duplicates but kept for manual review.
KEPT_PER_IMAGE = 4


class ImagePair(NamedTuple):
    """Indices of two images (first < second), their agreement, and whether one is mirrored."""

    first: int
    second: int
    agreement: float
    mirrored: bool

    def of(self, indices: Mapping[int, int]) -> ImagePair:
        """Return the pair with its indices mapped by ``indices``."""
        return self._replace(first=indices[self.first], second=indices[self.second])


@dataclass(frozen=True)
class ImagePairs:
    """P pairs of images, sorted by image; there are several for each image of the data set.

    Attributes:
        first: (P,) index of the image with the lower index.
        second: (P,) index of the other image.
        agreement: (P,) float64.
        mirrored: (P,) bool, whether one is mirrored.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    agreement: NDArray[np.float64]
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[ImagePair]:
        for start in range(0, len(self), CHUNK):
            some = self.select(slice(start, start + CHUNK))
            columns = (some.first, some.second, some.agreement, some.mirrored)
            yield from map(ImagePair, *(column.tolist() for column in columns))

    def select(self, chosen: slice | NDArray[np.intp]) -> ImagePairs:
        """Return some of the pairs."""
        return ImagePairs(
            self.first[chosen], self.second[chosen], self.agreement[chosen], self.mirrored[chosen]
        )

    def of(self, indices: NDArray[np.intp]) -> ImagePairs:
        """Return the pairs with their indices mapped by ``indices``, which are in order."""
        return replace(self, first=indices[self.first], second=indices[self.second])


def score_pairs(views: Views, params: AuditParams) -> ImagePairs:
    """Return all candidate pairs of images with their agreement.

    Each pair occurs once, unmirrored or mirrored, whichever agrees more.
    """
    found = nearest_pairs(views, params.neighbours, params.mirrored)
    agreement = np.asarray(np.round(_agreements(views, found).astype(np.float64), 4), np.float64)
    first, second = views.image_of[found.first], views.image_of[found.second]
    pairs = ImagePairs(first, second, agreement, found.mirrored)
    pairs = pairs.select(np.lexsort((found.mirrored, -agreement, second, first)))
    is_new = np.ones(len(pairs), bool)
    is_new[1:] = (np.diff(pairs.first) != 0) | (np.diff(pairs.second) != 0)
    return pairs.select(np.flatnonzero(is_new))


def separate_duplicates(
    scored: ImagePairs, params: AuditParams, reviewed: ReviewedPairs
) -> tuple[list[ImagePair], ImagePairs]:
    """Return the near duplicates and the most similar other pairs.

    A pair that was reviewed as different is not a near duplicate, whatever its agreement. The other
    pairs include all that were reviewed, and at least :data:`KEPT_PER_IMAGE` of each image.
    """
    above = scored.select(np.flatnonzero(scored.agreement >= params.min_agreement))
    near = [pair for pair in above if reviewed.verdict(pair.first, pair.second) != DIFFERENT]
    found = {(pair.first, pair.second) for pair in near}
    order = np.argsort(-scored.agreement, kind="stable")
    is_kept = np.zeros(len(scored), bool)
    times = [0] * (int(scored.second.max(initial=-1)) + 1)
    for place, pair in zip(range(len(order)), scored.select(order), strict=True):
        first, second = pair.first, pair.second
        if (first, second) in found:
            continue
        needed = min(times[first], times[second]) < KEPT_PER_IMAGE
        if needed or reviewed.verdict(first, second):
            is_kept[order[place]] = True
            times[first] += 1
            times[second] += 1
    return near, scored.select(np.flatnonzero(is_kept))


def pair_kind(pair: ImagePair, params: AuditParams, found: bool) -> str:
    """Return the ``kind`` of a pair in candidates.csv."""
    if found:
        return FOUND
    return DOUBTFUL if pair.agreement >= params.min_doubtful_agreement else OTHER


def best_agreement(
    views: Views, first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the agreement (P,) of images first[i] and second[i]: the largest over all of their
    views, unmirrored and mirrored."""
    best = np.zeros(len(first), np.float32)
    for own in views.first_and_last(first):
        for other in views.first_and_last(second):
            for mirrored in (False, True):
                flips = np.full(len(first), mirrored)
                best = np.maximum(best, _agreements(views, ViewPairs(own, other, flips)))
    return best


def _agreements(views: Views, found: ViewPairs) -> NDArray[np.float32]:
    """Return the agreement of each candidate pair of views."""

    def batch(start: int) -> NDArray[np.float32]:
        some = slice(start, start + BATCH)
        other = views.thumbnails[found.second[some]]
        flips = found.mirrored[some]
        other[flips] = other[flips, :, ::-1]
        return aligned_agreement(views.thumbnails[found.first[some]], other)

    starts = range(0, len(found.first), BATCH)
    return np.concatenate([np.empty(0, np.float32), *thread_map(batch, starts)])
