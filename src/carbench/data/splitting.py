"""Deals duplicate groups to train, val and test, so that no group ever stands on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.data.split_table import FOLD
from carbench.params.split import SplitParams


@dataclass(frozen=True)
class Picture:
    """What splitting knows of a picture."""

    image: str
    label: str
    published: str
    group: int


@dataclass(frozen=True)
class Assignment:
    """Where a picture goes: train, val, test, a fold or excluded; leaked if in test with a twin in
    train or val."""

    split: str
    leaked: bool = False


def assign(pictures: list[Picture], params: SplitParams, repeat: int = 0) -> list[Assignment]:
    """Return the assignment of each picture; ``repeat`` says which time they are dealt.

    ``grouped`` deals every group as a whole, class by class, to the part that lacks most; so does
    ``kfold``, to folds of equal size. ``published`` keeps the publisher's test part, deals the
    rest to train and val by group, and marks every test picture that has a twin there as leaked.

    Raises:
        CarbenchError: no published test part, a class with too few groups, or nothing to deal anew.
    """
    seed = params.seed
    if repeat:
        seed = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    excluded = _excluded(pictures, params.conflicts)
    usable = [picture for picture in pictures if picture.image not in excluded]
    if params.method == "published":
        parts = _published(usable, params, seed)
    else:
        dealt = deal(usable, _fractions(params), seed)
        parts = {picture.image: dealt[picture.group] for picture in usable}
    known = {picture.group for picture in usable if parts[picture.image] != "test"}
    result = [
        Assignment("excluded")
        if picture.image in excluded
        else Assignment(
            parts[picture.image], parts[picture.image] == "test" and picture.group in known
        )
        for picture in pictures
    ]
    _refuse_empty(pictures, result, params)
    return result


def _fractions(params: SplitParams) -> dict[str, float]:
    """What each part shall have of the pictures."""
    if params.method == "kfold":
        return {f"{FOLD}{number}": 1 / params.folds for number in range(params.folds)}
    return {"train": 1 - params.val - params.test, "val": params.val, "test": params.test}


def deal(pictures: list[Picture], fractions: dict[str, float], seed: int) -> dict[int, str]:
    """Deal duplicate groups to parts, stratified by class, close to the asked fractions.

    Within a class the groups, in random order but the largest first, go one by one to the part
    that lacks most pictures; the many single pictures at the end even out what large groups upset.
    Every part gets at least one group of each class that has enough.

    Returns:
        The part of each group.
    """
    sizes = Counter(picture.group for picture in pictures)
    strata: dict[str, list[int]] = defaultdict(list)
    for number, found in _labels(pictures).items():
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


def _published(pictures: list[Picture], params: SplitParams, seed: int) -> dict[str, str]:
    if not any(picture.published == "test" for picture in pictures):
        raise CarbenchError(
            "params.yaml",
            key="split.method",
            found="'published', but these pictures came without a test folder",
            expected="train/<class>/ and test/<class>/ folders",
            fix="set split.method: grouped",
        )
    rest = [picture for picture in pictures if picture.published != "test"]
    if any(picture.published == "val" for picture in rest):
        if params.repeats > 1:
            raise CarbenchError(
                "params.yaml",
                key="split.repeats",
                found=f"{params.repeats}, but these pictures came with a val folder",
                expected="1: the publisher has dealt them, and nothing is left to deal anew",
                fix="set split.repeats: 1, or split.method: grouped",
            )
        # The publisher has a val part: a group that stands in train as well belongs to train.
        train = {picture.group for picture in rest if picture.published != "val"}
        dealt = {picture.group: "train" if picture.group in train else "val" for picture in rest}
    else:
        dealt = deal(rest, {"train": 1 - params.val, "val": params.val}, seed)
    return {
        picture.image: "test" if picture.published == "test" else dealt[picture.group]
        for picture in pictures
    }


def _excluded(pictures: list[Picture], conflicts: str) -> set[str]:
    """Pictures left out because their group stands under several classes.

    ``drop`` leaves out the whole group. ``majority`` trusts the class that more than half of the
    group have and leaves out the others; no label is ever rewritten.
    """
    if conflicts == "keep":
        return set()
    labels = _labels(pictures)
    trusted: dict[int, str | None] = {}
    for number, found in labels.items():
        label, most = found.most_common(1)[0]
        agreed = most == found.total() or (conflicts == "majority" and 2 * most > found.total())
        trusted[number] = label if agreed else None
    return {picture.image for picture in pictures if trusted[picture.group] != picture.label}


def _labels(pictures: list[Picture]) -> dict[int, Counter[str]]:
    """How many pictures of each group stand under each class; classes in the order of names."""
    labels: dict[int, Counter[str]] = defaultdict(Counter)
    for picture in sorted(pictures, key=lambda picture: picture.label):
        labels[picture.group][picture.label] += 1
    return labels


def _refuse_empty(
    pictures: list[Picture], assignments: list[Assignment], params: SplitParams
) -> None:
    """Every class needs pictures to learn from, to choose by and, clean ones, to judge by."""
    needed = list(_fractions(params))
    have = {
        (picture.label, assignment.split)
        for picture, assignment in zip(pictures, assignments, strict=True)
        if not assignment.leaked
    }
    for label in sorted({picture.label for picture in pictures}):
        missing = [part for part in needed if (label, part) not in have]
        if missing:
            own = [picture for picture in pictures if picture.label == label]
            groups = len({picture.group for picture in own})
            raise CarbenchError(
                "results/audit/groups.csv",
                key=f"class {label!r}",
                found=f"{len(own)} pictures in {groups} duplicate groups, none left for "
                + " and ".join("clean test" if part == "test" else part for part in missing),
                expected="at least one group of every class in "
                + ("each fold" if params.method == "kfold" else "train, val and clean test"),
                fix=f"add pictures of {label!r}, or leave it out with data.exclude",
            )
