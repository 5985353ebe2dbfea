"""Takes images in: checks each by decoding it, keeps the good, lists the bad with the reason."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.core.parallel import thread_map
from carbench.core.params import has_control_characters
from carbench.core.progress import progress
from carbench.data.images.decoding import BadImageError, ImageFacts, decode
from carbench.data.images.formats import FORMATS, START, SUFFIXES, format_of
from carbench.data.sources import classes
from carbench.data.sources.files import Listing, SourceFile, UnreadableFileError
from carbench.data.sources.places import COMPANIONS, Layout, Place, is_hidden
from carbench.params.data import DataParams

MANIFEST = ["image", "class", "published", "sha256", "bytes", "format", "mode", "width", "height"]
QUARANTINE = ["file", "class", "published", "sha256", "bytes", "reason"]
NO_IMAGE = "left aside: not an image"
NO_CLASS = "left aside: not in a class folder"
BAD_NAME = "its name is not UTF-8, or has control characters"

Row = dict[str, object]


@dataclass(frozen=True)
class Collected:
    """What was taken in: rows of the manifest and of the quarantine list, and files ignored."""

    manifest: list[Row]
    quarantine: list[Row]
    hidden: int
    other_classes: int


def collect(listing: Listing, params: DataParams, origin: str, images: Path) -> Collected:
    """Write the chosen classes' images below ``images``, each only if it decodes as a whole.

    The content decides what is an image. A file in a class folder that should be an image and
    cannot be taken counts against ``max_bad_fraction``. Left aside are files whose ending says that
    they are something else, and files outside of all class folders.

    Args:
        listing: what the source holds.
        params: the `data:` section.
        origin: the source, as errors should name it.
        images: the folder to write to.

    Raises:
        CarbenchError: no images, fewer than two classes, an unknown class asked for, a class of
            which nothing could be taken, classes whose names hardly differ, folders beside the
            published parts, two files for one place, or more than ``max_bad_fraction`` of the
            images undecodable.
    """
    visible = [file for file in listing.files if not is_hidden(file.path)]
    found = {file.path for file in visible if _is_meant_as_image(file)}
    if not found:
        raise CarbenchError(
            origin,
            found=f"no images among {len(listing.files)} files",
            expected="a folder of images for each class",
            fix="correct data.path in params.yaml",
        )
    layout = Layout(found)
    strays = {name for path in found if (name := layout.stray(path))}
    classes.refuse_strays(strays, params, origin)
    folders = [place for path in listing.empty_folders if (place := _class_folder(layout, path))]
    quarantine: list[Row] = []
    placed: list[tuple[SourceFile, Place]] = []
    for file in visible:
        place = layout.place(file.path)
        if place is not None:
            folders.append(place)
        is_companion = file.path.suffix.lower() in COMPANIONS and file.path not in found
        if place is None or is_companion:
            reason = NO_CLASS if file.path in found else NO_IMAGE
            quarantine.append({"file": _shown(file), "reason": reason})
        else:
            placed.append((file, place))
    labels = classes.choose_classes(folders, strays, params, origin)
    chosen = [(file, place) for file, place in placed if place.label in labels]
    folders = [place for place in folders if place.label in labels]
    classes.refuse_odd_names(folders, origin)
    classes.refuse_collisions([place for _, place in chosen], origin)

    manifest, bad = _take(chosen, images)
    classes.refuse_lost_classes(folders, manifest, bad, origin)
    classes.refuse_damage(manifest, bad, params.max_bad_fraction, origin)
    return Collected(
        sorted(manifest, key=lambda row: str(row["image"])),
        quarantine + bad,
        hidden=len(listing.files) - len(visible),
        other_classes=len(placed) - len(chosen),
    )


def _is_meant_as_image(file: SourceFile) -> bool:
    if file.path.suffix.lower() in SUFFIXES:
        return True
    try:
        return format_of(file.read(START)) in FORMATS
    except UnreadableFileError:
        return False


def _class_folder(layout: Layout, folder: PurePosixPath) -> Place | None:
    return None if is_hidden(folder) else layout.class_folder(folder)


def _take(chosen: list[tuple[SourceFile, Place]], images: Path) -> tuple[list[Row], list[Row]]:
    """Copy what decodes; return rows of the manifest and of the quarantine list."""
    manifest: list[Row] = []
    bad: list[Row] = []
    # The bytes are read here, one file after the other (a zip has one position); threads decode.
    read = ((place, file, _bytes(file)) for file, place in chosen)
    for place, file, facts, content in progress(thread_map(_check, read), "fetch", len(chosen)):
        row: Row = {
            "class": place.label,
            "published": place.published,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        reason = facts if isinstance(facts, str) else _write(images / place.image, content)
        if isinstance(facts, str) or reason:
            bad.append({"file": _shown(file), **row, "reason": reason})
            continue
        row |= {key: getattr(facts, key) for key in ("format", "mode", "width", "height")}
        manifest.append({"image": place.image, **row})
    return manifest, bad


def _write(target: Path, content: bytes) -> str | None:
    """Write one file; the reason if its name is more than the file system takes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return "its name is too long for this file system"
    return None


def _shown(file: SourceFile) -> str:
    """Return a file's path as text that every program can read."""
    text = os.fsencode(file.path).decode("utf-8", "backslashreplace")
    return "".join(ascii(each)[1:-1] if each.isspace() and each != " " else each for each in text)


def _bytes(file: SourceFile) -> bytes | str:
    if has_control_characters(file.path.name):
        return BAD_NAME
    try:
        return file.read()
    except UnreadableFileError as error:
        return str(error)


def _check(
    item: tuple[Place, SourceFile, bytes | str],
) -> tuple[Place, SourceFile, ImageFacts | str, bytes]:
    """Decode an image: its facts, or the reason why it has none."""
    place, file, content = item
    if isinstance(content, str):
        return place, file, content, b""
    try:
        return place, file, decode(content)[1], content
    except BadImageError as error:
        return place, file, str(error), content
