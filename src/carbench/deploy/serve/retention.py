"""Log retention: deleting the oldest predictions in small batches."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from carbench.deploy.serve.prediction_log import BUSY_TIMEOUT, log_errors

# Rows per transaction; writers wait for it.
BATCH_ROWS = 1000
# Pages per transaction that are returned to the file system after a deletion.
BATCH_PAGES = 1000
OLDEST_ROWS = "id IN (SELECT id FROM predictions ORDER BY id LIMIT ?)"


class Retention:
    """Retention policy: a maximum number of rows and a maximum age.

    Args:
        path: the log.
        rows: number of newest rows to keep; 0 keeps all.
        days: age in days up to which rows are kept; 0 keeps all.
    """

    def __init__(self, path: Path, rows: int, days: float) -> None:
        self._path = path
        self._rows = rows
        self._days = days

    def enforce(self) -> int:
        """Delete excess and expired rows; return their number.

        Raises:
            CarbenchError: the log cannot be read or written.
        """
        if not (self._rows or self._days) or not self._path.is_file():
            return 0
        deleted = 0
        with (
            log_errors(self._path),
            closing(sqlite3.connect(self._path, BUSY_TIMEOUT, isolation_level=None)) as connection,
        ):
            if self._days:
                # Ids start with the time, so that this needs no full scan.
                before = f"{max(time.time_ns() - int(self._days * 86_400e9), 0):016x}"
                query = f"DELETE FROM predictions WHERE id < ? AND {OLDEST_ROWS}"
                while count := connection.execute(query, (before, BATCH_ROWS)).rowcount:
                    deleted += count
            if self._rows:
                # Counted in the index, which has 60 bytes per row.
                (row_count,) = connection.execute(
                    "SELECT count(*) FROM predictions INDEXED BY predictions_by_time"
                ).fetchone()
                query = f"DELETE FROM predictions WHERE {OLDEST_ROWS}"
                for start in range(0, row_count - self._rows, BATCH_ROWS):
                    excess = min(row_count - self._rows - start, BATCH_ROWS)
                    deleted += connection.execute(query, (excess,)).rowcount
            if deleted:
                self._shrink_file(connection)
        return deleted

    def _shrink_file(self, connection: sqlite3.Connection) -> None:
        """Shrink the file. A log without auto_vacuum, from an older version, keeps its size."""
        while True:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            connection.execute(f"PRAGMA incremental_vacuum({BATCH_PAGES})").fetchall()
            (left,) = connection.execute("PRAGMA freelist_count").fetchone()
            if left == 0 or left == free:
                return
