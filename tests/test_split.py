"""Duplicate groups are never divided between splits, for any data and seed."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.core.columns import texts
from carbench.core.errors import CarbenchError
from carbench.core.tables import write_table
from carbench.data.split.assignment import Assignments, assign_images
from carbench.data.split.table import read_split
from carbench.data.split.undetected_duplicates import (
    CandidatePair,
    closest_pairs,
    estimate_residual,
    missed_bounds,
)
from carbench.params.split import SplitParams
from carbench.params.study import check
from conftest import SMOKE, run_script, set_key
from image_rows import Assignment, GroupedImage, assignments, grouped_images


def params(**changes: object) -> SplitParams:
    base = {"method": "grouped", "val": 0.15, "test": 0.25, "folds": 4, "seed": 0, "repeats": 1}
    return SplitParams.model_validate(base | {"conflicts": "drop"} | changes)


def assign(images: list[GroupedImage], asked: SplitParams, repeat: int = 0) -> list[Assignment]:
    """Assign images as the stage does."""
    return assignments(assign_images(grouped_images(images), asked, repeat))


@st.composite
def sets_of_images(draw: st.DrawFn) -> list[GroupedImage]:
    """Draw classes and groups of uneven size; some groups span classes and parts."""
    images: list[GroupedImage] = []
    for label in "ABC"[: draw(st.integers(2, 3))]:
        sizes = draw(st.lists(st.integers(1, 9), min_size=4, max_size=30))
        first = len(images) * 100
        for offset, size in enumerate(sizes):
            parts = draw(
                st.lists(st.sampled_from(["train", "train", "test"]), min_size=size, max_size=size)
            )
            for part in parts:
                images.append(GroupedImage(f"{label}{len(images)}", label, part, first + offset))
        # Each class has what the published method needs at the least.
        for part in ("train", "train", "test"):
            images.append(
                GroupedImage(f"{label}{len(images)}", label, part, first + 99 - len(images))
            )
    if draw(st.booleans()):
        images.append(GroupedImage("conflict", "A", "train", images[-1].group))
    return images


def singles(labels: str, count: int) -> list[GroupedImage]:
    """Return ``count`` images per class, each in its own group."""
    return [
        GroupedImage(f"{label}{n}", label, "", 100 * "ABC".index(label) + n)
        for label in labels
        for n in range(count)
    ]


def sides(images: list[GroupedImage], result: list[Assignment]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for image, assignment in zip(images, result, strict=True):
        if not assignment.leaked and assignment.split != "excluded":
            found[image.group].add(assignment.split)
    return found


@settings(max_examples=150, deadline=None)
@given(
    sets_of_images(),
    st.integers(0, 2**32),
    st.sampled_from(["grouped", "published", "kfold"]),
    st.sampled_from(["drop", "majority", "keep"]),
)
def test_no_group_is_divided(
    images: list[GroupedImage], seed: int, method: str, conflicts: str
) -> None:
    asked = params(method=method, seed=seed, conflicts=conflicts)
    try:
        result = assign(images, asked)
    except CarbenchError as error:
        assert "at least one group of every class" in str(error)
        return
    assert all(len(parts) == 1 for parts in sides(images, result).values())
    assert result == assign(images, asked)
    if method == "published":
        for image, assignment in zip(images, result, strict=True):
            assert (assignment.split == "test") == (
                image.published == "test"
            ) or assignment.split == "excluded"
    else:
        assert not any(assignment.leaked for assignment in result)


def test_fractions_are_met_with_large_groups() -> None:
    images = [
        GroupedImage(f"{label}{group}-{copy}", label, "", 1000 * index + group)
        for index, label in enumerate("AB")
        for group in range(200)
        for copy in range(20 if group < 5 else 1)
    ]
    counts: dict[str, int] = defaultdict(int)
    for assignment in assign(images, params()):
        counts[assignment.split] += 1
    for part, fraction in (("train", 0.60), ("val", 0.15), ("test", 0.25)):
        assert counts[part] / len(images) == pytest.approx(fraction, abs=0.02)


def test_published_marks_exactly_the_test_images_with_a_duplicate() -> None:
    images = [
        GroupedImage(
            f"{label}-{part}-{number}", label, part, 100 * index + 10 * (part == "test") + number
        )
        for index, label in enumerate("AB")
        for part in ("train", "test")
        for number in range(8)
    ]
    twin = GroupedImage("twin", "A", "test", images[0].group)
    result = assign([*images, twin], params(method="published"))
    leaked = [p.image for p, a in zip([*images, twin], result, strict=True) if a.leaked]
    assert leaked == ["twin"]


@pytest.mark.parametrize(
    ("labels", "conflicts", "excluded"),
    [
        ("AB", "drop", "AB"),
        ("AB", "keep", ""),
        ("AB", "majority", "AB"),  # one against one is no majority
        ("AAB", "majority", "B"),
        ("AAB", "drop", "AAB"),
        ("AABC", "majority", "AABC"),  # half is none either
    ],
)
def test_label_conflicts_are_resolved_by_group(labels: str, conflicts: str, excluded: str) -> None:
    group = [GroupedImage(f"{label}-{n}", label, "", 999) for n, label in enumerate(labels)]
    result = assign([*singles("ABC", 9), *group], params(conflicts=conflicts))[-len(group) :]
    out = [a.split == "excluded" for a in result]
    assert "".join(p.label for p, o in zip(group, out, strict=True) if o) == excluded
    assert len({a.split for a in result} - {"excluded"}) <= 1


def test_k_folds_test_every_image_once(tmp_path: Path) -> None:
    """Each seed tests on one fold, validates on the next one and trains on the others."""
    images = [*singles("AB", 12), *(GroupedImage(f"twin{n}", "A", "", 0) for n in range(3))]
    result = assign(images, params(method="kfold"))
    path = tmp_path / "split.csv"
    columns = ["image", "class", "group", "split", "leaked"]
    values = [(p.image, p.label, p.group, a.split, 0) for p, a in zip(images, result, strict=True)]
    write_table(path, columns, (dict(zip(columns, row, strict=True)) for row in values))
    tested = Counter()
    for seed in range(4):
        rows = read_split(path, seed)
        assert list(rows) == list(read_split(path, seed + 4))
        sizes = Counter(row.split for row in rows)
        assert abs(sizes["test"] - len(images) / 4) <= 2
        assert abs(sizes["val"] - len(images) / 4) <= 2
        groups = [{row.group for row in rows if row.split == part} for part in sizes]
        assert sum(len(own) for own in groups) == len(set.union(*groups))
        tested.update(row.image for row in rows if row.split == "test")
    assert tested == Counter(image.image for image in images)


@settings(max_examples=40, deadline=None)
@given(sets_of_images(), st.sampled_from(["grouped", "published"]))
def test_a_repeated_split_reassigns_the_same_images(
    images: list[GroupedImage], method: str
) -> None:
    """No split divides a group; all exclude the same images and mark the same ones as leaked."""
    asked = params(method=method, repeats=3)
    try:
        dealt = [assign(images, asked, repeat) for repeat in range(3)]
    except CarbenchError as error:
        assert "at least one group of every class" in str(error)
        return
    for result in dealt:
        assert all(len(parts) == 1 for parts in sides(images, result).values())
    same = [[(a.split == "excluded", a.leaked) for a in result] for result in dealt]
    assert same[0] == same[1] == same[2]
    if method == "published":
        tested = [[a.split == "test" for a in result] for result in dealt]
        assert tested[0] == tested[1] == tested[2]


def test_each_seed_uses_its_own_split(tmp_path: Path) -> None:
    changes = {"seeds": list(range(6)), "tune.learning_rates": [], "screen.candidates.tiny": []}
    changes |= {"split.method": "grouped", "split.repeats": 3}
    content = copy.deepcopy(SMOKE)
    for key, value in changes.items():
        set_key(content, key, value)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    columns = ["image", "class", "published", "group"]
    table = [dict(zip(columns, image, strict=True)) for image in singles("AB", 30)]
    for number, row in enumerate(table):
        row["exact"] = number
    write_table(tmp_path / "groups.csv", list(table[0]), table)
    pairs = ["first", "second", "kind", "agreement", "mirrored", "verdict"]
    alike = [
        {"first": one["image"], "second": two["image"], "kind": "other", "agreement": 0.1}
        | {"mirrored": 0, "verdict": ""}
        for one, two in combinations(table, 2)
    ]
    write_table(tmp_path / "candidates.csv", pairs, alike)
    options = ["--params", tmp_path / "params.yaml", "--audit", tmp_path, "--output", tmp_path]
    done = run_script("split", *options)
    assert done.returncode == 0, done.stderr
    assert "split 3 times" in done.stderr
    splits = [list(read_split(tmp_path / "split.csv", seed)) for seed in range(6)]
    assert splits[:3] == splits[3:]
    tests = [frozenset(row.image for row in rows if row.split == "test") for rows in splits[:3]]
    assert len(set(tests)) == 3
    assert {len(test) for test in tests} == {len(tests[0])}


def test_repeats_without_anything_to_reassign_are_rejected(study: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="kfold needs 1"):
        params(method="kfold", repeats=2)
    own_val = [
        *singles("AB", 9),
        GroupedImage("v", "A", "val", 500),
        GroupedImage("t", "A", "test", 501),
    ]
    with pytest.raises(CarbenchError, match=r"split\.repeats: found 2, but .* val folder"):
        assign(own_val, params(method="published", repeats=2))
    path = study({"split.method": "grouped", "split.repeats": 2, "seeds": [0, 1]})
    with pytest.raises(CarbenchError, match=r"candidates, with split\.method: grouped and split"):
        check(path)


@pytest.mark.parametrize(
    ("groups", "method", "words"),
    [
        (2, "grouped", "class 'B'"),
        (9, "published", "came without a test folder"),
        (3, "kfold", "class 'B'.*fold-3.*each fold"),
    ],
)
def test_data_that_cannot_be_split_is_rejected(groups: int, method: str, words: str) -> None:
    images = singles("A", 9) + singles("B", groups)
    with pytest.raises(CarbenchError, match=words):
        assign(images, params(method=method))


def residual_of(
    files: list[tuple[str, int]], parts: list[str], pairs: list[tuple[str, str, float, bool, str]]
) -> tuple[list[tuple[str, str, str]], dict]:
    """Return (image, twin, verdict) for each row of doubtful.csv, and residual.json."""
    images = grouped_images([GroupedImage(name, "", "", 0) for name, _ in files])
    images = replace(images, exact=np.array([exact for _, exact in files]))
    assigned = Assignments(
        texts([part.rstrip("!") for part in parts]),
        np.array([part.endswith("!") for part in parts]),
    )
    candidates = [CandidatePair(*pair[:3], False, *pair[3:]) for pair in pairs]
    found, alone = closest_pairs(images, assigned, candidates, 0)
    return [(each.image, each.twin, each.verdict) for each in found], estimate_residual(
        found, alone
    )


def test_each_evaluation_image_is_paired_with_the_most_similar_one_of_the_other_side() -> None:
    names = ["a", "b", "b2", "c", "d", "e", "f"]
    # b2 is b's bytes, in train; d is found to be leaked, e by a person; f is like nothing.
    files = list(zip(names, [0, 1, 1, 3, 4, 5, 6], strict=True))
    parts = ["test", "excluded", "train", "val", "test!", "test!", "test"]
    pairs = [
        ("a", "f", 0.95, True, ""),  # both are evaluated: no leak
        ("a", "c", 0.91, True, "different"),
        ("a", "b", 0.90, True, ""),
        ("c", "d", 0.99, True, ""),
        ("c", "e", 0.40, False, "same"),
    ]
    rows, residual = residual_of(files, parts, pairs)
    assert rows == [("a", "b2", ""), ("e", "c", "same")]
    assert (residual["files"], residual["without_candidate"]) == (3, 1)
    assert (residual["doubtful_waiting"], residual["confirmed"]) == (1, 1)
    assert residual["missed"] is None

    pairs[2] = ("a", "b", 0.90, True, "different")
    rows, residual = residual_of(files, parts, pairs)
    assert rows[0] == ("a", "c", "different")
    assert residual["missed"] == {"expected": 0.0, "low": 0, "high": 0, "confidence": 0.95}


def test_images_of_different_folds_are_paired() -> None:
    files = [("a", 0), ("b", 1), ("c", 2)]
    pairs = [("a", "b", 0.9, True, ""), ("a", "c", 0.95, True, "")]
    rows, _ = residual_of(files, ["fold-0", "fold-1", "fold-0"], pairs)
    assert rows == [("a", "b", ""), ("b", "a", "")]


def test_only_the_reviewed_prefix_is_a_random_sample() -> None:
    """Verdicts after the first pair without one do not count: they may have been selected."""
    files = [(str(n), n) for n in range(20)] + [("known", 99)]
    parts = ["test"] * 20 + ["train"]
    order, _ = residual_of(files, parts, [(str(n), "known", 0.5, False, "") for n in range(20)])
    assert [image for image, _, _ in order] != [str(n) for n in range(20)]
    judged = {image for image, _, _ in (*order[:5], *order[9:12])}
    pairs = [(str(n), "known", 0.5, False, "different" * (str(n) in judged)) for n in range(20)]
    again, residual = residual_of(files, parts, pairs)
    assert [row[:2] for row in again] == [row[:2] for row in order]
    assert residual["sample"] == 5
    assert (residual["missed"]["low"], residual["missed"]["high"]) == missed_bounds(20, 5, 0)


@pytest.mark.parametrize(("count", "sample"), [(12, 4), (30, 10), (7, 7)])
def test_bounds_on_missed_duplicates_have_the_stated_coverage(count: int, sample: int) -> None:
    """Exact for every number of duplicates: all possible samples are counted."""
    for twins in range(count + 1):
        held = 0
        for drawn in range(max(0, sample - (count - twins)), min(sample, twins) + 1):
            low, high = missed_bounds(count, sample, drawn)
            if low <= twins - drawn <= high:
                held += comb(twins, drawn) * comb(count - twins, sample - drawn)
        assert held >= 0.95 * comb(count, sample)
    assert missed_bounds(count, count, 3) == (0, 0)


def test_without_open_pairs_no_duplicates_are_missed() -> None:
    """Images without a candidate on the other side leave nothing to review."""
    assert estimate_residual([], 5)["missed"] == {
        "expected": 0.0,
        "low": 0,
        "high": 0,
        "confidence": 0.95,
    }
    assert missed_bounds(7, 7, 2) == (0, 0)
