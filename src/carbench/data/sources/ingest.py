"""Ingests images: decodes each, copies the valid ones and lists the others with the reason."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

from carbench.core.parallel import thread_map
from carbench.core.params import has_control_characters
from carbench.core.progress import progress
from carbench.data.images.decoding import BadImageError, ImageInfo, decode
from carbench.data.sources import classes
from carbench.data.sources.layout import LabelledPath
from carbench.data.sources.listing import Listing, SourceFile, UnreadableFileError
from carbench.data.sources.selection import Row, printable_path, select_files
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
BAD_NAME = "its name is not UTF-8, or has control characters"


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
        CarbenchError: as :func:`select_files`; or a class without valid images, or more than
            ``max_bad_fraction`` of the images undecodable.
    """
    selection = select_files(listing, params, origin)
    manifest, bad = _copy_decodable(selection.chosen, images)
    classes.refuse_empty_classes(selection.folders, manifest, bad, origin)
    classes.refuse_many_bad_images(manifest, bad, params.max_bad_fraction, origin)
    return IngestResult(
        sorted(manifest, key=lambda row: str(row["image"])),
        selection.skipped + bad,
        hidden=selection.hidden,
        other_classes=selection.other_classes,
    )


def _copy_decodable(
    chosen: list[tuple[SourceFile, LabelledPath]], images: Path
) -> tuple[list[Row], list[Row]]:
    """Copy the files that decode; return rows of the manifest and of the quarantine list."""
    manifest: list[Row] = []
    bad: list[Row] = []
    # Files are read here one by one, because a zip has a single position; threads decode them.
    read = ((target, file, _read_bytes(file)) for file, target in chosen)
    for target, file, info, content in progress(thread_map(_decode, read), "fetch", len(chosen)):
        row: Row = {
            "class": target.label,
            "published": target.published,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        reason = info if isinstance(info, str) else _write(images / target.image, content)
        if isinstance(info, str) or reason:
            bad.append({"file": printable_path(file), **row, "reason": reason})
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
