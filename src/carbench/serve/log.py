"""The log of predictions: SQLite in WAL mode, written by all workers, read while they write.

A prediction is in the log before it is answered, so that a process that is killed loses none that
was acknowledged. (A machine that loses its power may lose the last ones: commits are not flushed to
the disk one by one.) A picture itself is kept only if that was asked for; what is kept of it by
default, numbers and a hash, cannot be turned back into it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from carbench.deployed.observations import Observations
from carbench.errors import CarbenchError
from carbench.pictures.statistics import IMAGE_STATISTICS

# Seconds that a writer waits for another.
PATIENCE = 10.0
TABLE = """
CREATE TABLE IF NOT EXISTS predictions (
    id TEXT PRIMARY KEY,       -- sorts by time
    time REAL NOT NULL,        -- seconds since 1970
    model TEXT NOT NULL,       -- its version
    sha256 TEXT NOT NULL,      -- of the picture's file
    top TEXT NOT NULL,         -- JSON: [class, probability] of the first three
    predicted INTEGER NOT NULL,
    confidence REAL NOT NULL,
    statistics TEXT NOT NULL,  -- JSON: of the picture, by name
    embedding BLOB NOT NULL,   -- float32
    picture BLOB               -- the file, if pictures are kept
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Record:
    """One prediction, as it is kept; see TABLE."""

    id: str
    time: float
    model: str
    sha256: str
    top: list[tuple[str, float]]
    predicted: int
    confidence: float
    statistics: dict[str, float]
    embedding: bytes
    picture: bytes | None


def new_id() -> str:
    """Return an id that no other process makes; ids sort by time."""
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


class PredictionLog:
    """The log, to be written to from one thread.

    Raises:
        CarbenchError: the file cannot be written, or is something else.
    """

    def __init__(self, path: Path) -> None:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Each statement is a transaction of its own, unless BEGIN is written.
            self._connection = sqlite3.connect(path, PATIENCE, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(TABLE)

    def append(self, records: Iterable[Record]) -> None:
        """Write records, all or none; when this returns they outlive the process.

        Raises:
            sqlite3.Error: they could not be written.
        """
        rows = [
            (
                *(each.id, each.time, each.model, each.sha256, json.dumps(each.top)),
                *(each.predicted, each.confidence, json.dumps(each.statistics)),
                *(each.embedding, each.picture),
            )
            for each in records
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(
                "INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def read_window(path: Path, model: str, last: int | None, since: datetime | None) -> Observations:
    """Return what was recorded of the newest pictures of a model's version, the newest last.

    A file that was sent several times counts once: it says as much as one.

    Args:
        path: the log.
        model: the version.
        last: pictures, at most.
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
    query = """
        SELECT sha256, statistics, predicted, confidence, embedding FROM predictions
        WHERE model = ? AND time >= ? ORDER BY id DESC
    """
    newest: dict[str, tuple[Any, ...]] = {}
    address = f"{path.absolute().as_uri()}?mode=ro"
    with _told(path), closing(sqlite3.connect(address, PATIENCE, uri=True)) as connection:
        for sha256, *row in connection.execute(query, (model, since.timestamp() if since else 0)):
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


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite or the system says into an error for a person."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CarbenchError(
            path,
            found=f"{error}",
            expected="a log of predictions that can be read and written",
            fix="name another file with --log, or give the right to write there",
        ) from None
