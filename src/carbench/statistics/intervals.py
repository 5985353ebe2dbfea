"""Intervals from estimates: of shares between 0 and 1, and of differences.

Both widen with the doubt of their variance: quantiles are Student's, with Satterthwaite's degrees
of freedom (Biometrics Bulletin 1946) from pictures and trainings together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtr, stdtrit

from carbench.statistics.bootstrap import Estimate


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StandardError:
    """Standard error of an estimate, and the degrees of freedom in which it is known."""

    size: float
    freedom: float

    def quantile(self, tail: float) -> float:
        """Return how many standard errors leave ``tail`` of Student's distribution beyond them."""
        return float(-stdtrit(self.freedom, tail))

    def p_value(self, difference: float) -> float:
        """Return how probable at least this difference, of either sign, is where there is none."""
        return float(2 * stdtr(self.freedom, -abs(difference) / self.size))


def share_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a share, such as an accuracy, a recall or an F1.

    Wilson's interval (JASA 1927) with the sample size that would give a binomial share the variance
    of the estimate, as for complex surveys (Korn and Graubard, Survey Methodology 1998; Dean and
    Pagano, Journal of Survey Statistics and Methodology 2015). It stays between 0 and 1, and bends
    where a share comes near them. Where all is right or all is wrong no variance shows: the exact
    bound of Clopper and Pearson (Biometrika 1934) takes its place, which for n of n right is ``tail
    ** (1 / n)``; n counts groups, as pictures of one group are one piece of evidence.
    """
    value, tail = estimate.value, (1 - confidence) / 2
    error = _error(estimate, estimate.picture_variance)
    if error.size == 0 or not 0 < value < 1:
        bound = tail ** (1 / estimate.groups)
        return Interval(value, value * bound, 1 - (1 - value) * bound)
    size = min(value * (1 - value) / error.size**2, estimate.groups * estimate.trainings)
    squared = error.quantile(tail) ** 2
    middle = (value + squared / (2 * size)) / (1 + squared / size)
    half = sqrt(squared * value * (1 - value) / size + (squared / (2 * size)) ** 2)
    half /= 1 + squared / size
    return Interval(value, middle - half, middle + half)


def difference_interval(estimate: Estimate, confidence: float) -> Interval:
    """Return the interval of a difference of shares that were measured on the same pictures."""
    error = difference_error(estimate)
    half = error.quantile((1 - confidence) / 2) * error.size
    return Interval(estimate.value, estimate.value - half, estimate.value + half)


def difference_error(estimate: Estimate) -> StandardError:
    """Return the error of a difference of shares that were measured on the same pictures.

    Where two differ on few pictures the variance is known badly, and where they differ on none it
    would be zero. As Agresti and Min (Statistics in Medicine 2005) do for matched pairs, it is
    taken as if half a picture had been added to each of the four cells right/wrong by right/wrong.
    """
    groups = estimate.groups
    pictures = (estimate.picture_variance * groups**2 + 1) / (groups + 2) ** 2
    return _error(estimate, pictures)


def _error(estimate: Estimate, picture_variance: float) -> StandardError:
    variance = picture_variance + estimate.training_variance
    doubt = picture_variance**2 / max(estimate.groups - 1, 1) + estimate.training_doubt
    return StandardError(sqrt(variance), variance**2 / doubt if doubt else 1.0)
