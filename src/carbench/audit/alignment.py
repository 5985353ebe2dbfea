"""Lays one thumbnail over another and says how well their edges agree.

A crop shifts and stretches a picture: its pixels no longer lie over the original's, and the
correlation of the two falls to that of unrelated pictures. Shift and stretch are therefore
estimated first, by Gauss-Newton steps on the difference of the thumbnails (Lucas & Kanade, "An
iterative image registration technique", IJCAI 1981; with gain and offset as in Baker & Matthews,
"Lucas-Kanade 20 years on", IJCV 2004), coarse to fine. What is then compared are edges and not
shades: two different cars on white have most of their shades in common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

COARSE_STEPS = 3
FINE_STEPS = 2
# Shift and stretch stay within this part of half a side.
MOST = np.float32(0.2)
# Correlations below which a pair is given up: after the first coarse step, after the last. Of 400
# copies of real pictures cropped by 10 % two or three were below, of strangers most.
EARLY, COARSE = 0.72, 0.88


def edge_agreement(moving: NDArray[np.uint8], fixed: NDArray[np.uint8]) -> Floats:
    """Return how well the edges of pairs of pictures agree, once the first is laid over the second.

    Args:
        moving: (P, S, S) grey thumbnails, S even.
        fixed: (P, S, S), the pictures that they are compared with.

    Returns:
        (P,) correlations of the brightness gradients where the two overlap, at most 1; 0 for a
        pair that was given up, and if a picture has no edges.
    """
    agreement = np.zeros(len(moving), np.float32)
    pairs = np.arange(len(moving))
    window = np.zeros((len(moving), 4), np.float32)
    half, half_fixed = _halved(moving), _halved(fixed)
    for step in range(COARSE_STEPS):
        window = _step(half[pairs], half_fixed[pairs], window)
        if step == 0:
            pairs, window = _likely(half, half_fixed, pairs, window, EARLY)
    pairs, window = _likely(half, half_fixed, pairs, window, COARSE)
    still, laid_on = moving[pairs].astype(np.float32), fixed[pairs].astype(np.float32)
    for _ in range(FINE_STEPS):
        window = _step(still, laid_on, window)
    seen, inside = _seen_through(still, window)
    edges, edges_fixed = (_gradient(picture) * inside[:, None] for picture in (seen, laid_on))
    agreement[pairs] = _cosine(edges, edges_fixed)
    return agreement


def _likely(
    moving: Floats, fixed: Floats, pairs: Indices, window: Floats, least: float
) -> tuple[Indices, Floats]:
    """Drop the pairs whose pictures correlate too little through the windows found so far."""
    seen, inside = _seen_through(moving[pairs], window)
    kept = _cosine(_centred(seen, inside), _centred(fixed[pairs], inside)) >= least
    return pairs[kept], window[kept]


def _step(moving: Floats, fixed: Floats, window: Floats) -> Floats:
    """Improve the windows once: least squares of what a small change of them would add.

    A window (P, 4) is shift and stretch of x, then of y, where a side runs from -1 to 1.
    """
    count, size = len(moving), moving.shape[1]
    seen, inside = _seen_through(moving, window)
    seen, target = _unit(_centred(seen, inside)), _unit(_centred(fixed, inside))
    at = _places(size)
    down, across = np.moveaxis(_gradient(seen), 1, 0) * np.float32(size / 2)
    terms = (across, across * at, down, down * at[:, None], seen, np.ones_like(seen))
    basis = (np.stack(terms, 1) * inside[:, None]).reshape(count, len(terms), size**2)
    squared = basis @ basis.transpose(0, 2, 1)
    # A little damping: along a straight edge there is nothing to hold a shift.
    damping = 1e-4 * np.trace(squared, axis1=1, axis2=2) / len(terms) + 1e-6
    squared += damping[:, None, None] * np.eye(len(terms), dtype=np.float32)
    change = np.linalg.solve(squared, basis @ (target - seen).reshape(count, size**2, 1))
    return np.clip(window + change[:, :4, 0], -MOST, MOST)


def _seen_through(pictures: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Return pictures (P, S, S) as seen through windows, and 1 where they are seen at all, or 0."""
    size = pictures.shape[1]
    at = _places(size)
    # Shift and stretch are separate in x and y: two matrices interpolate, (P, 2, S, S).
    points = window[:, 0::2, None] + (1 + window[:, 1::2, None]) * at
    pixels = np.clip((points + 1) * (size / 2) - 0.5, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(pixels[..., None] - np.arange(size, dtype=np.float32)))
    inside = np.asarray(np.abs(points) <= 1, np.float32)
    seen = weights[:, 1] @ pictures @ weights[:, 0].transpose(0, 2, 1)
    return seen.astype(np.float32), inside[:, 1, :, None] * inside[:, 0, None, :]


def _places(size: int) -> Floats:
    """Centres of the pixels of a side that runs from -1 to 1."""
    return np.asarray((np.arange(size) + 0.5) * (2 / size) - 1, np.float32)


def _gradient(pictures: Floats) -> Floats:
    """Brightness per pixel, downwards and across: (P, 2, S, S)."""
    down, across = np.gradient(pictures, axis=(1, 2))
    return np.stack((down, across), 1)


def _centred(pictures: Floats, inside: Floats) -> Floats:
    """Pictures less their mean where they are seen, and 0 elsewhere."""
    mean = (pictures * inside).sum((1, 2)) / inside.sum((1, 2))
    return np.asarray((pictures - mean[:, None, None]) * inside)


def _unit(pictures: Floats) -> Floats:
    lengths = np.sqrt((pictures**2).sum((1, 2)))
    return np.asarray(pictures / np.maximum(lengths, 1e-6)[:, None, None])


def _cosine(first: Floats, second: Floats) -> Floats:
    pixels = tuple(range(1, first.ndim))
    lengths = np.sqrt((first**2).sum(pixels) * (second**2).sum(pixels))
    return np.asarray((first * second).sum(pixels) / np.maximum(lengths, 1e-6), np.float32)


def _halved(pictures: NDArray[np.uint8]) -> Floats:
    half = pictures.shape[1] // 2
    blocks = pictures.reshape(len(pictures), half, 2, half, 2)
    return np.asarray(blocks.mean((2, 4), dtype=np.float32))
