"""Messages for errors of the operating system, above all a full disk, and for a full GPU."""

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
# Parts of messages of libraries that do not pass on the error of the operating system.
HINTS = ("no space left", "file write failed", "database or disk is full", "unexpected pos")
# Part of the messages of torch and CUDA if the memory of a GPU is used up.
OUT_OF_MEMORY = "out of memory"
# With less free space, any failure counts as caused by a full disk.
LEAST_FREE_BYTES = 1_000_000


def explain_system_error(error: BaseException, folders: Iterable[Path]) -> str | None:
    """Return a message with a fix for an error of the system; None for other errors.

    Args:
        error: the exception, of any library.
        folders: the folders that the process writes to, besides that of temporary files.
    """
    places = [_existing(folder) for folder in (*folders, Path(tempfile.gettempdir()))]
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL:
            where = Path(str(each.filename)) if each.filename else _fullest(places)
            return _full(FULL[each.errno], where)
    text = " ".join(str(each).lower() for each in _chain(error))
    if OUT_OF_MEMORY in text:
        return (
            "the memory of the GPU is used up. Fix: lower batch_size in the section of this stage, "
            "or let fewer jobs share the GPU (--resources gpu=N), and run again"
        )
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
        f"{where.absolute()}: {what}: {free:,.0f} MB are free there. Fix: free disk space and "
        "run again; complete results are kept"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))


def _fullest(places: list[Path]) -> Path:
    return min(places, key=_free_bytes)


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free
