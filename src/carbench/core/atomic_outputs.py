"""Drafts: what is being made lies beside its place, in a folder that says who makes it.

Outputs are complete or absent: what was made whole moves to its place by a rename, and what a
killed process left is removed by the next one that makes something in the same folder.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = f".incomplete-{socket.gethostname()}-"


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """Yield an empty folder in ``folder``, which is made if need be; it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    draft = folder / f"{PREFIX}{os.getpid()}"
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts in a folder whose makers on this machine have ended."""
    for draft in folder.glob(f"{PREFIX}*"):
        pid = int(draft.name.removeprefix(PREFIX))
        # One with our own number is of a process that had it before us.
        if pid == os.getpid() or not _is_running(pid):
            shutil.rmtree(draft, ignore_errors=True)


def replace(draft: Path, target: Path) -> None:
    """Let a file or folder take the place of its namesake, which a link only points to."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    draft.replace(target)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
