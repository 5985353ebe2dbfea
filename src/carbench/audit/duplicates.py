"""Finds pictures that look the same: resized, compressed anew, cropped, mirrored or recoloured.

Two pictures are near duplicates if their perceptual hashes (64-bit DCT hash of the imagehash
library) differ in few bits *and* the edges of their thumbnails agree once one is laid over the
other: the hash finds candidates fast, the edges throw out those that only share a layout. All
pairs of hashes are compared, a tile at a time, so that memory stays small and no approximate index
can miss a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from carbench.audit.alignment import edge_agreement
from carbench.images import read
from carbench.parallel import in_order
from carbench.params.audit import AuditParams

THUMBNAIL = 32
# A tile of the table of distances, and pairs laid over each other at once, that fit the caches.
ROWS, COLUMNS = 128, 2048
BATCH = 256


@dataclass(frozen=True)
class Looks:
    """How pictures look: hashes (N,) uint64 and grey thumbnails (N, 32, 32) uint8.

    ``mirrored_hashes`` are those of the same pictures flipped left to right.
    """

    hashes: NDArray[np.uint64]
    mirrored_hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """Two pictures (indices) that look alike: bits that differ, agreement of edges, mirrored?"""

    first: int
    second: int
    distance: int
    correlation: float
    mirrored: bool

    def of(self, indices: Sequence[int]) -> Pair:
        """Return the pair with its pictures numbered as in ``indices``."""
        return replace(self, first=indices[self.first], second=indices[self.second])


def look_at(paths: Iterable[Path]) -> Looks:
    """Hash and shrink picture files, on all cores."""
    return gather(in_order(lambda path: look(read(path)), paths))


def gather(rows: Iterable[tuple[int, int, NDArray[np.uint8]]]) -> Looks:
    """Put the looks of single pictures together."""
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return Looks(
        np.array(columns[0], np.uint64),
        np.array(columns[1], np.uint64),
        np.array(columns[2], np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL),
    )


def look(picture: Image.Image) -> tuple[int, int, NDArray[np.uint8]]:
    """Return a picture's hash, its hash when mirrored, and its thumbnail."""
    # Both hash and thumbnail use at most 32 x 32 pixels: shrink once, well, and share.
    side = 4 * THUMBNAIL
    small = picture.convert("L").resize((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    # The triangle filter leaves no edge sharper than interpolation can move.
    thumbnail = small.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return _hash(small), _hash(ImageOps.mirror(small)), np.asarray(thumbnail)


def near_pairs(looks: Looks, params: AuditParams) -> list[Pair]:
    """Return every pair of pictures (first < second) that look alike, in order.

    A pair that looks alike both as it is and mirrored is said to look alike as it is.
    """
    found: dict[tuple[int, int], Pair] = {}
    for mirrored in (False, True) if params.mirrored else (False,):
        search = partial(_search, looks, params, mirrored)
        for pairs in in_order(search, range(0, len(looks.hashes), ROWS)):
            for pair in pairs:
                found.setdefault((pair.first, pair.second), pair)
    return [found[key] for key in sorted(found)]


def agreement(
    looks: Looks, first: NDArray[np.intp], second: NDArray[np.intp], mirrored: bool
) -> NDArray[np.float32]:
    """Return the agreement of edges (P,) of the pairs (first[i], second[i])."""
    others = looks.thumbnails[second]
    return edge_agreement(looks.thumbnails[first], others[:, :, ::-1] if mirrored else others)


def _search(looks: Looks, params: AuditParams, mirrored: bool, top: int) -> list[Pair]:
    """Return the pairs whose first picture is one of the ``ROWS`` from ``top`` on."""
    first, second, distances = _candidates(looks, params.max_distance, mirrored, top)
    pairs = []
    for start in range(0, len(first), BATCH):
        batch = slice(start, start + BATCH)
        correlations = agreement(looks, first[batch], second[batch], mirrored)
        for index in np.flatnonzero(correlations >= params.min_correlation):
            pairs.append(
                Pair(
                    int(first[start + index]),
                    int(second[start + index]),
                    int(distances[start + index]),
                    round(float(correlations[index]), 4),
                    mirrored,
                )
            )
    return pairs


def _candidates(
    looks: Looks, most: int, mirrored: bool, top: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Return pairs whose hashes differ in at most ``most`` bits, and these distances."""
    others = looks.mirrored_hashes if mirrored else looks.hashes
    block = looks.hashes[top : top + ROWS, None]
    parts = []
    for left in range(top, len(others), COLUMNS):
        distances = np.bitwise_count(block ^ others[None, left : left + COLUMNS])
        near = np.flatnonzero(distances <= most)
        rows, columns = np.divmod(near, distances.shape[1])
        first, second = rows + top, columns + left
        after = second > first
        parts.append((first[after], second[after], distances.ravel()[near[after]]))
    first, second, found = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, found


def _hash(picture: Image.Image) -> int:
    return int(str(imagehash.phash(picture)), 16)
