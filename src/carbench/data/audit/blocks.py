"""How well two images agree, block by block, when one lies over the other.

What is compared are edges and not shades: two different cars on white have most of their shades in
common. Each block of the image is judged by itself, so that a banner or a watermark spoils the
blocks that it covers and no others, and the worst are left out of the mean. Blocks at the margin,
where such things are put, count less than the middle, where the car is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCKS = 8  # a side
# Of the blocks, by weight, so much counts: those that agree best.
COUNTED = 0.75
# Weights of blocks by their distance to the margin.
FROM_MARGIN = (0.4, 0.9, 1.2, 1.2)
# Less than this part of all blocks in common is no evidence.
OVERLAP = 0.5


def block_agreement(seen: Floats, inside: Floats, fixed: Floats) -> Floats:
    """Return the agreement (P,) of pairs of images: at most 1, and 0 if there is none to judge.

    Args:
        seen: (P, S, S) images, S a multiple of BLOCKS.
        inside: (P, S, S) 1 where they are seen, or 0.
        fixed: (P, S, S) the images that they lie over.

    A block agrees by the cosine of its brightness gradients: 1 for the same edges, however strong,
    and about 0 for unrelated ones or for edges in one of the two alone. Its weight is the root
    of the longer of the two: busy blocks count more than quiet ones, but not by much.
    """
    edges, edges_fixed = np.gradient(seen, axis=(1, 2)), np.gradient(fixed, axis=(1, 2))
    own = _sums((edges[0] ** 2 + edges[1] ** 2) * inside)
    other = _sums((edges_fixed[0] ** 2 + edges_fixed[1] ** 2) * inside)
    common = _sums((edges[0] * edges_fixed[0] + edges[1] * edges_fixed[1]) * inside)
    judged = _sums(inside) > seen.shape[1] ** 2 / BLOCKS**2 / 2

    agreement = common / np.sqrt(np.maximum(own * other, 1e-3))
    weight = np.sqrt(np.sqrt(np.maximum(own, other))) * judged * _prior()
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)

    order = np.argsort(-agreement, axis=1, kind="stable")
    agreement, weight = (np.take_along_axis(each, order, 1) for each in (agreement, weight))
    before = np.cumsum(weight, axis=1) - weight
    counted = np.clip(COUNTED - before, 0, weight)
    mean = (counted * agreement).sum(1) / COUNTED
    return np.asarray(mean * (judged.mean(1) >= OVERLAP), np.float32)


def _sums(pixels: Floats) -> Floats:
    """Sums over the blocks: (P, BLOCKS**2)."""
    side = pixels.shape[1] // BLOCKS
    blocks = pixels.reshape(len(pixels), BLOCKS, side, BLOCKS, side)
    return np.asarray(blocks.sum((2, 4)).reshape(len(pixels), BLOCKS**2))


def _prior() -> Floats:
    ring = np.minimum(np.arange(BLOCKS), np.arange(BLOCKS)[::-1])
    return np.asarray(FROM_MARGIN, np.float32)[np.minimum.outer(ring, ring)].reshape(-1)
