"""Selects the classes of a data set and rejects data sets that would silently lose one."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from carbench.core.errors import CarbenchError
from carbench.core.params import has_control_characters
from carbench.data.sources.layout import LabelledPath
from carbench.params.data import DataParams

Row = Mapping[str, object]


def choose_classes(
    paths: Iterable[LabelledPath], other_folders: Iterable[str], params: DataParams, origin: str
) -> set[str]:
    """Return the classes to use.

    Args:
        paths: class and split of all files and folders.
        other_folders: folders next to the published splits, which `data.exclude` may also name.
        params: the `data:` section.
        origin: name of the source for error messages.

    Raises:
        CarbenchError: `data.classes` or `data.exclude` names an unknown class, or fewer than two
            are left.
    """
    found = {path.label for path in paths}
    for key, names in (("data.classes", params.classes), ("data.exclude", params.exclude)):
        for label in names:
            if label not in found and not (key == "data.exclude" and label in other_folders):
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


def refuse_other_folders(other_folders: Iterable[str], params: DataParams, origin: str) -> None:
    """Reject folders of images next to train/ and test/, which may or may not be classes."""
    names = sorted(set(other_folders) - set(params.exclude))
    if names:
        raise CarbenchError(
            origin,
            found=f"images in {_folder_list(names)}, next to folders such as train/<class>/",
            expected="either train/<class>/ and test/<class>/, or one folder for each class",
            fix=f"exclude them with data.exclude: [{', '.join(names)}]; if a class is called "
            "train, val or test, put its images directly into its folder",
        )


def refuse_confusable_names(paths: Iterable[LabelledPath], origin: str) -> None:
    """Reject class names that are blank, unprintable or hardly differ from another."""
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        if not path.label or has_control_characters(path.label):
            raise CarbenchError(
                origin,
                found=f"a class folder named {path.folder!r}",
                expected="a printable name",
                fix="rename the folder",
            )
        folders[path.published, path.label].add(path.folder)
        labels[unicodedata.normalize("NFC", path.label).casefold()].add(path.label)
    for names in (*folders.values(), *labels.values()):
        if len(names) > 1:
            raise CarbenchError(
                origin,
                found=f"class folders {' and '.join(ascii(name) for name in sorted(names))}",
                expected="names that differ in more than case, spaces or Unicode normalisation "
                "(NFC and NFD)",
                fix="use the same name for a class in all folders",
            )


def refuse_empty_classes(
    paths: Iterable[LabelledPath], accepted: Iterable[Row], rejected: Iterable[Row], origin: str
) -> None:
    """Require at least one valid image of each class in each published split.

    Args:
        paths: files and empty folders of the selected classes.
        accepted: rows of the manifest.
        rejected: rows of the quarantine list.
        origin: name of the source for error messages.
    """
    kept = {(row["published"], row["class"]) for row in accepted}
    lost = sorted({(path.published, path.label) for path in paths} - kept)
    if not lost:
        return
    reasons: dict[tuple[object, object], Counter[str]] = defaultdict(Counter)
    for row in rejected:
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
        fix=f"get valid copies, or exclude the class with data.exclude: [{names}]",
    )


def refuse_collisions(paths: Sequence[LabelledPath], origin: str) -> None:
    """Reject files with the same target path, and a file where a folder is needed."""
    counts = Counter(each.image for each in paths)
    image, times = counts.most_common(1)[0]
    if times > 1:
        raise CarbenchError(
            origin,
            key=image,
            found=f"{times} files for this path",
            expected="a single train/test/class tree",
            fix="separate the trees and use one of them",
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


def refuse_many_bad_images(
    accepted: Sequence[Row], rejected: Sequence[Row], max_fraction: float, origin: str
) -> None:
    """Reject a data set if more than ``max_fraction`` of its images were rejected."""
    total = len(accepted) + len(rejected)
    if len(rejected) > max_fraction * total:
        examples = "; ".join(f"{row['file']}: {row['reason']}" for row in rejected[:3])
        raise CarbenchError(
            origin,
            found=f"{len(rejected)} of {total:,} images that cannot be decoded ({examples}, ...)",
            expected=f"at most data.max_bad_fraction = {max_fraction:g}",
            fix="get valid copies of the images, or raise data.max_bad_fraction",
        )


def _folder_list(names: Sequence[str]) -> str:
    return ", ".join(f"{name}/" for name in names[:4]) + (", ..." if len(names) > 4 else "")
