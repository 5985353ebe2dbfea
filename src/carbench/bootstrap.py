"""Intervals of accuracy by resampling what could have been otherwise: the seeds and the test set.

A hierarchical bootstrap: each resample draws seeds with replacement and, apart from them, duplicate
groups of test pictures with replacement (pictures of one group are right or wrong together). All
backbones share the draws, which makes their differences paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resampled accuracies of backbones that were tested on the same pictures.

    Args:
        groups: (N,) the duplicate group of each test picture.
        seed_count: how many seeds each backbone has.
        resamples: how many resamples.
        seed: of the draws.
        confidence: of the intervals, such as 0.95.
    """

    def __init__(
        self,
        groups: NDArray[np.int64],
        seed_count: int,
        resamples: int,
        seed: int,
        confidence: float,
    ) -> None:
        dice = np.random.default_rng(seed)
        _, self._member_of = np.unique(groups, return_inverse=True)
        count = int(self._member_of.max()) + 1
        self._sizes = np.bincount(self._member_of, minlength=count)
        # How often each group and each seed is drawn in each resample.
        self._group_draws = dice.multinomial(count, np.full(count, 1 / count), resamples)
        self._seed_draws = dice.multinomial(
            seed_count, np.full(seed_count, 1 / seed_count), resamples
        )
        tail = (1 - confidence) / 2
        self._quantiles = (tail, 1 - tail)

    def accuracies(self, correct: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the accuracy in each resample, from (seeds, N) right or wrong."""
        right = np.stack([np.bincount(self._member_of, row, len(self._sizes)) for row in correct])
        pictures = self._group_draws @ self._sizes
        by_seed = (self._group_draws @ right.T) / pictures[:, None]
        weighted: NDArray[np.float64] = (by_seed * self._seed_draws).sum(axis=1)
        accuracies: NDArray[np.float64] = weighted / self._seed_draws.sum(axis=1)
        return accuracies

    def interval(self, value: float, resampled: NDArray[np.float64]) -> Interval:
        """Return the percentile interval around a value."""
        low, high = np.quantile(resampled, self._quantiles)
        return Interval(value, float(low), float(high))

    def accuracy_interval(
        self, correct: NDArray[np.bool_], resampled: NDArray[np.float64]
    ) -> Interval:
        """Return the mean accuracy of (seeds, N) right or wrong, with its interval.

        ``resampled`` is what :meth:`accuracies` gives for ``correct``.

        Where all is right, or all wrong, every resample is the same and would claim certainty.
        The exact bound of Clopper and Pearson (1934) takes its place, which for n of n right is
        ``tail ** (1 / n)``; n counts groups, as pictures of one group are one piece of evidence.
        """
        value = float(correct.mean())
        bound = float(self._quantiles[0] ** (1 / len(self._sizes)))
        if value == 1:
            return Interval(value, bound, 1.0)
        if value == 0:
            return Interval(value, 0.0, 1 - bound)
        return self.interval(value, resampled)
