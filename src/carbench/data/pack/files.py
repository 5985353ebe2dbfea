"""The packed images: one uint8 array of all of them, memory-mapped, and the order they are in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, missing, read_table

ARRAY = "images.npy"
INDEX = "index.csv"


def open_array(folder: Path) -> NDArray[np.uint8]:
    """Return the array (N, size, size, 3) uint8, RGB, read from disk only where it is used."""
    path = folder / ARRAY
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, EOFError) as error:
        raise damaged(path, f"no readable array ({error})") from None
    return array


def read_batches(folder: Path, images: list[str], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield images out of the pack in the order asked for, (B, S, S, 3), ``size`` at a time."""
    array, row_of = open_array(folder), rows_of(folder)
    rows = [row_of[image] for image in images]
    for start in range(0, len(rows), size):
        yield array[rows[start : start + size]]


def rows_of(folder: Path) -> dict[str, int]:
    """Return each image's row in the array."""
    return {row["image"]: int(row["row"]) for row in read_table(folder / INDEX, ("row", "image"))}


def sizes_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the width and height of each image's file, in pixels, before it was packed."""
    index = read_table(folder / INDEX, ("image", "width", "height"))
    return {row["image"]: (int(row["width"]), int(row["height"])) for row in index}
