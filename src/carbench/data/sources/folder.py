"""folder: a folder of images."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NoReturn

from carbench.core.errors import CarbenchError
from carbench.data.sources.listing import (
    Listing,
    Reader,
    SourceFile,
    UnreadableFileError,
    empty_folders,
)
from carbench.params.data import DataParams


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield the listing of the folder `data.path`."""
    yield list_folder(Path(params.path))


def list_folder(root: Path, key: str = "data.path") -> Listing:
    """List the files below a folder; symbolic links are followed, except cycles.

    Raises:
        CarbenchError: the folder does not exist, or a folder in it cannot be read.
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
    # The resolved parents of each folder.
    parents: dict[Path, frozenset[str]] = {root.parent: frozenset()}
    for walked, below, names in os.walk(root, followlinks=True, onerror=_refuse_unreadable):
        parent = Path(walked)
        outer = parents[parent.parent]
        real = os.path.realpath(parent)
        if real in outer:
            below.clear()
            continue
        parents[parent] = outer | {real}
        folders.append(PurePosixPath(parent.relative_to(root)))
        for path in (parent / name for name in names):
            inside = PurePosixPath(path.relative_to(root))
            files.append(SourceFile(inside, _reader(path)))
            if not path.suffix and path.is_symlink() and not path.exists():
                folders.append(inside)  # a broken link, perhaps to a folder
    files.sort(key=lambda file: file.path.parts)
    return Listing(files, empty_folders(folders, (file.path for file in files)))


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise CarbenchError(
        error.filename,
        found=f"a folder that cannot be read ({error.strerror})",
        expected="a readable folder",
        fix="make it readable, or remove it from the data set",
    ) from None


SPECIAL_FILES = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _reader(path: Path) -> Reader:
    def read(size: int = -1) -> bytes:
        try:
            mode = path.stat().st_mode  # opening a FIFO would block
            for is_kind, name in SPECIAL_FILES:
                if is_kind(mode):
                    raise UnreadableFileError(f"{name}, not a file")
            with path.open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise UnreadableFileError(error.strerror or str(error)) from None

    return read
