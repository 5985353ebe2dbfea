"""Finds images that look the same: compressed anew, cropped, turned, framed or written over.

For each image those with the most similar outlines are candidates (:mod:`neighbours`); of these
a pair are near duplicates if their edges agree, block by block, once one is laid over the other
(:mod:`alignment`): outlines find candidates fast, the edges throw out those that only share a
layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carbench.core.parallel import thread_map
from carbench.data.audit.alignment import agreement_of
from carbench.data.audit.looks import Looks
from carbench.data.audit.neighbours import Candidates, candidates
from carbench.data.audit.reviewed import Reviewed
from carbench.data.audit.words import DIFFERENT, DOUBTFUL, FOUND, OTHER
from carbench.params.audit import AuditParams

# Pairs laid over each other at once, that fit the caches.
BATCH = 128
# Of each image so many pairs are kept that were not found, for a person to doubt.
KEPT = 4


@dataclass(frozen=True)
class Pair:
    """Two images (indices, first < second), how well they agree, the second mirrored or not."""

    first: int
    second: int
    agreement: float
    mirrored: bool

    def of(self, indices: Sequence[int] | Mapping[int, int]) -> Pair:
        """Return the pair with its images numbered as in ``indices``."""
        return replace(self, first=indices[self.first], second=indices[self.second])


def compare(looks: Looks, params: AuditParams) -> list[Pair]:
    """Return every candidate pair of images, in order, with its agreement.

    A pair that agrees both as it is and mirrored comes once, as it agrees more.
    """
    found = candidates(looks, params.neighbours, params.mirrored)
    agreements = _agreements(looks, found)
    images = looks.image_of[found.first], looks.image_of[found.second]
    columns = (*images, agreements, found.mirrored)
    best: dict[tuple[int, int], Pair] = {}
    rows = zip(*(each.tolist() for each in columns), strict=True)
    for first, second, agreement, mirrored in rows:
        pair = Pair(first, second, round(agreement, 4), mirrored)
        other = best.setdefault((first, second), pair)
        if pair.agreement > other.agreement:
            best[first, second] = pair
    return list(best.values())


def told_apart(
    compared: Sequence[Pair], params: AuditParams, reviewed: Reviewed
) -> tuple[list[Pair], list[Pair]]:
    """Return the near duplicates, and of the other pairs those most alike, each in order.

    A pair that a person has called different is no near duplicate, however well it agrees. Of the
    others all that a person has judged are kept, and of each image at least :data:`KEPT`.
    """
    near = [
        pair
        for pair in compared
        if pair.agreement >= params.min_agreement
        and reviewed.verdict(pair.first, pair.second) != DIFFERENT
    ]
    found = {(pair.first, pair.second) for pair in near}
    others: list[Pair] = []
    times: Counter[int] = Counter()
    for pair in sorted(compared, key=lambda pair: -pair.agreement):
        if (pair.first, pair.second) in found:
            continue
        wanted = min(times[pair.first], times[pair.second]) < KEPT
        if wanted or reviewed.verdict(pair.first, pair.second):
            others.append(pair)
            times.update((pair.first, pair.second))
    return near, sorted(others, key=lambda pair: (pair.first, pair.second))


def kind_of(pair: Pair, params: AuditParams, found: bool) -> str:
    """Return what candidates.csv calls a pair."""
    if found:
        return FOUND
    return DOUBTFUL if pair.agreement >= params.min_doubtful_agreement else OTHER


def agreement_between(
    looks: Looks, first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the agreement (P,) of images first[i] and second[i], in whichever of their views
    and whether mirrored or not: the most."""
    best = np.zeros(len(first), np.float32)
    for own in looks.views(first):
        for other in looks.views(second):
            for mirrored in (False, True):
                turned = np.full(len(first), mirrored)
                best = np.maximum(best, _agreements(looks, Candidates(own, other, turned)))
    return best


def _agreements(looks: Looks, found: Candidates) -> NDArray[np.float32]:
    """Return the agreement of each candidate pair of views."""

    def batch(start: int) -> NDArray[np.float32]:
        some = slice(start, start + BATCH)
        other = looks.thumbnails[found.second[some]]
        turned = found.mirrored[some]
        other[turned] = other[turned, :, ::-1]
        return agreement_of(looks.thumbnails[found.first[some]], other)

    starts = range(0, len(found.first), BATCH)
    return np.concatenate([np.empty(0, np.float32), *thread_map(batch, starts)])
