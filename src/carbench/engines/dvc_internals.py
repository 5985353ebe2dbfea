"""DVC from the inside: its options, its locks, its stages. Nothing here decides anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from carbench.engines.dvc_config import dvc_flag
from carbench.engines.engine_versions import checked_internals, inside
from carbench.engines.locks import flocked

# Seconds that a DVC command waits for the lock.
DVC_PATIENCE = 3.0


def forces_dvc_stages(words: list[str]) -> bool:
    """Say whether a command line of DVC asks to run stages in spite of what is known of them."""
    with checked_internals("dvc"):
        from dvc.cli.parser import get_main_parser

        asked, _ = get_main_parser().parse_known_args(words)
        return bool(getattr(asked, "force", False) or getattr(asked, "no_run_cache", False))


@contextmanager
def dvc_repo(root: Path) -> Iterator[Any]:
    """Yield DVC's view of the repository, locked against other DVC commands."""
    from dvc.repo import Repo

    with inside(root), Repo(str(root)) as repo, repo.lock:
        yield repo


@contextmanager
def results_write_lock(root: Path, command: str) -> Iterator[None]:
    """Tell DVC that this process writes into results/, so that its own runs say so and stop.

    Raises:
        BlockingIOError: a DVC command is at work there; its ``strerror`` names it.
        CarbenchError: DVC does not see what was written for it.
    """
    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    written = str((root / "results").absolute())
    repair_rwlock(root)
    with checked_internals("dvc"):
        from dvc.fs import localfs
        from dvc.lock import LockError
        from dvc.rwlock import RWLOCK_FILE, rwlock

        hardlink = dvc_flag(root, "core", "hardlink_lock")
        taken = rwlock(str(folder), localfs, command, [], [written], hardlink)
    # DVC holds the first while it looks and decides, an entry of the second while a stage runs.
    with dvc_repo_lock(root), checked_internals("dvc"):
        try:
            taken.__enter__()
        except LockError as error:
            raise BlockingIOError(None, " ".join(str(error).split())) from None
        entry = json.loads((folder / RWLOCK_FILE).read_text(encoding="utf-8"))["write"][written]
        if entry["pid"] != os.getpid():
            raise ValueError(f"{RWLOCK_FILE} says {entry}")
    try:
        yield
    finally:
        taken.__exit__(None, None, None)


def repair_rwlock(root: Path) -> bool:
    """Remove DVC's list of who reads and writes if DVC cannot read it; say whether that was so.

    DVC empties the file and then fills it. Killed between the two it refuses to run ever after.
    """
    folder = root / ".dvc/tmp"
    with checked_internals("dvc"):
        from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
        from voluptuous import Invalid

    path = folder / RWLOCK_FILE
    if not path.is_file():
        return False
    with dvc_repo_lock(root, RWLOCK_LOCK):
        try:
            SCHEMA(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, Invalid):
            path.unlink()
            return True
    return False


def dvc_repo_lock(root: Path, name: str = "lock") -> AbstractContextManager[None]:
    """Return the lock that every DVC command takes, as DVC does but without loading DVC.

    Args:
        root: the repository.
        name: of the lock, in DVC's temporary folder.

    Raises:
        BlockingIOError: on entering, another command has held it for three seconds.
    """
    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    if dvc_flag(root, "core", "hardlink_lock"):
        return _linked_lock(folder, name)
    return flocked(folder / name, DVC_PATIENCE)


@contextmanager
def _linked_lock(folder: Path, name: str) -> Iterator[None]:
    """DVC's other kind of lock, for file systems without flock."""
    with checked_internals("dvc"):
        from dvc.lock import LockError, make_lock

        lock = make_lock(str(folder / name), tmp_dir=str(folder), hardlink_lock=True)
    try:
        lock.lock()
    except LockError as error:
        raise BlockingIOError(None, " ".join(str(error).split())) from None
    try:
        yield
    finally:
        lock.unlock()
