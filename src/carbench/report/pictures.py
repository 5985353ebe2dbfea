"""Pictures inside the page: small JPEGs as data URIs, and figures as inline SVG."""

from __future__ import annotations

import base64
import io
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup

from carbench.errors import CarbenchError
from carbench.figures.colours import INK, MUTED, PAPER, RULE
from carbench.images import read

# Twice the size that they are shown at, for sharp screens.
BOX = (336, 252)

# The colours of a figure become those of the page, light or dark; page.css defines them.
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--card"}


def thumbnail(path: Path) -> str:
    """Return a picture, made small, as a data URI."""
    picture = read(path)
    picture.thumbnail(BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=74, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def inline_figure(path: Path, alt: str) -> Markup:
    """Return a figure that plot drew as SVG to stand in the page.

    Args:
        path: the SVG.
        alt: what it shows, for those who cannot see it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CarbenchError(
            path,
            found="no such file",
            expected="a figure that stage plot draws",
            fix="run `snakemake` or `dvc repro`, which run the stages in order",
        ) from None
    head, _, body = text.partition("<svg ")[2].partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    # Four figures on one page must not share ids.
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
