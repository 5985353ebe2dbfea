"""No duplicate group ever stands on both sides, whatever the data and the seed."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.errors import CarbenchError
from carbench.params.split import SplitParams
from carbench.splitting import Assignment, Picture, assign


def params(**changes: object) -> SplitParams:
    base = {"method": "grouped", "val": 0.15, "test": 0.25, "conflicts": "drop", "seed": 0}
    return SplitParams.model_validate(base | changes)


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


def sides(pictures: list[Picture], result: list[Assignment]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for picture, assignment in zip(pictures, result, strict=True):
        if not assignment.leaked:
            found[picture.group].add(assignment.split)
    return found


@settings(max_examples=150, deadline=None)
@given(
    sets_of_pictures(),
    st.integers(0, 2**32),
    st.sampled_from(["grouped", "published"]),
    st.sampled_from(["drop", "keep"]),
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
    if method == "grouped":
        assert not any(assignment.leaked for assignment in result)
    else:
        for picture, assignment in zip(pictures, result, strict=True):
            assert (assignment.split == "test") == (
                picture.published == "test"
            ) or assignment.split == "excluded"


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


def test_conflicts_are_dropped_or_kept() -> None:
    pictures = [
        Picture(f"{label}{n}", label, "", 100 * index + n)
        for index, label in enumerate("AB")
        for n in range(9)
    ]
    pictures += [Picture("A-x", "A", "", 999), Picture("B-x", "B", "", 999)]
    dropped = assign(pictures, params())
    assert [a.split for a in dropped[-2:]] == ["excluded", "excluded"]
    kept = assign(pictures, params(conflicts="keep"))
    assert kept[-1].split == kept[-2].split != "excluded"


@pytest.mark.parametrize(
    ("groups", "method", "words"),
    [(2, "grouped", "class 'B'"), (9, "published", "came without a test folder")],
)
def test_what_cannot_be_split_is_refused(groups: int, method: str, words: str) -> None:
    pictures = [Picture(f"A{n}", "A", "", n) for n in range(9)]
    pictures += [Picture(f"B{n}", "B", "", 100 + n) for n in range(groups)]
    with pytest.raises(CarbenchError, match=words):
        assign(pictures, params(method=method))
