"""The prediction log: an SQLite database in WAL mode that all workers write to concurrently.

A prediction is committed before the response is sent, so that no acknowledged prediction is lost if
a process is killed. (After a power failure the last ones may be missing: commits are not flushed to
disk one by one.) Images are stored only on request; the numbers and the hash that are stored by
default do not allow an image to be reconstructed.
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

# Device and inode of a file; None: it does not exist.
FileId = tuple[int, int] | None
# Seconds that a writer waits for another writer.
BUSY_TIMEOUT = 5.0
# Attempts to write if the file is moved or deleted meanwhile.
MAX_ATTEMPTS = 5
# Size in bytes to which the write-ahead log is truncated after a checkpoint.
MAX_WAL_BYTES = 32_000_000
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS predictions (
    id TEXT PRIMARY KEY,       -- sorts by time
    time REAL NOT NULL,        -- seconds since 1970
    model TEXT NOT NULL,       -- its version
    sha256 TEXT NOT NULL,      -- of the image file
    top TEXT NOT NULL,         -- JSON: [class, probability] of the top three
    predicted INTEGER NOT NULL,
    confidence REAL NOT NULL,
    statistics TEXT NOT NULL,  -- JSON: image statistics by name
    embedding BLOB NOT NULL,   -- float32
    image BLOB               -- the file, if images are stored
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (model, time);
CREATE TABLE IF NOT EXISTS checks (worker INTEGER PRIMARY KEY, time REAL NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """One prediction, as stored; see SCHEMA."""

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
    """Return an id that is unique across processes; ids sort by time."""
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


class PredictionLog:
    """Thread-safe writer of the log; one instance per process.

    If the file is deleted, moved or replaced while it is open, the next write goes to the file that
    is then at the path, which is created if necessary. SQLite does not detect this: call
    :meth:`check` before the process opens the path with another connection.

    Raises:
        sqlite3.Error, OSError: the file cannot be written, or is not a prediction log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._files: list[FileId] = []
        self._lock = threading.Lock()
        self.check()

    def append(self, records: Iterable[Record]) -> None:
        """Write records in one transaction; once this returns, they survive a killed process.

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
        """Check that the log is writable, by writing a row to a separate table.

        Raises:
            sqlite3.Error, OSError: the log cannot be written.
        """
        self._write("INSERT OR REPLACE INTO checks VALUES (?, ?)", [(os.getpid(), time.time())])

    def close(self) -> None:
        """Close the file, unless a write is blocked."""
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
        """Commit rows to the file that is at the path, before and after the write."""
        with self._lock:
            self._write_locked(statement, rows)

    def _write_locked(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                if self._connection is None or self._current_files() != self._files:
                    self._open()
                self._commit(statement, rows)
                if self._current_files() == self._files:
                    return
            except (sqlite3.Error, FileNotFoundError) as error:
                code = getattr(error, "sqlite_errorcode", None)
                if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                    raise
                # Removed files cause various errors; reconnecting may help.
                self._close()
                if attempt == MAX_ATTEMPTS:
                    raise
                time.sleep(0.01 * attempt)
        raise sqlite3.OperationalError("the file was moved or replaced repeatedly during the write")

    def _commit(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(statement, rows)
            connection.execute("COMMIT")
        except BaseException:
            # After some errors, such as a full disk, SQLite has already rolled back.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _current_files(self) -> list[FileId]:
        """Return the identity of the log and of its -wal and -shm files.

        SQLite does not replace any of them while a connection is open.
        """
        return [_file_id(Path(f"{self._path}{ending}")) for ending in ("", "-wal", "-shm")]

    def _open(self) -> None:
        """Open the file at the path; create it if necessary.

        Only one process at a time: the -wal file that a deleted log has left must not be used as
        that of a new one.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _folder_lock(self._path.parent):
            self._remove_stale_files()
            self._close()
            # Readable by the owner only; SQLite gives the -wal and -shm files the same mode. Do not
            # open an existing file here: closing it would release this process's locks on it.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            connection = sqlite3.connect(
                self._path, BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                if self._path.stat().st_size == 0:
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.executescript(SCHEMA)
                connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}").fetchone()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._files = self._current_files()

    def _remove_stale_files(self) -> None:
        """Remove files that do not belong to the log at the path; other connections notice that.

        Call this while the old files are still open, so that no new file can reuse their inodes.
        """
        log, wal, _ = self._current_files()
        known_log, known_wal, _ = self._files or [None, None, None]
        if log is not None and log == known_log:
            # Its write-ahead log was removed, and its newest rows with it. Reopening it while other
            # connections still use the old one would corrupt it.
            self._path.rename(f"{self._path}.incomplete-{time.time_ns()}")
            log = None
        if log is None or (wal is not None and wal == known_wal):
            for ending in ("-wal", "-shm"):
                Path(f"{self._path}{ending}").unlink(missing_ok=True)


def failure_reason(error: Exception) -> str:
    """Return why the log cannot be written, in a few words."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return getattr(error, "strerror", None) or str(error)


def require_usable_log(path: Path) -> None:
    """Create the log if necessary; raise :class:`CarbenchError` if it cannot be written."""
    with log_errors(path):
        PredictionLog(path).close()


@contextmanager
def log_errors(path: Path) -> Iterator[None]:
    """Convert errors of SQLite and of the operating system to :class:`CarbenchError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        found = failure_reason(error)
        raise CarbenchError(
            path,
            found=found,
            expected="a prediction log that can be read and written",
            fix="free disk space, or specify a file on another disk with --log"
            if "full" in found
            else "specify another file with --log, or grant write permission",
        ) from None


def _file_id(path: Path) -> FileId:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, across processes and threads."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support this
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
