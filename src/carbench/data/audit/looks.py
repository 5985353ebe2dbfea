"""What the audit keeps of a picture: one or two grey thumbnails, and their outlines.

The second thumbnail, of pictures with margins only, shows what is within them: a border or a bar
moves and shrinks a picture, but not what is left when it is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carbench.core.parallel import in_order
from carbench.data.audit.margins import without_margins
from carbench.data.audit.outlines import LENGTH, outlines
from carbench.data.images import read

THUMBNAIL = 48
# Margins are looked for at four times the size.
SMALL = 4 * THUMBNAIL
AT_ONCE = 512

Thumbnails = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Looks:
    """How pictures look, in V views of N pictures, the views of each picture one after the other.

    Attributes:
        picture_of: (V,) which picture a view shows.
        thumbnails: (V, 48, 48) uint8.
        outlines: (V, LENGTH) float16.
    """

    picture_of: NDArray[np.intp]
    thumbnails: NDArray[np.uint8]
    outlines: NDArray[np.float16]

    def views(self, pictures: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last view of each picture (the same, if it has one)."""
        first = np.searchsorted(self.picture_of, pictures)
        return first, np.searchsorted(self.picture_of, pictures, side="right") - 1


def look_at(paths: Iterable[Path]) -> Looks:
    """Look at picture files, on all cores."""
    return gather(in_order(lambda path: look(read(path)), paths))


def look(picture: Image.Image) -> Thumbnails:
    """Return the thumbnails of a picture: the whole, and what lies within its margins."""
    small = picture.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX, reducing_gap=2.0)
    whole = (0, 0, SMALL, SMALL)
    boxes = dict.fromkeys((whole, without_margins(np.asarray(small))))
    # The triangle filter leaves no edge sharper than interpolation can move.
    side = (THUMBNAIL, THUMBNAIL)
    return [np.asarray(small.resize(side, Image.Resampling.BILINEAR, box)) for box in boxes]


def gather(pictures: Iterable[Thumbnails]) -> Looks:
    """Put the thumbnails of single pictures together, and describe them."""
    pictures = iter(pictures)
    picture_of: list[int] = []
    thumbnails = [np.empty((0, THUMBNAIL, THUMBNAIL), np.uint8)]
    described = [np.empty((0, LENGTH), np.float16)]
    seen = 0
    while some := list(islice(pictures, AT_ONCE)):
        for views in some:
            picture_of += [seen] * len(views)
            seen += 1
        thumbnails.append(np.array([view for views in some for view in views]))
        described.append(outlines(thumbnails[-1]).astype(np.float16))
    return Looks(
        np.array(picture_of, np.intp), np.concatenate(thumbnails), np.concatenate(described)
    )
