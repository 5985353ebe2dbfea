"""The side view of a car as polygons, in metres.

x runs from the rear bumper (negative) to the front bumper (positive) with 0 in the middle of the
car, y upwards from the road.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from carbench.data.sample.body_styles import CarDesign

Point = tuple[float, float]

# Cosine and sine of 24 directions, rounded: the same with every maths library.
_QUARTER = (
    (1.0, 0.0), (0.965926, 0.258819), (0.866025, 0.5),
    (0.707107, 0.707107), (0.5, 0.866025), (0.258819, 0.965926),
)  # fmt: skip
DIRECTIONS: tuple[Point, ...] = (
    *_QUARTER,
    *((-s, c) for c, s in _QUARTER),
    *((-c, -s) for c, s in _QUARTER),
    *((s, -c) for c, s in _QUARTER),
)


@dataclass(frozen=True)
class Edge:
    """A straight segment of the outline; `part` is the part of the car that it belongs to."""

    start: Point
    end: Point
    part: str


@dataclass(frozen=True)
class SideView:
    """A side view; `edges` run from the rear sill over the roof to the front sill."""

    edges: tuple[Edge, ...]
    windows: tuple[tuple[Point, ...], ...]
    door_lines: tuple[float, ...]  # x of the gaps between doors
    wheels: tuple[Point, Point]  # rear and front hub

    def polygon(self) -> list[Point]:
        """Return the outline of the body as a closed polygon."""
        return [self.edges[0].start, *(edge.end for edge in self.edges)]


def circle(centre: Point, radius: float) -> list[Point]:
    """Return a regular polygon with 24 corners."""
    return [(centre[0] + radius * c, centre[1] + radius * s) for c, s in DIRECTIONS]


def clip_below(polygon: list[Point], level: float) -> list[Point]:
    """Return the part of a polygon below a height (Sutherland-Hodgman clipping)."""
    return _clip(polygon, level, -1.0)


def clip_above(polygon: list[Point], level: float) -> list[Point]:
    """Return the part of a polygon above a height."""
    return _clip(polygon, level, 1.0)


def _clip(polygon: list[Point], level: float, side: float) -> list[Point]:
    kept: list[Point] = []
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        in0, in1 = side * (y0 - level) >= 0, side * (y1 - level) >= 0
        if in0:
            kept.append((x0, y0))
        if in0 != in1:
            kept.append((x0 + (x1 - x0) * (level - y0) / (y1 - y0), level))
    return kept


def _point_towards(a: Point, b: Point, distance: float) -> Point:
    """Return the point at `distance` from a towards b, at most 45 % of the way."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = max(math.sqrt(dx * dx + dy * dy), 1e-6)
    share = min(distance / length, 0.45)
    return (a[0] + share * dx, a[1] + share * dy)


def _round_corners(corners: list[tuple[Point, float]], parts: list[str]) -> list[Edge]:
    """Return the edges between corners, with each inner corner rounded by its radius."""
    edges: list[Edge] = []
    here = corners[0][0]
    for i, part in enumerate(parts):
        corner, radius = corners[i + 1]
        if i + 1 == len(parts) or radius == 0.0:
            edges.append(Edge(here, corner, part))
            here = corner
            continue
        entry = _point_towards(corner, corners[i][0], radius)
        leave = _point_towards(corner, corners[i + 2][0], radius)
        # The middle of the quadratic curve with the corner as its control point.
        middle = (
            0.25 * entry[0] + 0.5 * corner[0] + 0.25 * leave[0],
            0.25 * entry[1] + 0.5 * corner[1] + 0.25 * leave[1],
        )
        edges += [
            Edge(here, entry, part), Edge(entry, middle, "paint"), Edge(middle, leave, "paint")
        ]  # fmt: skip
        here = leave
    return edges


