"""Reads split.csv, the split of each image.

With r repeated splits there is one column per split, and seed s uses split s mod r.

In k-fold cross-validation, seed s is tested on fold s mod k and validated on the next fold. Every k
consecutive seeds test each image once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from carbench.core.tables import read_table

# Prefix of the names of folds.
FOLD = "fold-"


def split_column(number: int) -> str:
    """Return the column of split.csv for a split; the first split is number 0."""
    return f"split_{number}" if number else "split"


@dataclass(frozen=True)
class SplitRow:
    """An image that is not excluded: its class, duplicate group, split, and whether it leaked."""

    image: str
    label: str
    group: int
    split: str
    leaked: bool


def read_split(path: Path, seed: int) -> list[SplitRow]:
    """Return the rows of split.csv without the excluded images, in file order.

    Args:
        path: split.csv.
        seed: seed of the training run, which selects the fold or the repeated split.
    """
    rows = _rows(path, seed)
    folds = sum(name.startswith(FOLD) for name in {row.split for row in rows})
    if not folds:
        return rows
    split_of_fold = {f"{FOLD}{seed % folds}": "test", f"{FOLD}{(seed + 1) % folds}": "val"}
    return [replace(row, split=split_of_fold.get(row.split, "train")) for row in rows]


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
    """Return the number of repeated splits, from the column names of split.csv."""
    return sum(name == "split" or name.startswith("split_") for name in columns)


def _rows(path: Path, seed: int = 0) -> list[SplitRow]:
    table = read_table(path, ("image", "class", "group", "split", "leaked"))
    column = split_column(seed % count_splits(table[0])) if table else "split"
    rows = [
        SplitRow(row["image"], row["class"], int(row["group"]), row[column], row["leaked"] == "1")
        for row in table
    ]
    return [row for row in rows if row.split != "excluded"]
