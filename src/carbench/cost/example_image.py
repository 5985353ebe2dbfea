"""The image file that is decoded end to end: an ordinary one of the study's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.core.tables import read_table
from carbench.data.split.table import read_split


@dataclass(frozen=True)
class ExampleImage:
    """An image file, its pixels and its bytes; ``format`` as Pillow names it."""

    image: str
    format: str
    width: int
    height: int
    bytes: int


def median_image(manifest: Path, split: Path) -> ExampleImage:
    """Return the median of the training images, ordered by pixels and then by bytes.

    Args:
        manifest: what stage fetch knows of the files.
        split: split.csv; of folds, the training part of seed 0 is taken.
    """
    learned = {row.image for row in read_split(split, 0) if row.split == "train"}
    columns = ("image", "format", "width", "height", "bytes")
    known = [
        ExampleImage(
            row["image"],
            row["format"],
            *(int(row[column]) for column in ("width", "height", "bytes")),
        )
        for row in read_table(manifest, columns)
        if row["image"] in learned
    ]
    ordered = sorted(known, key=lambda each: (each.width * each.height, each.bytes, each.image))
    return ordered[len(ordered) // 2]
