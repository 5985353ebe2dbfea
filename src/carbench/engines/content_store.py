"""Content-addressed store of results: DVC's cache, in its documented layout.

A job stores its outputs here before they appear in results/, so that the results of a finished job
are never lost: not if an engine deletes outputs before it runs a job, not if a process is killed,
and not if parameters change and change back. `dvc push` shares the stored files; `dvc gc` may
delete them, in which case they are computed again.
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

CHUNK_BYTES = 1 << 20
# ioctl of Linux: make a file share the blocks of another, on file systems that support it.
FICLONE = 0x40049409
# Permissions in a cache that a group shares, as in DVC.
GROUP_FOLDER, GROUP_FILE = 0o2775, 0o664


class ContentStore:
    """Read-only files stored by md5 below ``<cache>/files/md5``; each is complete or absent.

    Args:
        cache: DVC's cache folder.
        group: whether a group may write to it (DVC's ``cache.shared``).
        links: how results are linked to stored files, in order of preference (DVC's
            ``cache.type``): ``reflink``, ``hardlink``, ``symlink``, ``copy``. If none of them is
            possible, files are copied.

    Attributes:
        shared: a folder for other data shared by all users of the cache.
    """

    def __init__(
        self, cache: Path, group: bool = False, links: Sequence[str] = ("reflink", "copy")
    ) -> None:
        self._objects = cache / "files/md5"
        self._group = group
        self._links = tuple(links)
        self.shared = cache / "carbench"

    def has(self, content: Content) -> bool:
        """Return whether a file, or a folder's listing and all its files, are stored."""
        if not self._object_path(content.md5).exists():
            return False
        if content.nfiles is None:
            return True
        listing = self._listing(content)
        return listing is not None and all(self._object_path(md5).exists() for _, md5 in listing)

    def add(self, path: Path, content: Content, files: list[tuple[str, Content]] | None) -> None:
        """Store a file, or a folder whose files are ``files``.

        Args:
            path: the file or folder.
            content: its content.
            files: None for a file.
        """
        if files is None:
            self._add_file(path, content.md5)
            return
        for name, file in files:
            self._add_file(path / name, file.md5)
        if not (target := self._object_path(content.md5)).exists():
            with self._new_object(target) as temporary:
                temporary.write_text(listing_json(files), encoding="utf-8")

    def restore(self, content: Content, target: Path, force_copy: bool = False) -> bool:
        """Create ``target``, which must not exist; return False if the content is incomplete.

        Damaged objects are removed, so that DVC fetches them again or the job creates them again.

        Args:
            content: what to restore.
            target: the file or folder to create.
            force_copy: copy the files, whatever the configured link types are.
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
        """Replace files by links to their stored copies, if links are the preferred type.

        Args:
            path: a file, or a folder.
            md5s: paths below ``path`` ("" for itself) and the md5s of the stored files.
        """
        kinds = tuple(takewhile(("hardlink", "symlink").__contains__, self._links))
        for name, md5 in md5s:
            target = path / name if name else path
            link = target.with_name(f".{target.name}-link")
            if any(self._link(kind, self._object_path(md5), link) == md5 for kind in kinds):
                link.replace(target)

    def listed_objects(self, folder: Content) -> list[str]:
        """Return the md5s of a folder's files; none if its listing is not stored."""
        return [md5 for _, md5 in self._listing(folder) or []]

    @contextmanager
    def shared_file(self, path: Path) -> Iterator[None]:
        """Prepare writing a file in ``shared``: create its folders, then set its permissions.

        Raises:
            OSError: this user may not write there.
        """
        self._make_folders(path.parent)
        yield
        if self._group:
            path.chmod(GROUP_FILE)

    def remove_damaged(self, content: Content) -> list[str]:
        """Remove a content's objects that do not match their hashes; return these hashes."""
        files = self.listed_objects(content) if content.nfiles is not None else []
        md5s = [content.md5, *files]
        damaged = []
        for md5 in dict.fromkeys(md5s):
            path = self._object_path(md5)
            if path.exists() and file_md5(path) != md5.removesuffix(".dir"):
                path.unlink()
                damaged.append(md5)
        return damaged

    def _object_path(self, md5: str) -> Path:
        return self._objects / md5[:2] / md5[2:]

    def _listing(self, content: Content) -> list[tuple[str, str]] | None:
        try:
            text = self._object_path(content.md5).read_text(encoding="utf-8")
            return [(entry["relpath"], entry["md5"]) for entry in json.loads(text)]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _add_file(self, path: Path, md5: str) -> None:
        target = self._object_path(md5)
        if target.exists():
            return
        with self._new_object(target) as temporary:
            cloned = "reflink" in self._links and _reflink(path, temporary)
            if (file_md5(temporary) if cloned else _copy(path, temporary)) != md5:
                raise OSError(None, "changed while it was being stored", str(path))

    def _restore_file(self, md5: str, target: Path, force_copy: bool) -> bool:
        source = self._object_path(md5)
        for kind in ("copy",) if force_copy else (*self._links, "copy"):
            try:
                actual = self._link(kind, source, target)
            except FileNotFoundError:
                return False
            if actual is not None and actual != md5:
                source.unlink(missing_ok=True)
            if actual is not None:
                return actual == md5
        return False

    @staticmethod
    def _link(kind: str, source: Path, target: Path) -> str | None:
        """Link or copy an object; return its md5, or None if this kind of link is not possible.

        Raises:
            FileNotFoundError: there is no such object.
        """
        try:
            match kind:
                case "reflink":
                    return file_md5(target) if _reflink(source, target) else None
                case "hardlink":
                    target.hardlink_to(source)
                case "symlink":
                    target.symlink_to(source.absolute())
                case _:
                    return _copy(source, target)
        except FileNotFoundError:
            raise
        except OSError:
            if kind in ("hardlink", "symlink"):  # another file system, or one without links
                return None
            raise
        return file_md5(source)

    @contextmanager
    def _new_object(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path for a new object, which becomes read-only as DVC's objects are."""
        self._make_folders(path.parent)
        with atomic_path(path) as temporary:
            yield temporary
            temporary.chmod(0o444)  # DVC does not hash read-only objects again

    def _make_folders(self, folder: Path) -> None:
        missing = [path for path in [folder, *folder.parents] if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            if self._group:  # if another user created it first, that user has set the permissions
                with suppress(PermissionError):
                    path.chmod(GROUP_FOLDER)


def _reflink(source: Path, target: Path) -> bool:
    """Create a file that shares the blocks of another; False if the file system cannot."""
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
        while chunk := read.read(CHUNK_BYTES):
            digest.update(chunk)
            write.write(chunk)
    return digest.hexdigest()
