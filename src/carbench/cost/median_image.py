"""The example image for end-to-end latencies: a typical image of the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carbench.core.columns import read_matching
from carbench.core.tables import read_chunks
from carbench.data.split.table import SplitRows


@dataclass(frozen=True)
class ExampleImage:
    """An image file with its size in pixels and bytes; ``format`` is Pillow's name."""

    image: str
    format: str
    width: int
    height: int
    bytes: int


def median_image(manifest: Path, rows: SplitRows) -> ExampleImage:
    """Return the median of the training images in the order of pixels and then bytes.

    Args:
        manifest: manifest.csv, written by stage fetch.
        rows: rows of split.csv; with folds, those of seed 0.
    """
    images = rows.images[rows.indices_of("train")]
    widths, heights, sizes = read_matching(manifest, images, ("width", "height", "bytes"))
    # Of equal ones, the first in the manifest, which is sorted by name.
    median = np.lexsort((sizes, widths * heights))[len(images) // 2]
    name = images[median]
    formats = (
        format_
        for chunk in read_chunks(manifest, ("image", "format"))
        for image, format_ in zip(*chunk, strict=True)
        if image == name
    )
    numbers = (int(column[median]) for column in (widths, heights, sizes))
    return ExampleImage(name, next(formats), *numbers)
