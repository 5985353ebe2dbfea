"""The stream of files that every source gives, and the walk over a folder that most end in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from carbench.errors import CarbenchError


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: its path inside the source, and how to get its bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


class UnreadableFileError(Exception):
    """The source lists this file but cannot give its bytes; the text is the reason."""


def folder_files(root: Path, key: str = "data.path") -> Iterator[SourceFile]:
    """Yield the files below a folder, sorted by path; links are followed, loops are not."""
    if not root.is_dir():
        raise CarbenchError(
            root,
            key=key,
            found="a file" if root.exists() else "nothing",
            expected="a folder with a folder of pictures for each class",
            fix=f"correct {key} in params.yaml",
        )
    for path in walk(root):
        yield SourceFile(PurePosixPath(path.relative_to(root)), _reader(path))


def walk(root: Path) -> list[Path]:
    """Return the files below a folder, sorted; links are followed, but into no folder twice."""
    paths: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        paths += [Path(parent, name) for name in names]
    return sorted(paths, key=lambda path: path.relative_to(root).parts)


def _reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableFileError(error.strerror or str(error)) from None

    return read
