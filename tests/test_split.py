"""No duplicate group ever stands on both sides, whatever the data and the seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.errors import CarbenchError
from carbench.params.split import SplitParams
from carbench.parts import read_split
from carbench.splitting import Assignment, Picture, assign
from carbench.tables import write_table


def params(**changes: object) -> SplitParams:
    base = {"method": "grouped", "val": 0.15, "test": 0.25, "folds": 4, "seed": 0}
    return SplitParams.model_validate(base | {"conflicts": "drop"} | changes)


@st.composite
def sets_of_pictures(draw: st.DrawFn) -> list[Picture]:
    """Classes of uneven size, groups of uneven size, some across classes and parts."""
    pictures: list[Picture] = []
    for label in "ABC"[: draw(st.integers(2, 3))]:
        sizes = draw(st.lists(st.integers(1, 9), min_size=4, max_size=30))
        first = len(pictures) * 100
        for offset, size in enumerate(sizes):
            parts = draw(
                st.lists(st.sampled_from(["train", "train", "test"]), min_size=size, max_size=size)
            )
            for part in parts:
                pictures.append(Picture(f"{label}{len(pictures)}", label, part, first + offset))
        # Each class has what the published method needs at the least.
        for part in ("train", "train", "test"):
            pictures.append(
                Picture(f"{label}{len(pictures)}", label, part, first + 99 - len(pictures))
            )
    if draw(st.booleans()):
        pictures.append(Picture("conflict", "A", "train", pictures[-1].group))
    return pictures


def singles(labels: str, count: int) -> list[Picture]:
    """So many pictures of each class, each a group of its own."""
    return [
        Picture(f"{label}{n}", label, "", 100 * "ABC".index(label) + n)
        for label in labels
        for n in range(count)
    ]


def sides(pictures: list[Picture], result: list[Assignment]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for picture, assignment in zip(pictures, result, strict=True):
        if not assignment.leaked and assignment.split != "excluded":
            found[picture.group].add(assignment.split)
    return found


@settings(max_examples=150, deadline=None)
@given(
    sets_of_pictures(),
    st.integers(0, 2**32),
    st.sampled_from(["grouped", "published", "kfold"]),
    st.sampled_from(["drop", "majority", "keep"]),
)
def test_no_group_crosses(pictures: list[Picture], seed: int, method: str, conflicts: str) -> None:
    asked = params(method=method, seed=seed, conflicts=conflicts)
    try:
        result = assign(pictures, asked)
    except CarbenchError as error:
        assert "at least one group of every class" in str(error)
        return
    assert all(len(parts) == 1 for parts in sides(pictures, result).values())
    assert result == assign(pictures, asked)
    if method == "published":
        for picture, assignment in zip(pictures, result, strict=True):
            assert (assignment.split == "test") == (
                picture.published == "test"
            ) or assignment.split == "excluded"
    else:
        assert not any(assignment.leaked for assignment in result)


def test_fractions_are_met_although_groups_are_large() -> None:
    pictures = [
        Picture(f"{label}{group}-{copy}", label, "", 1000 * index + group)
        for index, label in enumerate("AB")
        for group in range(200)
        for copy in range(20 if group < 5 else 1)
    ]
    counts: dict[str, int] = defaultdict(int)
    for assignment in assign(pictures, params()):
        counts[assignment.split] += 1
    for part, fraction in (("train", 0.60), ("val", 0.15), ("test", 0.25)):
        assert counts[part] / len(pictures) == pytest.approx(fraction, abs=0.02)


def test_published_marks_exactly_the_test_pictures_with_a_twin() -> None:
    pictures = [
        Picture(
            f"{label}-{part}-{number}", label, part, 100 * index + 10 * (part == "test") + number
        )
        for index, label in enumerate("AB")
        for part in ("train", "test")
        for number in range(8)
    ]
    twin = Picture("twin", "A", "test", pictures[0].group)
    result = assign([*pictures, twin], params(method="published"))
    leaked = [p.image for p, a in zip([*pictures, twin], result, strict=True) if a.leaked]
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
def test_conflicts_are_decided_by_group(labels: str, conflicts: str, excluded: str) -> None:
    group = [Picture(f"{label}-{n}", label, "", 999) for n, label in enumerate(labels)]
    result = assign([*singles("ABC", 9), *group], params(conflicts=conflicts))[-len(group) :]
    out = [a.split == "excluded" for a in result]
    assert "".join(p.label for p, o in zip(group, out, strict=True) if o) == excluded
    assert len({a.split for a in result} - {"excluded"}) <= 1


def test_every_picture_is_tested_once_in_k_folds(tmp_path: Path) -> None:
    """The seeds take turns: a test fold each, the next one to choose by, the others to learn."""
    pictures = [*singles("AB", 12), *(Picture(f"twin{n}", "A", "", 0) for n in range(3))]
    result = assign(pictures, params(method="kfold"))
    path = tmp_path / "split.csv"
    columns = ["image", "class", "group", "split", "leaked"]
    values = [
        (p.image, p.label, p.group, a.split, 0) for p, a in zip(pictures, result, strict=True)
    ]
    write_table(path, columns, (dict(zip(columns, row, strict=True)) for row in values))
    tested = Counter()
    for seed in range(4):
        rows = read_split(path, seed)
        assert rows == read_split(path, seed + 4)
        sizes = Counter(row.split for row in rows)
        assert abs(sizes["test"] - len(pictures) / 4) <= 2
        assert abs(sizes["val"] - len(pictures) / 4) <= 2
        groups = [{row.group for row in rows if row.split == part} for part in sizes]
        assert sum(len(own) for own in groups) == len(set.union(*groups))
        tested.update(row.image for row in rows if row.split == "test")
    assert tested == Counter(picture.image for picture in pictures)


@pytest.mark.parametrize(
    ("groups", "method", "words"),
    [
        (2, "grouped", "class 'B'"),
        (9, "published", "came without a test folder"),
        (3, "kfold", "class 'B'.*fold-3.*each fold"),
    ],
)
def test_what_cannot_be_split_is_refused(groups: int, method: str, words: str) -> None:
    pictures = singles("A", 9) + singles("B", groups)
    with pytest.raises(CarbenchError, match=words):
        assign(pictures, params(method=method))
