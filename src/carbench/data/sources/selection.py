"""Selects the files of a source to ingest, with the class and published split of each path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.data.images.formats import FORMATS, HEADER_BYTES, SUFFIXES, detect_format
from carbench.data.sources import classes
from carbench.data.sources.layout import NON_IMAGE_SUFFIXES, LabelledPath, Layout, is_hidden
from carbench.data.sources.listing import Listing, SourceFile, UnreadableFileError
from carbench.params.data import DataParams

NOT_AN_IMAGE = "skipped: not an image"
NOT_IN_A_CLASS = "skipped: not in a class folder"

Row = dict[str, object]


@dataclass(frozen=True)
class Selection:
    """The files to ingest, and those that are skipped.

    Attributes:
        chosen: the files of the selected classes, not yet decoded.
        folders: the folders of the selected classes, including empty ones.
        skipped: rows of the quarantine list.
        hidden: number of files of the operating system, such as ``.DS_Store``.
        other_classes: number of files of classes that were not selected.
    """

    chosen: list[tuple[SourceFile, LabelledPath]]
    folders: list[LabelledPath]
    skipped: list[Row]
    hidden: int
    other_classes: int


def select_files(listing: Listing, params: DataParams, origin: str) -> Selection:
    """Select the files of the classes that ``params`` names, by their paths.

    The content decides what is an image.

    Args:
        listing: the files of the source.
        params: the `data:` section.
        origin: name of the source for error messages.

    Raises:
        CarbenchError: no images, fewer than two classes, an unknown class in ``params``, class
            names that hardly differ, folders next to the published splits, or several files with
            the same target path.
    """
    visible = [file for file in listing.files if not is_hidden(file.path)]
    image_paths = {file.path for file in visible if _should_be_image(file)}
    if not image_paths:
        raise CarbenchError(
            origin,
            found=f"no images among {len(listing.files)} files",
            expected="a folder of images for each class",
            fix="name the folder or zip with your images (data.path in params.yaml)",
        )
    layout = Layout(image_paths)
    other_folders = {name for path in image_paths if (name := layout.other_folder(path))}
    classes.refuse_other_folders(other_folders, params, origin)
    folders = [
        target for path in listing.empty_folders if (target := _class_of_folder(layout, path))
    ]
    skipped: list[Row] = []
    located: list[tuple[SourceFile, LabelledPath]] = []
    for file in visible:
        target = layout.locate(file.path)
        if target is not None:
            folders.append(target)
        is_other_type = (
            file.path.suffix.lower() in NON_IMAGE_SUFFIXES and file.path not in image_paths
        )
        if target is None or is_other_type:
            reason = NOT_IN_A_CLASS if file.path in image_paths else NOT_AN_IMAGE
            skipped.append({"file": printable_path(file), "reason": reason})
        else:
            located.append((file, target))
    labels = classes.choose_classes(folders, other_folders, params, origin)
    chosen = [(file, target) for file, target in located if target.label in labels]
    folders = [target for target in folders if target.label in labels]
    classes.refuse_confusable_names(folders, origin)
    classes.refuse_collisions([target for _, target in chosen], origin)
    hidden = len(listing.files) - len(visible)
    return Selection(chosen, folders, skipped, hidden, len(located) - len(chosen))


def printable_path(file: SourceFile) -> str:
    """Return the path of a file as printable UTF-8."""
    text = os.fsencode(file.path).decode("utf-8", "backslashreplace")
    return "".join(ascii(each)[1:-1] if each.isspace() and each != " " else each for each in text)


def _should_be_image(file: SourceFile) -> bool:
    if file.path.suffix.lower() in SUFFIXES:
        return True
    try:
        return detect_format(file.read(HEADER_BYTES)) in FORMATS
    except UnreadableFileError:
        return False


def _class_of_folder(layout: Layout, folder: PurePosixPath) -> LabelledPath | None:
    return None if is_hidden(folder) else layout.class_folder(folder)
