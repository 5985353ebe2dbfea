"""The store of results by content: DVC's cache, in its documented layout.

A job puts its outputs here before they appear in results/, so that a finished job is never lost: to
an engine that removes outputs before it runs a job, to a kill, to a change of mind. `dvc push`
shares what lies here; `dvc gc` may remove it, which costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from carbench.ledger.hashing import Content, file_md5, listing_text

CHUNK = 1 << 20


class Store:
    """Content by md5 below ``<cache>/files/md5``, read-only files that appear complete.

    Args:
        cache: DVC's cache folder.
    """

    def __init__(self, cache: Path) -> None:
        self._objects = cache / "files/md5"

    def has(self, content: Content) -> bool:
        """Whether a file, or a folder's listing and all its files, lie here."""
        if not self._place(content.md5).exists():
            return False
        if content.nfiles is None:
            return True
        return all(self._place(md5).exists() for _, md5 in self._listing(content) or [("", "?")])

    def put(self, path: Path, content: Content, files: list[tuple[str, Content]] | None) -> None:
        """Keep the file, or the folder with the listing ``files``, that lies at ``path``."""
        if files is None:
            self._put_file(path, content.md5)
            return
        for name, each in files:
            self._put_file(path / name, each.md5)
        if not (place := self._place(content.md5)).exists():
            with _draft(place) as draft:
                draft.write_text(listing_text(files), encoding="utf-8")

    def bring(self, content: Content, target: Path) -> bool:
        """Copy content to ``target``, which must not exist; False if it is not here, whole.

        A damaged object is removed: DVC fetches it again, or the job makes it again.
        """
        if content.nfiles is None:
            return self._bring_file(content.md5, target)
        listing = self._listing(content)
        if listing is None:
            return False
        target.mkdir()
        for name, md5 in listing:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if not self._bring_file(md5, target / name):
                return False
        return True

    def damaged(self, content: Content) -> list[str]:
        """Return and remove a content's objects that are not what their names say."""
        listing = self._listing(content) if content.nfiles is not None else []
        md5s = [content.md5, *(md5 for _, md5 in listing or [])]
        found = []
        for md5 in dict.fromkeys(md5s):
            place = self._place(md5)
            if place.exists() and file_md5(place) != md5.removesuffix(".dir"):
                place.unlink()
                found.append(md5)
        return found

    def _place(self, md5: str) -> Path:
        return self._objects / md5[:2] / md5[2:]

    def _listing(self, content: Content) -> list[tuple[str, str]] | None:
        try:
            text = self._place(content.md5).read_text(encoding="utf-8")
            return [(entry["relpath"], entry["md5"]) for entry in json.loads(text)]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _put_file(self, path: Path, md5: str) -> None:
        place = self._place(md5)
        if place.exists():
            return
        with _draft(place) as draft:
            if _copy(path, draft) != md5:
                raise OSError(None, "changed while it was being stored", str(path))

    def _bring_file(self, md5: str, target: Path) -> bool:
        place = self._place(md5)
        try:
            copied = _copy(place, target)
        except FileNotFoundError:
            return False
        if copied != md5:
            place.unlink(missing_ok=True)
            return False
        return True


class _draft:  # noqa: N801 - reads as a function
    """A temporary file beside ``place`` that takes its name, read-only, if all went well."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> Path:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._place.parent)
        os.close(handle)
        self._path = Path(name)
        return self._path

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._path.chmod(0o444)  # as DVC's: what is read-only, DVC need not hash again
            self._path.replace(self._place)
        else:
            self._path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> str:
    """Copy a file's bytes and return their md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with source.open("rb") as read, target.open("wb") as write:
        while chunk := read.read(CHUNK):
            digest.update(chunk)
            write.write(chunk)
    return digest.hexdigest()
