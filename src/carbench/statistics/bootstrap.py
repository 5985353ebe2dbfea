"""Estimates with the two doubts they carry: other test pictures, and another training.

The test pictures are resampled by duplicate group (pictures of one group are one piece of evidence;
Field and Welsh, JRSS B 2007). All backbones, classes and metrics share the draws, which makes their
differences paired.

Trainings are not resampled as they are, for two reasons. Drawing n of n seeds with replacement
gives a variance too small by (n - 1) / n (Rao and Wu, JASA 1988), which halves it for two seeds.
And the accuracies of two seeds differ by the luck of the pictures, too, which the resampled
pictures already hold: counting it twice makes intervals too wide (Owen, Annals of Applied
Statistics 2007; Davison and Hinkley, Bootstrap Methods, 1997, section 3.8). So the variance between
trainings is estimated without bias and freed from the variance that the same resamples show to come
from pictures, the difference of variance components that Cameron, Gelbach and Miller (JBES 2011)
take for errors clustered in two directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# Resamples in work at once: bounds the memory for large test sets.
CHUNK = 256


class Bootstrap:
    """Resamples of the duplicate groups of a set of pictures.

    Args:
        groups: (N,) the duplicate group of each picture.
        resamples: how many resamples.
        seed: of the draws.
    """

    def __init__(self, groups: NDArray[np.int64], resamples: int, seed: int) -> None:
        dice = np.random.default_rng(seed)
        self.groups = groups
        self._order = np.argsort(groups, kind="stable")
        _, self._starts = np.unique(groups[self._order], return_index=True)
        count = len(self._starts)
        # How often each group is drawn in each resample; one byte holds any count that occurs.
        self._draws = np.stack(
            [
                np.bincount(dice.integers(count, size=count), minlength=count).astype(np.uint8)
                for _ in range(resamples)
            ]
        )

    def totals(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums over the pictures of each resample, (R, ...), from (N, ...) counts.

        Single precision: counts are exact up to 16 million.
        """
        flat = columns.reshape(len(columns), -1)[self._order]
        by_group = np.add.reduceat(flat, self._starts, axis=0)
        totals = np.empty((len(self._draws), by_group.shape[1]), np.float32)
        for start in range(0, len(totals), CHUNK):
            part = slice(start, start + CHUNK)
            totals[part] = self._draws[part].astype(np.float32) @ by_group
        return totals.reshape(len(totals), *columns.shape[1:])


@dataclass(frozen=True)
class Estimate:
    """A mean over trainings, and what is known of its error.

    Attributes:
        value: the estimate.
        deviations: (R,) from ``value``, of each resample of the pictures.
        groups: how many duplicate groups bear on it.
        trainings: how many trainings it is a mean of.
        knows_trainings: whether any two of them were tested on the same pictures; if not, nothing
            tells how much trainings differ, and the error is that of other pictures alone.
        training_variance: the part of its variance that other trainings would make.
        training_doubt: of that part, variance squared by degrees of freedom, for Satterthwaite.
    """

    value: float
    deviations: Numbers
    groups: int
    trainings: int
    knows_trainings: bool
    training_variance: float
    training_doubt: float

    @property
    def picture_variance(self) -> float:
        """The part of the variance that other test pictures would make, for few groups unbiased."""
        return float(self.deviations.var()) * self.groups / max(self.groups - 1, 1)

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference to an estimate of other trainings on the same pictures."""
        return Estimate(
            self.value - other.value,
            self.deviations - other.deviations,
            min(self.groups, other.groups),
            min(self.trainings, other.trainings),
            self.knows_trainings and other.knows_trainings,
            self.training_variance + other.training_variance,
            self.training_doubt + other.training_doubt,
        )


@dataclass(frozen=True)
class Score:
    """A statistic of every training of one backbone, as measured and as resampled.

    Attributes:
        by_training: (S,) the statistic of each training.
        resampled: (R, S) the same in each resample of the pictures; nan where it has no meaning.
        weights: (S,) of the mean, such as the number of pictures that each training was tested on;
            0 leaves a training out.
        strata: (S,) trainings tested on the same pictures have equal numbers. What differs between
            strata (folds) differs by pictures, too, and says nothing of trainings.
        groups: how many duplicate groups bear on the statistic.
    """

    by_training: Numbers
    resampled: Numbers
    weights: Numbers
    strata: NDArray[np.int64]
    groups: int

    def minus(self, other: Score) -> Score:
        """Return the difference to another statistic of the same trainings."""
        return replace(
            self,
            by_training=self.by_training - other.by_training,
            resampled=self.resampled - other.resampled,
            groups=min(self.groups, other.groups),
        )

    def estimate(self) -> Estimate:
        """Return the mean over the trainings, with what is known of its error."""
        kept = self.weights > 0
        values, strata = self.by_training[kept], self.strata[kept]
        shares = self.weights[kept] / self.weights.sum()
        deviations = np.nan_to_num(self.resampled[:, kept] - values)
        freedom = len(values) - len(np.unique(strata))
        spread = noise = 0.0
        if freedom:
            spread = float(_within(values[None], strata)[0]) / freedom
            noise = float(_within(deviations, strata).mean()) / freedom
            noise *= self.groups / max(self.groups - 1, 1)
        between = max(spread - noise, 0.0)
        scale = float((shares**2).sum())
        return Estimate(
            value=float(values @ shares),
            deviations=deviations @ shares,
            groups=self.groups,
            trainings=len(values),
            knows_trainings=freedom > 0,
            training_variance=between * scale,
            training_doubt=(spread * scale) ** 2 / freedom if between else 0.0,
        )


def _within(rows: Numbers, strata: NDArray[np.int64]) -> Numbers:
    """Return the sum of squares around the mean of each stratum, of every row of (R, S)."""
    squares = np.zeros(len(rows))
    for name in np.unique(strata):
        own = rows[:, strata == name]
        squares += ((own - own.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return squares
