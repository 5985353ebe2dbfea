"""The log of predictions: SQLite in WAL mode, written by all workers, read while they write.

A prediction is committed before it is answered, so that a killed process loses none that was
acknowledged. (A machine that loses its power may lose the last ones: commits are not flushed to
the disk one by one.) Images are stored only on request; what is stored by default, numbers and a
hash, cannot be turned back into them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carbench.core.errors import CarbenchError

# Device and number of a file; None: there is none.
Identity = tuple[int, int] | None
# Seconds that a writer waits for another.
PATIENCE = 5.0
# Times that a log is opened again when it is moved away during a write.
ATTEMPTS = 5
# Bytes to which the write-ahead log is cut when it is not needed.
WAL_BYTES = 32_000_000
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS predictions (
    id TEXT PRIMARY KEY,       -- sorts by time
    time REAL NOT NULL,        -- seconds since 1970
    model TEXT NOT NULL,       -- its version
    sha256 TEXT NOT NULL,      -- of the image file
    top TEXT NOT NULL,         -- JSON: [class, probability] of the first three
    predicted INTEGER NOT NULL,
    confidence REAL NOT NULL,
    statistics TEXT NOT NULL,  -- JSON: of the image, by name
    embedding BLOB NOT NULL,   -- float32
    image BLOB               -- the file, if images are stored
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (model, time);
CREATE TABLE IF NOT EXISTS checks (worker INTEGER PRIMARY KEY, time REAL NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """One prediction, as it is stored; see SCHEMA."""

    id: str
    time: float
    model: str
    sha256: str
    top: list[tuple[str, float]]
    predicted: int
    confidence: float
    statistics: dict[str, float]
    embedding: bytes
    image: bytes | None


def new_id() -> str:
    """Return an id that no other process makes; ids sort by time."""
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


class PredictionLog:
    """The log, written to by any thread of a process, one at a time; one object for each process.

    If the file is deleted, moved or replaced while it is open, the next write goes to the file that
    is then at the path, which is made if there is none. SQLite itself knows nothing of that: before
    the path is opened by another connection of the process, :meth:`check` has to be called.

    Raises:
        sqlite3.Error, OSError: the file cannot be written, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._files: list[Identity] = []
        self._lock = threading.Lock()
        self.check()

    def append(self, records: Iterable[Record]) -> None:
        """Write records, all or none; when this returns they outlive the process.

        Raises:
            sqlite3.Error, OSError: they could not be written.
        """
        rows = [
            (
                *(each.id, each.time, each.model, each.sha256, json.dumps(each.top)),
                *(each.predicted, each.confidence, json.dumps(each.statistics)),
                *(each.embedding, each.image),
            )
            for each in records
        ]
        self._write("INSERT OR IGNORE INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def check(self) -> None:
        """Write a row that means nothing, to see whether the log can be written.

        Raises:
            sqlite3.Error, OSError: it cannot.
        """
        self._write("INSERT OR REPLACE INTO checks VALUES (?, ?)", [(os.getpid(), time.time())])

    def close(self) -> None:
        """Close the file, unless a write does not end."""
        if self._lock.acquire(timeout=1):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._files = []

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Commit rows to the file that is at the path before and after."""
        with self._lock:
            self._write_alone(statement, rows)

    def _write_alone(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._connection is None or self._present() != self._files:
                    self._open()
                self._commit(statement, rows)
                if self._present() == self._files:
                    return
            except (sqlite3.Error, FileNotFoundError) as error:
                code = getattr(error, "sqlite_errorcode", None)
                if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                    raise
                # Files that are taken away cause errors of many kinds; a new connection may do.
                self._close()
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0.01 * attempt)
        raise sqlite3.OperationalError("the file is moved away again and again")

    def _commit(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(statement, rows)
            connection.execute("COMMIT")
        except BaseException:
            # After some errors, such as a full disk, SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _present(self) -> list[Identity]:
        """Return which files are now at the paths of the log and of those beside it.

        While a connection is open, SQLite leaves all three of them as they are.
        """
        return [_identity(Path(f"{self._path}{ending}")) for ending in ("", "-wal", "-shm")]

    def _open(self) -> None:
        """Open the file at the path; make it if there is none.

        One process at a time: what a deleted file has left beside it must not be taken for the
        write-ahead log of its successor.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._path.parent):
            self._clear_away()
            self._close()
            # Its owner alone may read it; SQLite gives the files beside it the same mode. A file
            # that exists must not be opened here: closing it would end this process's locks on it.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            connection = sqlite3.connect(
                self._path, PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                if self._path.stat().st_size == 0:
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.executescript(SCHEMA)
                connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").fetchone()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._files = self._present()

    def _clear_away(self) -> None:
        """Remove what does not belong to the file at the path; other connections know by that.

        To be called while the old files are still open: no new file can have their numbers.
        """
        log, wal, _ = self._present()
        known_log, known_wal, _ = self._files or [None, None, None]
        if log is not None and log == known_log:
            # Its write-ahead log was taken away, and its newest rows with it. Opened again beside
            # connections that still have the old one, it would be damaged.
            self._path.rename(f"{self._path}.incomplete-{time.time_ns()}")
            log = None
        if log is None or (wal is not None and wal == known_wal):
            for ending in ("-wal", "-shm"):
                Path(f"{self._path}{ending}").unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """Return in a few words why the log cannot be written."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "its disk is full"
    return getattr(error, "strerror", None) or str(error)


def refuse_unusable(path: Path) -> None:
    """Raise :class:`CarbenchError` if predictions cannot be recorded there; make the file."""
    with explained(path):
        PredictionLog(path).close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite or the system reports into an error for a person."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        why = reason(error)
        raise CarbenchError(
            path,
            found=why,
            expected="a log of predictions that can be read and written",
            fix="free space there, or name a file on another disk with --log"
            if "full" in why
            else "name another file with --log, or give the right to write there",
        ) from None


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, for processes and threads alike."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
