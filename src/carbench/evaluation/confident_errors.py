"""Selection of the most confident wrong predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Mapping[str, Any])


def most_confident_errors(rows: Iterable[Row], at_most: int) -> list[Row]:
    """Return the wrong predictions, the most confident first, one per duplicate group.

    Args:
        rows: rows of predictions.csv: image, class, group, predicted, confidence.
        at_most: maximum number of predictions.
    """
    wrong = [row for row in rows if row["class"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["confidence"]), row["image"]))
    first_of_group: dict[str, Row] = {}
    for row in wrong:
        first_of_group.setdefault(str(row["group"]), row)
    return list(first_of_group.values())[:at_most]
