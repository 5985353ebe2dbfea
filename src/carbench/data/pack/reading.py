"""Reads the pack: a memory-mapped uint8 array of all images, and the index of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.columns import Texts, read_matching
from carbench.core.tables import damaged, missing

ARRAY = "images.npy"
INDEX = "index.csv"


def open_array(folder: Path) -> NDArray[np.uint8]:
    """Return the memory-mapped array, (N, size, size, 3) uint8 RGB."""
    path = folder / ARRAY
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, EOFError) as error:
        raise damaged(path, f"no readable array ({error})") from None
    return array


def read_batches(folder: Path, rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of some rows of the array in batches of ``size``, (B, S, S, 3) uint8."""
    array = open_array(folder)
    for start in range(0, len(rows), size):
        yield array[rows[start : start + size]]


def find_rows(folder: Path, images: Texts) -> NDArray[np.int64]:
    """Return the row of each of N images in the array (N,); see :func:`read_index`."""
    (rows,) = read_index(folder, images, ("row",))
    return rows


def read_index(folder: Path, images: Texts, columns: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return columns of the index for N images, (N,) each: ``row``, ``width`` or ``height``.

    Args:
        folder: the pack.
        images: names, in the order of the pack.
        columns: the columns.

    Raises:
        CarbenchError: as in :func:`carbench.core.columns.read_matching`.
    """
    return read_matching(folder / INDEX, images, columns)
