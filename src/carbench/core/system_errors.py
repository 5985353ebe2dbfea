"""What the operating system refused, as a sentence with a fix: a full disk above all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota is used up",
    errno.EFBIG: "a file would be larger than allowed",
}
# What libraries say that write files themselves and keep the system's reason to themselves.
HINTS = ("no space left", "file write failed", "database or disk is full", "unexpected pos")
# With less than this, a failed write is taken for one for which there was no room.
LEAST_FREE_BYTES = 1_000_000


def explain_system_error(error: BaseException, folders: Iterable[Path]) -> str | None:
    """Return a sentence for an error of the operating system, or None if it is another's.

    Args:
        error: what was raised, whichever library raised it.
        folders: where the process was writing; temporary files are thought of here.
    """
    places = [_existing(folder) for folder in (*folders, Path(tempfile.gettempdir()))]
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL:
            where = Path(str(each.filename)) if each.filename else _fullest(places)
            return _full(FULL[each.errno], where)
    text = " ".join(str(each).lower() for each in _chain(error))
    fullest = _fullest(places)
    if any(hint in text for hint in HINTS) or (
        not isinstance(error, OSError) and _free_bytes(fullest) < LEAST_FREE_BYTES
    ):
        return _full(FULL[errno.ENOSPC], fullest)
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}"
    return None


def _full(what: str, where: Path) -> str:
    free = _free_bytes(_existing(where)) / 1e6
    return (
        f"{where.absolute()}: {what}: {free:,.0f} MB are free there. Fix: make room and run "
        "again; what is complete is kept"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))


def _fullest(places: list[Path]) -> Path:
    return min(places, key=_free_bytes)


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free
