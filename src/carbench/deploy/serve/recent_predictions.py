"""Reading the newest predictions from the prediction log, for drift detection."""

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
from carbench.deploy.serve.prediction_log import BUSY_TIMEOUT, log_errors

# Maximum number of rows to read, in case the same files are sent again and again.
MAX_ROWS = 50_000
# Newest first, along the index.
QUERY = """
    SELECT sha256, statistics, predicted, confidence, embedding FROM predictions
    WHERE model = ? AND time >= ? ORDER BY time DESC LIMIT ?
"""


def read_recent_predictions(
    path: Path, model: str, last: int | None, since: datetime | None
) -> Observations:
    """Return the observations of the newest images for a model version, newest last.

    A file that was sent several times counts once. Only the newest ``MAX_ROWS`` predictions are
    read.

    Args:
        path: the log.
        model: the model version.
        last: maximum number of images.
        since: ignore older predictions.

    Raises:
        CarbenchError: the log does not exist or cannot be read.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            found="nothing",
            expected="the log that `carbench serve` writes",
            fix="specify it with --log",
        )
    newest: dict[str, tuple[Any, ...]] = {}
    address = f"{path.absolute().as_uri()}?mode=ro"
    oldest = since.timestamp() if since else 0.0
    with log_errors(path), closing(sqlite3.connect(address, BUSY_TIMEOUT, uri=True)) as connection:
        for sha256, *row in connection.execute(QUERY, (model, oldest, MAX_ROWS)):
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
