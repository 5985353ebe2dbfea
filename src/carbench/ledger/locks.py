"""Locks that a death releases: the kernel holds them, not a file's existence."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(".carbench/locks")


@contextmanager
def held(root: Path, name: str, waiting: Callable[[str], None] | None) -> Iterator[None]:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8").strip() or "another process"
            if waiting is None:
                raise BlockingIOError(None, holder, name) from None
            waiting(f"{name} is being made by {holder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
