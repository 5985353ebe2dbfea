"""Atomic output: files and folders appear under their final name complete, or not at all.

Everything is written under a temporary name in the target's folder and moved by one rename. The
name of a staging folder holds its owner, host and process, so that those of killed processes can be
removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = socket.gethostname()


@contextmanager
def staging_folder(folder: Path, owner: str = "") -> Iterator[Path]:
    """Yield an empty temporary folder inside ``folder``; it is removed on exit.

    ``folder`` is created if needed. Staging folders that killed processes left in it are removed.

    Args:
        folder: the folder of the target.
        owner: the job that the caller runs, if it holds the job's lock. All other staging folders
            of the job are then those of killed processes, also of processes on other machines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale_staging_folders(folder, owner)
    staging = folder / f".incomplete-{owner}~{HOST}~{os.getpid()}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_stale_staging_folders(folder: Path, owner: str = "") -> None:
    """Remove the staging folders of an owner, and of processes on this machine that have ended."""
    for staging in folder.glob(".incomplete-*~*~*"):
        staging_owner, host, pid = staging.name.removeprefix(".incomplete-").split("~")
        own = bool(owner) and staging_owner == owner
        # A folder with our own id was left by an earlier process that had the same id.
        ended = host == HOST and (int(pid) == os.getpid() or not _is_running(int(pid)))
        if own or ended:
            shutil.rmtree(staging, ignore_errors=True)


def move_into_place(source: Path, target: Path) -> None:
    """Replace ``target`` by a file or folder; a symbolic link is not followed."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    source.replace(target)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, which it replaces unless an exception is raised."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8; parent folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
