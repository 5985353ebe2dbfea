"""Which classes a set has, and what must not happen to one without a word."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from carbench.core.errors import CarbenchError
from carbench.core.params import has_control_characters
from carbench.data.sources.places import Place
from carbench.params.data import DataParams

Row = Mapping[str, object]


def choose_classes(
    places: Iterable[Place], strays: Iterable[str], params: DataParams, origin: str
) -> set[str]:
    """Return the classes to use.

    Args:
        places: of all files and folders.
        strays: folders beside the published parts, which `data.exclude` may also name.
        params: the `data:` section.
        origin: the source, as errors should name it.

    Raises:
        CarbenchError: `data.classes` or `data.exclude` names one that is not there, or fewer than
            two are left.
    """
    found = {place.label for place in places}
    for key, asked in (("data.classes", params.classes), ("data.exclude", params.exclude)):
        for label in asked:
            if label not in found and not (key == "data.exclude" and label in strays):
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
            expected="at least two classes, each a folder of images",
            fix="name the folder above the classes' folders (data.path in params.yaml), or "
            "correct data.classes and data.exclude",
        )
    return labels


def refuse_strays(strays: Iterable[str], params: DataParams, origin: str) -> None:
    """Refuse folders of images beside train/ and test/, which may be classes or may not."""
    names = sorted(set(strays) - set(params.exclude))
    if names:
        raise CarbenchError(
            origin,
            found=f"images in {_listed(names)}, beside folders such as train/<class>/",
            expected="either train/<class>/ and test/<class>/, or one folder for each class",
            fix=f"leave them out with data.exclude: [{', '.join(names)}]; or if a class is called "
            "train, val or test, let its images lie directly in its folder",
        )


def refuse_odd_names(places: Iterable[Place], origin: str) -> None:
    """Refuse classes whose names are blank, unprintable, or hardly differ from another's."""
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    for place in places:
        if not place.label or has_control_characters(place.label):
            raise CarbenchError(
                origin,
                found=f"a class folder called {place.folder!r}",
                expected="names that can be read",
                fix="rename that folder",
            )
        folders[place.published, place.label].add(place.folder)
        labels[unicodedata.normalize("NFC", place.label).casefold()].add(place.label)
    for names in (*folders.values(), *labels.values()):
        if len(names) > 1:
            raise CarbenchError(
                origin,
                found=f"class folders {' and '.join(ascii(name) for name in sorted(names))}",
                expected="names that differ in more than case, spaces or the way accents are "
                "stored (NFC and NFD)",
                fix="give one class one name in all folders",
            )


def refuse_lost_classes(
    places: Iterable[Place], taken: Iterable[Row], bad: Iterable[Row], origin: str
) -> None:
    """Refuse to go on without a class: each class of each part must keep at least one image.

    Args:
        places: of the files and empty folders of the chosen classes.
        taken: rows of the manifest.
        bad: rows of the quarantine list, with the reasons.
        origin: the source, as errors should name it.
    """
    kept = {(row["published"], row["class"]) for row in taken}
    lost = sorted({(place.published, place.label) for place in places} - kept)
    if not lost:
        return
    reasons: dict[tuple[object, object], Counter[str]] = defaultdict(Counter)
    for row in bad:
        reasons[row.get("published"), row.get("class")][str(row["reason"])] += 1
    sentences = []
    for published, label in lost[:3]:
        counts = reasons[published, label]
        why = ", ".join(f"{count} files: {reason}" for reason, count in counts.most_common(2))
        sentences.append(f"{'/'.join(filter(None, (published, label)))} ({why or 'no file'})")
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    names = ", ".join(sorted({label for _, label in lost}))
    raise CarbenchError(
        origin,
        found=f"no usable image in {'; '.join(sentences)}{more}",
        expected="images in each class folder",
        fix=f"get sound copies, or leave the class out with data.exclude: [{names}]",
    )


def refuse_collisions(places: Sequence[Place], origin: str) -> None:
    """Refuse two files for one place, and a file where another needs a folder."""
    counts = Counter(place.image for place in places)
    image, times = counts.most_common(1)[0]
    if times > 1:
        raise CarbenchError(
            origin,
            key=image,
            found=f"{times} files for this one place",
            expected="one train/test/class tree",
            fix="split the trees apart and use one of them",
        )
    for image in counts:
        steps = image.split("/")
        for end in range(1, len(steps)):
            if "/".join(steps[:end]) in counts:
                raise CarbenchError(
                    origin,
                    key="/".join(steps[:end]),
                    found=f"both a file and a folder (of {steps[end]})",
                    expected="one of the two",
                    fix="unpack it yourself and use data.source: folder",
                )


def refuse_damage(taken: Sequence[Row], bad: Sequence[Row], most: float, origin: str) -> None:
    """Refuse a set of which more than the fraction ``most`` could not be taken."""
    total = len(taken) + len(bad)
    if len(bad) > most * total:
        examples = "; ".join(f"{row['file']}: {row['reason']}" for row in bad[:3])
        raise CarbenchError(
            origin,
            found=f"{len(bad)} of {total:,} images that cannot be decoded ({examples}, ...)",
            expected=f"at most data.max_bad_fraction = {most:g}",
            fix="get a sound copy of the images, or raise data.max_bad_fraction",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name}/" for name in names[:4]) + (", ..." if len(names) > 4 else "")
