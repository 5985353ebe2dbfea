"""Lays out a small acyclic graph in ranks and draws it as an SVG, without a library for graphs.

The usual four steps: ranks are given or come from the longest path, the order within each rank is
chosen for few crossings, positions come from a linear program that keeps arrows short and straight,
and arrows are drawn as curves. Everything is deterministic: the same graph gives the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from xml.sax.saxutils import escape

import numpy as np
from scipy.optimize import linprog

Arrow = tuple[str, str]

# Positions across the ranks count in quarters of the distance of two neighbouring boxes.
QUARTERS = 4
# The distance of neighbours in a rank, by how many of the two are boxes; others are bends.
APART = {2: QUARTERS, 1: QUARTERS, 0: 2}
# What slope costs a piece of an arrow, by how many of its ends are boxes: long arrows are straight.
STRAIGHT = {2: 3, 1: 2, 0: 8}
TRIES = 100

STYLE = """\
  .page { fill: #fcfbf8; stroke: #d9d8d2 }
  .box { fill: #eef3f7; stroke: #9db4c7 }
  .end { fill: #005a94; stroke: #005a94 }
  .optional { stroke-dasharray: 5 4 }
  .arrow { fill: none; stroke: #7d858d; stroke-width: 1.5 }
  .tip { fill: #7d858d }
  text { fill: #1f2328; text-anchor: middle;
    font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
  .name { font-size: 15px }
  .caption { font-size: 11.5px; fill: #5d646c }
  .note { font-size: 12.5px; fill: #5d646c; text-anchor: start }
  .on-end { fill: #fff }
  @media (prefers-color-scheme: dark) {
    .page { fill: #15171a; stroke: #363b41 }
    .box { fill: #1e2a34; stroke: #4a6379 }
    .end { fill: #7cb9e8; stroke: #7cb9e8 }
    .arrow { stroke: #8a9199 }
    .tip { fill: #8a9199 }
    text { fill: #e8e6e1 }
    .caption, .note { fill: #a3a8ae }
    .on-end { fill: #15171a }
  }"""


@dataclass(frozen=True)
class Box:
    """One node.

    Attributes:
        name: its label, and what arrows call it.
        captions: smaller lines below the name.
        many: whether it stands for several, drawn as a stack.
        optional: whether its outline is dashed.
        end: whether it is filled, as what all the rest is for.
    """

    name: str
    captions: tuple[str, ...] = ()
    many: bool = False
    optional: bool = False
    end: bool = False


@dataclass(frozen=True)
class Look:
    """Sizes of a drawing, in pixels.

    Attributes:
        rightwards: whether arrows point to the right; otherwise down.
        box: width and height of a box; a width of 0 follows the longest label of the rank.
        along: the gap between ranks.
        across: the gap between neighbours in a rank.
        margin: around everything.
    """

    rightwards: bool
    box: tuple[int, int]
    along: int
    across: int
    margin: int = 28


def longest_path(arrows: Sequence[Arrow]) -> dict[str, int]:
    """Return a rank for each node: one after its last predecessor, or closer to its successors.

    A node with more arrows out than in is moved as far as its successors allow, which shortens
    arrows.
    """
    before, after = _neighbours(arrows)
    ranks: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in ranks:
            ranks[name] = 1 + max((rank(one) for one in before[name]), default=-1)
        return ranks[name]

    for name in sorted(before, key=lambda one: (rank(one), one), reverse=True):
        if len(after[name]) > len(before[name]):
            ranks[name] = min(ranks[one] for one in after[name]) - 1
    return ranks


def reduced(arrows: Sequence[Arrow]) -> list[Arrow]:
    """Return the arrows that do not follow from others, sorted (the transitive reduction)."""
    _, after = _neighbours(arrows)

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(one) for one in after[name]))

    return sorted(
        (start, end)
        for start, end in set(arrows)
        if not any(end in reach(other) for other in after[start] - {end})
    )


def draw(
    boxes: Sequence[Box],
    arrows: Sequence[Arrow],
    ranks: Mapping[str, int],
    look: Look,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """Return the graph as an SVG that is legible on light and on dark pages.

    Args:
        boxes: the nodes.
        arrows: pairs of names; each leads to a higher rank.
        ranks: the rank of each name, from 0.
        look: sizes.
        title: for screen readers.
        notes: lines below the drawing.
    """
    paths, rows = _with_bends(arrows, ranks)
    order, places = _best(paths, rows)
    by_name = {box.name: box for box in boxes}
    sizes = _sizes(order, by_name, look)
    starts = [look.margin]
    for size in sizes:
        starts.append(starts[-1] + size[0] + look.along)
    unit = (max(size[1] for size in sizes) + look.across) / QUARTERS
    first = min(places.values())
    half = max(size[1] for size in sizes) / 2

    def middle(name: str) -> float:
        return look.margin + half + (places[name] - first) * unit

    rank_of = {name: number for number, row in enumerate(order) for name in row}
    curves, shapes = [], []
    for path in paths:
        points = []
        for name in path:
            start = starts[rank_of[name]]
            end = start + sizes[rank_of[name]][0]
            points += [(start, middle(name)), (end, middle(name))]
        curves.append(_curve(points[1:-1], look.rightwards))
    for end in sorted({path[-1] for path in paths}):
        curves.append(_tip(starts[rank_of[end]], middle(end), look.rightwards))
    for row in order:
        for name in row:
            if name in by_name:
                along, across = sizes[rank_of[name]]
                corner = (starts[rank_of[name]], middle(name) - across / 2)
                shapes += _shape(by_name[name], corner, (along, across), look.rightwards)
    length = starts[-1] - look.along + look.margin
    breadth = 2 * look.margin + 2 * half + (max(places.values()) - first) * unit
    width, height = (length, breadth) if look.rightwards else (breadth, length)
    lines = []
    for number, note in enumerate(notes):
        lines.append(_text("note", look.margin, height + 4 + 20 * number, note))
    height += 20 * len(notes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
            f' width="{width:g}" height="{height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}"'
            ' rx="8"/>',
            *curves,
            *shapes,
            *lines,
            "</svg>\n",
        ]
    )


def _neighbours(arrows: Sequence[Arrow]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Which nodes come directly before and after each node."""
    names = {name for arrow in arrows for name in arrow}
    before = {name: {start for start, end in arrows if end == name} for name in names}
    after = {name: {end for start, end in arrows if start == name} for name in names}
    return before, after


def _with_bends(
    arrows: Sequence[Arrow], ranks: Mapping[str, int]
) -> tuple[list[list[str]], list[list[str]]]:
    """Each arrow as a path with a bend in every rank that it passes; all nodes by rank."""
    rows: list[list[str]] = [[] for _ in range(1 + max(ranks.values()))]
    for name in sorted(ranks):
        rows[ranks[name]].append(name)
    paths = []
    for start, end in arrows:
        passed = range(ranks[start] + 1, ranks[end])
        bends = [f"{start} {end} {number}" for number in passed]
        for number, bend in zip(passed, bends, strict=True):
            rows[number].append(bend)
        paths.append([start, *bends, end])
    return paths, rows


def _best(
    paths: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]
) -> tuple[list[list[str]], dict[str, int]]:
    """The order with the fewest crossings, of these the one with the shortest arrows."""
    pieces = sorted({piece for path in paths for piece in pairwise(path)})
    orders = {tuple(map(tuple, order)) for order in _orders(pieces, rows)}
    fewest = min(_crossings(pieces, order) for order in orders)
    best = [order for order in orders if _crossings(pieces, order) == fewest]
    placed = [(*_places(pieces, order), order) for order in sorted(best)]
    _, places, order = min(placed, key=lambda each: (round(each[0], 3), each[2]))
    return [list(row) for row in order], places


def _orders(
    pieces: Sequence[Arrow], rows: Sequence[Sequence[str]]
) -> Iterator[Sequence[Sequence[str]]]:
    """Orders with few crossings: shuffled, then each rank by the mean place of its neighbours."""
    sides = _neighbours(pieces)
    chance = random.Random(0)
    for _ in range(TRIES):
        order = [chance.sample(row, len(row)) for row in rows]
        for near, sweep in [(sides[0], order), (sides[1], order[::-1])] * 4:
            for row in sweep:
                place = {name: index for each in order for index, name in enumerate(each)}
                means = {name: fmean(place[one] for one in near[name] or {name}) for name in row}
                row.sort(key=means.__getitem__)
            _swap(sides, order)
        yield order


def _swap(sides: Sequence[Mapping[str, set[str]]], order: Sequence[list[str]]) -> None:
    """Swap neighbours where that saves crossings with the ranks on both sides."""
    place = {name: index for row in order for index, name in enumerate(row)}
    for row in order:
        for index in range(len(row) - 1):
            one, other = row[index : index + 2]
            ends = [(place[a], place[b]) for near in sides for a in near[one] for b in near[other]]
            if sum(a > b for a, b in ends) > sum(a < b for a, b in ends):
                row[index : index + 2] = other, one
                place[one], place[other] = index + 1, index


def _crossings(pieces: Sequence[Arrow], order: Sequence[Sequence[str]]) -> int:
    rank = {name: number for number, row in enumerate(order) for name in row}
    place = {name: index for row in order for index, name in enumerate(row)}
    found = 0
    for number in range(len(order)):
        ends = [(place[a], place[b]) for a, b in pieces if rank[a] == number]
        ends.sort()
        found += sum(
            one[0] < other[0] and one[1] > other[1]
            for index, one in enumerate(ends)
            for other in ends[index + 1 :]
        )
    return found


def _places(
    pieces: Sequence[Arrow], order: Sequence[Sequence[str]]
) -> tuple[float, dict[str, int]]:
    """Whole positions that keep the order and make arrows straight, and what they cost.

    A linear program over differences, whose corners are whole numbers. Each piece has a weight of
    its own, so that the best corner is the only one.
    """
    names = [name for row in order for name in row]
    column = {name: index for index, name in enumerate(names)}
    size = len(names) + len(pieces)
    costs = np.zeros(size)
    rows: list[np.ndarray] = []
    limits: list[float] = []

    def at_most(limit: float, *terms: tuple[int, float]) -> None:
        row = np.zeros(size)
        for index, factor in terms:
            row[index] = factor
        rows.append(row)
        limits.append(limit)

    for number, (start, end) in enumerate(pieces):
        bends = (" " in start) + (" " in end)
        slope = len(names) + number
        costs[slope] = STRAIGHT[2 - bends] * (1 + number / 1000)
        at_most(0, (column[start], 1), (column[end], -1), (slope, -1))
        at_most(0, (column[start], -1), (column[end], 1), (slope, -1))
    for row in order:
        for one, other in pairwise(row):
            apart = APART[2 - (" " in one) - (" " in other)]
            at_most(-apart, (column[one], 1), (column[other], -1))
    found = linprog(costs, A_ub=np.array(rows), b_ub=limits, method="highs-ds")
    return float(found.fun), {name: round(found.x[column[name]]) for name in names}


def _sizes(
    order: Sequence[Sequence[str]], boxes: Mapping[str, Box], look: Look
) -> list[tuple[int, int]]:
    """Of each rank the size of its boxes along the arrows and across them."""
    width, height = look.box
    sizes = []
    for row in order:
        # An estimate of how wide letters are: fonts differ, so it is a generous one.
        labels = [
            max(8.6 * len(name), *(6.6 * len(each) for each in boxes[name].captions), 0)
            for name in row
            if name in boxes
        ]
        wide = width or round(max(labels) / 2) * 2 + 20
        sizes.append((wide, height) if look.rightwards else (height, wide))
    return sizes


def _shape(
    box: Box, corner: tuple[float, float], size: tuple[float, float], rightwards: bool
) -> list[str]:
    """A box with its labels; ``corner`` and ``size`` are along the arrows and across them."""
    (x, y), (width, height) = (corner, size) if rightwards else (corner[::-1], size[::-1])
    kind = " ".join(["end" if box.end else "box", *(["optional"] if box.optional else [])])
    frame = f'class="{kind}" width="{width:g}" height="{height:g}" rx="6"'
    shapes = []
    if box.many:
        shapes.append(f'<rect {frame} x="{x + 4:g}" y="{y + 4:g}"/>')
    shapes.append(f'<rect {frame} x="{x:g}" y="{y:g}"/>')
    on = " on-end" if box.end else ""
    step = 15
    top = y + height / 2 + 5 - step * len(box.captions) / 2
    shapes.append(_text(f"name{on}", x + width / 2, top, box.name))
    for number, caption in enumerate(box.captions):
        line = top + 1 + step * (number + 1)
        shapes.append(_text(f"caption{on}", x + width / 2, line, caption))
    return shapes


def _text(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _curve(points: Sequence[tuple[float, float]], rightwards: bool) -> str:
    """A smooth line through points that come in pairs: straight through a rank, curved between."""
    points = [*points[:-1], (points[-1][0] - 7, points[-1][1])]  # the tip needs its place

    def at(along: float, across: float) -> str:
        return f"{along:g} {across:g}" if rightwards else f"{across:g} {along:g}"

    drawn = [f"M{at(*points[0])}"]
    for number, (one, other) in enumerate(pairwise(points)):
        if one[1] == other[1]:
            drawn.append(f"L{at(*other)}")
        elif number % 2 == 0:
            half = (one[0] + other[0]) / 2
            drawn.append(f"C{at(half, one[1])} {at(half, other[1])} {at(*other)}")
    return f'<path class="arrow" d="{" ".join(drawn)}"/>'


def _tip(along: float, across: float, rightwards: bool) -> str:
    corners = [(along - 1, across), (along - 9, across - 4.5), (along - 9, across + 4.5)]
    placed = [corner if rightwards else corner[::-1] for corner in corners]
    return f'<polygon class="tip" points="{" ".join(f"{x:g},{y:g}" for x, y in placed)}"/>'
