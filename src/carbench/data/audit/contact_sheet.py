"""A contact sheet of duplicate groups: one JPEG on which a person can check what the audit says."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from carbench.data.audit.duplicates import Pair
from carbench.data.images.decoding import read

# Pixels: of a print, between prints, and below a print for its lines of text.
PRINT = (220, 150)
GAP = 12
LINE = 14
TEXT = 12
LINES = 4
MOST_IN_ROW = 6
CHARACTERS = 34


@dataclass(frozen=True)
class Member:
    """An image of a group, and in ``likeness`` what ties it to the others."""

    image: str
    label: str
    part: str
    likeness: str


Row = list[Member]


def rows(
    manifest: Sequence[dict[str, str]],
    groups: Sequence[int],
    first_of: Sequence[int],
    pairs: Sequence[Pair],
    most: int,
) -> list[Row]:
    """Return the most telling groups of two and more images.

    Groups that mix classes, those across published parts, those with a mirrored, a near and an
    identical image, and the largest take turns; within each of these the largest come first.

    Args:
        manifest: fetch's rows.
        groups: each image's duplicate group.
        first_of: index of the first byte-identical copy of each image.
        pairs: near duplicates among the first copies.
        most: how many groups to return.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(groups):
        members[number].append(index)
    within: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if groups[pair.first] == groups[pair.second]:
            within[groups[pair.first]].append(pair)

    def distinct(number: int, column: str) -> int:
        return len({manifest[index][column] for index in members[number]})

    telling: tuple[Callable[[int], bool], ...] = (
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
    turns = zip_longest(*([each for each in several if test(each)] for test in telling))
    chosen = dict.fromkeys(each for turn in turns for each in turn if each is not None)
    return [
        [
            Member(
                manifest[index]["image"],
                manifest[index]["class"],
                manifest[index]["published"],
                _likeness(index, members[number][0], first_of, within[number]),
            )
            # Different files first: a row has room for few.
            for index in sorted(members[number], key=lambda index: first_of[index] != index)
        ]
        for number in list(chosen)[:most]
    ]


def _likeness(index: int, first: int, first_of: Sequence[int], pairs: Sequence[Pair]) -> str:
    """What ties an image to its group, in few words: its closest pair, or its bytes."""
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


def draw(groups: Sequence[Row], folder: Path) -> Image.Image:
    """Return the sheet: a row a group, at most six prints in it, under each what it is.

    Args:
        groups: what :func:`rows` returned.
        folder: where the images lie.
    """
    font = ImageFont.load_default(TEXT)
    pitch = PRINT[0] + GAP, PRINT[1] + LINES * LINE + 2 * GAP
    columns = min(MOST_IN_ROW, max((len(row) for row in groups), default=2))
    sheet = Image.new("RGB", (columns * pitch[0] + GAP, max(1, len(groups)) * pitch[1]), "white")
    pen = ImageDraw.Draw(sheet)
    if not groups:
        pen.text((GAP, GAP), "No image has a duplicate.", "black", font)
    for number, row in enumerate(groups):
        top = number * pitch[1] + GAP
        for column, member in enumerate(row[:MOST_IN_ROW]):
            left = GAP + column * pitch[0]
            image = ImageOps.contain(read(folder / member.image), PRINT)
            sheet.paste(image, (left, top + PRINT[1] - image.height))
            left_out = len(row) - MOST_IN_ROW if column == MOST_IN_ROW - 1 else 0
            for line, text in enumerate(_caption(member, max(0, left_out))):
                place = left, top + PRINT[1] + 4 + line * LINE
                pen.text(place, text, "black" if line == 0 else "#444444", font)
        pen.line((GAP, top - GAP // 2, sheet.width - GAP, top - GAP // 2), "#cccccc")
    return sheet


def _caption(member: Member, left_out: int) -> list[str]:
    where = f"{member.label} · {member.part}" if member.part else member.label
    more = f" (+{left_out} more)" if left_out else ""
    # Of a long name the end tells more than the beginning.
    name = textwrap.wrap(member.image, CHARACTERS)[-2:]
    return [where + more, member.likeness or "the first", *name]


def save(sheet: Image.Image, path: Path) -> None:
    """Write the sheet as JPEG; the same sheet gives the same bytes."""
    sheet.save(path, "JPEG", quality=75, optimize=True)
