"""Nested subsets of the training set, in whole duplicate groups.

Each duplicate group has a position on a circle, and each seed a starting point. From there, the
groups of a class are selected in order until the fraction is reached. A larger fraction contains
the smaller ones of the same seed; other seeds select other groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.columns import floats, integers
from carbench.core.tables import damaged, read_chunks, write_table
from carbench.data.split.groups import count_groups
from carbench.data.split.table import SplitRows

# Its fractional part spaces the starting points of any number of seeds evenly.
GOLDEN_RATIO = 0.6180339887498949
COLUMNS = ("group", "place")


@dataclass(frozen=True)
class GroupPositions:
    """Positions of duplicate groups on the circle.

    Attributes:
        groups: (G,) int64, in ascending order.
        places: (G,) float64 in [0, 1).
    """

    groups: NDArray[np.int64]
    places: NDArray[np.float64]


def draw_positions(groups: NDArray[np.int64], seed: int) -> GroupPositions:
    """Return the position of each of the duplicate groups (N,): evenly spaced, in random order."""
    distinct = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(distinct))
    return GroupPositions(distinct, order / max(len(distinct), 1))


def write_positions(path: Path, positions: GroupPositions) -> None:
    """Write order.csv."""
    rows = zip(positions.groups.tolist(), positions.places.tolist(), strict=True)
    write_table(path, COLUMNS, ({"group": group, "place": f"{place:.9g}"} for group, place in rows))


def read_positions(path: Path) -> GroupPositions:
    """Read order.csv."""
    chunks = [
        (integers(groups, path, "group"), floats(places, path, "place"))
        for groups, places in read_chunks(path, COLUMNS)
    ]
    if not chunks:
        raise damaged(path, "no duplicate groups")
    groups, places = zip(*chunks, strict=True)
    return GroupPositions(np.concatenate(groups), np.concatenate(places))


def select_subset(
    rows: SplitRows, fraction: float, positions: GroupPositions, seed: int
) -> NDArray[np.intp]:
    """Return the indices of a fraction of the images, in whole duplicate groups, class by class.

    A group is selected if more than half of it is within the fraction, so that the size of a class
    is off by at most half a group; the first group of each class is always selected. A group of
    several classes counts as its most frequent class.

    Args:
        rows: the training images.
        fraction: above 0, at most 1.
        positions: position of each group, from :func:`draw_positions`.
        seed: seed of the training run, which sets the starting point.

    Returns:
        Indices in ascending order.
    """
    groups = count_groups(rows.groups, rows.labels)
    places = positions.places[np.searchsorted(positions.groups, groups.numbers)]
    start = seed * GOLDEN_RATIO % 1.0
    order = np.lexsort((groups.numbers, (places - start) % 1.0))
    rank = np.argsort(order)

    # The images of a group's class in the groups before it: class by class, in order.
    totals = np.bincount(groups.labels, groups.sizes, len(rows.classes))
    by_class = order[np.argsort(groups.labels[order], kind="stable")]
    sizes, labels = groups.sizes[by_class], groups.labels[by_class]
    passed = np.cumsum(sizes) - sizes - (np.cumsum(totals) - totals)[labels]
    selected = np.zeros(len(order), bool)
    selected[by_class] = passed + sizes / 2 <= fraction * totals[labels]

    # The first group with each class.
    members, classes = groups.members
    first = np.full(len(rows.classes), len(order))
    np.minimum.at(first, classes, rank[members])
    selected[order[first[first < len(order)]]] = True
    return np.flatnonzero(selected[groups.group_of])
