"""The listing of a source: its files and empty folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol


class Reader(Protocol):
    """Returns the content of a file, or its first ``size`` bytes."""

    def __call__(self, size: int = -1) -> bytes: ...  # noqa: D102


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: its path within the source, and a function that reads it."""

    path: PurePosixPath
    read: Reader


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted by path, and the folders without files at any depth."""

    files: list[SourceFile]
    empty_folders: list[PurePosixPath] = field(default_factory=list)


class UnreadableFileError(Exception):
    """A listed file cannot be read; the message is the reason."""


def empty_folders(
    folders: Iterable[PurePosixPath], files: Iterable[PurePosixPath]
) -> list[PurePosixPath]:
    """Return the folders without files at any depth, sorted."""
    non_empty = {folder for path in files for folder in path.parents}
    return sorted(set(folders) - non_empty)
