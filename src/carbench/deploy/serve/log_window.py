"""Reading the newest predictions from the log, for drift detection."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.data.images.statistics import IMAGE_STATISTICS
from carbench.deploy.bundle.observations import Observations
from carbench.deploy.serve.log import PATIENCE, explained

# Rows that are read at most: files that are sent again and again must not make a scan endless.
MOST_ROWS = 50_000
# Newest first, along the index.
QUERY = """
    SELECT sha256, statistics, predicted, confidence, embedding FROM predictions
    WHERE model = ? AND time >= ? ORDER BY time DESC LIMIT ?
"""


def read_window(path: Path, model: str, last: int | None, since: datetime | None) -> Observations:
    """Return what was recorded of the newest images of a model's version, the newest last.

    A file that was sent several times counts once: it says as much as one. Of the newest
    ``MOST_ROWS`` predictions; older ones are not read.

    Args:
        path: the log.
        model: the version.
        last: images, at most.
        since: no older ones.

    Raises:
        CarbenchError: there is no log, or it cannot be read.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            found="nothing",
            expected="the log that `carbench serve` writes",
            fix="name it with --log",
        )
    newest: dict[str, tuple[Any, ...]] = {}
    address = f"{path.absolute().as_uri()}?mode=ro"
    oldest = since.timestamp() if since else 0.0
    with explained(path), closing(sqlite3.connect(address, PATIENCE, uri=True)) as connection:
        for sha256, *row in connection.execute(QUERY, (model, oldest, MOST_ROWS)):
            newest.setdefault(sha256, tuple(row))
            if len(newest) == last:
                break
    return _observations(list(newest.values())[::-1])


def _observations(rows: list[tuple[Any, ...]]) -> Observations:
    statistics = [json.loads(row[0]) for row in rows]
    embedding = [np.frombuffer(row[3], np.float32) for row in rows]
    return Observations(
        {
            name: np.array([each[name] for each in statistics], np.float64)
            for name in IMAGE_STATISTICS
        },
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.stack(embedding) if rows else np.empty((0, 0), np.float32),
    )
