"""Aligns one thumbnail with another by an affine transform and measures their agreement.

A crop, a border or a rotation by a few degrees moves the pixels of an image, and its correlation
with the original falls to that of unrelated images. Translation, scale, shear and rotation are
therefore estimated first, by Gauss-Newton steps on the difference of the thumbnails (Lucas &
Kanade, "An iterative image registration technique", IJCAI 1981; with gain and offset as in Baker &
Matthews, "Lucas-Kanade 20 years on", IJCV 2004), coarse to fine. Pixels with large residuals have
less weight (Cauchy weights), so that text on one of the two images does not bias the estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carbench.data.audit.agreement import block_agreement

Floats = NDArray[np.float32]

# Gauss-Newton steps at a quarter, a half and the full size of the thumbnails.
QUARTER_STEPS, HALF_STEPS, FULL_STEPS = 5, 2, 3
# Initial scales; a close crop is not found from scale 1 alone.
SCALES = np.array([1, 0.8, 1.25], np.float32)
# Largest deviation of a coefficient from the identity, in coordinates from -1 to 1. A crop of 20 %
# moves them by 0.2 to 0.25.
MAX_DEVIATION = np.float32(0.35)
# Pairs below this at half size are not refined further. Of copies with a final agreement of 0.9,
# less than 1 % are below 0.83 here.
EARLY_REJECTION = 0.8
# Radius in pixels of local normalisation, at a quarter and at half the size.
LOCAL_RADIUS = (3, 4)
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def aligned_agreement(moving: NDArray[np.uint8], fixed: NDArray[np.uint8]) -> Floats:
    """Return the agreement of pairs of images after aligning the first with the second.

    Args:
        moving: (P, S, S) grey thumbnails, S a multiple of 32 or of 48.
        fixed: (P, S, S) thumbnails that they are aligned with.

    Returns:
        (P,) values of :func:`carbench.data.audit.agreement.block_agreement`, at most 1; at half
        size for pairs that were rejected early. 0 if an image has no edges.
    """
    full, full_fixed = moving.astype(np.float32), fixed.astype(np.float32)
    half, half_fixed = _downsample(full), _downsample(full_fixed)
    quarter, quarter_fixed = _downsample(half), _downsample(half_fixed)
    identity = np.repeat(IDENTITY[None], len(moving), 0)
    transforms = [identity]
    # Raw brightness converges from further away; local normalisation also works with a banner.
    for scale in SCALES:
        transform = _refine(quarter, quarter_fixed, identity * scale, QUARTER_STEPS)
        transforms.append(_refine(half, half_fixed, transform, HALF_STEPS))
    normalized = identity
    for one, other, radius, steps in (
        (quarter, quarter_fixed, LOCAL_RADIUS[0], QUARTER_STEPS),
        (half, half_fixed, LOCAL_RADIUS[1], HALF_STEPS),
    ):
        normalized = _refine(
            _normalize_locally(one, radius), _normalize_locally(other, radius), normalized, steps
        )
    transforms.append(normalized)
    agreements = np.stack(
        [block_agreement(*warp(half, transform), half_fixed) for transform in transforms]
    )
    agreement: Floats = agreements.max(0)
    kept = np.flatnonzero(agreement >= EARLY_REJECTION)
    transform = np.stack(transforms)[agreements.argmax(0)[kept], kept]
    kept_moving, kept_fixed = full[kept], full_fixed[kept]
    before = block_agreement(*warp(kept_moving, transform), kept_fixed)
    transform = _refine(kept_moving, kept_fixed, transform, FULL_STEPS)
    agreement[kept] = np.maximum(before, block_agreement(*warp(kept_moving, transform), kept_fixed))
    return agreement


def warp(images: Floats, transform: Floats) -> tuple[Floats, Floats]:
    """Return images (P, S, S) under affine transforms (P, 2, 3), and a mask: 1 inside the image.

    A transform maps each point (x, y, 1) of the result to a point of the image.
    """
    count, size, _ = images.shape
    coordinates = _pixel_centres(size)
    x, y = (
        (transform[:, axis, 0, None] * coordinates)[:, None, :]
        + (transform[:, axis, 1, None] * coordinates + transform[:, axis, 2, None])[:, :, None]
        for axis in (0, 1)
    )
    inside = np.asarray((np.abs(x) <= 1) & (np.abs(y) <= 1), np.float32)
    for points in (x, y):  # to pixels, in place: these arrays dominate the run time
        points += 1
        points *= np.float32(size / 2)
        points -= np.float32(0.5)
        np.clip(points, 0, np.float32(size - 1.001), out=points)
    column, row = x.astype(np.int32), y.astype(np.int32)
    x -= column
    y -= row
    corner = row * size + column + (np.arange(count, dtype=np.int32) * size**2)[:, None, None]
    pixels = images.reshape(-1)
    upper, lower = (
        (pixels[start:].take(corner, mode="clip"), pixels[start + 1 :].take(corner, mode="clip"))
        for start in (0, size)
    )
    above = upper[0] + (upper[1] - upper[0]) * x
    below = lower[0] + (lower[1] - lower[0]) * x
    return above + (below - above) * y, inside


def _refine(moving: Floats, fixed: Floats, transform: Floats, steps: int) -> Floats:
    """Refine transforms by Gauss-Newton steps (weighted linear least squares)."""
    count, size, _ = moving.shape
    coordinates = _pixel_centres(size) * np.float32(size / 2)
    basis = np.empty((count, 8, size, size), np.float32)
    for _ in range(steps):
        warped, weights = warp(moving, transform)
        warped, target = _standardize(warped, weights), _standardize(fixed, weights)
        down, across = np.gradient(warped, axis=(1, 2))
        for first, slope in ((0, across), (3, down)):
            np.multiply(slope, coordinates, out=basis[:, first])
            np.multiply(slope, coordinates[:, None], out=basis[:, first + 1])
            np.multiply(slope, np.float32(size / 2), out=basis[:, first + 2])
        basis[:, 6], basis[:, 7] = warped, 1
        residual = target - warped
        scale = (np.abs(residual) * weights).sum((1, 2)) / np.maximum(weights.sum((1, 2)), 1)
        weights = weights / (1 + (residual / np.maximum(scale, 1e-3)[:, None, None]) ** 2)
        terms = basis.reshape(count, 8, size**2)
        weighted = terms * weights.reshape(count, 1, size**2)
        squared = weighted @ terms.transpose(0, 2, 1)
        # Damping: a shift along a straight edge is not determined.
        damping = 1e-3 * np.trace(squared, axis1=1, axis2=2) / 8 + 1e-6
        squared += damping[:, None, None].astype(np.float32) * np.eye(8, dtype=np.float32)
        change = np.linalg.solve(squared, weighted @ residual.reshape(count, size**2, 1))
        transform = transform + change[:, :6, 0].reshape(count, 2, 3)
        transform = IDENTITY + np.clip(transform - IDENTITY, -MAX_DEVIATION, MAX_DEVIATION)
    return transform


def _pixel_centres(size: int) -> Floats:
    """Return the centres of pixels in coordinates from -1 to 1."""
    return np.asarray((np.arange(size) + 0.5) * (2 / size) - 1, np.float32)


def _standardize(images: Floats, weights: Floats) -> Floats:
    """Return images with mean 0 and standard deviation 1 within the mask."""
    total = np.maximum(weights.sum((1, 2)), 1)[:, None, None]
    centred = images - (images * weights).sum((1, 2), keepdims=True) / total
    spread = np.sqrt((centred**2 * weights).sum((1, 2), keepdims=True) / total)
    return np.asarray(centred / np.maximum(spread, 1e-3), np.float32)


def _normalize_locally(images: Floats, radius: int) -> Floats:
    """Return images with brightness and contrast normalised locally."""
    size = images.shape[1]
    window = np.abs(np.arange(size)[:, None] - np.arange(size)) <= radius
    mean = (window / window.sum(1, keepdims=True)).astype(np.float32)
    centred = images - mean @ images @ mean.T
    spread = np.sqrt(np.maximum(mean @ centred**2 @ mean.T, 0))
    return np.asarray(centred / (spread + 4), np.float32)  # 4 of 255: noise stays small


def _downsample(images: Floats) -> Floats:
    half = images.shape[1] // 2
    blocks = images.reshape(len(images), half, 2, half, 2)
    return np.asarray(blocks.mean((2, 4), dtype=np.float32))
