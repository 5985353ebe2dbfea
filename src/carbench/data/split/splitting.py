"""Deals duplicate groups to train, val and test, so that no group ever stands on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.data.split.table import FOLD
from carbench.params.split import SplitParams


@dataclass(frozen=True)
class Image:
    """What splitting knows of an image."""

    image: str
    label: str
    published: str
    group: int


@dataclass(frozen=True)
class Assignment:
    """Where an image goes: train, val, test, a fold or excluded; leaked if in test with a twin in
    train or val."""

    split: str
    leaked: bool = False


def assign(images: list[Image], params: SplitParams, repeat: int = 0) -> list[Assignment]:
    """Return the assignment of each image; ``repeat`` says which time they are dealt.

    ``grouped`` deals every group as a whole, class by class, to the part that lacks most; so does
    ``kfold``, to folds of equal size. ``published`` keeps the publisher's test part, deals the
    rest to train and val by group, and marks every test image that has a twin there as leaked.

    Raises:
        CarbenchError: no published test part, a class with too few groups, or nothing to deal anew.
    """
    seed = params.seed
    if repeat:
        seed = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    excluded = _excluded(images, params.conflicts)
    usable = [image for image in images if image.image not in excluded]
    if params.method == "published":
        parts = _published(usable, params, seed)
    else:
        dealt = deal(usable, _fractions(params), seed)
        parts = {image.image: dealt[image.group] for image in usable}
    known = {image.group for image in usable if parts[image.image] != "test"}
    result = [
        Assignment("excluded")
        if image.image in excluded
        else Assignment(parts[image.image], parts[image.image] == "test" and image.group in known)
        for image in images
    ]
    _refuse_empty(images, result, params)
    return result


def _fractions(params: SplitParams) -> dict[str, float]:
    """What each part shall have of the images."""
    if params.method == "kfold":
        return {f"{FOLD}{number}": 1 / params.folds for number in range(params.folds)}
    return {"train": 1 - params.val - params.test, "val": params.val, "test": params.test}


def deal(images: list[Image], fractions: dict[str, float], seed: int) -> dict[int, str]:
    """Deal duplicate groups to parts, stratified by class, close to the asked fractions.

    Within a class the groups, in random order but the largest first, go one by one to the part
    that lacks most images; the many single images at the end even out what large groups upset.
    Every part gets at least one group of each class that has enough.

    Returns:
        The part of each group.
    """
    sizes = Counter(image.group for image in images)
    strata: dict[str, list[int]] = defaultdict(list)
    for number, found in _labels(images).items():
        strata[found.most_common(1)[0][0]].append(number)
    dealt: dict[int, str] = {}
    for index, label in enumerate(sorted(strata)):
        groups = sorted(strata[label])
        np.random.default_rng([seed, index]).shuffle(groups)
        groups.sort(key=lambda number: -sizes[number])
        total = sum(sizes[number] for number in groups)
        lacking = {part: fraction * total for part, fraction in fractions.items()}
        members: dict[str, list[int]] = {part: [] for part in fractions}
        for number in groups:
            part = max(lacking, key=lambda name: lacking[name])
            members[part].append(number)
            lacking[part] -= sizes[number]
        _fill_empty(members, sizes)
        dealt.update((number, part) for part, own in members.items() for number in own)
    return dealt


def _fill_empty(members: dict[str, list[int]], sizes: Counter[int]) -> None:
    """Give each empty part the smallest group of the part that has most groups."""
    for part, own in members.items():
        richest = max(members.values(), key=len)
        if not own and len(richest) > 1:
            smallest = min(richest, key=lambda number: sizes[number])
            richest.remove(smallest)
            members[part].append(smallest)


def _published(images: list[Image], params: SplitParams, seed: int) -> dict[str, str]:
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
                expected="1: the publisher has dealt them, and nothing is left to deal anew",
                fix="set split.repeats: 1, or split.method: grouped",
            )
        # The publisher has a val part: a group that stands in train as well belongs to train.
        train = {image.group for image in rest if image.published != "val"}
        dealt = {image.group: "train" if image.group in train else "val" for image in rest}
    else:
        dealt = deal(rest, {"train": 1 - params.val, "val": params.val}, seed)
    return {
        image.image: "test" if image.published == "test" else dealt[image.group] for image in images
    }


def _excluded(images: list[Image], conflicts: str) -> set[str]:
    """Images left out because their group stands under several classes.

    ``drop`` leaves out the whole group. ``majority`` trusts the class that more than half of the
    group have and leaves out the others; no label is ever rewritten.
    """
    if conflicts == "keep":
        return set()
    labels = _labels(images)
    trusted: dict[int, str | None] = {}
    for number, found in labels.items():
        label, most = found.most_common(1)[0]
        agreed = most == found.total() or (conflicts == "majority" and 2 * most > found.total())
        trusted[number] = label if agreed else None
    return {image.image for image in images if trusted[image.group] != image.label}


def _labels(images: list[Image]) -> dict[int, Counter[str]]:
    """How many images of each group stand under each class; classes in the order of names."""
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for image in sorted(images, key=lambda image: image.label):
        labels[image.group][image.label] += 1
    return labels


def _refuse_empty(images: list[Image], assignments: list[Assignment], params: SplitParams) -> None:
    """Every class needs images to learn from, to choose by and, clean ones, to judge by."""
    needed = list(_fractions(params))
    have = {
        (image.label, assignment.split)
        for image, assignment in zip(images, assignments, strict=True)
        if not assignment.leaked
    }
    for label in sorted({image.label for image in images}):
        missing = [part for part in needed if (label, part) not in have]
        if missing:
            own = [image for image in images if image.label == label]
            groups = len({image.group for image in own})
            raise CarbenchError(
                "results/audit/groups.csv",
                key=f"class {label!r}",
                found=f"{len(own)} images in {groups} duplicate groups, none left for "
                + " and ".join("clean test" if part == "test" else part for part in missing),
                expected="at least one group of every class in "
                + ("each fold" if params.method == "kfold" else "train, val and clean test"),
                fix=f"add images of {label!r}, or leave it out with data.exclude",
            )
