"""Means over training runs, with their variance due to test images and to training.

The variance of a mean over S training runs has two parts. One is the error that the runs share
because they were tested on the same images: the covariance between runs, from the jackknife. The
other is the variance between the runs, divided by S. The second already includes the interaction of
run and image, which is therefore subtracted from the jackknife variance of the mean: the two-way
sum of Cameron, Gelbach and Miller (JBES 2011) and of Owen (Annals of Applied Statistics 2007).

Two or three runs give a poor estimate of the variance between runs. The backbones of a study
therefore share information, as genes do in limma (Smyth, Statistical Applications in Genetics and
Molecular Biology 2004): each variance is shrunk towards the common one, which has the weight of
``PRIOR_DOF`` degrees of freedom. limma estimates this weight from thousands of genes; a handful of
backbones is too few for that, and estimating it makes intervals too short (docs/statistics.md has
the simulation by which it was chosen). Variances are pooled in units of p (1 - p), as for binomial
variables: a backbone with 50 % accuracy varies more than one that is nearly always correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carbench.statistics.jackknife import FloatArray, jackknife_variance

# Weight of the pooled variance between training runs, in degrees of freedom.
PRIOR_DOF = 2.0
# Lower bound of the variance between training runs, as a part of the variance that the interaction
# with the images alone would cause.
MIN_RUN_VARIANCE = 0.25

# Accuracies that differ by less are equal up to rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over training runs and the components of its variance.

    Attributes:
        value: the estimate.
        deviations: (G,) its change when each duplicate group is left out.
        groups: number of duplicate groups it depends on.
        trainings: number of training runs it is a mean of.
        includes_training_variance: whether at least two runs were tested on the same images; if
            not, the variance between runs is unknown, and the error is due to test images only.
        training_variance: what the variance between runs adds to the image variance; negative if
            the runs differ less than their interaction with the images would make them.
        training_variance_errors: (D,) uncertainty of this variance by source: the squared relative
            standard errors are two divided by the degrees of freedom. Jointly made estimates have
            the same sources.
        dof: degrees of freedom of the variance between runs; infinite if unknown.
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
        """Variance due to the sampling of test images."""
        return float(jackknife_variance(self.deviations, self.groups))

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference to a jointly made estimate; its error is zero for the same one."""
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
    """A statistic of every training run of one backbone, with its leave-one-group-out values.

    Attributes:
        by_training: (S,) the statistic of each run.
        left_out: (G, S) the same without each duplicate group; nan where it is undefined.
        weights: (S,) weights of the mean, such as the number of test images of each run; 0 excludes
            a run.
        strata: (S,) runs tested on the same images have equal numbers. Differences between strata
            (folds) are also due to images and do not estimate the variance between runs.
        groups: number of duplicate groups the statistic depends on.
        is_share: whether it is a fraction, so that its variance depends on its value.
        splits: (S,) the split of each run; None if there is only one.
    """

    by_training: FloatArray
    left_out: FloatArray
    weights: FloatArray
    strata: NDArray[np.int64]
    groups: int
    is_share: bool = True
    splits: NDArray[np.int64] | None = None

    def deviations(self) -> FloatArray:
        """Return (G, S) changes of the included runs when each group is left out."""
        kept = self.weights > 0
        return np.nan_to_num(self.left_out[:, kept] - self.by_training[kept])

    def minus(self, other: Score) -> Score:
        """Return the difference to another statistic of the same training runs."""
        return replace(
            self,
            by_training=self.by_training - other.by_training,
            left_out=self.left_out - other.left_out,
            groups=min(self.groups, other.groups),
            is_share=False,
        )

    def by_split(self) -> Score:
        """Return the same statistic with one value per split: the mean of its training runs.

        Runs on one split share the effect of the split, so the splits are the independent units,
        not the runs (Searle, Casella and McCulloch, Variance Components, 1992, section 3.1). All
        are in one stratum: the jackknife estimates how much different test images contribute.
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
class _RunVariance:
    """Variance between the training runs of one backbone.

    Attributes:
        dof: degrees of freedom; 0 with a single run on the same images.
        mean_square: between runs.
        by_images: its expectation if the runs differed only by their interaction with the images.
        unit: unit in which the excess over that is pooled.
        scale: factor by which it enters the variance of the mean.
    """

    dof: int
    mean_square: float
    by_images: float
    unit: float
    scale: float


def estimate(score: Score) -> Estimate:
    """Return the mean over the training runs of a single backbone."""
    return estimate_jointly({"": score})[""]


def estimate_jointly(
    scores: Mapping[str, Score], prior_dof: float = PRIOR_DOF
) -> dict[str, Estimate]:
    """Return the mean over the training runs of each backbone, with pooled variances.

    Args:
        scores: one statistic of every backbone, on the same images.
        prior_dof: weight of the pooled variance: 0 disables pooling, infinity uses only the pooled
            variance.
    """
    scores = {name: score.by_split() for name, score in scores.items()}
    means = {name: _mean(score) for name, score in scores.items()}
    run_variances = {name: _run_variance(score, means[name][0]) for name, score in scores.items()}
    known = [name for name, run_variance in run_variances.items() if run_variance.dof]
    dof = np.array([run_variances[name].dof for name in known], float)
    pooled = 0.0
    if known:
        above = [run_variances[name].mean_square - run_variances[name].by_images for name in known]
        units = [run_variances[name].unit for name in known]
        pooled = float(dof @ above / (dof @ units))
    estimates = {}
    for name, score in scores.items():
        value, deviations = means[name]
        run_variance = run_variances[name]
        variance, errors, own_dof = 0.0, np.zeros(2 * len(known)), np.inf
        if run_variance.dof:
            own_weight = run_variance.dof / (prior_dof + run_variance.dof)
            weights = dof / dof.sum() * (1 - own_weight)
            weights[known.index(name)] += own_weight
            least = MIN_RUN_VARIANCE * run_variance.by_images
            expected = max(pooled * run_variance.unit + run_variance.by_images, least)
            shrunk = max((1 - own_weight) * expected + own_weight * run_variance.mean_square, least)
            own_dof = min(prior_dof + run_variance.dof, dof.sum())
            # The uncertainty is shared with other backbones to the extent that their runs enter
            # both variances; the rest is this backbone's deviation from the pooled variance.
            shared = weights / np.sqrt(dof)
            rest = np.zeros(len(known))
            rest[known.index(name)] = np.sqrt(max(1 / own_dof - shared @ shared, 0.0))
            variance = (shrunk - run_variance.by_images) * run_variance.scale
            errors = np.concatenate([shared, rest]) * shrunk * run_variance.scale
        estimates[name] = Estimate(
            value=value,
            deviations=deviations,
            groups=score.groups,
            trainings=int((score.weights > 0).sum()),
            includes_training_variance=run_variance.dof > 0,
            training_variance=variance,
            training_variance_errors=errors,
            dof=float(own_dof),
        )
    return estimates


def _mean(score: Score) -> tuple[float, FloatArray]:
    """Return the mean over training runs, and (G,) its change without each group."""
    kept = score.weights > 0
    shares = score.weights[kept] / score.weights.sum()
    return float(score.by_training[kept] @ shares), score.deviations() @ shares


def _run_variance(score: Score, value: float) -> _RunVariance:
    kept = score.weights > 0
    values, strata = score.by_training[kept], score.strata[kept]
    shares = score.weights[kept] / score.weights.sum()
    dof = len(values) - len(np.unique(strata))
    if not dof:
        return _RunVariance(0, 0.0, 0.0, 1.0, 0.0)
    unit = 1.0
    if score.is_share:
        # As if one more group were correct and one incorrect, so that 0 and 1 have a variance.
        share = (value * score.groups + 1) / (score.groups + 2)
        unit = share * (1 - share)
    by_images = _within(score.deviations(), strata).sum() * (score.groups - 1) / score.groups
    return _RunVariance(
        dof,
        mean_square=float(_within(values[None], strata)[0]) / dof,
        by_images=float(by_images) / dof,
        unit=unit,
        scale=float((shares**2).sum()),
    )


def _within(rows: FloatArray, strata: NDArray[np.int64]) -> FloatArray:
    """Return, for every row of (R, S), the sum of squares around the mean of each stratum."""
    squares = np.zeros(len(rows))
    for name in np.unique(strata):
        own = rows[:, strata == name]
        squares += ((own - own.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return squares
