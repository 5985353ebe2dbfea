"""Where a file belongs: which published part and class its path says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

PUBLISHED = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# What file managers, synchronisers and network drives leave in folders.
SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
}  # fmt: skip
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}

# Endings of files that are often kept beside images on purpose, and say that they are none.
COMPANIONS = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"}
    | {".md", ".rst", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".sh"}
    | {".npy", ".npz", ".mat", ".pkl", ".db", ".lst", ".names", ".sha256", ".md5"}
)


@dataclass(frozen=True)
class Place:
    """An image's class, its publisher's part (``train``, ``val``, ``test`` or empty), its name.

    ``folder`` is the class folder's name as it is stored; ``label`` has no spaces around it.
    """

    published: str
    folder: str
    name: str

    @property
    def label(self) -> str:
        """The class."""
        return self.folder.strip()

    @property
    def image(self) -> str:
        """The path under ``results/data/images`` and the image's identity everywhere."""
        return "/".join(part for part in (self.published, self.label, self.name) if part)


def is_hidden(path: PurePosixPath) -> bool:
    """Whether a path is the file system's own business (``.DS_Store``, ``@eaDir``)."""
    return (
        any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in path.parts)
        or path.name.lower() in SYSTEM_FILES
    )


class Layout:
    """How a set's folders are to be read.

    ``[any/top/]train/<class>/...`` and ``[any/top/]test/<class>/...`` name both a published part
    and a class; without such a folder anywhere the first folder below those that all images share
    is the class.
    """

    def __init__(self, images: Iterable[PurePosixPath]) -> None:
        """Find the layout in the paths of images; other files do not decide about it."""
        images = list(images)
        self._published = any(_part_index(path) is not None for path in images)
        if self._published:
            parts = ((path, _part_index(path)) for path in images)
            self._top = _common({path.parts[:index] for path, index in parts if index is not None})
        else:
            self._top = _shared_folders(images)

    def place(self, path: PurePosixPath) -> Place | None:
        """Return a file's place, or None where it lies in no class folder."""
        start = self._class_index(path)
        if start is None or len(path.parts) < start + 2:
            return None
        part = PUBLISHED[path.parts[start - 1].lower()] if self._published else ""
        return Place(part, path.parts[start], "/".join(path.parts[start + 1 :]))

    def class_folder(self, folder: PurePosixPath) -> Place | None:
        """Return the place of the class folder that a folder is, or lies in; None: it is none."""
        return self.place(folder / "any")

    def stray(self, path: PurePosixPath) -> str | None:
        """Return the folder beside the published parts that a file lies in, if it does."""
        if not self._published or _part_index(path) is not None:
            return None
        depth = len(self._top) if self._is_below_top(path) else 0
        return path.parts[depth] if len(path.parts) > depth + 1 else None

    def _class_index(self, path: PurePosixPath) -> int | None:
        if not self._published:
            return len(self._top) if self._is_below_top(path) else None
        part = _part_index(path)
        return None if part is None else part + 1

    def _is_below_top(self, path: PurePosixPath) -> bool:
        return path.parts[: len(self._top)] == self._top


def _part_index(path: PurePosixPath) -> int | None:
    """Index of the folder named train/val/test that has a class folder below it."""
    for index, folder in enumerate(path.parts[:-2]):
        if folder.lower() in PUBLISHED:
            return index
    return None


def _common(folders: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The leading folders that all of these have in common."""
    first = min(folders, default=())
    last = max(folders, default=())
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return first[:depth]


def _shared_folders(paths: list[PurePosixPath]) -> tuple[str, ...]:
    """The leading folders that all paths have in common; a single folder is a class, not a top."""
    folders = {path.parts[:-1] for path in paths}
    shared = _common(folders)
    return shared[:-1] if len(folders) == 1 else shared
