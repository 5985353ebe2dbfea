"""Leave-one-group-out jackknife over duplicate groups.

A statistic is recomputed without each duplicate group in turn; the variation of these values
estimates its variance (Tukey 1958; Efron and Stein, Annals of Statistics 1981). Predictions for the
images of one group are correlated, so that a group counts as one observation (Field and Welsh, JRSS
B 2007). All backbones and statistics leave out the same groups, so that differences are paired.

For the smooth statistics used here, the bootstrap would estimate the same variance with additional
Monte Carlo error; with the jackknife, the same predictions always give the same result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Groups:
    """The duplicate groups of a set of N images.

    Args:
        numbers: (N,) group number of each image.
        splits: (S,) split of each training run evaluated on these images; None if there is one.

    Attributes:
        numbers, splits: the arguments.
        order: (N,) image indices sorted by group.
        starts: (G,) first position of each group in ``order``.
    """

    def __init__(self, numbers: NDArray[np.int64], splits: NDArray[np.int64] | None = None) -> None:
        self.numbers = numbers
        self.splits = splits
        self.order = np.argsort(numbers, kind="stable")
        self.starts = np.unique(numbers[self.order], return_index=True)[1]

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, columns: NDArray[np.bool_] | FloatArray) -> FloatArray:
        """Return (G, ...) sums over the images of each group, from (N, ...) columns."""
        ordered = columns[self.order].astype(np.float64)
        return np.asarray(np.add.reduceat(ordered, self.starts, axis=0), np.float64)

    def count(self, images: NDArray[np.bool_]) -> int:
        """Return the number of groups among the images selected by an (N,) mask."""
        return int(np.logical_or.reduceat(images[self.order], self.starts).sum())


def jackknife_variance(deviations: FloatArray, groups: int) -> FloatArray:
    """Return the jackknife variance of a statistic.

    Args:
        deviations: (G, ...) leave-one-group-out values minus the statistic.
        groups: number of groups the statistic depends on; the others do not change it.

    Returns:
        (...) variances; 0 for one group, whose variance is unknown.
    """
    return np.asarray((deviations**2).sum(axis=0) * (groups - 1) / groups, np.float64)
