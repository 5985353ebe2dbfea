"""Where a file belongs: which published part and class its path says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from carbench.images import SUFFIXES

PUBLISHED = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Place:
    """A picture's class, its publisher's part (``train``, ``val``, ``test`` or empty), its name."""

    published: str
    label: str
    name: str

    @property
    def image(self) -> str:
        """The path under ``results/data/images`` and the picture's identity everywhere."""
        return "/".join(part for part in (self.published, self.label, self.name) if part)


def is_hidden(path: PurePosixPath) -> bool:
    """Whether a path is the file system's own business (``.DS_Store``, ``__MACOSX``)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def looks_like_picture(path: PurePosixPath) -> bool:
    """Whether a path ends like a picture."""
    return path.suffix.lower() in SUFFIXES


def find_places(paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, Place | None]:
    """Read class and published part off each path.

    ``[any/top/]train/<class>/...`` and ``[any/top/]test/<class>/...`` name both; without such a
    folder anywhere the first folder below those that all paths share is the class. A path with no
    class folder gets ``None``.
    """
    paths = list(paths)
    published = any(_part_index(path) is not None for path in paths)
    top = 0 if published else _shared_folders(paths)
    return {path: _place(path, published, top) for path in paths}


def _part_index(path: PurePosixPath) -> int | None:
    """Index of the folder named train/val/test that has a class folder below it."""
    for index, folder in enumerate(path.parts[:-2]):
        if folder.lower() in PUBLISHED:
            return index
    return None


def _place(path: PurePosixPath, published: bool, top: int) -> Place | None:
    part = ""
    start = top
    if published:
        index = _part_index(path)
        if index is None:
            return None
        part = PUBLISHED[path.parts[index].lower()]
        start = index + 1
    if len(path.parts) < start + 2:
        return None
    return Place(part, path.parts[start].strip(), "/".join(path.parts[start + 1 :]))


def _shared_folders(paths: list[PurePosixPath]) -> int:
    """How many leading folders all paths have in common; a single folder is a class, not a top."""
    folders = {path.parts[:-1] for path in paths}
    depth = 0
    if len(folders) == 1:
        return max(len(next(iter(folders))) - 1, 0)
    while folders and len({parts[: depth + 1] for parts in folders}) == 1:
        if depth >= min(len(parts) for parts in folders):
            break
        depth += 1
    return depth
