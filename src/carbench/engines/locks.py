"""File locks that are released when the process ends, even if it is killed (flock)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from carbench.core.errors import CarbenchError

FOLDER = Path(".carbench/locks")
# The kernel's start times of processes, in seconds, are this exact.
CLOCK_TICK = 0.02


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created if needed.

    Raises:
        BlockingIOError: another process has held it for ``timeout`` seconds.
    """
    lock = _create(path)
    try:
        lock.acquire(timeout)
    except Timeout:
        raise BlockingIOError(None, "another process holds it", str(path)) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def named_lock(root: Path, name: str, on_wait: Callable[[str], None] | None) -> Iterator[None]:
    """Hold a named lock of a repository, also against other machines that share the folder.

    Args:
        root: the repository.
        name: the name of the lock.
        on_wait: called once with a message if another process holds the lock; None: do not wait.

    Raises:
        BlockingIOError: ``on_wait`` is None and another process holds the lock; ``strerror`` names
            the process.
    """
    path = root / FOLDER / f"{name}.lock"
    owner = path.with_suffix(".owner")
    lock = _create(path)
    try:
        lock.acquire(0)
    except Timeout:
        holder = _read(owner) or "another process"
        if on_wait is None:
            raise BlockingIOError(None, holder, name) from None
        on_wait(f"{name} is being run by {holder}; waiting for it to finish")
        lock.acquire()
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock, and since when, in seconds since 1970."""

    process: int
    host: str
    since: float


def lock_holder(root: Path, name: str) -> LockHolder | None:
    """Return the process that holds a named lock; None if none does.

    The lock itself is not touched: taking it for a moment could make a job wait. Of a process on
    another host it is not known whether it was killed.
    """
    owner = root / FOLDER / f"{name}.owner"
    found = re.fullmatch(r"process (\d+) on (.+)", _read(owner))
    if found is None:
        return None
    try:
        holder = LockHolder(int(found[1]), found[2], owner.stat().st_mtime)
        if holder.host == socket.gethostname():
            # A process that started later has only the same number as one that was killed.
            started = psutil.Process(holder.process).create_time()
            return holder if started <= holder.since + CLOCK_TICK else None
    except (OSError, psutil.Error):  # released in the meantime, or killed
        return None
    return holder


def _create(path: Path) -> FileLock:
    """Return the lock on a file, whatever the file contains.

    Raises:
        CarbenchError: the path or its folder is something else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise CarbenchError(
            path,
            found=str(error.strerror).lower(),
            expected="a lock file in a folder",
            fix=f"remove {error.filename}; it contains no results",
        ) from None
    # The fallback, a file that exists while the lock is held, would survive a killed process.
    return FileLock(path, fallback_to_soft=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
