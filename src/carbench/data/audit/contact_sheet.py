"""A contact sheet of duplicate groups, one JPEG, to check the audit by eye."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from carbench.data.audit.duplicates import ImagePair
from carbench.data.images.decoding import read_image

# Pixels: size of a thumbnail, gap, and the lines of text below it.
THUMBNAIL_SIZE = (220, 150)
GAP = 12
LINE_HEIGHT = 14
FONT_SIZE = 12
CAPTION_LINES = 4
IMAGES_PER_ROW = 6
CAPTION_WIDTH = 34


@dataclass(frozen=True)
class SheetImage:
    """An image of a group; ``relation`` is why it belongs to the group."""

    image: str
    label: str
    split: str
    relation: str


SheetRow = list[SheetImage]


def select_groups(
    manifest: Sequence[dict[str, str]],
    groups: Sequence[int],
    first_of: Sequence[int],
    pairs: Sequence[ImagePair],
    limit: int,
) -> list[SheetRow]:
    """Return the most informative groups of at least two images.

    Groups with several classes, with a mirrored pair, across published splits with and without near
    duplicates, with near duplicates, and others are taken in turn, each from the largest.

    Args:
        manifest: fetch's rows.
        groups: duplicate group of each image.
        first_of: index of the first byte-identical copy of each image.
        pairs: near duplicates among the first copies.
        limit: maximum number of groups.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(groups):
        members[number].append(index)
    within: dict[int, list[ImagePair]] = defaultdict(list)
    for pair in pairs:
        if groups[pair.first] == groups[pair.second]:
            within[groups[pair.first]].append(pair)

    def distinct(number: int, column: str) -> int:
        return len({manifest[index][column] for index in members[number]})

    criteria: tuple[Callable[[int], bool], ...] = (
        lambda number: distinct(number, "class") > 1,
        lambda number: any(pair.mirrored for pair in within[number]),
        lambda number: distinct(number, "published") > 1 and bool(within[number]),
        lambda number: distinct(number, "published") > 1 and not within[number],
        lambda number: bool(within[number]),
        lambda number: True,
    )
    several = sorted(
        (number for number, indices in members.items() if len(indices) > 1),
        key=lambda number: (-len(members[number]), number),
    )
    turns = zip_longest(*([each for each in several if meets(each)] for meets in criteria))
    chosen = dict.fromkeys(each for turn in turns for each in turn if each is not None)
    return [
        [
            SheetImage(
                manifest[index]["image"],
                manifest[index]["class"],
                manifest[index]["published"],
                _relation(index, members[number][0], first_of, within[number]),
            )
            # Distinct files first, because a row has room for few.
            for index in sorted(members[number], key=lambda index: first_of[index] != index)
        ]
        for number in list(chosen)[:limit]
    ]


def _relation(index: int, first: int, first_of: Sequence[int], pairs: Sequence[ImagePair]) -> str:
    """Return why an image belongs to its group: its bytes, or its most similar image."""
    if index == first:
        return ""
    if first_of[index] != index:
        return "identical bytes"
    own = [pair for pair in pairs if index in (pair.first, pair.second)]
    if not own:
        return "via other images, or by review"
    closest = max(own, key=lambda pair: pair.agreement)
    kind = "mirrored" if closest.mirrored else "near duplicate"
    return f"{kind}, {closest.agreement:.2f}"


def draw_sheet(groups: Sequence[SheetRow], folder: Path) -> Image.Image:
    """Return the sheet: one row per group, at most six captioned thumbnails in each.

    Args:
        groups: from :func:`select_groups`.
        folder: root of the image paths.
    """
    font = ImageFont.load_default(FONT_SIZE)
    pitch = THUMBNAIL_SIZE[0] + GAP, THUMBNAIL_SIZE[1] + CAPTION_LINES * LINE_HEIGHT + 2 * GAP
    columns = min(IMAGES_PER_ROW, max((len(row) for row in groups), default=2))
    sheet = Image.new("RGB", (columns * pitch[0] + GAP, max(1, len(groups)) * pitch[1]), "white")
    pen = ImageDraw.Draw(sheet)
    if not groups:
        pen.text((GAP, GAP), "No image has a duplicate.", "black", font)
    for number, row in enumerate(groups):
        top = number * pitch[1] + GAP
        for column, member in enumerate(row[:IMAGES_PER_ROW]):
            left = GAP + column * pitch[0]
            image = ImageOps.contain(read_image(folder / member.image), THUMBNAIL_SIZE)
            sheet.paste(image, (left, top + THUMBNAIL_SIZE[1] - image.height))
            left_out = len(row) - IMAGES_PER_ROW if column == IMAGES_PER_ROW - 1 else 0
            for line, text in enumerate(_caption(member, max(0, left_out))):
                place = left, top + THUMBNAIL_SIZE[1] + 4 + line * LINE_HEIGHT
                pen.text(place, text, "black" if line == 0 else "#444444", font)
        pen.line((GAP, top - GAP // 2, sheet.width - GAP, top - GAP // 2), "#cccccc")
    return sheet


def _caption(member: SheetImage, left_out: int) -> list[str]:
    where = f"{member.label} · {member.split}" if member.split else member.label
    more = f" (+{left_out} more)" if left_out else ""
    # The end of a long name is more informative than its beginning.
    name = textwrap.wrap(member.image, CAPTION_WIDTH)[-2:]
    return [where + more, member.relation or "the first", *name]


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write the sheet as JPEG, with reproducible bytes."""
    sheet.save(path, "JPEG", quality=75, optimize=True)
