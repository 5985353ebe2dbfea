"""What every source gives: its files and its empty folders; and the walk over a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn, Protocol

from carbench.core.errors import CarbenchError


class Reader(Protocol):
    """Gives a file's bytes, or only the first ``size`` of them."""

    def __call__(self, size: int = -1) -> bytes: ...  # noqa: D102


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: its path inside the source, and how to get its bytes."""

    path: PurePosixPath
    read: Reader


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted by path, and the folders that hold no file at any depth."""

    files: list[SourceFile]
    empty_folders: list[PurePosixPath] = field(default_factory=list)


class UnreadableFileError(Exception):
    """The source lists this file but cannot give its bytes; the text is the reason."""


def folder_listing(root: Path, key: str = "data.path") -> Listing:
    """List the files below a folder; links are followed, but not round in a loop.

    Raises:
        CarbenchError: there is no such folder, or one in it cannot be read.
    """
    if not root.is_dir():
        raise CarbenchError(
            root,
            key=key,
            found="a file" if root.exists() else "nothing",
            expected="a folder with a folder of images for each class",
            fix=f"correct {key} in params.yaml",
        )
    files: list[SourceFile] = []
    folders: list[PurePosixPath] = []
    # Of each folder, those that it lies in, links resolved.
    above: dict[Path, frozenset[str]] = {root.parent: frozenset()}
    for walked, below, names in os.walk(root, followlinks=True, onerror=_refuse_unreadable):
        parent = Path(walked)
        outer = above[parent.parent]
        real = os.path.realpath(parent)
        if real in outer:
            below.clear()
            continue
        above[parent] = outer | {real}
        folders.append(PurePosixPath(parent.relative_to(root)))
        for path in (parent / name for name in names):
            inside = PurePosixPath(path.relative_to(root))
            files.append(SourceFile(inside, _reader(path)))
            if not path.suffix and path.is_symlink() and not path.exists():
                folders.append(inside)  # a link to what may have been a folder
    files.sort(key=lambda file: file.path.parts)
    return Listing(files, empty_folders(folders, (file.path for file in files)))


def empty_folders(
    folders: Iterable[PurePosixPath], files: Iterable[PurePosixPath]
) -> list[PurePosixPath]:
    """Return the folders, sorted, that have no file below them."""
    full = {folder for path in files for folder in path.parents}
    return sorted(set(folders) - full)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise CarbenchError(
        error.filename,
        found=f"a folder that cannot be read ({error.strerror})",
        expected="a folder that may be read",
        fix="give yourself permission to read it, or remove it from the set",
    ) from None


KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _reader(path: Path) -> Reader:
    def read(size: int = -1) -> bytes:
        try:
            mode = path.stat().st_mode  # opening a FIFO would wait for its writer
            for is_kind, name in KINDS:
                if is_kind(mode):
                    raise UnreadableFileError(f"{name}, not a file")
            with path.open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise UnreadableFileError(error.strerror or str(error)) from None

    return read
