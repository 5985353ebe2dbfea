"""Ingests images: decodes each, copies the valid ones and lists the others with the reason."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.core.parallel import in_order
from carbench.core.params import has_control_characters
from carbench.core.progress import progress
from carbench.data.images.decoding import BadImageError, ImageInfo, decode
from carbench.data.images.formats import FORMATS, HEADER_BYTES, SUFFIXES, detect_format
from carbench.data.sources import classes
from carbench.data.sources.layout import NON_IMAGE_SUFFIXES, LabelledPath, Layout, is_hidden
from carbench.data.sources.listing import Listing, SourceFile, UnreadableFileError
from carbench.params.data import DataParams

MANIFEST_COLUMNS = [
    "image",
    "class",
    "published",
    "sha256",
    "bytes",
    "format",
    "mode",
    "width",
    "height",
]
QUARANTINE_COLUMNS = ["file", "class", "published", "sha256", "bytes", "reason"]
NOT_AN_IMAGE = "skipped: not an image"
NOT_IN_A_CLASS = "skipped: not in a class folder"
BAD_NAME = "its name is not UTF-8, or has control characters"

Row = dict[str, object]


@dataclass(frozen=True)
class IngestResult:
    """Rows of the manifest and of the quarantine list, and the number of ignored files."""

    manifest: list[Row]
    quarantine: list[Row]
    hidden: int
    other_classes: int


def ingest_images(listing: Listing, params: DataParams, origin: str, images: Path) -> IngestResult:
    """Copy the images of the selected classes to ``images``, each only if it decodes completely.

    The content decides what is an image. A file in a class folder that should be an image and is
    rejected counts against ``max_bad_fraction``; files with an extension of another type and files
    outside all class folders do not.

    Args:
        listing: the files of the source.
        params: the `data:` section.
        origin: name of the source for error messages.
        images: the folder to write to.

    Raises:
        CarbenchError: no images, fewer than two classes, an unknown class in ``params``, a class
            without valid images, class names that hardly differ, folders next to the published
            splits, several files with the same target path, or more than ``max_bad_fraction`` of
            the images undecodable.
    """
    visible = [file for file in listing.files if not is_hidden(file.path)]
    image_paths = {file.path for file in visible if _should_be_image(file)}
    if not image_paths:
        raise CarbenchError(
            origin,
            found=f"no images among {len(listing.files)} files",
            expected="a folder of images for each class",
            fix="correct data.path in params.yaml",
        )
    layout = Layout(image_paths)
    other_folders = {name for path in image_paths if (name := layout.other_folder(path))}
    classes.refuse_other_folders(other_folders, params, origin)
    folders = [
        target for path in listing.empty_folders if (target := _class_of_folder(layout, path))
    ]
    quarantine: list[Row] = []
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
            quarantine.append({"file": _printable_path(file), "reason": reason})
        else:
            located.append((file, target))
    labels = classes.choose_classes(folders, other_folders, params, origin)
    chosen = [(file, target) for file, target in located if target.label in labels]
    folders = [target for target in folders if target.label in labels]
    classes.refuse_confusable_names(folders, origin)
    classes.refuse_collisions([target for _, target in chosen], origin)

    manifest, bad = _copy_decodable(chosen, images)
    classes.refuse_empty_classes(folders, manifest, bad, origin)
    classes.refuse_many_bad_images(manifest, bad, params.max_bad_fraction, origin)
    return IngestResult(
        sorted(manifest, key=lambda row: str(row["image"])),
        quarantine + bad,
        hidden=len(listing.files) - len(visible),
        other_classes=len(located) - len(chosen),
    )


def _should_be_image(file: SourceFile) -> bool:
    if file.path.suffix.lower() in SUFFIXES:
        return True
    try:
        return detect_format(file.read(HEADER_BYTES)) in FORMATS
    except UnreadableFileError:
        return False


def _class_of_folder(layout: Layout, folder: PurePosixPath) -> LabelledPath | None:
    return None if is_hidden(folder) else layout.class_folder(folder)


def _copy_decodable(
    chosen: list[tuple[SourceFile, LabelledPath]], images: Path
) -> tuple[list[Row], list[Row]]:
    """Copy the files that decode; return rows of the manifest and of the quarantine list."""
    manifest: list[Row] = []
    bad: list[Row] = []
    # Files are read here one by one, because a zip has a single position; threads decode them.
    read = ((target, file, _read_bytes(file)) for file, target in chosen)
    for target, file, info, content in progress(in_order(_decode, read), "fetch", len(chosen)):
        row: Row = {
            "class": target.label,
            "published": target.published,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        reason = info if isinstance(info, str) else _write(images / target.image, content)
        if isinstance(info, str) or reason:
            bad.append({"file": _printable_path(file), **row, "reason": reason})
            continue
        row |= {key: getattr(info, key) for key in ("format", "mode", "width", "height")}
        manifest.append({"image": target.image, **row})
    return manifest, bad


def _write(target: Path, content: bytes) -> str | None:
    """Write a file; return the reason if its name is too long for the file system."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return "its name is too long for this file system"
    return None


def _printable_path(file: SourceFile) -> str:
    """Return the path of a file as printable UTF-8."""
    text = os.fsencode(file.path).decode("utf-8", "backslashreplace")
    return "".join(ascii(each)[1:-1] if each.isspace() and each != " " else each for each in text)


def _read_bytes(file: SourceFile) -> bytes | str:
    if has_control_characters(file.path.name):
        return BAD_NAME
    try:
        return file.read()
    except UnreadableFileError as error:
        return str(error)


def _decode(
    item: tuple[LabelledPath, SourceFile, bytes | str],
) -> tuple[LabelledPath, SourceFile, ImageInfo | str, bytes]:
    """Decode an image; return its information, or the reason for its rejection."""
    target, file, content = item
    if isinstance(content, str):
        return target, file, content, b""
    try:
        return target, file, decode(content)[1], content
    except BadImageError as error:
        return target, file, str(error), content
