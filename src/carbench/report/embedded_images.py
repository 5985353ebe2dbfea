"""Images inside the page: small JPEGs as data URIs."""

from __future__ import annotations

import base64
import io
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from carbench.data.images.decoding import read_image
from carbench.report.plotting.attribution_overlay import Pixels, overlay_attribution

# Twice the size that they are shown at, for sharp screens.
BOX = (336, 252)
SHEET = (1400, 6000)


def thumbnail(path: Path) -> str:
    """Return an image, made small, as a data URI."""
    return _jpeg(read_image(path), BOX)


def explanation(image: Pixels, heat: Pixels) -> str:
    """Return what a model saw, and where it looked, as a data URI."""
    return _jpeg(Image.fromarray(overlay_attribution(image, heat)), BOX)


def sheet(path: Path) -> str:
    """Return the audit's sheet of duplicate groups as a data URI."""
    return _jpeg(read_image(path), SHEET)


def _jpeg(image: Image.Image, box: tuple[int, int]) -> str:
    """Make an image fit into a box; one that is smaller stays as it is."""
    image.thumbnail(box)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=74, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def select_duplicate_pairs(
    examples: list[dict[str, Any]], published: dict[str, str], most: int
) -> list[dict[str, Any]]:
    """Return pairs worth showing: of each kind in turn, those across published parts first.

    Args:
        examples: the audit's pairs.
        published: each image's published part.
        most: how many pairs to show.
    """
    kinds: dict[str, list[list[dict[str, Any]]]] = {}
    for example in examples:
        across, within = kinds.setdefault(example["kind"], [[], []])
        crosses = published[example["first"]] != published[example["second"]]
        (across if crosses else within).append(example)
    # Evenly from those across, which are sorted by class, so that all classes get a chance.
    step = max(1, most)
    queues = [
        [*across[:: -(-len(across) // step) or 1], *within] for across, within in kinds.values()
    ]
    turns = zip_longest(*queues)
    return [pair for turn in turns for pair in turn if pair is not None][:most]
