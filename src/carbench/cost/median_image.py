"""The example image for end-to-end latencies: a typical image of the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.core.tables import read_table
from carbench.data.split.table import read_split


@dataclass(frozen=True)
class ExampleImage:
    """An image file with its size in pixels and bytes; ``format`` is Pillow's name."""

    image: str
    format: str
    width: int
    height: int
    bytes: int


def median_image(manifest: Path, split: Path) -> ExampleImage:
    """Return the median of the training images in the order of pixels and then bytes.

    Args:
        manifest: manifest.csv, written by stage fetch.
        split: split.csv; with folds, the training images of seed 0 are used.
    """
    training = {row.image for row in read_split(split, 0) if row.split == "train"}
    columns = ("image", "format", "width", "height", "bytes")
    known = [
        ExampleImage(
            row["image"],
            row["format"],
            *(int(row[column]) for column in ("width", "height", "bytes")),
        )
        for row in read_table(manifest, columns)
        if row["image"] in training
    ]
    ordered = sorted(known, key=lambda each: (each.width * each.height, each.bytes, each.image))
    return ordered[len(ordered) // 2]
