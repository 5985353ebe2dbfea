"""What of a source is to be taken: the class and the published part of each file, by its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.data.images.formats import FORMATS, START, SUFFIXES, format_of
from carbench.data.sources import classes
from carbench.data.sources.files import Listing, SourceFile, UnreadableFileError
from carbench.data.sources.places import COMPANIONS, Layout, Place, is_hidden
from carbench.params.data import DataParams

NO_IMAGE = "left aside: not an image"
NO_CLASS = "left aside: not in a class folder"

Row = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """Files to take, and what is left aside.

    Args:
        chosen: the files of the chosen classes, with their places; not yet decoded.
        folders: the places of the chosen classes' folders, of empty ones, too.
        left_aside: rows of the quarantine list.
        hidden: how many files are the file system's own business.
        other_classes: how many files are of classes that were not chosen.
    """

    chosen: list[tuple[SourceFile, Place]]
    folders: list[Place]
    left_aside: list[Row]
    hidden: int
    other_classes: int


def make_plan(listing: Listing, params: DataParams, origin: str) -> Plan:
    """Return what is to be taken.

    Args:
        listing: what the source holds.
        params: the `data:` section.
        origin: the source, as errors should name it.

    Raises:
        CarbenchError: no images, fewer than two classes, an unknown class asked for, classes whose
            names hardly differ, folders beside the published parts, or two files for one place.
    """
    visible = [file for file in listing.files if not is_hidden(file.path)]
    found = {file.path for file in visible if _is_meant_as_image(file)}
    if not found:
        raise CarbenchError(
            origin,
            found=f"no images among {len(listing.files)} files",
            expected="a folder of images for each class",
            fix="name the folder or zip with your images (data.path in params.yaml)",
        )
    layout = Layout(found)
    strays = {name for path in found if (name := layout.stray(path))}
    classes.refuse_strays(strays, params, origin)
    folders = [place for path in listing.empty_folders if (place := _class_folder(layout, path))]
    left_aside: list[Row] = []
    placed: list[tuple[SourceFile, Place]] = []
    for file in visible:
        place = layout.place(file.path)
        if place is not None:
            folders.append(place)
        is_companion = file.path.suffix.lower() in COMPANIONS and file.path not in found
        if place is None or is_companion:
            reason = NO_CLASS if file.path in found else NO_IMAGE
            left_aside.append({"file": shown(file), "reason": reason})
        else:
            placed.append((file, place))
    labels = classes.choose_classes(folders, strays, params, origin)
    chosen = [(file, place) for file, place in placed if place.label in labels]
    folders = [place for place in folders if place.label in labels]
    classes.refuse_odd_names(folders, origin)
    classes.refuse_collisions([place for _, place in chosen], origin)
    hidden = len(listing.files) - len(visible)
    return Plan(chosen, folders, left_aside, hidden, len(placed) - len(chosen))


def shown(file: SourceFile) -> str:
    """Return a file's path as text that every program can read."""
    text = os.fsencode(file.path).decode("utf-8", "backslashreplace")
    return "".join(ascii(each)[1:-1] if each.isspace() and each != " " else each for each in text)


def _is_meant_as_image(file: SourceFile) -> bool:
    if file.path.suffix.lower() in SUFFIXES:
        return True
    try:
        return format_of(file.read(START)) in FORMATS
    except UnreadableFileError:
        return False


def _class_folder(layout: Layout, folder: PurePosixPath) -> Place | None:
    return None if is_hidden(folder) else layout.class_folder(folder)
