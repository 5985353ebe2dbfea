"""Takes images in: checks each by decoding it, keeps the good, lists the bad with the reason."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

from carbench.core.parallel import thread_map
from carbench.core.params import has_control_characters
from carbench.core.progress import progress
from carbench.data.images.decoding import BadImageError, ImageFacts, decode
from carbench.data.sources import classes
from carbench.data.sources.files import Listing, SourceFile, UnreadableFileError
from carbench.data.sources.places import Place
from carbench.data.sources.planning import Row, make_plan, shown
from carbench.params.data import DataParams

MANIFEST = ["image", "class", "published", "sha256", "bytes", "format", "mode", "width", "height"]
QUARANTINE = ["file", "class", "published", "sha256", "bytes", "reason"]
BAD_NAME = "its name is not UTF-8, or has control characters"


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
        CarbenchError: as :func:`make_plan`; or a class of which nothing could be taken, or more
            than ``max_bad_fraction`` of the images undecodable.
    """
    plan = make_plan(listing, params, origin)
    manifest, bad = _take(plan.chosen, images)
    classes.refuse_lost_classes(plan.folders, manifest, bad, origin)
    classes.refuse_damage(manifest, bad, params.max_bad_fraction, origin)
    return Collected(
        sorted(manifest, key=lambda row: str(row["image"])),
        plan.left_aside + bad,
        hidden=plan.hidden,
        other_classes=plan.other_classes,
    )


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
            bad.append({"file": shown(file), **row, "reason": reason})
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
