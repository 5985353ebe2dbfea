"""The drawings in the docs show the stages and the packages as they are."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import yaml

import dag
import layered
from conftest import ROOT


@pytest.mark.parametrize("path", dag.DRAWINGS)
def test_drawings_are_up_to_date(path: str) -> None:
    current = (ROOT / path).read_text() == dag.DRAWINGS[path]()
    assert current, f"{path} is out of date; run `make dag`"


def test_the_dag_shows_every_stage() -> None:
    named = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    shown = re.findall(r'class="name[^>]*>([^<]+)<', (ROOT / "docs/dag.svg").read_text())
    assert len(shown) == len(set(shown))
    assert set(shown) == named


def test_arrows_that_others_imply_are_left_out() -> None:
    arrows = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]
    assert layered.reduced(arrows) == [("a", "b"), ("a", "d"), ("b", "c")]


def test_arrows_lead_to_higher_ranks_and_are_short() -> None:
    arrows = [*pairwise("abcd"), ("e", "d"), ("a", "f"), ("f", "d")]
    ranks = layered.longest_path(arrows)
    assert all(ranks[start] < ranks[end] for start, end in arrows)
    assert ranks["e"] == 2


def test_boxes_do_not_overlap() -> None:
    for path in dag.DRAWINGS:
        boxes = [
            [float(number) for number in box]
            for box in re.findall(
                r'<rect class="(?:box|end)[^>]* width="([\d.]+)" height="([\d.]+)"[^>]*'
                r' x="([\d.]+)" y="([\d.]+)"',
                (ROOT / path).read_text(),
            )
        ]
        assert len(boxes) > 10
        for index, (width, height, x, y) in enumerate(boxes):
            for other_width, other_height, other_x, other_y in boxes[index + 1 :]:
                if (other_x - x, other_y - y) in {(-4, -4), (4, 4)}:
                    continue  # a stack
                beside = x + width < other_x or other_x + other_width < x
                below = y + height < other_y or other_y + other_height < y
                assert beside or below


def test_drawings_need_nothing_from_elsewhere() -> None:
    for path in dag.DRAWINGS:
        text = (ROOT / path).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text
        assert "url(" not in text
        assert "@font-face" not in text
