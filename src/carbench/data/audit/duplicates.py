"""Finds near duplicates: images that are recompressed, cropped, rotated, framed or overlaid.

The candidates of an image are its nearest neighbours by HOG descriptor (:mod:`neighbours`), which
is fast. A candidate pair is a near duplicate if the edges of the two images, once they are aligned,
agree block by block (:mod:`alignment`), which rejects pairs that only share a layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
# Number of pairs of each image that are not near duplicates but kept for manual review.
KEPT_PER_IMAGE = 4


@dataclass(frozen=True)
class ImagePair:
    """Indices of two images (first < second), their agreement, and whether one is mirrored."""

    first: int
    second: int
    agreement: float
    mirrored: bool

    def of(self, indices: Sequence[int] | Mapping[int, int]) -> ImagePair:
        """Return the pair with its indices mapped by ``indices``."""
        return replace(self, first=indices[self.first], second=indices[self.second])


def score_pairs(views: Views, params: AuditParams) -> list[ImagePair]:
    """Return all candidate pairs of images with their agreement, sorted by image.

    Each pair occurs once, unmirrored or mirrored, whichever agrees more.
    """
    found = nearest_pairs(views, params.neighbours, params.mirrored)
    agreements = _agreements(views, found)
    images = views.image_of[found.first], views.image_of[found.second]
    columns = (*images, agreements, found.mirrored)
    best: dict[tuple[int, int], ImagePair] = {}
    rows = zip(*(each.tolist() for each in columns), strict=True)
    for first, second, agreement, mirrored in rows:
        pair = ImagePair(first, second, round(agreement, 4), mirrored)
        other = best.setdefault((first, second), pair)
        if pair.agreement > other.agreement:
            best[first, second] = pair
    return list(best.values())


def separate_duplicates(
    scored: Sequence[ImagePair], params: AuditParams, reviewed: ReviewedPairs
) -> tuple[list[ImagePair], list[ImagePair]]:
    """Return the near duplicates and the most similar other pairs, each sorted by image.

    A pair that was reviewed as different is not a near duplicate, whatever its agreement. The other
    pairs include all that were reviewed, and at least :data:`KEPT_PER_IMAGE` of each image.
    """
    near = [
        pair
        for pair in scored
        if pair.agreement >= params.min_agreement
        and reviewed.verdict(pair.first, pair.second) != DIFFERENT
    ]
    found = {(pair.first, pair.second) for pair in near}
    others: list[ImagePair] = []
    times: Counter[int] = Counter()
    for pair in sorted(scored, key=lambda pair: -pair.agreement):
        if (pair.first, pair.second) in found:
            continue
        needed = min(times[pair.first], times[pair.second]) < KEPT_PER_IMAGE
        if needed or reviewed.verdict(pair.first, pair.second):
            others.append(pair)
            times.update((pair.first, pair.second))
    return near, sorted(others, key=lambda pair: (pair.first, pair.second))


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
