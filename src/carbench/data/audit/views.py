"""Views of an image that the audit compares: one or two grey thumbnails and their HOG descriptors.

Only images with uniform margins have a second view, which shows the content within the margins: an
added border shifts and shrinks the whole image, but not its content.
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
from carbench.data.audit.hog import DESCRIPTOR_LENGTH, hog_descriptors
from carbench.data.audit.margins import content_box
from carbench.data.images.decoding import read_image

THUMBNAIL = 48
# Margins are detected at four times the size.
SMALL = 4 * THUMBNAIL
CHUNK = 512

Thumbnails = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Views:
    """V views of N images; those of an image are adjacent.

    Attributes:
        image_of: (V,) index of the image of each view.
        thumbnails: (V, 48, 48) uint8.
        descriptors: (V, DESCRIPTOR_LENGTH) float16.
    """

    image_of: NDArray[np.intp]
    thumbnails: NDArray[np.uint8]
    descriptors: NDArray[np.float16]

    def first_and_last(self, images: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last view of each image; the same if it has only one."""
        first = np.searchsorted(self.image_of, images)
        return first, np.searchsorted(self.image_of, images, side="right") - 1


def read_views(paths: Iterable[Path]) -> Views:
    """Read the views of image files, on all cores."""
    return stack_views(thread_map(lambda path: make_thumbnails(read_image(path)), paths))


def make_thumbnails(image: Image.Image) -> Thumbnails:
    """Return the thumbnails of an image: whole and, if it has margins, without them."""
    small = image.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX, reducing_gap=2.0)
    whole = (0, 0, SMALL, SMALL)
    boxes = dict.fromkeys((whole, content_box(np.asarray(small))))
    # A triangle filter leaves no edges too sharp for sub-pixel interpolation.
    side = (THUMBNAIL, THUMBNAIL)
    return [np.asarray(small.resize(side, Image.Resampling.BILINEAR, box)) for box in boxes]


def stack_views(images: Iterable[Thumbnails]) -> Views:
    """Concatenate the thumbnails of images and compute their descriptors."""
    images = iter(images)
    image_of: list[int] = []
    thumbnails = [np.empty((0, THUMBNAIL, THUMBNAIL), np.uint8)]
    described = [np.empty((0, DESCRIPTOR_LENGTH), np.float16)]
    seen = 0
    while some := list(islice(images, CHUNK)):
        for views in some:
            image_of += [seen] * len(views)
            seen += 1
        thumbnails.append(np.array([view for views in some for view in views]))
        described.append(hog_descriptors(thumbnails[-1]).astype(np.float16))
    return Views(np.array(image_of, np.intp), np.concatenate(thumbnails), np.concatenate(described))
