"""An image to try the model with."""

from __future__ import annotations

from pathlib import Path

from carbench.data.images.decoding import read_image
from carbench.data.split.table import SplitRow
from carbench.deploy.bundle.observations import Observations

# Pixels of the longer side, at most.
SIDE = 640


def write_example(
    images: Path, rows: list[SplitRow], observed: Observations, classes: list[str], path: Path
) -> None:
    """Write an ordinary image of val as a JPEG: of those that are predicted right, the median.

    Args:
        images: the folder of the images.
        rows: the images that were observed.
        observed: what the model makes of them.
        classes: the class names.
        path: the file to write.
    """
    right = [
        index
        for index, row in enumerate(rows)
        if classes[int(observed.predicted[index])] == row.label
    ]
    candidates = right or list(range(len(rows)))
    ordered = sorted(candidates, key=lambda index: float(observed.confidence[index]))
    image = read_image(images / rows[ordered[len(ordered) // 2]].image)
    image.thumbnail((SIDE, SIDE))
    image.save(path, "JPEG", quality=90)
