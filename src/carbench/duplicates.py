"""Finds pictures that are the same picture: by bytes, and by how they look.

Two pictures are near duplicates if their perceptual hashes (64-bit DCT hash of the imagehash
library) differ in few bits *and* their thumbnails correlate: the hash finds candidates fast, the
thumbnail throws out those that only share a layout. All pairs of hashes are compared, a block of
rows at a time, so that memory stays small and no approximate index can miss a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carbench.images import read
from carbench.parallel import in_order
from carbench.params.audit import AuditParams

THUMBNAIL = 32
ROWS_AT_A_TIME = 512


@dataclass(frozen=True)
class Looks:
    """How pictures look: hashes (N,) uint64 and unit-length grey thumbnails (N, 1024) float32.

    The ``mirrored`` pair describes the same pictures flipped left to right.
    """

    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.float32]
    mirrored_hashes: NDArray[np.uint64]
    mirrored_thumbnails: NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two pictures (indices) that look alike: bits that differ, correlation, mirrored or not."""

    first: int
    second: int
    distance: int
    correlation: float
    mirrored: bool

    def of(self, indices: Sequence[int]) -> Pair:
        """Return the pair with its pictures numbered as in ``indices``."""
        return replace(self, first=indices[self.first], second=indices[self.second])


def look_at(paths: Iterable[Path]) -> Looks:
    """Hash and shrink pictures, on all cores."""
    rows = list(in_order(_look, paths))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Looks(
        np.array(columns[0], np.uint64),
        np.array(columns[1], np.float32).reshape(len(rows), THUMBNAIL**2),
        np.array(columns[2], np.uint64),
        np.array(columns[3], np.float32).reshape(len(rows), THUMBNAIL**2),
    )


def near_pairs(looks: Looks, params: AuditParams) -> Iterator[Pair]:
    """Yield every pair of pictures (first < second) that look alike."""
    versions = [(looks.hashes, looks.thumbnails, False)]
    if params.mirrored:
        versions.append((looks.mirrored_hashes, looks.mirrored_thumbnails, True))
    for hashes, thumbnails, mirrored in versions:
        for start in range(0, len(hashes), ROWS_AT_A_TIME):
            block = looks.hashes[start : start + ROWS_AT_A_TIME, None]
            distances = np.bitwise_count(block ^ hashes[None, start:])
            rows, columns = np.nonzero(distances <= params.max_distance)
            after = columns > rows
            rows, columns = rows[after], columns[after]
            agreement = np.einsum(
                "ij,ij->i", looks.thumbnails[start + rows], thumbnails[start + columns]
            )
            for row, column, correlation in zip(rows, columns, agreement, strict=True):
                if correlation >= params.min_correlation:
                    yield Pair(
                        int(start + row),
                        int(start + column),
                        int(distances[row, column]),
                        round(float(correlation), 4),
                        mirrored,
                    )


def group(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return a group number for each of ``count`` pictures: linked pictures share one.

    Groups are the connected components of the pairs, numbered by their first picture.
    """
    edges = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)


def _look(path: Path) -> tuple[int, NDArray[np.float32], int, NDArray[np.float32]]:
    grey = read(path).convert("L")
    # Both hash and thumbnail use at most 32 x 32 pixels: shrink once, well, and share.
    small = grey.resize((4 * THUMBNAIL, 4 * THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    mirrored = ImageOps.mirror(small)
    return _hash(small), _thumbnail(small), _hash(mirrored), _thumbnail(mirrored)


def _hash(picture: Image.Image) -> int:
    return int(str(imagehash.phash(picture)), 16)


def _thumbnail(picture: Image.Image) -> NDArray[np.float32]:
    shrunk = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    pixels = np.asarray(shrunk, np.float32).ravel()
    pixels -= pixels.mean()
    return np.asarray(pixels / max(float(np.linalg.norm(pixels)), 1e-6), np.float32)
