"""What a person has said of pairs of images: the same image, or two different ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.data.audit.words import DIFFERENT, VERDICTS

NOTHING_REVIEWED = "presets/none"
COLUMNS = ("image", "twin", "verdict")

Keys = tuple[int, int]


@dataclass(frozen=True)
class Reviewed:
    """Verdicts by pair of images (the lower number first), and the line that each stands in."""

    path: str
    verdicts: dict[Keys, str] = field(default_factory=dict)
    lines: dict[Keys, int] = field(default_factory=dict)

    def verdict(self, first: int, second: int) -> str:
        """Return what was said of two images; empty if nothing was."""
        return self.verdicts.get((min(first, second), max(first, second)), "")

    def pairs(self, verdict: str) -> list[Keys]:
        """Return the pairs with a verdict, in order."""
        return sorted(pair for pair, said in self.verdicts.items() if said == verdict)


def read_reviewed(path: str, images: Sequence[str], first_of: Sequence[int]) -> Reviewed:
    """Return what a person's CSV says; byte-identical images count as the first of them.

    The columns are ``image``, ``twin`` and ``verdict`` (same, different, or empty while nobody has
    judged); others are ignored. Commas or semicolons separate them.

    Args:
        path: the file, or :data:`NOTHING_REVIEWED`.
        images: the names of all images.
        first_of: index of the first byte-identical copy of each image.

    Raises:
        CarbenchError: no such file, a column is missing, an image is unknown, a verdict is
            neither, or two verdicts contradict each other or identical bytes.
    """
    found = Reviewed(path)
    if path == NOTHING_REVIEWED:
        return found
    number_of = {image: index for index, image in enumerate(images)}
    for line, row in read_verdicts(Path(path)):
        if not row["verdict"]:
            continue
        pair = [
            first_of[_known(path, line, column, row[column], number_of)]
            for column in ("image", "twin")
        ]
        key = min(pair), max(pair)
        if key[0] == key[1]:
            if row["verdict"] == DIFFERENT or row["image"] == row["twin"]:
                raise _wrong(
                    path,
                    line,
                    found=f"{row['image']!r} and {row['twin']!r}, which are the same bytes",
                    expected="two different files",
                    fix="remove the line",
                )
            continue
        said = found.verdicts.setdefault(key, row["verdict"])
        if said != row["verdict"]:
            raise _wrong(
                path,
                line,
                found=f"{row['verdict']!r} for {row['image']!r} and {row['twin']!r}, "
                f"but {said!r} in line {found.lines[key]}",
                expected="one verdict for a pair of images (identical bytes count as one)",
                fix="remove one of the two lines",
            )
        found.lines.setdefault(key, line)
    return found


def read_verdicts(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the lines of a person's CSV: number, and what stands in :data:`COLUMNS`.

    Raises:
        CarbenchError: no such file, no readable CSV, a column is missing, or a verdict is neither.
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
    # Spreadsheets save with semicolons where the comma is a decimal point.
    reader = csv.DictReader(
        text.splitlines(), delimiter=";" if ";" in head and "," not in head else ","
    )
    lacking = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    if lacking:
        raise _wrong(
            path,
            1,
            found=f"no column {', '.join(lacking)}",
            expected=f"the columns {', '.join(COLUMNS)}",
            fix="name them in the first line",
        )
    rows = []
    for row in reader:
        values = {column: (row[column] or "").strip() for column in COLUMNS}
        values["verdict"] = values["verdict"].lower()
        if values["verdict"] not in ("", *VERDICTS):
            raise _wrong(
                path,
                reader.line_num,
                found=f"verdict {values['verdict']!r}",
                expected=" or ".join(VERDICTS),
                fix="write one of them, or nothing",
            )
        rows.append((reader.line_num, values))
    return rows


def refuse_joined(reviewed: Reviewed, groups: Sequence[int], images: Sequence[str]) -> None:
    """Raise :class:`CarbenchError` if two images that are different stand in one group."""
    for first, second in reviewed.pairs(DIFFERENT):
        if groups[first] != groups[second]:
            continue
        others = [
            image
            for index, image in enumerate(images)
            if groups[index] == groups[first] and index not in (first, second)
        ]
        raise _wrong(
            reviewed.path,
            reviewed.lines[first, second],
            found=f"{images[first]!r} and {images[second]!r} as different, but each is the same "
            f"image as {others[0] if others else 'the other'!r}",
            expected="verdicts that do not contradict what else is held for the same",
            fix="judge the pairs in between, too: `carbench audit review --found` shows them",
        )


def _known(path: str, line: int, column: str, image: str, number_of: dict[str, int]) -> int:
    if image in number_of:
        return number_of[image]
    near = get_close_matches(image, number_of, n=1, cutoff=0.6)
    raise _wrong(
        path,
        line,
        found=f"{column} {image!r}, which is no image of this study",
        expected="an image as results/data/manifest.csv names it"
        + (f", such as {near[0]!r}" if near else ""),
        fix="correct the name, or remove the line",
    )


def _wrong(path: object, line: int, *, found: str, expected: str, fix: str) -> CarbenchError:
    return CarbenchError(path, key=f"line {line}", found=found, expected=expected, fix=fix)
