"""Power laws of the error rate versus the number of training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carbench.statistics.jackknife import FloatArray


@dataclass(frozen=True)
class PowerLaws:
    """R laws error(n) = asymptote + exp(intercept) * n ** -exponent; each attribute is (R,)."""

    asymptote: FloatArray
    intercept: FloatArray
    exponent: FloatArray

    def error(self, images: float) -> FloatArray:
        """Return (R,) error rates for a number of images."""
        errors: FloatArray = self.asymptote + np.exp(
            self.intercept - self.exponent * np.log(images)
        )
        return errors


def fit_power_laws(
    errors: FloatArray, images: FloatArray, weights: FloatArray, asymptote_share: float
) -> PowerLaws:
    """Fit R power laws by weighted least squares on logarithms.

    Args:
        errors: (R, M) error rates.
        images: (M,) numbers of images.
        weights: (M,) inverse variances of the errors.
        asymptote_share: asymptote as a part of each last error, below 1.
    """
    asymptote = asymptote_share * errors[:, -1]
    # An earlier error may be below the asymptote, which depends on the last one.
    above = np.maximum(errors - asymptote[:, None], 0.05 * errors)
    log_errors = np.log(above)
    weight = weights * above**2  # inverse variance of the logarithm
    weight = weight / weight.sum(axis=1, keepdims=True)
    log_images = np.log(images)
    mean_log_images, mean_log_error = weight @ log_images, (weight * log_errors).sum(axis=1)
    deviations = log_images - mean_log_images[:, None]
    slope = (weight * deviations * log_errors).sum(axis=1) / (weight * deviations**2).sum(axis=1)
    return PowerLaws(asymptote, mean_log_error - slope * mean_log_images, -slope)
