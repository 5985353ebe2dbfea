"""Means over trainings, and the two doubts they carry: other test images, another training.

The variance of a mean over S trainings has two parts. One is what the trainings' errors have in
common because they were tested on the same images: the covariance between trainings, from the
jackknife. The other is how much the trainings' values differ, by S. The second already holds the
luck that each training has with each image, so that the jackknife's variance of the mean is freed
from it: the two-way sum of Cameron, Gelbach and Miller (JBES 2011) and of Owen (Annals of Applied
Statistics 2007).

Two or three trainings tell very little about how much trainings differ. So the backbones of a study
inform each other, as genes do in limma (Smyth, Statistical Applications in Genetics and Molecular
Biology 2004): each variance is drawn towards the common one, with the weight of ``PRIOR_DOF``
degrees of freedom. limma estimates this weight from thousands of genes; a handful of backbones
cannot tell it, and to estimate it all the same makes intervals too short (docs/statistics.md has
the simulation that chose it). Variances are common in parts of p (1 - p), as a binomial variance
is: a backbone that is right in half of the cases varies more than one that is nearly always right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carbench.statistics.jackknife import FloatArray, jackknife_variance

# How much a backbone's own variance between trainings is worth beside the common one, in degrees
# of freedom of the common one.
PRIOR_DOF = 2.0
# Trainings that happen to lie together are held to differ by at least this part of what their luck
# with the images alone would make them differ.
LEAST_SPREAD = 0.25

# Accuracies are sums of shares: two that differ by less are equal, but for rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over trainings, and what is known of its error.

    Attributes:
        value: the estimate.
        deviations: (G,) its change where each duplicate group is left out.
        groups: how many duplicate groups bear on it.
        trainings: how many trainings it is a mean of.
        knows_trainings: whether any two of them were tested on the same images; if not, nothing
            tells how much trainings differ, and the error is that of other images alone.
        training_variance: what the differences between trainings add to the images' part of its
            variance; negative where they differ less than their luck with the images would make
            them.
        training_doubts: (D,) how uncertain this variance is, source by source: its relative
            standard errors squared are two by degrees of freedom. Estimates of one family have the
            same sources.
        freedom: degrees of freedom of the variance between trainings; infinite if unknown.
    """

    value: float
    deviations: FloatArray
    groups: int
    trainings: int
    includes_training_variance: bool
    training_variance: float
    training_variance_errors: FloatArray
    dof: float

    @property
    def image_variance(self) -> float:
        """The part of the variance that other test images would make."""
        return float(jackknife_variance(self.deviations, self.groups))

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference to an estimate of the same family; none to itself."""
        same = self is other
        return Estimate(
            self.value - other.value,
            self.deviations - other.deviations,
            min(self.groups, other.groups),
            min(self.trainings, other.trainings),
            self.includes_training_variance and other.includes_training_variance,
            0.0 if same else self.training_variance + other.training_variance,
            (0.0 if same else 1.0)
            * (self.training_variance_errors + other.training_variance_errors),
            np.inf if same else min(self.dof, other.dof),
        )


@dataclass(frozen=True)
class Score:
    """A statistic of every training of one backbone, as measured and without each group.

    Attributes:
        by_training: (S,) the statistic of each training.
        left_out: (G, S) the same without each duplicate group; nan where it has no meaning.
        weights: (S,) of the mean, such as the number of images that each training was tested on;
            0 leaves a training out.
        strata: (S,) trainings tested on the same images have equal numbers. What differs between
            strata (folds) differs by images, too, and says nothing of trainings.
        groups: how many duplicate groups bear on the statistic.
        is_share: whether it lies between 0 and 1, so that its spread depends on its value.
        splits: (S,) which split each training was made on; None if all were made on one.
    """

    by_training: FloatArray
    left_out: FloatArray
    weights: FloatArray
    strata: NDArray[np.int64]
    groups: int
    is_share: bool = True
    splits: NDArray[np.int64] | None = None

    def deviations(self) -> FloatArray:
        """Return (G, S) the changes of the trainings that count, where each group is left out."""
        kept = self.weights > 0
        return np.nan_to_num(self.left_out[:, kept] - self.by_training[kept])

    def minus(self, other: Score) -> Score:
        """Return the difference to another statistic of the same trainings."""
        return replace(
            self,
            by_training=self.by_training - other.by_training,
            left_out=self.left_out - other.left_out,
            groups=min(self.groups, other.groups),
            is_share=False,
        )

    def by_split(self) -> Score:
        """Return the same statistic with one training a split: the mean of the split's.

        Trainings on one split are alike in what the split made of them, so that the splits, not the
        trainings, are what could have come out otherwise (Searle, Casella and McCulloch, Variance
        Components, 1992, section 3.1). All stand in one stratum: where their test images differ,
        the jackknife shows how much that makes them differ.
        """
        if self.splits is None:
            return self
        shares = (self.splits == np.unique(self.splits)[:, None]) * self.weights
        weights = shares.sum(axis=1)
        shares = shares / np.maximum(weights, np.finfo(np.float64).tiny)[:, None]
        values = np.nan_to_num(self.by_training)
        deviations = np.nan_to_num(self.left_out - self.by_training)
        return replace(
            self,
            by_training=shares @ values,
            left_out=(values + deviations) @ shares.T,
            weights=weights,
            strata=np.zeros(len(weights), np.int64),
            splits=None,
        )


@dataclass(frozen=True)
class _Spread:
    """How much the trainings of one backbone differ.

    Attributes:
        freedom: degrees of freedom; 0 with a single training on the same images.
        found: the mean square between trainings.
        by_images: what it would be if only their luck with the images differed.
        unit: what the part above that is measured in.
        scale: by what it enters the variance of the mean.
    """

    dof: int
    found: float
    by_images: float
    unit: float
    scale: float


def estimate(score: Score) -> Estimate:
    """Return the mean over the trainings of a backbone that stands alone."""
    return estimate_jointly({"": score})[""]


def estimate_jointly(
    scores: Mapping[str, Score], prior_dof: float = PRIOR_DOF
) -> dict[str, Estimate]:
    """Return the mean over the trainings of each of a family of backbones.

    Args:
        scores: one statistic of every backbone, on the same images.
        prior_freedom: the weight of the common variance: 0 leaves each its own, infinity none.
    """
    scores = {name: score.by_split() for name, score in scores.items()}
    means = {name: _mean(score) for name, score in scores.items()}
    spreads = {name: _spread(score, means[name][0]) for name, score in scores.items()}
    known = [name for name, spread in spreads.items() if spread.dof]
    dof = np.array([spreads[name].dof for name in known], float)
    common = 0.0
    if known:
        above = [spreads[name].found - spreads[name].by_images for name in known]
        units = [spreads[name].unit for name in known]
        common = float(dof @ above / (dof @ units))
    estimates = {}
    for name, score in scores.items():
        value, deviations = means[name]
        spread = spreads[name]
        variance, doubts, own_freedom = 0.0, np.zeros(2 * len(known)), np.inf
        if spread.dof:
            own_part = spread.dof / (prior_dof + spread.dof)
            weights = dof / dof.sum() * (1 - own_part)
            weights[known.index(name)] += own_part
            least = LEAST_SPREAD * spread.by_images
            expected = max(common * spread.unit + spread.by_images, least)
            drawn = max((1 - own_part) * expected + own_part * spread.found, least)
            own_freedom = min(prior_dof + spread.dof, dof.sum())
            # Shared with other backbones as far as their trainings are in both variances; the rest
            # is that this backbone may differ from what is common.
            shared = weights / np.sqrt(dof)
            rest = np.zeros(len(known))
            rest[known.index(name)] = np.sqrt(max(1 / own_freedom - shared @ shared, 0.0))
            variance = (drawn - spread.by_images) * spread.scale
            doubts = np.concatenate([shared, rest]) * drawn * spread.scale
        estimates[name] = Estimate(
            value=value,
            deviations=deviations,
            groups=score.groups,
            trainings=int((score.weights > 0).sum()),
            includes_training_variance=spread.dof > 0,
            training_variance=variance,
            training_variance_errors=doubts,
            dof=float(own_freedom),
        )
    return estimates


def _mean(score: Score) -> tuple[float, FloatArray]:
    """Return the mean over trainings, and (G,) its change without each group."""
    kept = score.weights > 0
    shares = score.weights[kept] / score.weights.sum()
    return float(score.by_training[kept] @ shares), score.deviations() @ shares


def _spread(score: Score, value: float) -> _Spread:
    kept = score.weights > 0
    values, strata = score.by_training[kept], score.strata[kept]
    shares = score.weights[kept] / score.weights.sum()
    dof = len(values) - len(np.unique(strata))
    if not dof:
        return _Spread(0, 0.0, 0.0, 1.0, 0.0)
    unit = 1.0
    if score.is_share:
        # As if one more group had been right and one wrong: 0 and 1 are known no better than that.
        share = (value * score.groups + 1) / (score.groups + 2)
        unit = share * (1 - share)
    by_images = _within(score.deviations(), strata).sum() * (score.groups - 1) / score.groups
    return _Spread(
        dof,
        found=float(_within(values[None], strata)[0]) / dof,
        by_images=float(by_images) / dof,
        unit=unit,
        scale=float((shares**2).sum()),
    )


def _within(rows: FloatArray, strata: NDArray[np.int64]) -> FloatArray:
    """Return the sum of squares around the mean of each stratum, of every row of (R, S)."""
    squares = np.zeros(len(rows))
    for name in np.unique(strata):
        own = rows[:, strata == name]
        squares += ((own - own.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return squares
