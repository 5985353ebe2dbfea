"""Content hashes of files and folders, remembered for as long as the file system vouches for them.

The hashes are DVC's (md5 of a file's bytes; of a folder the md5 of its listing), so that both
engines speak of the same content. A file is hashed anew when its size, inode, time of change *or
inode change time* differ: a program may set the first time as it likes, only the kernel sets the
second, so that an edit with a forged time is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pathspec import PathSpec

# Changed more recently than this: the next change may leave the same times behind.
UNSETTLED_NS = 1_000_000_000


@dataclass(frozen=True)
class Content:
    """What lies at a path: md5 (of a folder it ends in ``.dir``), bytes, files (None: a file)."""

    md5: str
    size: int
    nfiles: int | None = None


class Hashes:
    """Hashes of what lies in a repository, remembered in ``.carbench/hashes.sqlite``.

    Args:
        root: the repository.
        trust: use what was remembered; False hashes everything anew.
    """

    def __init__(self, root: Path = Path(), trust: bool = True) -> None:
        self._root = root
        self._file = root / ".carbench/hashes.sqlite"
        self._trust = trust
        self._new: dict[str, tuple[str, str]] = {}
        self._listings: dict[str, list[tuple[str, Content]]] = {}
        # Files whose content changed while size and time of change did not.
        self.forged: list[str] = []

    def of(self, path: str) -> Content | None:
        """Return what lies at ``path`` (relative to the repository), or None."""
        try:
            found = os.stat(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(found.st_mode):
            return self._hash(path, found)
        return content_of([(name, each) for name, each in self.listing(path)])

    def listing(self, folder: str) -> list[tuple[str, Content]]:
        """Return the files of a folder that .dvcignore does not name, sorted by path in it."""
        files = []
        top = os.path.join(self._root, folder)
        for parent, folders, names in os.walk(top, followlinks=True):
            below = os.path.relpath(parent, top)
            prefix = "" if below == "." else f"{below}/"
            inside = _is_inside(folder)
            folders[:] = [
                name
                for name in folders
                if not (inside and self._ignored(f"{folder}/{prefix}{name}/"))
            ]
            for name in names:
                path = f"{folder}/{prefix}{name}"
                if inside and self._ignored(path):
                    continue
                try:
                    found = os.stat(os.path.join(parent, name))
                except FileNotFoundError:  # a dangling link, or removed this moment
                    continue
                files.append((f"{prefix}{name}", self._hash(path, found)))
        return sorted(files, key=lambda entry: entry[0])

    def remember(self, path: str, content: Content) -> None:
        """Take over the hash of a file whose times alone were changed by us."""
        found = os.stat(self._root / path)
        self._new[path] = (_signature(found), content.md5)
        self._known[path] = self._new[path]

    def save(self) -> None:
        """Write down what was hashed; a failure costs time, not truth."""
        if not self._new:
            return
        self._file.parent.mkdir(exist_ok=True)
        try:
            with closing(sqlite3.connect(self._file, timeout=10)) as database, database:
                database.execute("PRAGMA synchronous = OFF")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS hashes"
                    " (path TEXT PRIMARY KEY, signature TEXT, md5 TEXT) WITHOUT ROWID"
                )
                rows = [(path, *entry) for path, entry in self._new.items()]
                database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
        except sqlite3.DatabaseError:
            self._file.unlink(missing_ok=True)
        self._new = {}

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        if not self._trust or not self._file.exists():
            return {}
        try:
            with closing(sqlite3.connect(self._file, timeout=10)) as database:
                rows = database.execute("SELECT path, signature, md5 FROM hashes").fetchall()
        except sqlite3.DatabaseError:
            return {}
        return {path: (signature, md5) for path, signature, md5 in rows}

    @cached_property
    def _patterns(self) -> PathSpec[Any]:
        file = self._root / ".dvcignore"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return PathSpec.from_lines("gitignore", lines)

    def _ignored(self, path: str) -> bool:
        return bool(self._patterns.match_file(path))

    def _hash(self, path: str, found: os.stat_result) -> Content:
        signature = _signature(found)
        known = self._known.get(path)
        if known and known[0] == signature:
            return Content(known[1], found.st_size)
        md5 = file_md5(self._root / path)
        if known and known[1] != md5 and _is_forged(known[0], signature):
            self.forged.append(path)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > UNSETTLED_NS:
            self._new[path] = self._known[path] = (signature, md5)
        return Content(md5, found.st_size)


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def listing_text(files: list[tuple[str, Content]]) -> str:
    """Return a folder's listing as DVC stores it: JSON, sorted by path."""
    return json.dumps([{"md5": each.md5, "relpath": name} for name, each in files])


def content_of(files: list[tuple[str, Content]]) -> Content:
    """Return a folder's content from its listing."""
    md5 = _md5(listing_text(files).encode()).hexdigest()
    return Content(f"{md5}.dir", sum(each.size for _, each in files), len(files))


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)  # to recognise content, as DVC does


def _is_inside(folder: str) -> bool:
    return not folder.startswith("/") and not folder.startswith("..")


def _signature(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {found.st_ctime_ns}"


def _is_forged(before: str, now: str) -> bool:
    return before.rpartition(" ")[0] == now.rpartition(" ")[0]
