"""The law by which errors fall with the number of training images, fitted to a few points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carbench.statistics.jackknife import FloatArray


@dataclass(frozen=True)
class Laws:
    """R laws error(n) = floor + exp(intercept) * n ** -exponent; each attribute is (R,)."""

    floor: FloatArray
    intercept: FloatArray
    exponent: FloatArray

    def error(self, images: float) -> FloatArray:
        """Return (R,) the errors with so many images."""
        errors: FloatArray = self.floor + np.exp(self.intercept - self.exponent * np.log(images))
        return errors


def fit_law(
    errors: FloatArray, images: FloatArray, weights: FloatArray, floor_share: float
) -> Laws:
    """Fit the law by weighted least squares of the logarithms.

    Args:
        errors: (R, M) R sets of errors.
        images: (M,) numbers of images.
        weights: (M,) inverse variances of the errors.
        floor_share: the floor as a part of each set's last error, below 1.
    """
    floor = floor_share * errors[:, -1]
    # An earlier error may have come out below the floor of a later one.
    above = np.maximum(errors - floor[:, None], 0.05 * errors)
    heights = np.log(above)
    weight = weights * above**2  # of a logarithm
    weight = weight / weight.sum(axis=1, keepdims=True)
    place = np.log(images)
    middle, height = weight @ place, (weight * heights).sum(axis=1)
    away = place - middle[:, None]
    slope = (weight * away * heights).sum(axis=1) / (weight * away**2).sum(axis=1)
    return Laws(floor, height - slope * middle, -slope)
