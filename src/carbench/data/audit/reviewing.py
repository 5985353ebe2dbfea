"""Lays pairs of images out for a person to judge: contact sheets, and a CSV to write in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.core.tables import read_table, write_table
from carbench.data.audit.contact_sheet import MOST_IN_ROW, Member, draw, save
from carbench.data.audit.reviewed import COLUMNS, NOTHING_REVIEWED, read_verdicts
from carbench.data.audit.words import FOUND

PAIRS_IN_ROW = MOST_IN_ROW // 2
PAIRS_ON_SHEET = 20 * PAIRS_IN_ROW
TABLE = "reviewed.csv"

Keys = tuple[str, str]


@dataclass(frozen=True)
class Laid:
    """What was laid out: sheets, and how many pairs wait for a verdict or have one."""

    sheets: list[Path]
    waiting: int
    judged: int


@dataclass(frozen=True)
class Shown:
    """A pair to judge, and what the audit says of it."""

    image: str
    twin: str
    agreement: str
    mirrored: bool


def lay_out(results: Path, output: Path, reviewed: Path, sample: int, found: bool) -> Laid:
    """Write ``reviewed.csv`` and ``sheet-1.jpg`` ... to a folder.

    Pairs that have a verdict, in the file of the study or in that of the folder, keep it in the
    file and are not shown again. A pair's number on the sheet is its line in the file.

    Args:
        results: the study's results.
        output: the folder to write to.
        reviewed: the CSV that the study reads.
        sample: how many pairs that are not doubtful to show.
        found: show the pairs that the audit found instead.
    """
    table = output / TABLE
    verdicts: dict[Keys, tuple[Keys, str]] = {}
    for path in (reviewed, table):
        if str(path) == NOTHING_REVIEWED or not path.exists():
            continue
        for _, row in read_verdicts(path):
            if row["verdict"]:
                names = row["image"], row["twin"]
                verdicts[min(names), max(names)] = names, row["verdict"]

    pairs = _found(results) if found else _doubted(results, sample)
    waiting = [each for each in pairs if _key(each) not in verdicts]
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
    parts = {row["image"]: row for row in read_table(results / "split/split.csv")}
    sheets: list[Path] = []
    for start in range(0, len(waiting), PAIRS_ON_SHEET):
        members = [
            member
            for number, pair in enumerate(waiting[start : start + PAIRS_ON_SHEET])
            for member in _members(pair, parts, len(verdicts) + start + number + 2)
        ]
        rows = [members[n : n + MOST_IN_ROW] for n in range(0, len(members), MOST_IN_ROW)]
        sheets.append(output / f"sheet-{len(sheets) + 1}.jpg")
        save(draw(rows, results / "data/images"), sheets[-1])
    return Laid(sheets, len(waiting), len(verdicts))


def _doubted(results: Path, sample: int) -> list[Shown]:
    """The doubtful pairs, and the first of the others, which stand in a random order."""
    rows = read_table(results / "split/doubtful.csv")
    doubtful = [row for row in rows if row["doubtful"] == "1"]
    others = [row for row in rows if row["doubtful"] == "0"][:sample]
    return [
        Shown(row["image"], row["twin"], row["agreement"], row["mirrored"] == "1")
        for row in (*doubtful, *others)
    ]


def _found(results: Path) -> list[Shown]:
    rows = [row for row in read_table(results / "audit/candidates.csv") if row["kind"] == FOUND]
    return [
        Shown(row["first"], row["second"], row["agreement"], row["mirrored"] == "1")
        for row in sorted(rows, key=lambda row: float(row["agreement"]))
    ]


def _members(pair: Shown, parts: dict[str, dict[str, str]], line: int) -> list[Member]:
    """The two prints of a pair, with what stands below them."""
    alike = f"line {line}: {pair.agreement}" + (", mirrored" if pair.mirrored else "")
    return [
        Member(image, parts[image]["class"], parts[image]["split"], text)
        for image, text in ((pair.image, alike), (pair.twin, "the most like it"))
    ]


def _key(pair: Shown) -> Keys:
    return min(pair.image, pair.twin), max(pair.image, pair.twin)
