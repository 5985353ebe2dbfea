"""Access to internals of DVC: its options, locks and stages. No decisions are made here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir, contextmanager
from pathlib import Path
from typing import Any

from carbench.engines.dvc_config import dvc_flag
from carbench.engines.engine_versions import checked_internals
from carbench.engines.locks import file_lock

# Seconds that a DVC command waits for the lock.
DVC_LOCK_TIMEOUT = 3.0


def forces_dvc_stages(arguments: list[str]) -> bool:
    """Return whether a command line of DVC runs stages even if their results are cached."""
    with checked_internals("dvc"):
        from dvc.cli.parser import get_main_parser

        options, _ = get_main_parser().parse_known_args(arguments)
        return bool(getattr(options, "force", False) or getattr(options, "no_run_cache", False))


@contextmanager
def dvc_repo(root: Path) -> Iterator[Any]:
    """Yield DVC's ``Repo``, locked against other DVC commands."""
    from dvc.repo import Repo

    with chdir(root), Repo(str(root)) as repo, repo.lock:
        yield repo


@contextmanager
def results_write_lock(root: Path, command: str) -> Iterator[None]:
    """Register this process with DVC as writing results/, so that DVC's own runs stop.

    Raises:
        BlockingIOError: a DVC command is running there; ``strerror`` names it.
        CarbenchError: DVC does not read the entry as it was written.
    """
    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    results = str((root / "results").absolute())
    repair_rwlock(root)
    with checked_internals("dvc"):
        from dvc.fs import localfs
        from dvc.lock import LockError
        from dvc.rwlock import RWLOCK_FILE, rwlock

        hardlink = dvc_flag(root, "core", "hardlink_lock")
        lock = rwlock(str(folder), localfs, command, [], [results], hardlink)
    # DVC holds the repository's lock while it plans, and an entry in rwlock while a stage runs.
    with dvc_repo_lock(root), checked_internals("dvc"):
        try:
            lock.__enter__()
        except LockError as error:
            raise BlockingIOError(None, " ".join(str(error).split())) from None
        entry = json.loads((folder / RWLOCK_FILE).read_text(encoding="utf-8"))["write"][results]
        if entry["pid"] != os.getpid():
            raise ValueError(f"{RWLOCK_FILE} contains {entry}")
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def repair_rwlock(root: Path) -> bool:
    """Remove DVC's file of readers and writers if it is damaged; return whether it was.

    DVC truncates the file before it writes it. If it is killed in between, it refuses to run.
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
    """Return the lock that every DVC command takes, without importing DVC.

    Args:
        root: the repository.
        name: the lock's file name in DVC's temporary folder.

    Raises:
        BlockingIOError: on entering, another command has held it for three seconds.
    """
    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    if dvc_flag(root, "core", "hardlink_lock"):
        return _hardlink_lock(folder, name)
    return file_lock(folder / name, DVC_LOCK_TIMEOUT)


@contextmanager
def _hardlink_lock(folder: Path, name: str) -> Iterator[None]:
    """DVC's alternative lock, for file systems without flock."""
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
