"""Assigns duplicate groups to train, val and test; a group is never divided."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.data.split.table import FOLD
from carbench.params.split import SplitParams


@dataclass(frozen=True)
class GroupedImage:
    """An image with its class, published split and duplicate group."""

    image: str
    label: str
    published: str
    group: int


@dataclass(frozen=True)
class Assignment:
    """The split of an image: train, val, test, a fold or excluded.

    ``leaked`` marks a test image that has a duplicate in train or val.
    """

    split: str
    leaked: bool = False


def assign_images(
    images: list[GroupedImage], params: SplitParams, repeat: int = 0
) -> list[Assignment]:
    """Return the assignment of each image; ``repeat`` is the number of the split.

    ``grouped`` assigns whole groups, class by class, to the split that lacks the most images;
    ``kfold`` does the same for folds of equal size. ``published`` keeps the published test set,
    assigns the other groups to train and val, and marks test images with a duplicate there as
    leaked.

    Raises:
        CarbenchError: no published test set, a class with too few groups, or several splits
            although train and val are published.
    """
    seed = params.seed
    if repeat:
        seed = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    excluded = _excluded_images(images, params.conflicts)
    usable = [image for image in images if image.image not in excluded]
    if params.method == "published":
        splits = _assign_published(usable, params, seed)
    else:
        assigned = assign_groups(usable, _fractions(params), seed)
        splits = {image.image: assigned[image.group] for image in usable}
    known = {image.group for image in usable if splits[image.image] != "test"}
    result = [
        Assignment("excluded")
        if image.image in excluded
        else Assignment(splits[image.image], splits[image.image] == "test" and image.group in known)
        for image in images
    ]
    _refuse_empty(images, result, params)
    return result


def _fractions(params: SplitParams) -> dict[str, float]:
    """Return the fraction of the images for each split."""
    if params.method == "kfold":
        return {f"{FOLD}{number}": 1 / params.folds for number in range(params.folds)}
    return {"train": 1 - params.val - params.test, "val": params.val, "test": params.test}


def assign_groups(
    images: list[GroupedImage], fractions: dict[str, float], seed: int
) -> dict[int, str]:
    """Assign duplicate groups to splits, stratified by class, close to the given fractions.

    The groups of a class are sorted from the largest, in random order among equal sizes, and each
    is assigned to the split that lacks the most images; the many groups of one image at the end
    even out the imbalance left by large groups. Each split gets at least one group of each class
    that has enough of them.

    Returns:
        The split of each group.
    """
    sizes = Counter(image.group for image in images)
    strata: dict[str, list[int]] = defaultdict(list)
    for number, counts in _label_counts(images).items():
        strata[counts.most_common(1)[0][0]].append(number)
    assigned: dict[int, str] = {}
    for index, label in enumerate(sorted(strata)):
        groups = sorted(strata[label])
        np.random.default_rng([seed, index]).shuffle(groups)
        groups.sort(key=lambda number: -sizes[number])
        total = sum(sizes[number] for number in groups)
        missing_images = {split: fraction * total for split, fraction in fractions.items()}
        groups_of: dict[str, list[int]] = {split: [] for split in fractions}
        for number in groups:
            split = max(missing_images, key=lambda name: missing_images[name])
            groups_of[split].append(number)
            missing_images[split] -= sizes[number]
        _fill_empty(groups_of, sizes)
        assigned.update((number, split) for split, kept in groups_of.items() for number in kept)
    return assigned


def _fill_empty(groups_of: dict[str, list[int]], sizes: Counter[int]) -> None:
    """Move to each empty split the smallest group of the split with the most groups."""
    for split, kept in groups_of.items():
        largest = max(groups_of.values(), key=len)
        if not kept and len(largest) > 1:
            smallest = min(largest, key=lambda number: sizes[number])
            largest.remove(smallest)
            groups_of[split].append(smallest)


def _assign_published(images: list[GroupedImage], params: SplitParams, seed: int) -> dict[str, str]:
    if not any(image.published == "test" for image in images):
        raise CarbenchError(
            "params.yaml",
            key="split.method",
            found="'published', but these images came without a test folder",
            expected="train/<class>/ and test/<class>/ folders",
            fix="set split.method: grouped",
        )
    rest = [image for image in images if image.published != "test"]
    if any(image.published == "val" for image in rest):
        if params.repeats > 1:
            raise CarbenchError(
                "params.yaml",
                key="split.repeats",
                found=f"{params.repeats}, but these images came with a val folder",
                expected="1: with published train and val sets, there is nothing to reassign",
                fix="set split.repeats: 1, or split.method: grouped",
            )
        # With a published val set: a group that is also in train is assigned to train.
        train = {image.group for image in rest if image.published != "val"}
        assigned = {image.group: "train" if image.group in train else "val" for image in rest}
    else:
        assigned = assign_groups(rest, {"train": 1 - params.val, "val": params.val}, seed)
    return {
        image.image: "test" if image.published == "test" else assigned[image.group]
        for image in images
    }


def _excluded_images(images: list[GroupedImage], conflicts: str) -> set[str]:
    """Return the images that are excluded because their group has several classes.

    ``drop`` excludes the whole group, ``majority`` the images that are not of the class of more
    than half of the group. Labels are never changed.
    """
    if conflicts == "keep":
        return set()
    labels = _label_counts(images)
    trusted: dict[int, str | None] = {}
    for number, counts in labels.items():
        label, most = counts.most_common(1)[0]
        agreed = most == counts.total() or (conflicts == "majority" and 2 * most > counts.total())
        trusted[number] = label if agreed else None
    return {image.image for image in images if trusted[image.group] != image.label}


def _label_counts(images: list[GroupedImage]) -> dict[int, Counter[str]]:
    """Return the number of images of each class in each group; classes are sorted by name."""
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for image in sorted(images, key=lambda image: image.label):
        labels[image.group][image.label] += 1
    return labels


def _refuse_empty(
    images: list[GroupedImage], assignments: list[Assignment], params: SplitParams
) -> None:
    """Require images of each class in each split, and clean ones in test."""
    needed = list(_fractions(params))
    have = {
        (image.label, assignment.split)
        for image, assignment in zip(images, assignments, strict=True)
        if not assignment.leaked
    }
    for label in sorted({image.label for image in images}):
        missing = [split for split in needed if (label, split) not in have]
        if missing:
            kept = [image for image in images if image.label == label]
            groups = len({image.group for image in kept})
            raise CarbenchError(
                "results/audit/groups.csv",
                key=f"class {label!r}",
                found=f"{len(kept)} images in {groups} duplicate groups, none left for "
                + " and ".join("clean test" if split == "test" else split for split in missing),
                expected="at least one group of every class in "
                + ("each fold" if params.method == "kfold" else "train, val and clean test"),
                fix=f"add images of {label!r}, or exclude it with data.exclude",
            )
