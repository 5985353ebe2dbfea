"""Simple image statistics for drift monitoring: they change when cameras or lighting change.

They are computed from the resized image (the model input) and do not depend on other images. 0.1 ms
for 56 x 56 pixels, 0.5 ms for 224 x 224.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IMAGE_STATISTICS = ("brightness", "contrast", "saturation", "sharpness")
# Weights of red, green and blue in the luma (ITU-R BT.601, as in JPEG), from bytes to 0..1.
LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)


def image_statistics(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return IMAGE_STATISTICS in that order, each (N,), of images (N, S, S, 3).

    ``brightness`` and ``contrast`` are the mean and standard deviation of the luma (0 to 1);
    ``saturation`` is the mean of the largest minus the smallest of the three channels, 0 to 1;
    ``sharpness`` is in radians per pixel (:func:`_sharpness`).
    """
    # One image at a time stays in the processor's cache.
    measured = [_measure(image) for image in pixels]
    columns = np.array(measured, np.float64).reshape(-1, len(IMAGE_STATISTICS)).T
    return dict(zip(IMAGE_STATISTICS, columns.copy(), strict=True))


def _measure(image: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Return the statistics of (S, S, 3)."""
    luma = image @ LUMA
    # Separate planes: numpy is twenty times slower for the extremes of three adjacent values.
    red, green, blue = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float(luma.mean()), float(luma.std()), float(chroma.mean()) / 255, _sharpness(luma)


def _sharpness(luma: NDArray[np.float32]) -> float:
    """Return the root of the mean squared Laplacian over the mean squared gradient of (S, S).

    By Parseval's theorem this is the root mean square frequency of the gradient: the mobility of
    Hjorth (Electroencephalography and Clinical Neurophysiology 1970) in two dimensions. Less light
    or contrast scales both and leaves the ratio unchanged, whereas the variance of the Laplacian,
    the usual measure of blur (Pech-Pacheco et al., ICPR 2000), decreases with both. The Laplacian
    relative to the variance of the luma depends more on the content of the image than on focus.
    0 for an image of a single colour.
    """
    across, down = luma[:, 1:] - luma[:, :-1], luma[1:] - luma[:-1]
    laplacian = (across[1:-1, 1:] - across[1:-1, :-1]) + (down[1:, 1:-1] - down[:-1, 1:-1])
    gradient = np.square(across).mean() + np.square(down).mean()
    return float(np.sqrt(np.square(laplacian).mean() / gradient)) if gradient > 0 else 0.0
