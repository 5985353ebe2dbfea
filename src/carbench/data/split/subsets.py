"""Nested subsets of the train part: which duplicate groups a fraction of it takes.

Every duplicate group has a place on a circle, and a seed a point on it: going round from there, the
groups of a class are taken until the fraction is reached. A larger fraction holds the smaller ones
of the same seed, and another seed takes other groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from carbench.data.split.table import SplitRow

# A turn that spreads the points of any number of seeds evenly (the golden ratio's fraction).
TURN = 0.6180339887498949


def draw_places(groups: Iterable[int], seed: int) -> dict[int, float]:
    """Return the place in [0, 1) of each duplicate group: evenly spaced, in random order."""
    known = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(known))
    return {group: float(place) / len(known) for group, place in zip(known, order, strict=True)}


def take(
    rows: Sequence[SplitRow], fraction: float, places: Mapping[int, float], seed: int
) -> list[SplitRow]:
    """Return a fraction of the images, as whole duplicate groups, class by class.

    A group is taken if the larger part of it lies within the fraction, so that a class is off by
    at most half a group; the first group of each class always is. A group of several classes counts
    as its commonest.

    Args:
        rows: the images of the train part.
        fraction: above 0, at most 1.
        places: of every group, from :func:`draw_places`.
        seed: of the training, which says where on the circle it begins.

    Returns:
        The taken rows, in their order.
    """
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for row in sorted(rows, key=lambda row: row.label):
        labels[row.group][row.label] += 1
    start = seed * TURN % 1.0
    order = sorted(labels, key=lambda group: ((places[group] - start) % 1.0, group))
    totals: Counter[str] = Counter()
    for found in labels.values():
        totals[found.most_common(1)[0][0]] += found.total()
    taken: set[int] = set()
    passed: Counter[str] = Counter()
    seen: set[str] = set()
    for group in order:
        found = labels[group]
        label, size = found.most_common(1)[0][0], found.total()
        if passed[label] + size / 2 <= fraction * totals[label] or not seen.issuperset(found):
            taken.add(group)
        passed[label] += size
        seen.update(found)
    return [row for row in rows if row.group in taken]
