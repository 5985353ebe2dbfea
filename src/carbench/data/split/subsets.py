"""Nested subsets of the training set, in whole duplicate groups.

Each duplicate group has a position on a circle, and each seed a starting point. From there, the
groups of a class are selected in order until the fraction is reached. A larger fraction contains
the smaller ones of the same seed; other seeds select other groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from carbench.data.split.table import SplitRow

# Its fractional part spaces the starting points of any number of seeds evenly.
GOLDEN_RATIO = 0.6180339887498949


def draw_positions(groups: Iterable[int], seed: int) -> dict[int, float]:
    """Return the position in [0, 1) of each duplicate group: evenly spaced, in random order."""
    distinct = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(distinct))
    return {
        group: float(position) / len(distinct)
        for group, position in zip(distinct, order, strict=True)
    }


def select_subset(
    rows: Sequence[SplitRow], fraction: float, positions: Mapping[int, float], seed: int
) -> list[SplitRow]:
    """Return a fraction of the images, in whole duplicate groups, class by class.

    A group is selected if more than half of it is within the fraction, so that the size of a class
    is off by at most half a group; the first group of each class is always selected. A group of
    several classes counts as its most frequent class.

    Args:
        rows: the training images.
        fraction: above 0, at most 1.
        positions: position of each group, from :func:`draw_positions`.
        seed: seed of the training run, which sets the starting point.

    Returns:
        The selected rows, in their order.
    """
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for row in sorted(rows, key=lambda row: row.label):
        labels[row.group][row.label] += 1
    start = seed * GOLDEN_RATIO % 1.0
    order = sorted(labels, key=lambda group: ((positions[group] - start) % 1.0, group))
    totals: Counter[str] = Counter()
    for counts in labels.values():
        totals[counts.most_common(1)[0][0]] += counts.total()
    selected: set[int] = set()
    passed: Counter[str] = Counter()
    seen: set[str] = set()
    for group in order:
        counts = labels[group]
        label, size = counts.most_common(1)[0][0], counts.total()
        if passed[label] + size / 2 <= fraction * totals[label] or not seen.issuperset(counts):
            selected.add(group)
        passed[label] += size
        seen.update(counts)
    return [row for row in rows if row.group in selected]
