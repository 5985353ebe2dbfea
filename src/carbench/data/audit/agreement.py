"""Agreement of two aligned images: the trimmed mean of the edge similarities of their blocks.

Edges are compared, not brightness: two different cars on white have most of their brightness in
common. Each block is scored separately, so that a banner or a watermark affects only the blocks
that it covers, and the worst blocks are left out of the mean. Blocks at the margin, where such
overlays are, have less weight than the middle, where the car is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCKS = 8  # per side
# Fraction of the blocks, by weight, in the mean: those that agree best.
KEPT_WEIGHT = 0.75
# Weights of blocks by their distance from the margin.
RING_WEIGHTS = (0.4, 0.9, 1.2, 1.2)
# With a smaller fraction of blocks in common, the agreement is 0.
MIN_OVERLAP = 0.5


def block_agreement(aligned: Floats, inside: Floats, fixed: Floats) -> Floats:
    """Return the agreement (P,) of pairs of aligned images: at most 1, and 0 without overlap.

    Args:
        aligned: (P, S, S) aligned images, S a multiple of BLOCKS.
        inside: (P, S, S) mask, 1 where ``aligned`` is valid.
        fixed: (P, S, S) images that they are compared with.

    The score of a block is the cosine similarity of its brightness gradients: 1 for the same edges,
    whatever their strength, about 0 for unrelated edges or edges in only one image. Its weight is
    the square root of the larger gradient norm: blocks with many edges have slightly more weight.
    """
    edges, edges_fixed = np.gradient(aligned, axis=(1, 2)), np.gradient(fixed, axis=(1, 2))
    own = _block_sums((edges[0] ** 2 + edges[1] ** 2) * inside)
    other = _block_sums((edges_fixed[0] ** 2 + edges_fixed[1] ** 2) * inside)
    common = _block_sums((edges[0] * edges_fixed[0] + edges[1] * edges_fixed[1]) * inside)
    valid = _block_sums(inside) > aligned.shape[1] ** 2 / BLOCKS**2 / 2

    agreement = common / np.sqrt(np.maximum(own * other, 1e-3))
    weight = np.sqrt(np.sqrt(np.maximum(own, other))) * valid * _prior_weights()
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)

    order = np.argsort(-agreement, axis=1, kind="stable")
    agreement, weight = (np.take_along_axis(each, order, 1) for each in (agreement, weight))
    before = np.cumsum(weight, axis=1) - weight
    counted = np.clip(KEPT_WEIGHT - before, 0, weight)
    mean = (counted * agreement).sum(1) / KEPT_WEIGHT
    return np.asarray(mean * (valid.mean(1) >= MIN_OVERLAP), np.float32)


def _block_sums(pixels: Floats) -> Floats:
    """Return sums over blocks, (P, BLOCKS**2)."""
    side = pixels.shape[1] // BLOCKS
    blocks = pixels.reshape(len(pixels), BLOCKS, side, BLOCKS, side)
    return np.asarray(blocks.sum((2, 4)).reshape(len(pixels), BLOCKS**2))


def _prior_weights() -> Floats:
    ring = np.minimum(np.arange(BLOCKS), np.arange(BLOCKS)[::-1])
    return np.asarray(RING_WEIGHTS, np.float32)[np.minimum.outer(ring, ring)].reshape(-1)
