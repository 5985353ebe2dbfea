"""Subsets of the test images that may be harder than others: by image size or by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbench.params.evaluate import Slice

TERCILES = ("small", "medium", "large")


def group_by_slice(rows: Sequence[Mapping[str, Any]], by: Slice) -> dict[str, list[int]]:
    """Return the subsets of a slice in their natural order, each with its row indices.

    Args:
        rows: rows of predictions.csv: class, width, height.
        by: ``size`` (terciles of width times height) or ``class``.
    """
    if by == "size":
        names = terciles([int(row["width"]) * int(row["height"]) for row in rows])
        order = sorted(names, key=lambda name: TERCILES.index(name.partition(" ")[0]))
    else:
        names = [row["class"] for row in rows]
        order = sorted(names)
    parts: dict[str, list[int]] = {name: [] for name in order}
    for index, name in enumerate(names):
        parts[name].append(index)
    return parts


def terciles(areas: Sequence[int]) -> list[str]:
    """Return the size tercile of each image, with its range.

    Images of equal size are always in the same tercile: if sizes repeat, a tercile may contain more
    than a third of the images, or be missing.

    Args:
        areas: width times height of each image's file, in pixels.

    Returns:
        Names such as ``medium (41,808 to 62,500 pixels)``.
    """
    ordered = sorted(areas)
    # The largest areas of the first and of the second third.
    cuts = [ordered[-(-len(ordered) * third // 3) - 1] for third in (1, 2)] if ordered else []
    sizes = [TERCILES[sum(area > cut for cut in cuts)] for area in areas]
    names = {}
    for size in set(sizes):
        own = [area for area, its in zip(areas, sizes, strict=True) if its == size]
        names[size] = f"{size} ({min(own):,} to {max(own):,} pixels)"
    return [names[size] for size in sizes]
