"""Reads the pack: a memory-mapped uint8 array of all images, and the index of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, missing, read_table

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


def read_batches(folder: Path, images: list[str], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of ``images`` in batches of ``size``, (B, S, S, 3) uint8."""
    array, row_of = open_array(folder), row_indices(folder)
    rows = [row_of[image] for image in images]
    for start in range(0, len(rows), size):
        yield array[rows[start : start + size]]


def row_indices(folder: Path) -> dict[str, int]:
    """Return the row of each image in the array."""
    return {row["image"]: int(row["row"]) for row in read_table(folder / INDEX, ("row", "image"))}


def image_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the original width and height of each image, in pixels."""
    index = read_table(folder / INDEX, ("image", "width", "height"))
    return {row["image"]: (int(row["width"]), int(row["height"])) for row in index}
