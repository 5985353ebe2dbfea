"""Confidence intervals of fractions and of differences of fractions.

They account for the uncertainty of their variance: quantiles are Student's, with Satterthwaite's
degrees of freedom (Biometrics Bulletin 1946) for images and training runs together. The degrees of
freedom are at least those of the least certain component, where Satterthwaite's formula fails: it
was derived for sums, and the variance between training runs is a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from scipy.special import stdtr, stdtrit

from carbench.statistics.estimates import Estimate

# Lower bound of the variance, as a part of the image variance.
MIN_VARIANCE_SHARE = 0.05
# Pseudo-observations added to means of many training runs, whose variance is known less well than
# that of a single run; chosen by the simulation in docs/statistics.md.
PSEUDO_OBSERVATIONS = 0.2
# Tail probability of the 95 % intervals for which `training_part` is computed.
TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StandardError:
    """Standard error of an estimate and its degrees of freedom.

    Attributes:
        size: in the unit of the estimate.
        dof: degrees of freedom.
        training_part: part of the squared interval width that is due to the variance between
            training runs and to their small number.
    """

    size: float
    dof: float
    training_part: float

    def quantile(self, tail: float) -> float:
        """Return the upper ``tail`` quantile of Student's distribution."""
        return float(-stdtrit(self.dof, tail))

    def half_width(self, confidence: float) -> float:
        """Return half the width of Student's interval."""
        return self.quantile((1 - confidence) / 2) * self.size

    def p_value(self, difference: float) -> float:
        """Return the two-sided p-value of a difference."""
        return float(2 * self.cdf(-abs(difference)))

    def cdf(self, difference: float) -> float:
        """Return the probability of an error of at most ``difference``."""
        return float(stdtr(self.dof, difference / self.size))


def share_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a fraction, such as an accuracy, a recall or an F1.

    Wilson's interval (JASA 1927) with the effective sample size, at which a binomial fraction would
    have the variance of the estimate, as for complex surveys (Korn and Graubard, Survey Methodology
    1998; Dean and Pagano, Journal of Survey Statistics and Methodology 2015). It stays between 0
    and 1 and is asymmetric near them. If all predictions are correct or all are incorrect, the
    variance is zero, and the exact bound of Clopper and Pearson (Biometrika 1934) is used: ``tail
    ** (1 / n)`` for n of n correct, where n counts duplicate groups.
    """
    value, tail = estimate.value, (1 - confidence) / 2
    error = share_error(estimate)
    if estimate.image_variance == 0 or not 0 < value < 1:
        bound = tail ** (1 / estimate.groups)
        return Interval(value, value * bound, 1 - (1 - value) * bound)
    size = min(value * (1 - value) / error.size**2, estimate.groups * estimate.trainings)
    squared = error.quantile(tail) ** 2
    middle = (value + squared / (2 * size)) / (1 + squared / size)
    half = sqrt(squared * value * (1 - value) / size + (squared / (2 * size)) ** 2)
    half /= 1 + squared / size
    # Rounding may exceed 0 to 1 slightly.
    return Interval(value, max(middle - half, 0.0), min(middle + half, 1.0))


def share_error(estimate: Estimate) -> StandardError:
    """Return the standard error of a fraction."""
    return _error(estimate, PSEUDO_OBSERVATIONS * (1 - 1 / estimate.trainings))


def standard_error(estimate: Estimate) -> StandardError:
    """Return the standard error of a mean that is not a fraction, such as a loss."""
    return _error(estimate, 0.0)


def difference_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a difference of fractions measured on the same images."""
    return clip_interval(estimate.value, difference_error(estimate).half_width(confidence))


def clip_interval(difference: float, half: float) -> Interval:
    """Return a symmetric interval of a difference, clipped to -1 to 1."""
    return Interval(difference, max(difference - half, -1.0), min(difference + half, 1.0))


def difference_error(estimate: Estimate) -> StandardError:
    """Return the standard error of a difference of fractions measured on the same images.

    If the two differ on few images, the variance is uncertain, and if they differ on none, it would
    be zero. As proposed by Agresti and Min (Statistics in Medicine 2005) for matched pairs, half an
    image is added to each of the four cells correct/incorrect by correct/incorrect, for one of the
    training runs, so that the effect on the mean decreases with their number.
    """
    return _error(estimate, 1 / estimate.trainings)


def _error(estimate: Estimate, added: float) -> StandardError:
    """Return the error after adding ``added`` squared differences of one image."""
    groups = estimate.groups
    images = (estimate.image_variance * groups**2 + added) / (groups + 2 * added) ** 2
    variance = max(images + estimate.training_variance, MIN_VARIANCE_SHARE * images)
    between = float(estimate.training_variance_errors @ estimate.training_variance_errors)
    doubt = images**2 / max(groups - 1, 1) + between
    dof = variance**2 / doubt if doubt else 1.0
    if estimate.dof < inf:
        dof = max(dof, min(estimate.dof, groups - 1), 1.0)
    training_part = 0.0
    if variance:
        alone = images * float(stdtrit(max(groups - 1, 1), TAIL)) ** 2
        training_part = max(1 - alone / (variance * float(stdtrit(dof, TAIL)) ** 2), 0.0)
    return StandardError(sqrt(variance), dof, training_part)