def make_side_view(design: CarDesign) -> SideView:
    """Return the side view of a car."""
    m = design.dimensions
    front, rear = m.length / 2, -m.length / 2
    cowl_x = front - m.bonnet_length
    screen_top_x = cowl_x - m.screen_run
    deck_front_x = rear + max(m.deck_length, 0.04)
    roof_end_x = min(deck_front_x + m.rear_run, screen_top_x - 0.35)
    roof_middle_x = 0.45 * roof_end_x + 0.55 * screen_top_x
    rear_belly = 0.5 * (m.clearance + 0.2) + 0.25
    tail_top = max(m.deck_height - 0.05, rear_belly + 0.2)
    sharp = 0.06 if design.has_bed else 0.12
    corners: list[tuple[Point, float]] = [
        ((rear + 0.12, m.clearance), 0.0),
        ((rear, rear_belly), 0.10),
        ((rear + 0.03, tail_top), sharp),
        ((deck_front_x, m.deck_height), 0.05),
        ((roof_end_x, m.height - m.roof_drop), 0.16 if not design.has_bed else 0.08),
        ((roof_middle_x, m.height), 0.40),
        ((screen_top_x, m.height - 0.03), 0.16),
        ((cowl_x, m.bonnet_height), 0.08),
        ((front - 0.14, m.nose_height), 0.18),
        ((front, rear_belly), 0.10),
        ((front - 0.12, m.clearance), 0.0),
    ]
    deck = "bed" if design.has_bed else "deck"
    parts = [
        "rear", "tail", deck, "rear_glass", "roof", "roof",
        "windscreen", "bonnet", "nose", "front",
    ]  # fmt: skip
    edges = _round_corners(corners, parts)
    wheel_y = m.wheel_radius
    wheels = ((rear + m.rear_overhang, wheel_y), (front - m.front_overhang, wheel_y))
    windows, doors = _windows(design, deck_front_x, roof_end_x, cowl_x, edges)
    return SideView(tuple(edges), windows, doors, wheels)


def _height_at(edges: list[Edge], x: float) -> float:
    """Return the height of the upper side of the outline at x."""
    best = 0.0
    for edge in edges:
        (x0, y0), (x1, y1) = edge.start, edge.end
        if x0 < x1 and x0 <= x <= x1:
            best = max(best, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return best


def _windows(
    design: CarDesign, deck_front_x: float, roof_end_x: float, cowl_x: float, edges: list[Edge]
) -> tuple[tuple[tuple[Point, ...], ...], tuple[float, ...]]:
    """Return the side windows, between the belt and the roof line, and the door gaps."""
    belt, frame = design.dimensions.belt_height + 0.03, 0.075
    back = deck_front_x + (0.10 if design.has_bed else 0.22)
    first, last = back, cowl_x - 0.10
    # The glass ends in a point where the roof line meets the belt.
    steps = 40
    inside = [
        x
        for x in (first + (last - first) * i / steps for i in range(steps + 1))
        if _height_at(edges, x) - frame > belt + 0.03
    ]
    if not inside:
        return (), ()
    first, last = inside[0], inside[-1]
    count = design.side_windows
    # From front to rear: the window of the front door is the largest.
    shares = {1: (1.0,), 2: (0.54, 0.46), 3: (0.40, 0.36, 0.24)}[count]
    pillar = 0.055
    windows: list[tuple[Point, ...]] = []
    gaps: list[float] = []
    end = last
    for number, share in enumerate(shares):
        start = end - share * (last - first)
        low = start + (pillar if number + 1 < count else 0.0)
        high = end - (pillar if number > 0 else 0.0)
        xs = [low + (high - low) * i / 8 for i in range(9)]
        top = [(x, max(_height_at(edges, x) - frame, belt + 0.02)) for x in xs]
        windows.append(((low, belt), *top, (high, belt)))
        gaps.append(start)
        end = start
    front_gap = last - 0.12
    doors = (front_gap, *gaps[:2]) if count > 1 else (front_gap, (first + last) / 2 - 0.15)
    return tuple(windows), doors
