"""Pictures inside the page: small JPEGs as data URIs, and figures as inline SVG."""

from __future__ import annotations

import base64
import io
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from carbench.figures.colours import INK, MUTED, PAPER, RULE
from carbench.figures.explanations import Pixels, overlay
from carbench.images import read
from carbench.tables import missing

# Twice the size that they are shown at, for sharp screens.
BOX = (336, 252)
SHEET = (1400, 6000)

# The colours of a figure become those of the page, light or dark; page.css defines them.
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--card"}


def thumbnail(path: Path) -> str:
    """Return a picture, made small, as a data URI."""
    return _jpeg(read(path), BOX)


def explanation(picture: Pixels, heat: Pixels) -> str:
    """Return what a model saw, and where it looked, as a data URI."""
    return _jpeg(Image.fromarray(overlay(picture, heat)), BOX)


def sheet(path: Path) -> str:
    """Return the audit's sheet of duplicate groups as a data URI."""
    return _jpeg(read(path), SHEET)


def _jpeg(picture: Image.Image, box: tuple[int, int]) -> str:
    """Make a picture fit into a box; one that is smaller stays as it is."""
    picture.thumbnail(box)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=74, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def inline_figure(path: Path, alt: str) -> Markup:
    """Return a figure that plot drew as SVG to stand in the page.

    Args:
        path: the SVG.
        alt: what it shows, for those who cannot see it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing(path) from None
    head, _, body = text.partition("<svg ")[2].partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    # Figures on one page must not share ids.
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(f": {colour}", f": var({variable})")
    opening = Markup('<svg role="img" aria-label="{}" {}>').format(
        alt, Markup(box.group() if box else "")
    )
    return opening + Markup(body)


def pick_pairs(
    examples: list[dict[str, Any]], published: dict[str, str], most: int
) -> list[dict[str, Any]]:
    """Return pairs worth showing: of each kind in turn, those across published parts first.

    Args:
        examples: the audit's pairs.
        published: each picture's published part.
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
