"""Duplicate groups with their sizes and classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DuplicateGroups:
    """The G duplicate groups of N images.

    Attributes:
        numbers: (G,) int64, in ascending order.
        group_of: (N,) the index of the group of each image.
        sizes: (G,) images of each group.
        labels: (G,) the most frequent class index; of several, the lowest.
        most: (G,) images of that class.
        members: two arrays (P,): the index of a group and a class in it, for each such pair.
    """

    numbers: NDArray[np.int64]
    group_of: NDArray[np.intp]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    most: NDArray[np.int64]
    members: tuple[NDArray[np.int64], NDArray[np.int64]]


def count_groups(groups: NDArray[np.int64], labels: NDArray[np.int32]) -> DuplicateGroups:
    """Return the groups of N images.

    Args:
        groups: (N,) group number of each image.
        labels: (N,) class index of each image.
    """
    numbers, group_of = np.unique(groups, return_inverse=True)
    classes = int(labels.max(initial=0)) + 1
    pairs, counts = np.unique(group_of * classes + labels, return_counts=True)
    group, label = np.divmod(pairs, classes)
    # The first pair of each group has most images.
    order = np.lexsort((label, -counts, group))
    first = order[np.searchsorted(group, np.arange(len(numbers)))]
    sizes = np.bincount(group_of, minlength=len(numbers))
    return DuplicateGroups(numbers, group_of, sizes, label[first], counts[first], (group, label))
