"""The store of results by content: DVC's cache, in its documented layout.

A job puts its outputs here before they appear in results/, so that a finished job is never lost: to
an engine that removes outputs before it runs a job, to a kill, to a change of mind. `dvc push`
shares what lies here; `dvc gc` may remove it, which costs time and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from carbench.core.atomic import atomic_path
from carbench.engines.hashing import Content, file_md5, listing_json

CHUNK = 1 << 20
# Of Linux: let a file share the blocks of another one, where the file system can.
FICLONE = 0x40049409
# What a group may write, as in DVC.
GROUP_FOLDER, GROUP_FILE = 0o2775, 0o664


class ContentStore:
    """Content by md5 below ``<cache>/files/md5``, read-only files that appear complete.

    Args:
        cache: DVC's cache folder.
        group: whether a group writes into it (DVC's ``cache.shared``).
        links: how results may hang together with it, the best first (DVC's ``cache.type``):
            ``reflink``, ``hardlink``, ``symlink``, ``copy``. Where none is possible, by copy.

    Attributes:
        shared: a folder for what others who use the cache may know, too.
    """

    def __init__(
        self, cache: Path, group: bool = False, links: Sequence[str] = ("reflink", "copy")
    ) -> None:
        self._objects = cache / "files/md5"
        self._group = group
        self._links = tuple(links)
        self.shared = cache / "carbench"

    def has(self, content: Content) -> bool:
        """Whether a file, or a folder's listing and all its files, lie here."""
        if not self._place(content.md5).exists():
            return False
        if content.nfiles is None:
            return True
        return all(self._place(md5).exists() for _, md5 in self._listing(content) or [("", "?")])

    def add(self, path: Path, content: Content, files: list[tuple[str, Content]] | None) -> None:
        """Keep the file, or the folder with the listing ``files``, that lies at ``path``."""
        if files is None:
            self._put_file(path, content.md5)
            return
        for name, each in files:
            self._put_file(path / name, each.md5)
        if not (place := self._place(content.md5)).exists():
            with self._new_object(place) as draft:
                draft.write_text(listing_json(files), encoding="utf-8")

    def restore(self, content: Content, target: Path, force_copy: bool = False) -> bool:
        """Put content at ``target``, which must not exist; False if it is not here, whole.

        A damaged object is removed: DVC fetches it again, or the job makes it again.

        Args:
            content: what to bring.
            target: where to.
            force_copy: as a copy of its own, whatever ``links`` say.
        """
        if content.nfiles is None:
            return self._restore_file(content.md5, target, force_copy)
        listing = self._listing(content)
        if listing is None:
            return False
        target.mkdir()
        for name, md5 in listing:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if not self._restore_file(md5, target / name, force_copy):
                return False
        return True

    def replace_with_links(self, path: Path, md5s: Sequence[tuple[str, str]]) -> None:
        """Let files that are kept here take up no space a second time, where that is asked for.

        Args:
            path: a file, or a folder.
            md5s: names below ``path`` ("" for itself) and md5s of what is kept.
        """
        kinds = tuple(takewhile(("hardlink", "symlink").__contains__, self._links))
        for name, md5 in md5s:
            place = path / name if name else path
            draft = place.with_name(f".{place.name}-link")
            if any(self._take(kind, self._place(md5), draft) == md5 for kind in kinds):
                draft.replace(place)

    @contextmanager
    def shared_file(self, path: Path) -> Iterator[None]:
        """Make the folders of a file for all who use the cache; let its group write what is made.

        Raises:
            OSError: this person may not write there.
        """
        self._make_folders(path.parent)
        yield
        if self._group:
            path.chmod(GROUP_FILE)

    def remove_damaged(self, content: Content) -> list[str]:
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
        with self._new_object(place) as draft:
            cloned = "reflink" in self._links and _clone(path, draft)
            if (file_md5(draft) if cloned else _copy(path, draft)) != md5:
                raise OSError(None, "changed while it was being stored", str(path))

    def _restore_file(self, md5: str, target: Path, force_copy: bool) -> bool:
        place = self._place(md5)
        for kind in ("copy",) if force_copy else (*self._links, "copy"):
            try:
                found = self._take(kind, place, target)
            except FileNotFoundError:
                return False
            if found is not None and found != md5:
                place.unlink(missing_ok=True)
            if found is not None:
                return found == md5
        return False

    @staticmethod
    def _take(kind: str, place: Path, target: Path) -> str | None:
        """Let ``target`` hang together with an object; its md5, or None if that is impossible.

        Raises:
            FileNotFoundError: there is no such object.
        """
        try:
            match kind:
                case "reflink":
                    return file_md5(target) if _clone(place, target) else None
                case "hardlink":
                    target.hardlink_to(place)
                case "symlink":
                    target.symlink_to(place.absolute())
                case _:
                    return _copy(place, target)
        except FileNotFoundError:
            raise
        except OSError:
            if kind in ("hardlink", "symlink"):  # another file system, or one without links
                return None
            raise
        return file_md5(place)

    @contextmanager
    def _new_object(self, place: Path) -> Iterator[Path]:
        """Yield a temporary path for a new object, which becomes read-only as DVC's objects are."""
        self._make_folders(place.parent)
        with atomic_path(place) as temporary:
            yield temporary
            temporary.chmod(0o444)  # DVC does not hash read-only objects again

    def _make_folders(self, folder: Path) -> None:
        missing = [each for each in [folder, *folder.parents] if not each.exists()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            if self._group:  # whoever made it first has set it, and may be somebody else
                with suppress(PermissionError):
                    each.chmod(GROUP_FOLDER)


def _clone(source: Path, target: Path) -> bool:
    """Let a file share another one's blocks; False if the file system cannot."""
    try:
        with source.open("rb") as read, target.open("wb") as write:
            fcntl.ioctl(write, FICLONE, read.fileno())
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path) -> str:
    """Copy a file's bytes and return their md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with source.open("rb") as read, target.open("wb") as write:
        while chunk := read.read(CHUNK):
            digest.update(chunk)
            write.write(chunk)
    return digest.hexdigest()
