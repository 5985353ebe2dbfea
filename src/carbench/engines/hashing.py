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
import re
import sqlite3
import stat
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pathspec import PathSpec

from carbench.core.errors import CarbenchError

# Changed more recently than this: the next change may leave the same times behind.
UNSETTLED_NS = 1_000_000_000
MD5 = re.compile(r"[0-9a-f]{32}")
# Of the form of what is remembered; another one is forgotten.
VERSION = 1


@dataclass(frozen=True)
class Content:
    """What lies at a path: md5 (of a folder it ends in ``.dir``), bytes, files (None: a file)."""

    md5: str
    size: int
    nfiles: int | None = None


class HashCache:
    """Hashes of what lies in a repository, remembered in ``.carbench/hashes.sqlite``.

    Args:
        root: the repository.
        use_cached: use what was remembered; False hashes everything anew.
    """

    def __init__(self, root: Path = Path(), use_cached: bool = True) -> None:
        self._root = root
        self._file = root / ".carbench/hashes.sqlite"
        self._use_cached = use_cached
        self._new: dict[str, tuple[str, str]] = {}
        self._listings: dict[str, list[tuple[str, Content]]] = {}
        # Files whose content changed while size and time of change did not.
        self.edits_with_same_mtime: list[str] = []

    def content(self, path: str) -> Content | None:
        """Return what lies at ``path`` (relative to the repository), or None.

        Raises:
            CarbenchError: something lies there, or in that folder, that DVC cannot compare.
        """
        try:
            found = os.stat(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _incomparable(path, error.strerror or str(error)) from None
        if not stat.S_ISDIR(found.st_mode):
            return self._hash(path, found)
        return folder_content([(name, each) for name, each in self.listing(path)])

    def listing(self, folder: str) -> list[tuple[str, Content]]:
        """Return the files of a folder that .dvcignore does not name, sorted by path in it.

        Raises:
            CarbenchError: DVC cannot compare one of them: it stops at links that lead nowhere and
                at names that are no text, and overlooks what lies behind a link to a folder.
        """
        files = []
        top = os.path.join(self._root, folder)
        inside = _is_inside(folder)
        for parent, folders, names in os.walk(top, onerror=_refuse):
            below = os.path.relpath(parent, top)
            prefix = "" if below == "." else f"{below}/"
            folders[:] = [
                name
                for name in folders
                if not (inside and self._ignored(f"{folder}/{prefix}{name}/"))
            ]
            for name in folders:
                if os.path.islink(os.path.join(parent, name)):
                    raise _incomparable(f"{folder}/{prefix}{name}", "a link to a folder")
            for name in names:
                path = f"{folder}/{prefix}{name}"
                if inside and self._ignored(path):
                    continue
                if not _is_text(path):
                    raise _incomparable(path, "a name that is not UTF-8")
                try:
                    found = os.stat(os.path.join(parent, name))
                except FileNotFoundError:
                    if not os.path.islink(os.path.join(parent, name)):
                        continue  # removed this moment
                    raise _incomparable(path, "a link that leads nowhere") from None
                except OSError as error:
                    raise _incomparable(path, error.strerror or str(error)) from None
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
        # A name that is no text is hashed every time.
        rows = [(path, *entry) for path, entry in self._new.items() if _is_text(path)]
        self._new = {}
        try:
            self._file.parent.mkdir(exist_ok=True)
            try:
                self._write(rows)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
        except (sqlite3.Error, OSError):
            with suppress(OSError):
                self._file.unlink()

    def _write(self, rows: list[tuple[str, str, str]]) -> None:
        with closing(sqlite3.connect(self._file, timeout=10)) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            if _version(database) != VERSION:
                database.execute("DROP TABLE IF EXISTS hashes")
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute(
                "CREATE TABLE IF NOT EXISTS hashes"
                " (path TEXT PRIMARY KEY, signature TEXT, md5 TEXT) WITHOUT ROWID"
            )
            database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        if not self._use_cached or not self._file.is_file():
            return {}
        try:
            with closing(sqlite3.connect(self._file, timeout=10)) as database:
                if _version(database) != VERSION:
                    return {}
                rows = database.execute("SELECT path, signature, md5 FROM hashes").fetchall()
        except (sqlite3.Error, OSError):
            return {}
        # sqlite keeps whatever it is given in a column, of whatever type it is declared.
        return {
            path: (signature, md5)
            for path, signature, md5 in rows
            if all(isinstance(each, str) for each in (path, signature, md5)) and MD5.fullmatch(md5)
        }

    @cached_property
    def _patterns(self) -> PathSpec[Any]:
        file = self._root / ".dvcignore"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return PathSpec.from_lines("gitignore", lines)

    def _ignored(self, path: str) -> bool:
        return bool(self._patterns.match_file(path))

    def _hash(self, path: str, found: os.stat_result) -> Content:
        if not stat.S_ISREG(found.st_mode):
            raise _incomparable(path, "neither a file nor a folder")
        signature = _signature(found)
        known = self._known.get(path)
        if known and known[0] == signature:
            return Content(known[1], found.st_size)
        try:
            md5 = file_md5(self._root / path)
        except PermissionError as error:
            raise _incomparable(path, str(error.strerror)) from None
        if known and known[1] != md5 and _has_same_mtime(known[0], signature):
            self.edits_with_same_mtime.append(path)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > UNSETTLED_NS:
            self._new[path] = self._known[path] = (signature, md5)
        return Content(md5, found.st_size)


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def listing_json(files: list[tuple[str, Content]]) -> str:
    """Return a folder's listing as DVC stores it: JSON, sorted by path."""
    return json.dumps([{"md5": each.md5, "relpath": name} for name, each in files])


def folder_content(files: list[tuple[str, Content]]) -> Content:
    """Return a folder's content from its listing."""
    md5 = _md5(listing_json(files).encode()).hexdigest()
    return Content(f"{md5}.dir", sum(each.size for _, each in files), len(files))


def _refuse(error: OSError) -> None:
    """Raise what ``os.walk`` would pass over; a folder that is gone is no error."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise _incomparable(str(error.filename), str(error.strerror))


def _incomparable(path: str, found: str) -> CarbenchError:
    return CarbenchError(
        path.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        found=found,
        expected="plain files and folders, with names in UTF-8, which both engines can compare",
        fix="remove it, or put in its place what it stands for",
    )


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)  # to recognise content, as DVC does


def _is_inside(folder: str) -> bool:
    return not folder.startswith("/") and not folder.startswith("..")


def _signature(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {found.st_ctime_ns}"


def _has_same_mtime(before: str, now: str) -> bool:
    return before.rpartition(" ")[0] == now.rpartition(" ")[0]
