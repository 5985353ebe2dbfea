"""HOG descriptors: which edge directions an image has, and roughly where.

A histogram of oriented gradients (Dalal & Triggs, "Histograms of oriented gradients for human
detection", CVPR 2005) over a few large overlapping cells changes little when an image is cropped,
rotated by a few degrees, recoloured or overlaid with text, but differs much between images.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)

CELLS = 6  # per side
DIRECTIONS = 8  # of edges, unsigned: dark to bright is the same as bright to dark
DESCRIPTOR_LENGTH = CELLS * CELLS * DIRECTIONS
MARGIN = 0.2  # fraction of a side
# Codes are integers, so that their dot products do not depend on the order of summation:
# LENGTH * SHARPEST**2 < 2**24, up to which float32 is exact.
MAX_CODE = 127


def hog_descriptors(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the descriptors (N, DESCRIPTOR_LENGTH) of square thumbnails (N, S, S)."""
    images = thumbnails.astype(np.float32)
    down, across = np.gradient(images, axis=(1, 2))
    # Less weight at the margin, where banners, frames and the corners of rotated images are.
    near = _margin_weights(thumbnails.shape[1])
    strength = np.hypot(down, across) * near[:, None] * near
    direction = (np.arctan2(down, across) % np.pi) * (DIRECTIONS / np.pi)
    pool = _cell_weights(thumbnails.shape[1])
    histograms = np.empty((len(images), DIRECTIONS, CELLS, CELLS), np.float32)
    for number in range(DIRECTIONS):
        off = np.abs(direction - number)
        share = np.maximum(0, 1 - np.minimum(off, DIRECTIONS - off))
        histograms[:, number] = pool @ (share * strength) @ pool.T
    # The square root keeps a few strong edges (text, a frame) from dominating.
    return np.sqrt(histograms.reshape(-1, DESCRIPTOR_LENGTH))


def mirror_descriptors(descriptions: NDArray[Number]) -> NDArray[Number]:
    """Return the descriptors or codes (N, DESCRIPTOR_LENGTH) of the horizontally flipped images."""
    histograms = descriptions.reshape(-1, DIRECTIONS, CELLS, CELLS)
    turned = [0, *range(DIRECTIONS - 1, 0, -1)]
    return histograms[:, turned, :, ::-1].reshape(-1, DESCRIPTOR_LENGTH)


def quantize_descriptors(descriptions: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return descriptors (N, DESCRIPTOR_LENGTH) less their mean, as 8-bit codes.

    What nearly all images have in common, such as a car in the middle, does not help to match two.
    """
    common = descriptions.mean(0, dtype=np.float64)
    # Symmetric, so that an image and its mirror image are treated alike.
    common = (common + mirror_descriptors(common[None])[0]) / 2
    own = descriptions - common.astype(np.float32)
    most = np.abs(own).max(1, initial=0, keepdims=True)
    return np.asarray(np.round(own * (MAX_CODE / np.maximum(most, 1e-6))), np.int8)


def _margin_weights(size: int) -> Floats:
    """Return weights (size,) of pixels: 1, falling towards 0 at the margins."""
    from_margin = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.asarray(np.minimum(1, from_margin / (MARGIN * size)), np.float32)


def _cell_weights(size: int) -> Floats:
    """Return the weights (CELLS, size) of pixels in cells: overlapping triangles."""
    at = (np.arange(size) + 0.5) * (CELLS / size) - 0.5
    weights = np.maximum(0, 1 - np.abs(at - np.arange(CELLS)[:, None]))
    weights[0, at < 0] = weights[-1, at > CELLS - 1] = 1
    return np.asarray(weights, np.float32)
