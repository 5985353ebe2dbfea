"""Reads split.csv: which images belong to which part.

A split that was dealt several times has a column for each time, and the seed of a training says
which of the r it uses: number s mod r.

In a k-fold split a part is a fold, and the seed of a training says which fold judges it: seed s is
tested on fold s mod k and chooses by the next one. Every k seeds in a row test every image once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from carbench.core.tables import read_table

# What the parts of a k-fold split are called, before their number.
FOLD = "fold-"


def split_column(number: int) -> str:
    """Return the column of split.csv that holds the parts of a split; the first is number 0."""
    return f"split_{number}" if number else "split"


@dataclass(frozen=True)
class SplitRow:
    """An image that takes part: its class, duplicate group, part, and whether it is leaked."""

    image: str
    label: str
    group: int
    split: str
    leaked: bool


def read_split(path: Path, seed: int) -> list[SplitRow]:
    """Return the rows of split.csv without the excluded images, in file order.

    Args:
        path: split.csv.
        seed: of the training that asks; it decides where there are folds or several splits.
    """
    rows = _rows(path, seed)
    folds = sum(name.startswith(FOLD) for name in {row.split for row in rows})
    if not folds:
        return rows
    parts = {f"{FOLD}{seed % folds}": "test", f"{FOLD}{(seed + 1) % folds}": "val"}
    return [replace(row, split=parts.get(row.split, "train")) for row in rows]


def read_classes(path: Path) -> list[str]:
    """Return the class names of split.csv in the order of the class indices."""
    return classes_of(_rows(path))


def classes_of(rows: list[SplitRow]) -> list[str]:
    """Return the class names in the order of the class indices: sorted."""
    return sorted({row.label for row in rows})


def first_of_groups(rows: list[SplitRow]) -> list[SplitRow]:
    """Return the first image of each duplicate group, in order."""
    first: dict[int, SplitRow] = {}
    for row in rows:
        first.setdefault(row.group, row)
    return list(first.values())


def count_splits(columns: Iterable[str]) -> int:
    """Return how often the images were dealt, from the column names of split.csv."""
    return sum(name == "split" or name.startswith("split_") for name in columns)


def _rows(path: Path, seed: int = 0) -> list[SplitRow]:
    table = read_table(path, ("image", "class", "group", "split", "leaked"))
    column = split_column(seed % count_splits(table[0])) if table else "split"
    rows = [
        SplitRow(row["image"], row["class"], int(row["group"]), row[column], row["leaked"] == "1")
        for row in table
    ]
    return [row for row in rows if row.split != "excluded"]
