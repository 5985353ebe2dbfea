"""What the audit keeps of an image: one or two grey thumbnails, and their outlines.

The second thumbnail, of images with margins only, shows what is within them: a border or a bar
moves and shrinks an image, but not what is left when it is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carbench.core.parallel import thread_map
from carbench.data.audit.margins import without_margins
from carbench.data.audit.outlines import LENGTH, outlines
from carbench.data.images.decoding import read

THUMBNAIL = 48
# Margins are looked for at four times the size.
SMALL = 4 * THUMBNAIL
AT_ONCE = 512

Thumbnails = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Looks:
    """How images look, in V views of N images, the views of each image one after the other.

    Attributes:
        image_of: (V,) which image a view shows.
        thumbnails: (V, 48, 48) uint8.
        outlines: (V, LENGTH) float16.
    """

    image_of: NDArray[np.intp]
    thumbnails: NDArray[np.uint8]
    outlines: NDArray[np.float16]

    def views(self, images: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last view of each image (the same, if it has one)."""
        first = np.searchsorted(self.image_of, images)
        return first, np.searchsorted(self.image_of, images, side="right") - 1


def look_at(paths: Iterable[Path]) -> Looks:
    """Look at image files, on all cores."""
    return gather(thread_map(lambda path: look(read(path)), paths))


def look(image: Image.Image) -> Thumbnails:
    """Return the thumbnails of an image: the whole, and what lies within its margins."""
    small = image.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX, reducing_gap=2.0)
    whole = (0, 0, SMALL, SMALL)
    boxes = dict.fromkeys((whole, without_margins(np.asarray(small))))
    # The triangle filter leaves no edge sharper than interpolation can move.
    side = (THUMBNAIL, THUMBNAIL)
    return [np.asarray(small.resize(side, Image.Resampling.BILINEAR, box)) for box in boxes]


def gather(images: Iterable[Thumbnails]) -> Looks:
    """Put the thumbnails of single images together, and describe them."""
    images = iter(images)
    image_of: list[int] = []
    thumbnails = [np.empty((0, THUMBNAIL, THUMBNAIL), np.uint8)]
    described = [np.empty((0, LENGTH), np.float16)]
    seen = 0
    while some := list(islice(images, AT_ONCE)):
        for views in some:
            image_of += [seen] * len(views)
            seen += 1
        thumbnails.append(np.array([view for views in some for view in views]))
        described.append(outlines(thumbnails[-1]).astype(np.float16))
    return Looks(np.array(image_of, np.intp), np.concatenate(thumbnails), np.concatenate(described))
