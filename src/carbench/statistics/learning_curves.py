"""Would more images help? The error against the number of training images, and continued.

Test and training errors fall with the number n of images as error = a + b * n ** -c over wide
ranges (Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017; Viering and Loog,
The Shape of Learning Curves, TPAMI 2023). A handful of fractions cannot tell the floor ``a`` from a
small exponent ``c``, and the two continue differently. So the floor is not fitted: it may be
anything between none and half of the error on all images, and the interval reaches from the
lowest to the highest end of those for either (what data do not identify is bounded, not guessed:
Imbens and Manski, Econometrica 2004). Each holds the doubts about val images and trainings.
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
from carbench.statistics.power_law import Laws, fit_law

# The floor, as a part of the error on all images: the least and the most that are thought of, and
# that of the estimate itself.
FLOORS, FLOOR = (0.0, 0.5), 0.25
# A law of two constants goes through any two points.
CONSTANTS = 2
FEWEST_POINTS = CONSTANTS + 1
UNLIKELY = 0.05  # of points on the law to lie so far off


@dataclass(frozen=True)
class CurvePoint:
    """The accuracy after training on so many images; ``fitted`` is what the law says of it."""

    fraction: float
    images: float
    accuracy: Interval
    fitted: float | None


@dataclass(frozen=True)
class Extrapolation:
    """What the law says of more images.

    Attributes:
        images: how many there would be.
        accuracy: with them.
        gain: over the law's accuracy with the images that there are.
        exponent: the c of the law.
        knows_trainings: whether the intervals hold how much trainings differ.
        fits: whether the points lie on the law as far as chance can tell; if not, the intervals are
            widened by how far they lie off.
    """

    images: float
    accuracy: Interval
    gain: Interval
    exponent: Interval
    includes_training_variance: bool
    fits: bool


@dataclass(frozen=True)
class LearningCurve:
    """The points of one backbone, and where they lead; or in ``reason`` why no one can say."""

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
    """Return the curve of one backbone and its continuation.

    The points inform each other about how much trainings differ, as the backbones of a study do.

    Args:
        scores: accuracies of the M points on the same images, all with the same trainings.
        fractions: of the train part, rising; the last is 1.
        images: (M,) how many images that is.
        factor: how many times as many images the curve is continued to.
        confidence: of the intervals.
    """
    named = {str(number): score for number, score in enumerate(scores)}
    estimates = list(estimate_jointly(named).values())
    accuracies = [share_interval(each, confidence) for each in estimates]
    reason = _reason(scores)
    extrapolation: Extrapolation | None = None
    fitted: Sequence[float | None] = [None] * len(scores)
    if not reason:
        errors = _errors(scores)
        law = _Continued(estimates, errors, np.asarray(images), factor, confidence)
        extrapolation, fitted = law.extrapolation(), law.fitted()
    points = [CurvePoint(*each) for each in zip(fractions, images, accuracies, fitted, strict=True)]
    return LearningCurve(points, extrapolation, reason)


def _errors(scores: Sequence[Score]) -> FloatArray:
    """Return (M,) the mean errors, half an image away from none and from all."""
    return np.array(
        [
            (float((1 - each.by_training) @ each.weights) + 0.5) / (each.weights.sum() + 1)
            for each in scores
        ]
    )


def _reason(scores: Sequence[Score]) -> str:
    """Return why the curve cannot be continued; empty if it can."""
    if len(scores) < FEWEST_POINTS:
        return f"it needs {FEWEST_POINTS} fractions, all images among them, not {len(scores)}"
    if all(score.by_training.min() == 1 for score in scores):
        return "no image was misclassified, so that there is no error left to reduce"
    return ""


class _Continued:
    """The law of one backbone.

    Args:
        estimates: the accuracies of the M points.
        errors: (M,).
        images: (M,).
        factor: how many times as many images are meant.
        confidence: of the intervals.
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
        self._misfit = self._scatter(least)

    def _scatter(self, least: float) -> float:
        """Return by how much the squares of the distances from the law are larger than by chance;
        1 if they are not, at 5 % (Birge, Physical Review 1932)."""
        groups = self._estimates[-1].groups
        covariance = self._changes.T @ self._changes * (groups - 1) / groups
        trainings = [max(each.training_variance, least) for each in self._estimates]
        distances = self._errors - (1 - np.array(self.fitted()))
        dof = len(distances) - CONSTANTS
        squares = distances @ np.linalg.solve(covariance + np.diag(trainings), distances)
        return float(squares / dof) if chi2.sf(squares, dof) < UNLIKELY else 1.0

    def fitted(self) -> list[float]:
        """Return the law's accuracies at the M points."""
        law = self._law(self._errors[None], FLOOR)
        return [float(1 - law.error(count)[0]) for count in self._images]

    def extrapolation(self) -> Extrapolation:
        """Return what the law says of more images."""
        last = float(self._images[-1])
        return Extrapolation(
            images=self._more,
            accuracy=self._interval(lambda law: 1 - law.error(self._more), 0.0, 1.0),
            gain=self._interval(lambda law: law.error(last) - law.error(self._more), -1.0, 1.0),
            exponent=self._interval(lambda law: law.exponent, -np.inf, np.inf),
            includes_training_variance=self._estimates[-1].includes_training_variance,
            fits=self._misfit == 1,
        )

    def _law(self, errors: FloatArray, floor: float) -> Laws:
        return fit_law(errors, self._images, self._weights, floor)

    def _interval(self, read: Callable[[Laws], FloatArray], low: float, high: float) -> Interval:
        """Return what is read of the law; from the lowest end to the highest of the floors."""
        value = float(read(self._law(self._errors[None], FLOOR))[0])
        ends = [value]
        for floor in FLOORS:
            estimate = self._estimate(read, floor)
            error = standard_error(estimate)
            half = error.quantile(self._tail) * error.size * sqrt(self._misfit)
            ends += [estimate.value - half, estimate.value + half]
        return Interval(value, max(min(ends), low), min(max(ends), high))

    def _estimate(self, read: Callable[[Laws], FloatArray], floor: float) -> Estimate:
        """Return what is read with one floor, and how it depends on images and trainings.

        The images' part is found by fitting the law again without each duplicate group, that of
        the trainings, which are independent from point to point, by the slopes (delta method).
        """

        def of(errors: FloatArray) -> FloatArray:
            return read(self._law(np.maximum(errors, 0.1 * self._errors), floor))

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
