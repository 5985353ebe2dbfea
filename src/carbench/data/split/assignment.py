"""Assigns duplicate groups to train, val and test; a group is never divided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.columns import Categories, Texts, integers, texts
from carbench.core.errors import CarbenchError
from carbench.core.tables import damaged, read_chunks
from carbench.data.split.groups import count_groups
from carbench.data.split.table import EXCLUDED, FOLD
from carbench.params.split import SplitParams


@dataclass(frozen=True)
class GroupedImages:
    """N images with their classes, published splits and duplicate groups.

    Attributes:
        classes: the class names, sorted; their order is that of class indices.
        images: (N,) names.
        labels: (N,) int32 class indices.
        published: (N,) published split, or ``""``.
        groups: (N,) int64 duplicate groups.
        exact: (N,) int64 index of the first image with the same bytes.
    """

    classes: list[str]
    images: Texts
    labels: NDArray[np.int32]
    published: Texts
    groups: NDArray[np.int64]
    exact: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Assignments:
    """The splits of N images.

    Attributes:
        splits: (N,) train, val, test, a fold or excluded.
        leaked: (N,) bool, whether it is a test image with a duplicate in train or val.
    """

    splits: Texts
    leaked: NDArray[np.bool_]


def read_groups(path: Path) -> GroupedImages:
    """Read groups.csv, which stage audit writes.

    Raises:
        CarbenchError: the file is missing or damaged.
    """
    classes = Categories()
    chunks = [
        (
            texts(images),
            classes.encode(labels),
            texts(published),
            integers(groups, path, "group"),
            integers(exact, path, "exact"),
        )
        for images, labels, published, groups, exact in read_chunks(
            path, ("image", "class", "published", "group", "exact")
        )
    ]
    if not chunks:
        raise damaged(path, "no images")
    images, labels, published, groups, exact = map(np.concatenate, zip(*chunks, strict=True))
    names, indices = classes.in_order()
    return GroupedImages(names, images, indices[labels], published, groups, exact)


def assign_images(images: GroupedImages, params: SplitParams, repeat: int = 0) -> Assignments:
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
    usable = np.flatnonzero(~excluded)
    groups, labels = images.groups[usable], images.labels[usable]
    splits = np.full(len(images), EXCLUDED, images.published.dtype)
    if params.method == "published":
        splits[usable] = _assign_published(images.published[usable], groups, labels, params, seed)
    else:
        splits[usable] = assign_groups(groups, labels, _fractions(params), seed)
    tested = splits == "test"
    known = np.isin(images.groups, images.groups[~excluded & ~tested])
    result = Assignments(splits, tested & known)
    _refuse_empty(images, result, params)
    return result


def _fractions(params: SplitParams) -> dict[str, float]:
    """Return the fraction of the images for each split."""
    if params.method == "kfold":
        return {f"{FOLD}{number}": 1 / params.folds for number in range(params.folds)}
    return {"train": 1 - params.val - params.test, "val": params.val, "test": params.test}


def assign_groups(
    groups: NDArray[np.int64], labels: NDArray[np.int32], fractions: dict[str, float], seed: int
) -> Texts:
    """Assign duplicate groups to splits, stratified by class, close to the given fractions.

    The groups of a class are sorted from the largest, in random order among equal sizes, and each
    is assigned to the split that lacks the most images; the many groups of one image at the end
    even out the imbalance left by large groups. Each split gets at least one group of each class
    that has enough of them.

    Args:
        groups: (N,) duplicate group of each image.
        labels: (N,) class index of each image; the classes are sorted by name.
        fractions: fraction of the images for each split.
        seed: seed of the random order.

    Returns:
        The split of each image (N,).
    """
    found = count_groups(groups, labels)
    sizes: list[int] = found.sizes.tolist()
    split_of_group = np.zeros(len(sizes), np.int8)
    for index, label in enumerate(np.unique(found.labels).tolist()):
        ordered: list[int] = np.flatnonzero(found.labels == label).tolist()
        np.random.default_rng([seed, index]).shuffle(ordered)
        ordered.sort(key=lambda group: -sizes[group])
        total = sum(sizes[group] for group in ordered)
        missing_images = {split: fraction * total for split, fraction in fractions.items()}
        groups_of: dict[str, list[int]] = {split: [] for split in fractions}
        for group in ordered:
            split = max(missing_images, key=missing_images.__getitem__)
            groups_of[split].append(group)
            missing_images[split] -= sizes[group]
        _fill_empty(groups_of, sizes)
        for number, kept in enumerate(groups_of.values()):
            split_of_group[kept] = number
    return texts(list(fractions))[split_of_group[found.group_of]]


def _fill_empty(groups_of: dict[str, list[int]], sizes: list[int]) -> None:
    """Move to each empty split the smallest group of the split with the most groups."""
    for split, kept in groups_of.items():
        largest = max(groups_of.values(), key=len)
        if not kept and len(largest) > 1:
            smallest = min(largest, key=lambda group: sizes[group])
            largest.remove(smallest)
            groups_of[split].append(smallest)


def _assign_published(
    published: Texts,
    groups: NDArray[np.int64],
    labels: NDArray[np.int32],
    params: SplitParams,
    seed: int,
) -> Texts:
    rest = published != "test"
    if rest.all():
        raise CarbenchError(
            "params.yaml",
            key="split.method",
            found="'published', but these images came without a test folder",
            expected="train/<class>/ and test/<class>/ folders",
            fix="set split.method: grouped",
        )
    val = published == "val"
    splits = published.copy()
    if val.any():
        if params.repeats > 1:
            raise CarbenchError(
                "params.yaml",
                key="split.repeats",
                found=f"{params.repeats}, but these images came with a val folder",
                expected="1: with published train and val sets, there is nothing to reassign",
                fix="set split.repeats: 1, or split.method: grouped",
            )
        # With a published val set: a group that is also in train is assigned to train.
        train = np.isin(groups, groups[rest & ~val])
        splits[rest] = texts(("val", "train"))[train[rest].astype(int)]
    else:
        fractions = {"train": 1 - params.val, "val": params.val}
        splits[rest] = assign_groups(groups[rest], labels[rest], fractions, seed)
    return splits


def _excluded_images(images: GroupedImages, conflicts: str) -> NDArray[np.bool_]:
    """Return which images are excluded because their group has several classes (N,).

    ``drop`` excludes the whole group, ``majority`` the images that are not of the class of more
    than half of the group. Labels are never changed.
    """
    if conflicts == "keep":
        return np.zeros(len(images), bool)
    groups = count_groups(images.groups, images.labels)
    agreed = groups.most == groups.sizes
    if conflicts == "majority":
        agreed |= 2 * groups.most > groups.sizes
    trusted = np.where(agreed, groups.labels, -1)
    return np.asarray(trusted[groups.group_of] != images.labels)


def _refuse_empty(images: GroupedImages, assignments: Assignments, params: SplitParams) -> None:
    """Require images of each class in each split, and clean ones in test."""
    clean = ~assignments.leaked
    counts = {
        split: np.bincount(
            images.labels[(assignments.splits == split) & clean], minlength=len(images.classes)
        )
        for split in _fractions(params)
    }
    for index, label in enumerate(images.classes):
        missing = [split for split, count in counts.items() if not count[index]]
        if missing:
            kept = images.labels == index
            groups = len(np.unique(images.groups[kept]))
            raise CarbenchError(
                "results/audit/groups.csv",
                key=f"class {label!r}",
                found=f"{kept.sum()} images in {groups} duplicate groups, none left for "
                + " and ".join("clean test" if split == "test" else split for split in missing),
                expected="at least one group of every class in "
                + ("each fold" if params.method == "kfold" else "train, val and clean test"),
                fix=f"add images of {label!r}, or exclude it with data.exclude",
            )
