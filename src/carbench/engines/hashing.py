"""Content hashes of files and folders, cached for as long as a file's metadata stays the same.

The hashes are DVC's: the md5 of a file's bytes; for a folder, the md5 of its listing. A file is
hashed again when its size, inode, modification time *or inode change time* differs. Any program can
set the modification time, but only the kernel sets the inode change time, so an edit with a forged
modification time is detected.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import stat
import time
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pathspec import PathSpec

from carbench.core.errors import CarbenchError

# Hashes of files changed more recently are not cached: another change could have the same times.
UNSETTLED_NS = 1_000_000_000
MD5 = re.compile(r"[0-9a-f]{32}")
# Of the database's format; a database of another version is replaced.
VERSION = 1

# The signature of a file's metadata, and the md5 of its content.
Entry = tuple[str, str]


@dataclass(frozen=True)
class Content:
    """The content of a file or folder.

    Attributes:
        md5: the hash as in DVC; a folder's ends in ``.dir``.
        size: bytes.
        nfiles: the number of files in a folder; None for a file.
    """

    md5: str
    size: int
    nfiles: int | None = None


class HashCache:
    """Hashes of files in a repository, cached in ``.carbench/hashes.sqlite``.

    Args:
        root: the repository.
        use_cached: False hashes every file again.

    Attributes:
        edits_with_same_mtime: files whose content changed while size and modification time did not.
    """

    def __init__(self, root: Path = Path(), use_cached: bool = True) -> None:
        self._root = root
        self._file = root / ".carbench/hashes.sqlite"
        self._use_cached = use_cached
        self._computed: dict[str, Entry] = {}
        self._unsaved: set[str] = set()
        self.edits_with_same_mtime: list[str] = []

    def content(self, path: str) -> Content | None:
        """Return the content at ``path`` (relative to the repository), or None if nothing exists.

        Raises:
            CarbenchError: DVC cannot compare it, or a file in that folder.
        """
        try:
            found = os.stat(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _incomparable(path, error.strerror or str(error)) from None
        if not stat.S_ISDIR(found.st_mode):
            return self._hash(path, found, self._computed.get(path) or self._cached(path))
        return folder_content(self.listing(path))

    def listing(self, folder: str) -> list[tuple[str, Content]]:
        """Return the files of a folder that .dvcignore does not exclude, sorted by path in it.

        Raises:
            CarbenchError: DVC cannot compare one of them: it fails on dangling links and on names
                that are not UTF-8, and ignores the content of linked folders.
        """
        files = []
        top = os.path.join(self._root, folder)
        inside = _is_inside(folder)
        for parent, folders, names in os.walk(top, onerror=_raise):
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
            known = self._cached_in(f"{folder}/{prefix}")
            for name in names:
                path = f"{folder}/{prefix}{name}"
                if inside and self._ignored(path):
                    continue
                if not _is_utf8(path):
                    raise _incomparable(path, "a name that is not UTF-8")
                try:
                    found = os.stat(os.path.join(parent, name))
                except FileNotFoundError:
                    if not os.path.islink(os.path.join(parent, name)):
                        continue  # removed in the meantime
                    raise _incomparable(path, "a dangling link") from None
                except OSError as error:
                    raise _incomparable(path, error.strerror or str(error)) from None
                entry = self._computed.get(path) or known.get(path)
                files.append((f"{prefix}{name}", self._hash(path, found, entry)))
        return sorted(files, key=lambda entry: entry[0])

    def update(self, path: str, content: Content) -> None:
        """Cache the hash of a file after carbench changed its times but not its content."""
        found = os.stat(self._root / path)
        self._keep(path, (_signature(found), content.md5))

    def save(self) -> None:
        """Save new hashes; if that fails, the files are hashed again the next time."""
        if not self._unsaved:
            return
        # Files with names that are not UTF-8 are hashed every time.
        rows = [(path, *self._computed[path]) for path in self._unsaved if _is_utf8(path)]
        self._unsaved = set()
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
    def _database(self) -> sqlite3.Connection | None:
        """The cache, or None if there is none of this version.

        It is queried for one file or folder at a time: loading the hashes of a million images would
        take each job seconds and half a gigabyte.
        """
        if not self._use_cached or not self._file.is_file():
            return None
        try:
            database = sqlite3.connect(self._file, timeout=10, check_same_thread=False)
            weakref.finalize(self, database.close)
            return database if _version(database) == VERSION else None
        except sqlite3.Error:
            return None

    def _cached(self, path: str) -> Entry | None:
        """Return the cached hash of a file."""
        return self._select("WHERE path = ?", path).get(path)

    def _cached_in(self, folder: str) -> dict[str, Entry]:
        """Return the cached hashes of the files directly in a folder, whose path ends with /."""
        condition = "WHERE path > ? AND path < ? AND instr(substr(path, ?), '/') = 0"
        # "0" is the character after "/".
        return self._select(condition, folder, folder[:-1] + "0", len(folder) + 1)

    def _select(self, condition: str, *values: str | int) -> dict[str, Entry]:
        if self._database is None or not _is_utf8(str(values[0])):
            return {}
        query = f"SELECT path, signature, md5 FROM hashes {condition}"
        try:
            rows = self._database.execute(query, values).fetchall()
        except sqlite3.Error:
            return {}
        # SQLite does not enforce the declared types of columns.
        return {
            path: (signature, md5)
            for path, signature, md5 in rows
            if all(isinstance(value, str) for value in (path, signature, md5))
            and MD5.fullmatch(md5)
        }

    def _keep(self, path: str, entry: Entry) -> None:
        self._computed[path] = entry
        self._unsaved.add(path)

    @cached_property
    def _patterns(self) -> PathSpec[Any]:
        file = self._root / ".dvcignore"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return PathSpec.from_lines("gitignore", lines)

    def _ignored(self, path: str) -> bool:
        return bool(self._patterns.match_file(path))

    def _hash(self, path: str, found: os.stat_result, cached: Entry | None) -> Content:
        if not stat.S_ISREG(found.st_mode):
            raise _incomparable(path, "neither a file nor a folder")
        signature = _signature(found)
        if cached and cached[0] == signature:
            return Content(cached[1], found.st_size)
        try:
            md5 = file_md5(self._root / path)
        except PermissionError as error:
            raise _incomparable(path, str(error.strerror)) from None
        if cached and cached[1] != md5 and _has_same_mtime(cached[0], signature):
            self.edits_with_same_mtime.append(path)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > UNSETTLED_NS:
            self._keep(path, (signature, md5))
        return Content(md5, found.st_size)


def bytes_md5(data: bytes) -> str:
    """Return the md5 of some bytes."""
    return _md5(data).hexdigest()


def file_md5(path: Path) -> str:
    """Return the md5 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def listing_json(files: list[tuple[str, Content]]) -> str:
    """Return a folder's listing as DVC stores it: JSON, sorted by path."""
    return json.dumps([{"md5": file.md5, "relpath": name} for name, file in files])


def folder_content(files: list[tuple[str, Content]]) -> Content:
    """Return a folder's content from its listing."""
    md5 = bytes_md5(listing_json(files).encode())
    return Content(f"{md5}.dir", sum(file.size for _, file in files), len(files))


def _raise(error: OSError) -> None:
    """Raise errors that ``os.walk`` would ignore, except for folders removed in the meantime."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise _incomparable(str(error.filename), str(error.strerror))


def _incomparable(path: str, found: str) -> CarbenchError:
    return CarbenchError(
        path.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        found=found,
        expected="regular files and folders with UTF-8 names, which both engines can compare",
        fix="remove it, or replace it by a regular file or folder",
    )


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)  # identifies content, as in DVC


def _is_inside(folder: str) -> bool:
    return not folder.startswith("/") and not folder.startswith("..")


def _signature(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {found.st_ctime_ns}"


def _has_same_mtime(before: str, now: str) -> bool:
    return before.rpartition(" ")[0] == now.rpartition(" ")[0]
