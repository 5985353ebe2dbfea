"""Images embedded in the page, as small JPEGs in data URIs."""

from __future__ import annotations

import base64
import io
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from carbench.data.images.decoding import read_image
from carbench.report.plotting.attribution_overlay import Pixels, overlay_attribution

# Twice the displayed size, for high-resolution screens.
BOX = (336, 252)
SHEET = (1400, 6000)


def thumbnail(path: Path) -> str:
    """Return a thumbnail of an image as a data URI."""
    return _jpeg(read_image(path), BOX)


def explanation(image: Pixels, heat: Pixels) -> str:
    """Return a model input with its attribution map overlaid, as a data URI."""
    return _jpeg(Image.fromarray(overlay_attribution(image, heat)), BOX)


def sheet(path: Path) -> str:
    """Return the audit's contact sheet of duplicate groups as a data URI."""
    return _jpeg(read_image(path), SHEET)


def _jpeg(image: Image.Image, box: tuple[int, int]) -> str:
    """Return an image as a JPEG data URI, scaled down if it is larger than a box."""
    image.thumbnail(box)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=74, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Return content of the media type ``kind`` as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def select_duplicate_pairs(
    examples: list[dict[str, Any]], published: dict[str, str], most: int
) -> list[dict[str, Any]]:
    """Return example pairs, alternating between kinds; pairs across published splits come first.

    Args:
        examples: the audit's pairs.
        published: published split of each image.
        most: how many pairs to show.
    """
    kinds: dict[str, list[list[dict[str, Any]]]] = {}
    for example in examples:
        across, within = kinds.setdefault(example["kind"], [[], []])
        crosses = published[example["first"]] != published[example["second"]]
        (across if crosses else within).append(example)
    # Pairs across splits are sorted by class: sample them evenly, so that all classes can occur.
    step = max(1, most)
    queues = [
        [*across[:: -(-len(across) // step) or 1], *within] for across, within in kinds.values()
    ]
    turns = zip_longest(*queues)
    return [pair for turn in turns for pair in turn if pair is not None][:most]
