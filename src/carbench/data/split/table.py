"""Reads split.csv, the split of each image, as columns.

With r repeated splits there is one column per split, and seed s uses split s mod r.

In k-fold cross-validation, seed s is tested on fold s mod k and validated on the next fold. Every k
consecutive seeds test each image once.

Every training run reads the table. For a million images, a Python object per row would take six
times as long and four times the memory of arrays (docs/performance.md). The CSV file is read each
time: a binary copy of it would save one or two seconds of such a training run, but would have to be
written, tracked by both engines and kept consistent with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from carbench.core.columns import Categories, Texts, integers, texts
from carbench.core.tables import damaged, read_chunks, read_header

# Prefix of the names of folds.
FOLD = "fold-"
# The splits of a training run; SplitRows.splits are indices of them.
SPLITS = ("train", "val", "test")
EXCLUDED = "excluded"


def split_column(number: int) -> str:
    """Return the column of split.csv for a split; the first split is number 0."""
    return f"split_{number}" if number else "split"


class SplitRow(NamedTuple):
    """An image that is not excluded: its class, duplicate group, split, and whether it leaked."""

    image: str
    label: str
    group: int
    split: str
    leaked: bool


@dataclass(frozen=True)
class SplitRows:
    """N images that are not excluded, in the order of split.csv.

    Attributes:
        classes: the class names of the whole table, sorted; their order is that of class indices.
        images: (N,) names.
        labels: (N,) int32 class indices.
        groups: (N,) int64 duplicate groups.
        splits: (N,) int8 indices of :data:`SPLITS`.
        leaked: (N,) bool, whether a test image has a duplicate in train or val.
    """

    classes: list[str]
    images: Texts
    labels: NDArray[np.int32]
    groups: NDArray[np.int64]
    splits: NDArray[np.int8]
    leaked: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[SplitRow]:
        """Yield the rows, for tables of a part of the images."""
        columns = (self.images, self.labels, self.groups, self.splits, self.leaked)
        for image, label, group, split, leaked in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            yield SplitRow(image, self.classes[label], group, SPLITS[split], leaked)

    def select(self, chosen: NDArray[np.intp]) -> SplitRows:
        """Return the rows at some indices."""
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            groups=self.groups[chosen],
            splits=self.splits[chosen],
            leaked=self.leaked[chosen],
        )

    def indices_of(self, split: str) -> NDArray[np.intp]:
        """Return the indices of the rows of train, val or test."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def of_split(self, split: str) -> SplitRows:
        """Return the rows of train, val or test."""
        return self.select(self.indices_of(split))


def read_split(path: Path, seed: int) -> SplitRows:
    """Return the rows of split.csv without the excluded images.

    Args:
        path: split.csv.
        seed: seed of the training run, which selects the fold or the repeated split.

    Raises:
        CarbenchError: the file is missing or damaged.
    """
    column = split_column(seed % max(count_splits(read_header(path)), 1))
    classes, split_names = Categories(), Categories()
    chunks = [
        (
            texts(images),
            classes.encode(labels),
            integers(groups, path, "group"),
            split_names.encode(splits),
            np.array([value == "1" for value in leaked]),
        )
        for images, labels, groups, splits, leaked in read_chunks(
            path, ("image", "class", "group", column, "leaked")
        )
    ]
    if not chunks:
        raise damaged(path, "no images")
    images, labels, groups, splits, leaked = map(np.concatenate, zip(*chunks, strict=True))
    del chunks  # before the rows that are used are copied
    parts = np.array(_split_indices(path, list(split_names), seed), np.int8)[splits]
    used = parts >= 0
    names, indices = classes.in_order(np.unique(labels[used]).tolist())
    rows = SplitRows(names, images, indices[labels], groups, parts, leaked)
    return rows if used.all() else rows.select(np.flatnonzero(used))


def _split_indices(path: Path, names: list[str], seed: int) -> list[int]:
    """Return the index of the split of each name in split.csv; -1 for excluded images."""
    folds = sum(name.startswith(FOLD) for name in names)
    if folds:
        used = {f"{FOLD}{seed % folds}": "test", f"{FOLD}{(seed + 1) % folds}": "val"}
        names = [name if name == EXCLUDED else used.get(name, "train") for name in names]
    unknown = set(names) - {EXCLUDED, *SPLITS}
    if unknown:
        raise damaged(path, f"split {min(unknown)!r}")
    return [-1 if name == EXCLUDED else SPLITS.index(name) for name in names]


def first_of_groups(groups: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index of the first image of each duplicate group, in order.

    Args:
        groups: (N,) duplicate group of each image.
    """
    _, first = np.unique(groups, return_index=True)
    return np.sort(first)


def count_splits(columns: Iterable[str]) -> int:
    """Return the number of repeated splits, from the column names of split.csv."""
    return sum(name == "split" or name.startswith("split_") for name in columns)
