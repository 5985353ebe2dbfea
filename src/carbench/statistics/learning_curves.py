"""Learning curves: error versus number of training images, and its extrapolation.

Test and training errors fall with the number n of images as error = a + b * n ** -c over wide
ranges (Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017; Viering and Loog,
The Shape of Learning Curves, TPAMI 2023). A handful of fractions cannot distinguish an asymptote
``a`` from a small exponent ``c``, and the two extrapolate differently. The asymptote is therefore
not fitted: it may be anything from zero to half of the error on all images, and the interval is the
union of the intervals at these two extremes (a parameter that is not identified is bounded: Imbens
and Manski, Econometrica 2004). Each accounts for the sampling of val images and for the variance
between training runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import chi2

from carbench.statistics.confidence_intervals import Interval, share_interval, standard_error
from carbench.statistics.estimates import Estimate, Score, estimate_jointly
from carbench.statistics.jackknife import FloatArray
from carbench.statistics.power_law import PowerLaws, fit_power_laws

# The asymptote as a part of the error on all images: its bounds, and its value for the estimate.
ASYMPTOTE_BOUNDS, ASYMPTOTE = (0.0, 0.5), 0.25
# Fitted parameters of the power law; fewer points would be fitted exactly.
PARAMETERS = 2
FEWEST_POINTS = PARAMETERS + 1
LACK_OF_FIT = 0.05  # significance level of the lack-of-fit test


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy after training on a number of images; ``fitted`` is that of the power law."""

    fraction: float
    images: float
    accuracy: Interval
    fitted: float | None


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolation to more images.

    Attributes:
        images: number of images.
        accuracy: expected accuracy with them.
        gain: accuracy gained over the law's accuracy with the present images.
        exponent: the exponent c of the law.
        includes_training_variance: whether the intervals include the variance between training
            runs.
        fits: whether the points agree with the law; if not, the intervals are widened accordingly.
    """

    images: float
    accuracy: Interval
    gain: Interval
    exponent: Interval
    includes_training_variance: bool
    fits: bool


@dataclass(frozen=True)
class LearningCurve:
    """The points of one backbone and their extrapolation, or in ``reason`` why there is none."""

    points: list[CurvePoint]
    extrapolation: Extrapolation | None
    reason: str


def fit_learning_curve(
    scores: Sequence[Score],
    fractions: Sequence[float],
    images: Sequence[float],
    factor: float,
    confidence: float,
) -> LearningCurve:
    """Return the learning curve of one backbone and its extrapolation.

    The variance between training runs is pooled over the points.

    Args:
        scores: accuracies of the M points on the same val images, with the same seeds.
        fractions: fractions of the training set, ascending; the last is 1.
        images: (M,) numbers of training images.
        factor: the curve is extrapolated to this many times the images.
        confidence: confidence level of the intervals.
    """
    named = {str(number): score for number, score in enumerate(scores)}
    estimates = list(estimate_jointly(named).values())
    accuracies = [share_interval(each, confidence) for each in estimates]
    reason = _reason(scores)
    extrapolation: Extrapolation | None = None
    fitted: Sequence[float | None] = [None] * len(scores)
    if not reason:
        errors = _errors(scores)
        law = _PowerLawFit(estimates, errors, np.asarray(images), factor, confidence)
        extrapolation, fitted = law.extrapolation(), law.fitted()
    points = [CurvePoint(*each) for each in zip(fractions, images, accuracies, fitted, strict=True)]
    return LearningCurve(points, extrapolation, reason)


def _errors(scores: Sequence[Score]) -> FloatArray:
    """Return (M,) mean error rates, shrunk by half an image from 0 and 1."""
    return np.array(
        [
            (float((1 - each.by_training) @ each.weights) + 0.5) / (each.weights.sum() + 1)
            for each in scores
        ]
    )


def _reason(scores: Sequence[Score]) -> str:
    """Return why the curve cannot be extrapolated; empty if it can."""
    if len(scores) < FEWEST_POINTS:
        return f"it needs {FEWEST_POINTS} fractions including all images, not {len(scores)}"
    if all(score.by_training.min() == 1 for score in scores):
        return "no image was misclassified, so there is no error left to reduce"
    return ""


class _PowerLawFit:
    """Fits the power law of one backbone and extrapolates it.

    Args:
        estimates: accuracies of the M points.
        errors: (M,) error rates.
        images: (M,) numbers of training images.
        factor: extrapolate to this many times the images.
        confidence: confidence level of the intervals.
    """

    def __init__(
        self,
        estimates: Sequence[Estimate],
        errors: FloatArray,
        images: FloatArray,
        factor: float,
        confidence: float,
    ) -> None:
        self._estimates, self._errors, self._images = estimates, errors, images
        self._more, self._tail = float(images[-1] * factor), (1 - confidence) / 2
        self._changes = -np.stack([each.deviations for each in estimates], axis=1)
        variances = [standard_error(each).size ** 2 for each in estimates]
        least = (1 / (estimates[-1].groups + 1)) ** 2
        self._weights = 1 / np.maximum(variances, least)
        self._misfit = self._lack_of_fit(least)

    def _lack_of_fit(self, least: float) -> float:
        """Return the reduced chi-squared of the fit if it is significantly large, else 1.

        It is the Birge ratio (Physical Review 1932), squared.
        """
        groups = self._estimates[-1].groups
        covariance = self._changes.T @ self._changes * (groups - 1) / groups
        trainings = [max(each.training_variance, least) for each in self._estimates]
        distances = self._errors - (1 - np.array(self.fitted()))
        dof = len(distances) - PARAMETERS
        squares = distances @ np.linalg.solve(covariance + np.diag(trainings), distances)
        return float(squares / dof) if chi2.sf(squares, dof) < LACK_OF_FIT else 1.0

    def fitted(self) -> list[float]:
        """Return the fitted accuracies at the M points."""
        law = self._law(self._errors[None], ASYMPTOTE)
        return [float(1 - law.error(count)[0]) for count in self._images]

    def extrapolation(self) -> Extrapolation:
        """Return the extrapolation to more images."""
        last = float(self._images[-1])
        return Extrapolation(
            images=self._more,
            accuracy=self._interval(lambda law: 1 - law.error(self._more), 0.0, 1.0),
            gain=self._interval(lambda law: law.error(last) - law.error(self._more), -1.0, 1.0),
            exponent=self._interval(lambda law: law.exponent, -np.inf, np.inf),
            includes_training_variance=self._estimates[-1].includes_training_variance,
            fits=self._misfit == 1,
        )

    def _law(self, errors: FloatArray, asymptote: float) -> PowerLaws:
        return fit_power_laws(errors, self._images, self._weights, asymptote)

    def _interval(
        self, quantity: Callable[[PowerLaws], FloatArray], low: float, high: float
    ) -> Interval:
        """Return a quantity of the law with the union of its intervals at both asymptote bounds."""
        value = float(quantity(self._law(self._errors[None], ASYMPTOTE))[0])
        ends = [value]
        for asymptote in ASYMPTOTE_BOUNDS:
            estimate = self._estimate(quantity, asymptote)
            error = standard_error(estimate)
            half = error.quantile(self._tail) * error.size * sqrt(self._misfit)
            ends += [estimate.value - half, estimate.value + half]
        return Interval(value, max(min(ends), low), min(max(ends), high))

    def _estimate(self, quantity: Callable[[PowerLaws], FloatArray], asymptote: float) -> Estimate:
        """Return a quantity of the law for one asymptote, with its variance components.

        The image variance comes from refitting the law without each duplicate group; that of the
        training runs, which are independent between points, from the delta method.
        """

        def of(errors: FloatArray) -> FloatArray:
            return quantity(self._law(np.maximum(errors, 0.1 * self._errors), asymptote))

        value = of(self._errors[None])
        step = 0.01 * self._errors * np.eye(len(self._errors))
        slopes = (of(self._errors + step) - of(self._errors - step)) / (0.02 * self._errors)
        parts = list(zip(self._estimates, slopes**2, strict=True))
        return Estimate(
            value=float(value[0]),
            deviations=of(self._errors + self._changes) - value,
            groups=self._estimates[-1].groups,
            trainings=self._estimates[-1].trainings,
            includes_training_variance=self._estimates[-1].includes_training_variance,
            training_variance=sum(each.training_variance * slope for each, slope in parts),
            training_variance_errors=np.sum(
                [each.training_variance_errors * slope for each, slope in parts], axis=0
            ),
            dof=min(each.dof for each in self._estimates),
        )
