"""Locks that a death releases: the kernel holds them, not a file's existence."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from carbench.core.errors import CarbenchError

FOLDER = Path(".carbench/locks")


@contextmanager
def flocked(path: Path, patience: float) -> Iterator[None]:
    """Hold the kernel's lock on a file, which is made if need be.

    Raises:
        BlockingIOError: another process has held it for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    with _opened(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BlockingIOError(None, "another process holds it", str(path)) from None
                time.sleep(0.05)
        yield


@contextmanager
def named_lock(root: Path, name: str, waiting: Callable[[str], None] | None) -> Iterator[None]:
    """Hold the lock ``name`` of a repository; others wait, on any machine that shares the folder.

    Args:
        root: the repository.
        name: what is locked.
        waiting: told once, in a sentence, that another process holds the lock; None: do not wait.

    Raises:
        BlockingIOError: ``waiting`` is None and another process holds the lock; ``strerror`` names
            it.
    """
    path = root / FOLDER / f"{name}.lock"
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            if waiting is None:
                raise BlockingIOError(None, holder, name) from None
            waiting(f"{name} is being made by {holder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _opened(path: Path) -> IO[str]:
    """Open the file of a lock, whatever it holds.

    Raises:
        CarbenchError: something else lies there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise CarbenchError(
            path,
            found=str(error.strerror).lower(),
            expected="the file of a lock, in a folder",
            fix=f"remove {error.filename}; it holds no results",
        ) from None
