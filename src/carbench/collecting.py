"""Takes pictures in: checks each by decoding it, keeps the good, lists the bad with the reason."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from carbench.errors import CarbenchError
from carbench.images import BadPictureError, PictureFacts, decode
from carbench.parallel import in_order
from carbench.params.data import DataParams
from carbench.progress import progress
from carbench.sources.files import SourceFile, UnreadableFileError
from carbench.sources.places import Place, find_places, is_hidden, looks_like_picture

MANIFEST = ["image", "class", "published", "sha256", "bytes", "format", "mode", "width", "height"]
QUARANTINE = ["file", "class", "published", "sha256", "bytes", "reason"]
NO_PICTURE = "left aside: not a picture by its name"
BAD_NAME = "left aside: its name is not UTF-8"
NO_CLASS = "left aside: not in a class folder"
LEFT_ASIDE = (NO_PICTURE, NO_CLASS, BAD_NAME)


@dataclass(frozen=True)
class Collected:
    """What was taken in: rows of the manifest and of the quarantine list, and files ignored."""

    manifest: list[dict[str, object]]
    quarantine: list[dict[str, object]]
    hidden: int
    other_classes: int

    @property
    def undecodable(self) -> list[dict[str, object]]:
        """The quarantined files that should have been pictures."""
        return [row for row in self.quarantine if row["reason"] not in LEFT_ASIDE]


def collect(files: list[SourceFile], params: DataParams, origin: str, images: Path) -> Collected:
    """Write the chosen classes' pictures below ``images``, each only if it decodes as a whole.

    Args:
        files: what the source gives.
        params: the `data:` section.
        origin: the source, as errors should name it.
        images: the folder to write to.

    Raises:
        CarbenchError: no pictures, fewer than two classes, an unknown class asked for, two files
            for one place, or more than ``max_bad_fraction`` of the pictures undecodable.
    """
    named = [file for file in files if _has_text_name(file)]
    visible = [file for file in named if not is_hidden(file.path)]
    pictures = [file for file in visible if looks_like_picture(file.path)]
    quarantine: list[dict[str, object]] = [
        {"file": os.fsencode(file.path).decode("utf-8", "backslashreplace"), "reason": BAD_NAME}
        for file in files
        if not _has_text_name(file)
    ]
    quarantine += [
        {"file": file.path.as_posix(), "reason": NO_PICTURE}
        for file in visible
        if not looks_like_picture(file.path)
    ]
    if not pictures:
        raise CarbenchError(
            origin,
            found=f"no pictures among {len(files)} files",
            expected="a folder of pictures for each class",
            fix="correct data.path in params.yaml",
        )
    places = find_places(file.path for file in pictures)
    placed = [(file, place) for file in pictures if (place := places[file.path]) is not None]
    quarantine += [
        {"file": file.path.as_posix(), "reason": NO_CLASS}
        for file in pictures
        if places[file.path] is None
    ]
    labels = _chosen({place.label for _, place in placed}, params, origin)
    chosen = [(file, place) for file, place in placed if place.label in labels]
    _refuse_collisions([place for _, place in chosen], origin)

    manifest: list[dict[str, object]] = []
    # The bytes are read here, one file after the other (a zip has one position); threads decode.
    read = ((place, file, _bytes(file)) for file, place in chosen)
    for place, file, facts, content in progress(in_order(_check, read), "fetch", len(chosen)):
        row: dict[str, object] = {
            "class": place.label,
            "published": place.published,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        if isinstance(facts, str):
            quarantine.append({"file": file.path.as_posix(), **row, "reason": facts})
            continue
        row |= {key: getattr(facts, key) for key in ("format", "mode", "width", "height")}
        manifest.append({"image": place.image, **row})
        target = images / place.image
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    manifest.sort(key=lambda row: str(row["image"]))
    collected = Collected(
        manifest, quarantine, len(named) - len(visible), len(placed) - len(chosen)
    )
    _refuse_damage(collected, params, origin)
    return collected


def _has_text_name(file: SourceFile) -> bool:
    try:
        str(file.path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(file: SourceFile) -> bytes | str:
    try:
        return file.read()
    except UnreadableFileError as error:
        return str(error)


def _check(
    item: tuple[Place, SourceFile, bytes | str],
) -> tuple[Place, SourceFile, PictureFacts | str, bytes]:
    """Decode a picture: its facts, or the reason why it has none."""
    place, file, content = item
    if isinstance(content, str):
        return place, file, content, b""
    try:
        return place, file, decode(content)[1], content
    except BadPictureError as error:
        return place, file, str(error), content


def _chosen(found: set[str], params: DataParams, origin: str) -> set[str]:
    for key, asked in (("data.classes", params.classes), ("data.exclude", params.exclude)):
        for label in asked:
            if label not in found:
                close = get_close_matches(label, sorted(found), n=1)
                raise CarbenchError(
                    "params.yaml",
                    key=key,
                    found=f"{label!r}",
                    expected=f"classes of {origin}: {', '.join(sorted(found))}",
                    fix=f"write {close[0]!r}" if close else f"correct {key}",
                )
    labels = (set(params.classes) or found) - set(params.exclude)
    if len(labels) < 2:
        raise CarbenchError(
            origin,
            found=f"{len(labels)} class{'' if len(labels) == 1 else 'es'} {sorted(labels)}",
            expected="at least two classes, each a folder of pictures",
            fix="correct data.path, data.classes and data.exclude in params.yaml",
        )
    return labels


def _refuse_collisions(places: list[Place], origin: str) -> None:
    image, times = Counter(place.image for place in places).most_common(1)[0]
    if times > 1:
        raise CarbenchError(
            origin,
            key=image,
            found=f"{times} files for this one place",
            expected="one train/test/class tree",
            fix="split the trees apart and use one of them",
        )


def _refuse_damage(collected: Collected, params: DataParams, origin: str) -> None:
    bad = collected.undecodable
    total = len(collected.manifest) + len(bad)
    if len(bad) > params.max_bad_fraction * total:
        examples = "; ".join(f"{row['file']}: {row['reason']}" for row in bad[:3])
        raise CarbenchError(
            origin,
            found=f"{len(bad)} of {total:,} pictures that cannot be decoded ({examples}, ...)",
            expected=f"at most data.max_bad_fraction = {params.max_bad_fraction:g}",
            fix="get a sound copy of the pictures, or raise data.max_bad_fraction",
        )
    remaining = {row["class"] for row in collected.manifest}
    if len(remaining) < 2:
        raise CarbenchError(
            origin,
            found=f"decodable pictures of {len(remaining)} class",
            expected="at least two classes",
            fix="get a sound copy of the pictures",
        )
