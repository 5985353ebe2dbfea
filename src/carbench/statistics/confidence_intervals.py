"""Intervals from estimates: of shares between 0 and 1, and of differences.

Both widen with the doubt of their variance: quantiles are Student's, with Satterthwaite's degrees
of freedom (Biometrics Bulletin 1946) from images and trainings together. The degrees of freedom
are never fewer than those of the part that is known worst, where Satterthwaite's formula fails: it
was made for sums, and the variance between trainings is a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from scipy.special import stdtr, stdtrit

from carbench.statistics.estimates import Estimate

# A variance is at least this part of the images' part, however alike the trainings are.
MIN_VARIANCE_SHARE = 0.05
# Of images that are added to a mean of many trainings, whose variance is known worse than a
# single one's: chosen by the simulation in docs/statistics.md.
ADDED = 0.2
# Of the intervals of which the part that comes from trainings is told: 95 %.
TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StandardError:
    """Standard error of an estimate, and the degrees of freedom in which it is known.

    Attributes:
        size: in the unit of the estimate.
        freedom: degrees of freedom.
        training_part: the part of the squared width of an interval that comes from trainings: from
            how far they differ, and from how little so few of them tell about that.
    """

    size: float
    dof: float
    training_part: float

    def quantile(self, tail: float) -> float:
        """Return how many standard errors leave ``tail`` of Student's distribution beyond them."""
        return float(-stdtrit(self.dof, tail))

    def half_width(self, confidence: float) -> float:
        """Return how far an interval of Student's reaches to either side."""
        return self.quantile((1 - confidence) / 2) * self.size

    def p_value(self, difference: float) -> float:
        """Return how probable at least this difference, of either sign, is where there is none."""
        return float(2 * self.below(-abs(difference)))

    def below(self, difference: float) -> float:
        """Return how probable an error of at most ``difference`` is."""
        return float(stdtr(self.dof, difference / self.size))


def share_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a share, such as an accuracy, a recall or an F1.

    Wilson's interval (JASA 1927) with the sample size that would give a binomial share the variance
    of the estimate, as for complex surveys (Korn and Graubard, Survey Methodology 1998; Dean and
    Pagano, Journal of Survey Statistics and Methodology 2015). It stays between 0 and 1, and bends
    where a share comes near them. Where all is right or all is wrong no variance shows: the exact
    bound of Clopper and Pearson (Biometrika 1934) takes its place, which for n of n right is ``tail
    ** (1 / n)``; n counts groups, as images of one group are one piece of evidence.
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
    # Rounding may leave 0 to 1 by a hair.
    return Interval(value, max(middle - half, 0.0), min(middle + half, 1.0))


def share_error(estimate: Estimate) -> StandardError:
    """Return the error of a share."""
    return _error(estimate, ADDED * (1 - 1 / estimate.trainings))


def standard_error(estimate: Estimate) -> StandardError:
    """Return the error of a mean that is no share, such as a loss."""
    return _error(estimate, 0.0)


def difference_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a difference of shares that were measured on the same images."""
    return around(estimate.value, difference_error(estimate).half_width(confidence))


def around(difference: float, half: float) -> Interval:
    """Return the interval of a difference of shares, which lies between -1 and 1."""
    return Interval(difference, max(difference - half, -1.0), min(difference + half, 1.0))


def difference_error(estimate: Estimate) -> StandardError:
    """Return the error of a difference of shares that were measured on the same images.

    Where two differ on few images the variance is known badly, and where they differ on none it
    would be zero. As Agresti and Min (Statistics in Medicine 2005) do for matched pairs, it is
    taken as if half an image had been added to each of the four cells right/wrong by right/wrong;
    by one training of several, so that it weighs as much less in their mean.
    """
    return _error(estimate, 1 / estimate.trainings)


def _error(estimate: Estimate, added: float) -> StandardError:
    """Return the error, with ``added`` squared differences of an image in the images' part."""
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
