"""Reads the table of manually reviewed pairs, with the verdicts same or different."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.data.audit.verdicts import DIFFERENT, VERDICTS

NOTHING_REVIEWED = "presets/none"
COLUMNS = ("image", "twin", "verdict")

IndexPair = tuple[int, int]


@dataclass(frozen=True)
class ReviewedPairs:
    """Verdicts by pair of image indices (lower index first), and their line numbers."""

    path: str
    verdicts: dict[IndexPair, str] = field(default_factory=dict)
    lines: dict[IndexPair, int] = field(default_factory=dict)

    def verdict(self, first: int, second: int) -> str:
        """Return the verdict on two images; empty if there is none."""
        return self.verdicts.get((min(first, second), max(first, second)), "")

    def pairs(self, verdict: str) -> list[IndexPair]:
        """Return the pairs with a verdict, sorted."""
        return sorted(pair for pair, each in self.verdicts.items() if each == verdict)


def read_reviewed_pairs(path: str, images: Sequence[str], first_of: Sequence[int]) -> ReviewedPairs:
    """Read a table of reviewed pairs; byte-identical images are replaced by the first of them.

    The columns are ``image``, ``twin`` and ``verdict`` (same, different, or empty for a pair that
    is not reviewed yet); others are ignored. The separator is a comma or a semicolon.

    Args:
        path: the file, or :data:`NOTHING_REVIEWED`.
        images: the names of all images.
        first_of: index of the first byte-identical copy of each image.

    Raises:
        CarbenchError: no such file, a missing column, an unknown image, an invalid verdict, or
            verdicts that contradict each other or identical bytes.
    """
    reviewed = ReviewedPairs(path)
    if path == NOTHING_REVIEWED:
        return reviewed
    number_of = {image: index for index, image in enumerate(images)}
    for line, row in read_review_table(Path(path)):
        if not row["verdict"]:
            continue
        pair = [
            first_of[_image_index(path, line, column, row[column], number_of)]
            for column in ("image", "twin")
        ]
        key = min(pair), max(pair)
        if key[0] == key[1]:
            if row["verdict"] == DIFFERENT or row["image"] == row["twin"]:
                raise _line_error(
                    path,
                    line,
                    found=f"{row['image']!r} and {row['twin']!r}, which are byte-identical",
                    expected="two different files",
                    fix="remove the line",
                )
            continue
        verdict = reviewed.verdicts.setdefault(key, row["verdict"])
        if verdict != row["verdict"]:
            raise _line_error(
                path,
                line,
                found=f"{row['verdict']!r} for {row['image']!r} and {row['twin']!r}, "
                f"but {verdict!r} in line {reviewed.lines[key]}",
                expected="one verdict for a pair of images (identical bytes count as one)",
                fix="remove one of the two lines",
            )
        reviewed.lines.setdefault(key, line)
    return reviewed


def read_review_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and the :data:`COLUMNS` of each row.

    Raises:
        CarbenchError: no such file, no readable CSV, a missing column, or an invalid verdict.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CarbenchError(
            path,
            found=error.strerror or "no file" if isinstance(error, OSError) else "no UTF-8 text",
            expected=f"a CSV file with the columns {', '.join(COLUMNS)}",
            fix="correct audit.reviewed, or write such a file with `carbench audit review`",
        ) from None
    head = text.partition("\n")[0]
    # Spreadsheets use semicolons where the decimal separator is a comma.
    reader = csv.DictReader(
        text.splitlines(), delimiter=";" if ";" in head and "," not in head else ","
    )
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    if missing:
        raise _line_error(
            path,
            1,
            found=f"no column {', '.join(missing)}",
            expected=f"the columns {', '.join(COLUMNS)}",
            fix="name them in the first line",
        )
    rows = []
    for row in reader:
        values = {column: (row[column] or "").strip() for column in COLUMNS}
        values["verdict"] = values["verdict"].lower()
        if values["verdict"] not in ("", *VERDICTS):
            raise _line_error(
                path,
                reader.line_num,
                found=f"verdict {values['verdict']!r}",
                expected=" or ".join(VERDICTS),
                fix="write one of them, or nothing",
            )
        rows.append((reader.line_num, values))
    return rows


def refuse_contradictions(
    reviewed: ReviewedPairs, groups: Sequence[int], images: Sequence[str]
) -> None:
    """Raise :class:`CarbenchError` if images reviewed as different are in the same group."""
    for first, second in reviewed.pairs(DIFFERENT):
        if groups[first] != groups[second]:
            continue
        others = [
            image
            for index, image in enumerate(images)
            if groups[index] == groups[first] and index not in (first, second)
        ]
        raise _line_error(
            reviewed.path,
            reviewed.lines[first, second],
            found=f"{images[first]!r} and {images[second]!r} as different, but each is the same "
            f"image as {others[0] if others else 'the other'!r}",
            expected="verdicts that do not contradict the other pairs of this group",
            fix="also review the pairs in between: `carbench audit review --found` shows them",
        )


def _image_index(path: str, line: int, column: str, image: str, number_of: dict[str, int]) -> int:
    if image in number_of:
        return number_of[image]
    near = get_close_matches(image, number_of, n=1, cutoff=0.6)
    raise _line_error(
        path,
        line,
        found=f"{column} {image!r}, which is not an image of this study",
        expected="an image listed in results/data/manifest.csv"
        + (f", such as {near[0]!r}" if near else ""),
        fix="correct the name, or remove the line",
    )


def _line_error(path: object, line: int, *, found: str, expected: str, fix: str) -> CarbenchError:
    return CarbenchError(path, key=f"line {line}", found=found, expected=expected, fix=fix)
