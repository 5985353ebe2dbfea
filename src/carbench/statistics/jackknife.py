"""How much a statistic depends on its images: the jackknife over duplicate groups.

A statistic is computed again without each duplicate group in turn; how far these values lie apart
tells its variance (Tukey 1958; Efron and Stein, Annals of Statistics 1981). Images of one group
are right or wrong together and are one piece of evidence (Field and Welsh, JRSS B 2007). All
backbones and all statistics leave out the same groups, which makes their differences paired.

The bootstrap would tell the same variance of the smooth statistics used here, but for the luck of
its draws: with a jackknife the same predictions always give the same verdict.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Groups:
    """The duplicate groups of a set of N images.

    Args:
        numbers: (N,) the group of each image.
        splits: (S,) which split each training was made on that is judged by these images; None
            where there is one for all.

    Attributes:
        numbers, splits: the same.
        order: (N,) the images, group by group.
        starts: (G,) where each group begins in ``order``.
    """

    def __init__(self, numbers: NDArray[np.int64], splits: NDArray[np.int64] | None = None) -> None:
        self.numbers = numbers
        self.splits = splits
        self.order = np.argsort(numbers, kind="stable")
        self.starts = np.unique(numbers[self.order], return_index=True)[1]

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, columns: NDArray[np.bool_] | FloatArray) -> FloatArray:
        """Return (G, ...) the sum over the images of each group, from (N, ...) columns."""
        ordered = columns[self.order].astype(np.float64)
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=0), np.float64)

    def count(self, images: NDArray[np.bool_]) -> int:
        """Return how many groups the images belong to that (N,) marks."""
        return len(np.unique(self.numbers[images]))


def jackknife_variance(deviations: FloatArray, groups: int) -> FloatArray:
    """Return the variance of a statistic, from its changes where a group is left out.

    Args:
        deviations: (G, ...) the statistic without each group, minus the statistic.
        groups: of how many groups the statistic consists; the others do not change it.

    Returns:
        (...) variances; 0 for one group, whose variance is unknown.
    """
    return np.asarray((deviations**2).sum(axis=0) * (groups - 1) / groups, np.float64)
