"""The example image of an exported model."""

from __future__ import annotations

from pathlib import Path

from carbench.data.images.decoding import read_image
from carbench.data.split.table import SplitRow
from carbench.deploy.bundle.observations import Observations

# Maximum length in pixels of the longer side.
MAX_SIDE = 640


def write_example_image(
    images: Path, rows: list[SplitRow], observed: Observations, classes: list[str], path: Path
) -> None:
    """Write a typical validation image as JPEG.

    It is the image with the median confidence among those that are classified correctly.

    Args:
        images: folder of the images.
        rows: the observed images.
        observed: their observations.
        classes: the class names.
        path: output file.
    """
    correct = [
        index
        for index, row in enumerate(rows)
        if classes[int(observed.predicted[index])] == row.label
    ]
    candidates = correct or list(range(len(rows)))
    ordered = sorted(candidates, key=lambda index: float(observed.confidence[index]))
    image = read_image(images / rows[ordered[len(ordered) // 2]].image)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image.save(path, "JPEG", quality=90)
