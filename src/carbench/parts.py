"""Reads split.csv: which pictures belong to which part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carbench.tables import read_table


@dataclass(frozen=True)
class SplitRow:
    """A picture that takes part: its class, duplicate group, part, and whether it is leaked."""

    image: str
    label: str
    group: int
    split: str
    leaked: bool


def read_split(path: Path) -> list[SplitRow]:
    """Return the rows of split.csv without the excluded pictures, in file order."""
    rows = [
        SplitRow(row["image"], row["class"], int(row["group"]), row["split"], row["leaked"] == "1")
        for row in read_table(path, ("image", "class", "group", "split", "leaked"))
    ]
    return [row for row in rows if row.split != "excluded"]


def classes_of(rows: list[SplitRow]) -> list[str]:
    """Return the class names in the order of the class indices: sorted."""
    return sorted({row.label for row in rows})
