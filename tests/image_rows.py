"""Tables of images written as rows in a test, and as columns for what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from carbench.core.columns import texts
from carbench.data.split.assignment import Assignments, GroupedImages
from carbench.data.split.table import SPLITS, SplitRow, SplitRows


class GroupedImage(NamedTuple):
    """A row of groups.csv without the column ``exact``."""

    image: str
    label: str
    published: str
    group: int


class Assignment(NamedTuple):
    """A row of split.csv: the split, and whether the image is leaked."""

    split: str
    leaked: bool


def grouped_images(rows: Sequence[GroupedImage]) -> GroupedImages:
    """Return the columns of images that are all different files."""
    classes = sorted({row.label for row in rows})
    return GroupedImages(
        classes,
        texts([row.image for row in rows]),
        np.array([classes.index(row.label) for row in rows], np.int32),
        texts([row.published for row in rows]),
        np.array([row.group for row in rows], np.int64),
        np.arange(len(rows)),
    )


def assignments(table: Assignments) -> list[Assignment]:
    """Return the rows."""
    return list(map(Assignment, table.splits.tolist(), table.leaked.tolist()))


def split_rows(rows: Sequence[SplitRow]) -> SplitRows:
    """Return the columns."""
    classes = sorted({row.label for row in rows})
    return SplitRows(
        classes,
        texts([row.image for row in rows]),
        np.array([classes.index(row.label) for row in rows], np.int32),
        np.array([row.group for row in rows], np.int64),
        np.array([SPLITS.index(row.split) for row in rows], np.int8),
        np.array([row.leaked for row in rows], bool),
    )
