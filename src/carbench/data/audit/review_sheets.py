"""Writes contact sheets of pairs for manual review, and a CSV file for the verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.core.tables import read_chunks, read_table, write_table
from carbench.data.audit.contact_sheet import IMAGES_PER_ROW, SheetImage, draw_sheet, save_sheet
from carbench.data.audit.review_table import COLUMNS, NOTHING_REVIEWED, read_review_table
from carbench.data.audit.verdicts import FOUND

PAIRS_PER_ROW = IMAGES_PER_ROW // 2
PAIRS_PER_SHEET = 20 * PAIRS_PER_ROW
TABLE = "reviewed.csv"

NamePair = tuple[str, str]


@dataclass(frozen=True)
class Review:
    """The written sheets, and the number of pairs without and with a verdict."""

    sheets: list[Path]
    waiting: int
    reviewed: int


@dataclass(frozen=True)
class PairToReview:
    """A pair to review, and what the audit measured."""

    image: str
    twin: str
    agreement: str
    mirrored: bool


def write_review(results: Path, output: Path, reviewed: Path, sample: int, found: bool) -> Review:
    """Write ``reviewed.csv`` and ``sheet-1.jpg`` ... to a folder.

    Pairs with a verdict, in the file of the study or in that of the folder, keep it and are not
    shown again. The number of a pair on the sheet is its line in the file.

    Args:
        results: the results folder of the study.
        output: the folder to write to.
        reviewed: the CSV file set as ``audit.reviewed``.
        sample: number of pairs that are not doubtful to show.
        found: show the near duplicates instead.
    """
    table = output / TABLE
    verdicts: dict[NamePair, tuple[NamePair, str]] = {}
    for path in (reviewed, table):
        if str(path) == NOTHING_REVIEWED or not path.exists():
            continue
        for _, row in read_review_table(path):
            if row["verdict"]:
                names = row["image"], row["twin"]
                verdicts[min(names), max(names)] = names, row["verdict"]

    pairs = _found_pairs(results) if found else _unconfirmed_pairs(results, sample)
    waiting = [each for each in pairs if _sorted_names(each) not in verdicts]
    output.mkdir(parents=True, exist_ok=True)
    write_table(
        table,
        [*COLUMNS, "agreement"],
        [
            *(
                {"image": image, "twin": twin, "verdict": verdict, "agreement": ""}
                for (image, twin), verdict in verdicts.values()
            ),
            *(
                {"image": p.image, "twin": p.twin, "verdict": "", "agreement": p.agreement}
                for p in waiting
            ),
        ],
    )
    for sheet in output.glob("sheet-*.jpg"):
        sheet.unlink()
    members = {image for pair in waiting for image in (pair.image, pair.twin)}
    splits = {
        image: (label, split)
        for chunk in read_chunks(results / "split/split.csv", ("image", "class", "split"))
        for image, label, split in zip(*chunk, strict=True)
        if image in members
    }
    sheets: list[Path] = []
    for start in range(0, len(waiting), PAIRS_PER_SHEET):
        shown = [
            member
            for number, pair in enumerate(waiting[start : start + PAIRS_PER_SHEET])
            for member in _sheet_images(pair, splits, len(verdicts) + start + number + 2)
        ]
        rows = [shown[n : n + IMAGES_PER_ROW] for n in range(0, len(shown), IMAGES_PER_ROW)]
        sheets.append(output / f"sheet-{len(sheets) + 1}.jpg")
        save_sheet(draw_sheet(rows, results / "data/images"), sheets[-1])
    return Review(sheets, len(waiting), len(verdicts))


def _unconfirmed_pairs(results: Path, sample: int) -> list[PairToReview]:
    """Return the doubtful pairs and the first of the others, which are in random order."""
    rows = read_table(results / "split/doubtful.csv")
    doubtful = [row for row in rows if row["doubtful"] == "1"]
    others = [row for row in rows if row["doubtful"] == "0"][:sample]
    return [
        PairToReview(row["image"], row["twin"], row["agreement"], row["mirrored"] == "1")
        for row in (*doubtful, *others)
    ]


def _found_pairs(results: Path) -> list[PairToReview]:
    columns = ("first", "second", "agreement", "mirrored", "kind")
    pairs = [
        PairToReview(first, second, agreement, mirrored == "1")
        for chunk in read_chunks(results / "audit/candidates.csv", columns)
        for first, second, agreement, mirrored, kind in zip(*chunk, strict=True)
        if kind == FOUND
    ]
    return sorted(pairs, key=lambda pair: float(pair.agreement))


def _sheet_images(
    pair: PairToReview, splits: dict[str, tuple[str, str]], line: int
) -> list[SheetImage]:
    """Return the two images of a pair with their captions."""
    caption = f"line {line}: {pair.agreement}" + (", mirrored" if pair.mirrored else "")
    return [
        SheetImage(image, *splits[image], text)
        for image, text in ((pair.image, caption), (pair.twin, "most similar image"))
    ]


def _sorted_names(pair: PairToReview) -> NamePair:
    return min(pair.image, pair.twin), max(pair.image, pair.twin)
