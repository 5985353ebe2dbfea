"""Retention: deleting the oldest predictions from the log, a little at a time."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from carbench.deploy.serve.log import PATIENCE, explained

# Rows of a transaction: those who record predictions wait for it.
AT_A_TIME = 1000
# Pages that are given back to the disk after a deletion, in a transaction of their own.
PAGES = 1000
OLDEST = "id IN (SELECT id FROM predictions ORDER BY id LIMIT ?)"


class Retention:
    """Keeps the newest rows, and none beyond an age.

    Args:
        path: the log.
        rows: to keep; 0 keeps all.
        days: to keep; 0 keeps all.
    """

    def __init__(self, path: Path, rows: int, days: float) -> None:
        self._path = path
        self._rows = rows
        self._days = days

    def enforce(self) -> int:
        """Delete what is too much or too old; return how many rows.

        Raises:
            CarbenchError: the log cannot be read or written.
        """
        if not (self._rows or self._days) or not self._path.is_file():
            return 0
        deleted = 0
        with (
            explained(self._path),
            closing(sqlite3.connect(self._path, PATIENCE, isolation_level=None)) as connection,
        ):
            if self._days:
                # Ids begin with the time, so that the oldest rows are found without a scan.
                before = f"{max(time.time_ns() - int(self._days * 86_400e9), 0):016x}"
                query = f"DELETE FROM predictions WHERE id < ? AND {OLDEST}"
                while count := connection.execute(query, (before, AT_A_TIME)).rowcount:
                    deleted += count
            if self._rows:
                # Counted along the index, 60 bytes a row.
                (found,) = connection.execute(
                    "SELECT count(*) FROM predictions INDEXED BY predictions_by_time"
                ).fetchone()
                query = f"DELETE FROM predictions WHERE {OLDEST}"
                for done in range(0, found - self._rows, AT_A_TIME):
                    too_many = min(found - self._rows - done, AT_A_TIME)
                    deleted += connection.execute(query, (too_many,)).rowcount
            if deleted:
                self._give_back(connection)
        return deleted

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Shrink the file. A log that an older version has made keeps its size for new rows."""
        while True:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
            (left,) = connection.execute("PRAGMA freelist_count").fetchone()
            if left == 0 or left == free:
                return
