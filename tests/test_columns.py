"""Tables read as columns are those read as rows, for any content."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.core import tables
from carbench.core.columns import read_matching, texts, write_columns
from carbench.core.errors import CarbenchError
from carbench.core.tables import read_chunks, read_table, write_table
from carbench.data.pack.reading import find_rows
from carbench.data.split.assignment import read_groups
from carbench.data.split.subsets import draw_positions, read_positions, write_positions
from carbench.data.split.table import read_split

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
COLUMNS = ("image", "class", "group", "split", "leaked")


@st.composite
def split_tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rows of split.csv with unusual names; some are excluded, or in folds."""
    names = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=40, unique=True))
    labels = draw(st.lists(TEXT, min_size=1, max_size=4))
    splits = draw(st.sampled_from([["train", "val", "test"], ["fold-0", "fold-1", "fold-2"]]))
    return [
        {
            "image": name,
            "class": draw(st.sampled_from(labels)),
            "group": draw(st.integers(0, 2**40)),
            "split": draw(st.sampled_from([*splits, "excluded"])),
            "leaked": draw(st.integers(0, 1)),
        }
        for name in names
    ]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even small tables consist of several chunks."""
    monkeypatch.setattr(tables, "CHUNK", 3)


def read_as_rows(path: Path, seed: int) -> list[tuple[str, str, int, str, bool]]:
    """Read split.csv row by row with the csv module."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "excluded"]
    folds = len({row["split"] for row in rows if row["split"].startswith("fold-")})
    roles = {f"fold-{seed % folds}": "test", f"fold-{(seed + 1) % folds}": "val"} if folds else {}
    return [
        (
            row["image"],
            row["class"],
            int(row["group"]),
            roles.get(row["split"], "train") if folds else row["split"],
            row["leaked"] == "1",
        )
        for row in rows
    ]


@settings(max_examples=200, deadline=None)
@given(rows=split_tables(), seed=st.integers(0, 5))
def test_columns_of_a_split_are_its_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    path = folder / "split.csv"
    write_table(path, COLUMNS, rows)
    table, expected = read_split(path, seed), read_as_rows(path, seed)
    assert list(table) == expected
    assert table.classes == sorted({row[1] for row in expected})
    for split in ("train", "val", "test"):
        assert list(table.of_split(split)) == [row for row in expected if row[3] == split]

    index = [{"row": number, "image": row["image"]} for number, row in enumerate(rows)]
    write_table(folder / "index.csv", ["row", "image"], index)
    found = find_rows(folder, table.images)
    assert [rows[number]["image"] for number in found] == [row[0] for row in expected]
    shutil.rmtree(folder)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, st.integers(-(2**60), 2**60)), min_size=1, max_size=20))
def test_columns_are_written_like_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    written = [{"name": name, "number": number} for name, number in rows]
    write_table(folder / "rows.csv", ["name", "number"], written)
    names, numbers = zip(*rows, strict=True)
    columns = {"name": texts(names), "number": np.array(numbers)}
    write_columns(folder / "columns.csv", columns)
    assert (folder / "columns.csv").read_bytes() == (folder / "rows.csv").read_bytes()
    chunks = list(read_chunks(folder / "columns.csv", ("number", "name")))
    assert [value for _, chunk in chunks for value in chunk] == list(names)
    assert read_table(folder / "rows.csv") == [
        {"name": name, "number": str(number)} for name, number in rows
    ]
    shutil.rmtree(folder)


def test_positions_are_read_as_written(tmp_path: Path) -> None:
    drawn = draw_positions(np.array([7, 3, 3, 90, 12, 5]), 0)
    write_positions(tmp_path / "order.csv", drawn)
    read = read_positions(tmp_path / "order.csv")
    assert read.groups.tolist() == [3, 5, 7, 12, 90]
    assert read.places == pytest.approx(drawn.places, abs=1e-9)


def test_images_in_another_order_than_the_pack_are_rejected(tmp_path: Path) -> None:
    rows = [{"row": row, "image": name} for row, name in enumerate("abcdefg")]
    write_table(tmp_path / "index.csv", ["row", "image"], rows)
    assert read_matching(tmp_path / "index.csv", texts(list("bdg")), ("row",))[0].tolist() == [
        1,
        3,
        6,
    ]
    for names, culprit in (("dbg", "b"), ("bxg", "x")):
        with pytest.raises(CarbenchError, match=rf"index\.csv: found no row for image '{culprit}'"):
            read_matching(tmp_path / "index.csv", texts(list(names)), ("row",))


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (lambda path: read_split(path, 0), None, "found nothing"),
        (lambda path: read_split(path, 0), "image,class\na,b\n", "no column group, leaked, split"),
        (lambda path: read_split(path, 0), ",".join(COLUMNS) + "\n", "no images"),
        (lambda path: read_split(path, 0), ",".join(COLUMNS) + "\na,b,1,train\n", "line 2 with a"),
        (lambda path: read_split(path, 0), ",".join(COLUMNS) + "\na,b,x,train,0\n", "column group"),
        (lambda path: read_split(path, 0), ",".join(COLUMNS) + "\na,b,1,trial,0\n", "'trial'"),
        (read_groups, "image,class,published,group,exact\na,b,,1,x\n", "in column exact"),
        (read_positions, "group,place\n1,x\n", "not a number in column place"),
        (read_positions, "group,place\n" + "1,0.5\n" * 4 + "1\n", "line 6 with a"),
    ],
)
def test_damaged_tables_are_reported(
    tmp_path: Path, read: Callable[[Path], object], text: str | None, words: str
) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CarbenchError, match=words):
        read(path)
