"""Folder layout of a data set: the published split and the class of each path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# Files and folders of file managers, synchronisers and network drives.
SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information",
}  # fmt: skip
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}

# Extensions of files that are often stored next to images but are not images.
NON_IMAGE_SUFFIXES = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"}
    | {".md", ".rst", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".sh"}
    | {".npy", ".npz", ".mat", ".pkl", ".db", ".lst", ".names", ".sha256", ".md5"}
)


@dataclass(frozen=True)
class LabelledPath:
    """The published split (``train``, ``val``, ``test`` or empty), class and name of a file.

    ``folder`` is the name of the class folder; ``label`` is the same without surrounding spaces.
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
        """The path under ``results/data/images``, which identifies the image in all tables."""
        return "/".join(part for part in (self.published, self.label, self.name) if part)


def is_hidden(path: PurePosixPath) -> bool:
    """Return whether a path is hidden or a system file (``.DS_Store``, ``@eaDir``)."""
    return (
        any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in path.parts)
        or path.name.lower() in SYSTEM_FILES
    )


class Layout:
    """Folder layout of a data set.

    In ``[any/top/]train/<class>/...`` and ``[any/top/]test/<class>/...`` the folders give the
    published split and the class. If there is no such folder, the class is the first folder below
    the common parent of all images.
    """

    def __init__(self, images: Iterable[PurePosixPath]) -> None:
        """Detect the layout from the paths of images; other files are not considered."""
        images = list(images)
        self._published = any(_split_index(path) is not None for path in images)
        if self._published:
            parts = ((path, _split_index(path)) for path in images)
            self._top = _common_folders(
                {path.parts[:index] for path, index in parts if index is not None}
            )
        else:
            self._top = _shared_folders(images)

    def locate(self, path: PurePosixPath) -> LabelledPath | None:
        """Return the split and class of a file, or None if it is in no class folder."""
        start = self._class_index(path)
        if start is None or len(path.parts) < start + 2:
            return None
        part = SPLIT_OF_FOLDER[path.parts[start - 1].lower()] if self._published else ""
        return LabelledPath(part, path.parts[start], "/".join(path.parts[start + 1 :]))

    def class_folder(self, folder: PurePosixPath) -> LabelledPath | None:
        """Return the class folder that is, or contains, a folder; None if there is none."""
        return self.locate(folder / "any")

    def other_folder(self, path: PurePosixPath) -> str | None:
        """Return the folder next to the published splits that contains a file, if any."""
        if not self._published or _split_index(path) is not None:
            return None
        depth = len(self._top) if self._is_below_top(path) else 0
        return path.parts[depth] if len(path.parts) > depth + 1 else None

    def _class_index(self, path: PurePosixPath) -> int | None:
        if not self._published:
            return len(self._top) if self._is_below_top(path) else None
        part = _split_index(path)
        return None if part is None else part + 1

    def _is_below_top(self, path: PurePosixPath) -> bool:
        return path.parts[: len(self._top)] == self._top


def _split_index(path: PurePosixPath) -> int | None:
    """Return the index of the folder named train, val or test above a class folder."""
    for index, folder in enumerate(path.parts[:-2]):
        if folder.lower() in SPLIT_OF_FOLDER:
            return index
    return None


def _common_folders(folders: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the common leading folders."""
    first = min(folders, default=())
    last = max(folders, default=())
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return first[:depth]


def _shared_folders(paths: list[PurePosixPath]) -> tuple[str, ...]:
    """Return the common parents of all paths; a single folder is a class, not a parent."""
    folders = {path.parts[:-1] for path in paths}
    shared = _common_folders(folders)
    return shared[:-1] if len(folders) == 1 else shared
