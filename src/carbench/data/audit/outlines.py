"""Describes a thumbnail by its outlines: which edges run which way, and where, roughly.

A histogram of gradients (Dalal & Triggs, "Histograms of oriented gradients for human detection",
CVPR 2005) over few large cells, overlapping, changes little where an image is cropped, turned by a
few degrees, recoloured or written over, and much from one image to the next.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)

CELLS = 6  # a side
DIRECTIONS = 8  # of edges; an edge from dark to bright and one from bright to dark count the same
LENGTH = CELLS * CELLS * DIRECTIONS
MARGIN = 0.2  # of a side
# Codes are whole numbers, so that their products do not depend on the order of summation:
# LENGTH * SHARPEST**2 < 2**24, up to which float32 counts exactly.
SHARPEST = 127


def outlines(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the outlines (N, LENGTH) of square thumbnails (N, S, S)."""
    images = thumbnails.astype(np.float32)
    down, across = np.gradient(images, axis=(1, 2))
    # Towards the margin, where banners, frames and the corners of a turned image are, less.
    near = _margin(thumbnails.shape[1])
    strength = np.hypot(down, across) * near[:, None] * near
    direction = (np.arctan2(down, across) % np.pi) * (DIRECTIONS / np.pi)
    pool = _cells(thumbnails.shape[1])
    histograms = np.empty((len(images), DIRECTIONS, CELLS, CELLS), np.float32)
    for number in range(DIRECTIONS):
        off = np.abs(direction - number)
        share = np.maximum(0, 1 - np.minimum(off, DIRECTIONS - off))
        histograms[:, number] = pool @ (share * strength) @ pool.T
    # The root keeps a few hard edges (writing, a frame) from outweighing the rest.
    return np.sqrt(histograms.reshape(-1, LENGTH))


def mirrored(descriptions: NDArray[Number]) -> NDArray[Number]:
    """Return the outlines or codes (N, LENGTH) of the same images flipped left to right."""
    histograms = descriptions.reshape(-1, DIRECTIONS, CELLS, CELLS)
    turned = [0, *range(DIRECTIONS - 1, 0, -1)]
    return histograms[:, turned, :, ::-1].reshape(-1, LENGTH)


def coded(descriptions: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return outlines (N, LENGTH) less what is common to all, as codes.

    What nearly all images of a set have in common (a car in the middle) says nothing about two.
    """
    common = descriptions.mean(0, dtype=np.float64)
    # The same for an image and its mirror image.
    common = (common + mirrored(common[None])[0]) / 2
    own = descriptions - common.astype(np.float32)
    most = np.abs(own).max(1, initial=0, keepdims=True)
    return np.asarray(np.round(own * (SHARPEST / np.maximum(most, 1e-6))), np.int8)


def _margin(size: int) -> Floats:
    """Weights (size,) of pixels: 1 but for the margins, where they fall towards 0."""
    from_margin = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.asarray(np.minimum(1, from_margin / (MARGIN * size)), np.float32)


def _cells(size: int) -> Floats:
    """Weights (CELLS, size) with which pixels count for cells: overlapping triangles."""
    at = (np.arange(size) + 0.5) * (CELLS / size) - 0.5
    weights = np.maximum(0, 1 - np.abs(at - np.arange(CELLS)[:, None]))
    weights[0, at < 0] = weights[-1, at > CELLS - 1] = 1
    return np.asarray(weights, np.float32)
