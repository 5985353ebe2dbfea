"""The example image of an exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from carbench.data.images.decoding import read_image
from carbench.data.split.table import SplitRows
from carbench.deploy.bundle.observations import Observations

# Maximum length in pixels of the longer side.
MAX_SIDE = 640


def write_example_image(images: Path, rows: SplitRows, observed: Observations, path: Path) -> None:
    """Write a typical validation image as JPEG.

    It is the image with the median confidence among those that are classified correctly.

    Args:
        images: folder of the images.
        rows: the observed images.
        observed: their observations.
        path: output file.
    """
    correct = np.flatnonzero(observed.predicted == rows.labels)
    candidates = correct if len(correct) else np.arange(len(rows))
    ordered = candidates[np.argsort(observed.confidence[candidates], kind="stable")]
    image = read_image(images / rows.images[ordered[len(ordered) // 2]])
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    image.save(path, "JPEG", quality=90)
