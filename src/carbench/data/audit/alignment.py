"""Lays one thumbnail over another and finds the place where they agree best.

A crop, a border or a turn by a few degrees moves an image's pixels: they no longer lie over the
original's, and the correlation of the two falls to that of unrelated images. Shift, stretch,
shear and turn are therefore estimated first, by Gauss-Newton steps on the difference of the
thumbnails (Lucas & Kanade, "An iterative image registration technique", IJCAI 1981; with gain and
offset as in Baker & Matthews, "Lucas-Kanade 20 years on", IJCV 2004), coarse to fine. Pixels that
fit badly count less (Cauchy weights), so that writing on one of the two does not pull it away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carbench.data.audit.blocks import block_agreement

Floats = NDArray[np.float32]

# Gauss-Newton steps at a quarter, a half and the whole of the thumbnails' size.
QUARTER, HALF, WHOLE = 5, 2, 3
# A close crop is not found from the whole image: the search starts at these scales.
SCALES = np.array([1, 0.8, 1.25], np.float32)
# No coefficient moves further than this from an image laid flat on the other; a side runs from -1
# to 1. A crop of 20 % moves them by 0.2 to 0.25.
MOST = np.float32(0.35)
# Of copies whose final agreement is 0.9, less than one in a hundred has less than 0.83 here.
EARLY = 0.8
# Pixels around one within which brightness is levelled, at a quarter and at half the size.
AROUND = (3, 4)
FLAT = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def agreement_of(moving: NDArray[np.uint8], fixed: NDArray[np.uint8]) -> Floats:
    """Return how well pairs of images agree, once the first is laid over the second.

    Args:
        moving: (P, S, S) grey thumbnails, S a multiple of 32 or of 48.
        fixed: (P, S, S), the images that they are compared with.

    Returns:
        (P,) agreements of :func:`carbench.data.audit.blocks.block_agreement`, at most 1; for pairs
        that were given up early, the lower agreement at half the size. 0 if an image has no edges.
    """
    whole, whole_fixed = moving.astype(np.float32), fixed.astype(np.float32)
    half, half_fixed = _halved(whole), _halved(whole_fixed)
    quarter, quarter_fixed = _halved(half), _halved(half_fixed)
    flat = np.repeat(FLAT[None], len(moving), 0)
    places = [flat]
    # By its shades an image is found from further away; levelled, also under a banner.
    for scale in SCALES:
        place = _stepped(quarter, quarter_fixed, flat * scale, QUARTER)
        places.append(_stepped(half, half_fixed, place, HALF))
    level = flat
    for one, other, around, steps in (
        (quarter, quarter_fixed, AROUND[0], QUARTER),
        (half, half_fixed, AROUND[1], HALF),
    ):
        level = _stepped(_levelled(one, around), _levelled(other, around), level, steps)
    places.append(level)
    found = np.stack([block_agreement(*seen_at(half, place), half_fixed) for place in places])
    agreement: Floats = found.max(0)
    kept = np.flatnonzero(agreement >= EARLY)
    place = np.stack(places)[found.argmax(0)[kept], kept]
    still, laid_on = whole[kept], whole_fixed[kept]
    before = block_agreement(*seen_at(still, place), laid_on)
    place = _stepped(still, laid_on, place, WHOLE)
    agreement[kept] = np.maximum(before, block_agreement(*seen_at(still, place), laid_on))
    return agreement


def seen_at(images: Floats, place: Floats) -> tuple[Floats, Floats]:
    """Return images (P, S, S) as seen at places (P, 2, 3), and 1 where they are seen, or 0.

    A place says for each point (x, y, 1) of the result which point of the image is seen there.
    """
    count, size, _ = images.shape
    at = _centres(size)
    x, y = (
        (place[:, axis, 0, None] * at)[:, None, :]
        + (place[:, axis, 1, None] * at + place[:, axis, 2, None])[:, :, None]
        for axis in (0, 1)
    )
    inside = np.asarray((np.abs(x) <= 1) & (np.abs(y) <= 1), np.float32)
    for points in (x, y):  # to pixels, in place: these arrays are what the time goes into
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


def _stepped(moving: Floats, fixed: Floats, place: Floats, steps: int) -> Floats:
    """Improve the places by so many steps: least squares of what a small change would add."""
    count, size, _ = moving.shape
    at = _centres(size) * np.float32(size / 2)
    basis = np.empty((count, 8, size, size), np.float32)
    for _ in range(steps):
        seen, weights = seen_at(moving, place)
        seen, target = _standard(seen, weights), _standard(fixed, weights)
        down, across = np.gradient(seen, axis=(1, 2))
        for first, slope in ((0, across), (3, down)):
            np.multiply(slope, at, out=basis[:, first])
            np.multiply(slope, at[:, None], out=basis[:, first + 1])
            np.multiply(slope, np.float32(size / 2), out=basis[:, first + 2])
        basis[:, 6], basis[:, 7] = seen, 1
        off = target - seen
        usual = (np.abs(off) * weights).sum((1, 2)) / np.maximum(weights.sum((1, 2)), 1)
        weights = weights / (1 + (off / np.maximum(usual, 1e-3)[:, None, None]) ** 2)
        terms = basis.reshape(count, 8, size**2)
        weighted = terms * weights.reshape(count, 1, size**2)
        squared = weighted @ terms.transpose(0, 2, 1)
        # A little damping: along a straight edge there is nothing to hold a shift.
        damping = 1e-3 * np.trace(squared, axis1=1, axis2=2) / 8 + 1e-6
        squared += damping[:, None, None].astype(np.float32) * np.eye(8, dtype=np.float32)
        change = np.linalg.solve(squared, weighted @ off.reshape(count, size**2, 1))
        place = place + change[:, :6, 0].reshape(count, 2, 3)
        place = FLAT + np.clip(place - FLAT, -MOST, MOST)
    return place


def _centres(size: int) -> Floats:
    """Centres of the pixels of a side that runs from -1 to 1."""
    return np.asarray((np.arange(size) + 0.5) * (2 / size) - 1, np.float32)


def _standard(images: Floats, weights: Floats) -> Floats:
    """Images with mean 0 and standard deviation 1 where they are seen."""
    total = np.maximum(weights.sum((1, 2)), 1)[:, None, None]
    centred = images - (images * weights).sum((1, 2), keepdims=True) / total
    spread = np.sqrt((centred**2 * weights).sum((1, 2), keepdims=True) / total)
    return np.asarray(centred / np.maximum(spread, 1e-3), np.float32)


def _levelled(images: Floats, around: int) -> Floats:
    """Images with about the same brightness and contrast everywhere."""
    size = images.shape[1]
    near = np.abs(np.arange(size)[:, None] - np.arange(size)) <= around
    mean = (near / near.sum(1, keepdims=True)).astype(np.float32)
    centred = images - mean @ images @ mean.T
    spread = np.sqrt(np.maximum(mean @ centred**2 @ mean.T, 0))
    return np.asarray(centred / (spread + 4), np.float32)  # 4 of 255: noise stays small


def _halved(images: Floats) -> Floats:
    half = images.shape[1] // 2
    blocks = images.reshape(len(images), half, 2, half, 2)
    return np.asarray(blocks.mean((2, 4), dtype=np.float32))
