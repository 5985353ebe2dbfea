"""Paints a car as an extruded side view, from the far side to the near side.

The body is the side view extruded over the width of the car. Each edge of the side view gives a
strip across the car (bonnet, roof, windscreen, nose, tail), which is painted if it faces the
camera. The near side with its windows, doors, lamps and wheels follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageDraw

from carbench.data.sample.body_styles import CarDesign, random_design
from carbench.data.sample.camera import Camera, Pixel
from carbench.data.sample.colours import GLASS, PAINTS, Colour, Light, jitter, shade
from carbench.data.sample.rng import PortableRng
from carbench.data.sample.side_view import (
    Edge,
    Point,
    SideView,
    circle,
    clip_above,
    clip_below,
    make_side_view,
)

_BLACK = (18, 18, 20)
_AMBER_OFF, _RED_OFF = (206, 140, 60), (150, 20, 26)
_TUMBLE = 0.32  # how much the sides lean in above the belt, metres per metre


@dataclass(frozen=True)
class CarFinish:
    """Colours and details of a car."""

    paint: Colour
    second: Colour  # of the roof; for most cars the same as the paint
    glass: Colour
    rim: Colour
    spokes: int
    light: Light


@dataclass(frozen=True)
class Car:
    """A car that can be painted with any camera."""

    design: CarDesign
    side_view: SideView
    finish: CarFinish

    def corners(self) -> list[tuple[float, float, float]]:
        """Return the corners of the bounding box."""
        m = self.design.dimensions
        return [
            (x, y, z)
            for x in (-m.length / 2, m.length / 2)
            for y in (0.0, m.height * 0.97)
            for z in (-m.width / 2, m.width / 2)
        ]


def random_car(style: str, rng: PortableRng, light: Light) -> Car:
    """Return a random car of a style."""
    design = random_design(style, rng)
    paint = jitter(rng.choice(PAINTS), rng, 14)
    second = rng.choice((_BLACK, (235, 235, 235))) if rng.chance(0.12) else paint
    rim = rng.choice(((190, 194, 198), (150, 154, 160), (60, 62, 66), (215, 216, 218)))
    finish = CarFinish(paint, second, rng.choice(GLASS), rim, rng.choice((4, 6, 8, 12)), light)
    return Car(design, make_side_view(design), finish)


class _Brush:
    """Draws in the coordinates of the car, in metres."""

    def __init__(self, draw: ImageDraw.ImageDraw, camera: Camera, car: Car) -> None:
        self.draw, self.camera, self.car = draw, camera, car
        self.half = car.design.dimensions.width / 2
        self.belt = car.design.dimensions.belt_height
        self.line = max(1, round(0.022 * camera.scale / camera.distance))

    def side(self, x: float, y: float) -> Pixel:
        """Return the pixel of a point of the near side."""
        return self.camera.pixel(x, y, -self.inset(y))

    def inset(self, y: float) -> float:
        """Return half the width at a height; the sides lean in above the belt."""
        return self.half - _TUMBLE * max(0.0, y - self.belt)

    def face(self, points: list[Point] | tuple[Point, ...], colour: Colour) -> None:
        """Fill a polygon on the near side."""
        if len(points) > 2:
            self.draw.polygon([self.side(x, y) for x, y in points], fill=colour)

    def flat(self, points: list[Point], z: float, colour: Colour) -> None:
        """Fill a polygon in a vertical plane along the car."""
        if len(points) > 2:
            self.draw.polygon([self.camera.pixel(x, y, z) for x, y in points], fill=colour)

    def stroke(self, points: list[Point], colour: Colour) -> None:
        """Draw a line on the near side."""
        self.draw.line([self.side(x, y) for x, y in points], fill=colour, width=self.line)

    def strip(
        self, edge: Edge, along: tuple[float, float], across: tuple[float, float], colour: Colour
    ) -> None:
        """Fill part of the strip of an edge, given as fractions; `across`: near (0) to far (1)."""
        (x0, y0), (x1, y1) = edge.start, edge.end

        def place(a: float, b: float) -> Pixel:
            x, y = x0 + (x1 - x0) * a, y0 + (y1 - y0) * a
            return self.camera.pixel(x, y, self.inset(y) * (2 * b - 1))

        low, high = along
        near, far = across
        self.draw.polygon(
            [place(low, near), place(high, near), place(high, far), place(low, far)], fill=colour
        )

    def sees(self, edge: Edge) -> bool:
        """Return whether the strip of an edge faces the camera."""
        (x0, y0), (x1, y1) = edge.start, edge.end
        a = self.camera.plane(x0, y0, -self.inset(y0))
        b = self.camera.plane(x1, y1, -self.inset(y1))
        c = self.camera.plane(x1, y1, self.inset(y1))
        turn = (b[0] - a[0]) * (a[1] - c[1]) - (c[0] - a[0]) * (a[1] - b[1])
        return turn < 0 if self.camera.faces_left else turn > 0

    def depth(self, edge: Edge) -> float:
        """Return the distance of the middle of a strip from the camera."""
        return self.camera.plane((edge.start[0] + edge.end[0]) / 2, 0.8, 0.0)[2]


def paint_car(canvas: ImageDraw.ImageDraw, camera: Camera, car: Car) -> None:
    """Paint a car and its shadow; `canvas` must draw in RGBA mode on an RGB image."""
    brush = _Brush(canvas, camera, car)
    _paint_shadow(brush)
    _paint_wheels(brush, far=True)
    for edge in sorted(car.side_view.edges, key=brush.depth, reverse=True):
        if brush.sees(edge):
            _paint_strip(brush, edge)
    _paint_side(brush)
    _paint_wheels(brush, far=False)


def _paint_shadow(brush: _Brush) -> None:
    m, light = brush.car.design.dimensions, brush.car.finish.light
    for grow, part in ((0.30, 3), (0.12, 2), (-0.05, 2)):
        ends, sides = m.length / 2 + grow * 0.6, brush.half + grow
        lean = grow if light.from_left != brush.camera.faces_left else -grow
        shape = [(-ends + lean, -sides), (ends + lean, -sides), (ends, sides), (-ends, sides)]
        brush.draw.polygon(
            [brush.camera.pixel(x, 0.0, z) for x, z in shape], fill=(0, 0, 0, light.shadow // part)
        )
    brush.flat(
        [(-m.length / 2 + 0.3, 0.05), (m.length / 2 - 0.3, 0.05),
         (m.length / 2 - 0.2, m.clearance + 0.1), (-m.length / 2 + 0.2, m.clearance + 0.1)],
        brush.half * 0.7, _BLACK,
    )  # fmt: skip


def _paint_strip(brush: _Brush, edge: Edge) -> None:
    """Paint the strip of an edge, with the fittings of its part."""
    finish, part = brush.car.finish, edge.part
    (x0, y0), (x1, y1) = edge.start, edge.end
    # Light from above: horizontal surfaces are brighter than vertical ones.
    length = max(abs(x1 - x0) + abs(y1 - y0), 1e-6)
    bright = 72 + round(40 * max(0.0, (x1 - x0) / length))
    high = min(y0, y1) > brush.belt + 0.2
    colour = shade(finish.second if part == "roof" or high else finish.paint, bright)
    brush.strip(edge, (0.0, 1.0), (0.0, 1.0), colour)
    lit = finish.light.lamps_on
    if part in ("windscreen", "rear_glass"):
        brush.strip(edge, (0.05, 0.93), (0.06, 0.94), shade(finish.glass, 85))
        brush.strip(edge, (0.2, 0.8), (0.12, 0.42), shade(finish.glass, 122))
    elif part == "bed":
        brush.strip(edge, (0.05, 0.95), (0.06, 0.94), (44, 44, 48))
    elif part == "nose":
        lamp = (255, 250, 214) if lit else (214, 222, 230)
        brush.strip(edge, (0.15, 0.9), (0.27, 0.73), (34, 36, 40))
        brush.strip(edge, (0.42, 0.5), (0.27, 0.73), (150, 154, 160))
        for across in ((0.03, 0.23), (0.77, 0.97)):
            brush.strip(edge, (0.15, 0.7), across, lamp)
    elif part == "front":
        brush.strip(edge, (0.35, 0.9), (0.15, 0.85), _BLACK)
        brush.strip(edge, (0.05, 0.4), (0.38, 0.62), (230, 230, 222))
    elif part == "tail":
        lamp = (255, 60, 50) if lit else _RED_OFF
        for across in ((0.02, 0.2), (0.8, 0.98)):
            brush.strip(edge, (0.45, 0.95), across, lamp)
        brush.strip(edge, (0.4, 0.7), (0.38, 0.62), (230, 224, 190))
        if brush.car.design.has_spare_wheel:
            brush.strip(edge, (0.35, 1.0), (0.25, 0.75), _BLACK)
    elif part == "rear":
        brush.strip(edge, (0.0, 0.6), (0.05, 0.95), (40, 40, 44))


def _paint_side(brush: _Brush) -> None:
    car, finish, m = brush.car, brush.car.finish, brush.car.design.dimensions
    body = car.side_view.polygon()
    sun = 104 if finish.light.from_left != brush.camera.faces_left else 92
    shoulder = 0.5 * m.belt_height + 0.36
    brush.face(body, shade(finish.paint, sun))
    if finish.second != finish.paint:
        brush.face(clip_above(body, m.belt_height + 0.02), shade(finish.second, sun))
    brush.face(clip_below(body, shoulder), shade(finish.paint, sun - 12))
    brush.face(clip_below(body, m.clearance + 0.16), shade(finish.paint, sun - 26))
    front, rear = m.length / 2, -m.length / 2
    if car.design.has_cladding:
        brush.face(clip_below(body, m.clearance + 0.15), (52, 52, 56))
    brush.stroke(
        [(rear + 0.15, shoulder), (front - 0.3, shoulder - 0.03)], shade(finish.paint, 130)
    )
    for window in car.side_view.windows:
        brush.face(window, finish.glass)
        _paint_reflection(brush, window)
    for x in car.side_view.door_lines:
        brush.stroke([(x, m.belt_height), (x - 0.03, m.clearance + 0.12)], shade(finish.paint, 58))
    for x in car.side_view.door_lines[1:]:
        handle = [(x + 0.08, m.belt_height - 0.1), (x + 0.25, m.belt_height - 0.1)]
        brush.stroke(handle, shade(finish.paint, 50))
    _paint_side_lamps(brush, front, rear)
    _paint_fittings(brush)


def _paint_reflection(brush: _Brush, window: tuple[Point, ...]) -> None:
    low, high = window[0][0], window[-1][0]
    top = max(y for _, y in window)
    floor = window[0][1]
    middle = 0.5 * low + 0.5 * high
    tall = 0.75 * (min(y for _, y in window[3:6]) - floor)
    if tall > 0.06 and top - floor > 0.12:
        slant = 0.5 * tall
        wide = 0.16 * (high - low)
        brush.face(
            [(middle - wide, floor + 0.02), (middle, floor + 0.02),
             (middle + slant * 0.6, floor + tall), (middle + slant * 0.6 - wide, floor + tall)],
            shade(brush.car.finish.glass, 128),
        )  # fmt: skip


def _paint_side_lamps(brush: _Brush, front: float, rear: float) -> None:
    m, lit = brush.car.design.dimensions, brush.car.finish.light.lamps_on
    nose, deck = m.nose_height, m.deck_height
    brush.face(
        [(front - 0.42, nose - 0.02), (front - 0.13, nose - 0.05),
         (front - 0.06, nose - 0.17), (front - 0.3, nose - 0.15)],
        (255, 248, 210) if lit else (220, 226, 232),
    )  # fmt: skip
    brush.face(
        [(rear + 0.05, deck - 0.1), (rear + 0.26, deck - 0.1),
         (rear + 0.18, deck - 0.25), (rear + 0.03, deck - 0.25)],
        (255, 66, 54) if lit else _RED_OFF,
    )  # fmt: skip
    brush.face(
        [(front - 0.02, 0.42), (front - 0.14, 0.42), (front - 0.14, 0.36), (front - 0.03, 0.36)],
        _AMBER_OFF,
    )


def _paint_fittings(brush: _Brush) -> None:
    """Paint the mirror, roof rails, spoiler and spare wheel."""
    design, m, finish = brush.car.design, brush.car.design.dimensions, brush.car.finish
    windows = brush.car.side_view.windows
    if windows:
        x = windows[0][-1][0] - 0.05
        y = m.belt_height + 0.05
        mirror = [(x, y), (x + 0.16, y), (x + 0.14, y + 0.13), (x + 0.02, y + 0.13)]
        brush.flat(mirror, -brush.half - 0.08, shade(finish.paint, 70))
    roof = [edge for edge in brush.car.side_view.edges if edge.part == "roof"]
    if design.has_rails:
        lift = 0.05
        back, fore = roof[0].start, roof[-1].end
        rail = [(back[0], back[1] + lift), *((e.end[0], e.end[1] + lift) for e in roof[:-1])]
        brush.stroke([*rail, (fore[0], fore[1] + lift)], (70, 72, 76))
    if design.has_spoiler and not design.has_bed:
        edge = next(e for e in brush.car.side_view.edges if e.part in ("deck", "rear_glass"))
        low = design.style in ("Coupe", "Saloon")
        x, y = edge.start if low else roof[0].start
        brush.face([(x + 0.1, y), (x - 0.2, y + 0.06), (x - 0.2, y + 0.1), (x + 0.1, y + 0.05)],
                   shade(finish.paint, 70))  # fmt: skip
    if design.has_spare_wheel:
        x = -m.length / 2
        brush.face([(x, 0.65), (x - 0.17, 0.68), (x - 0.17, 1.25), (x, 1.28)], _BLACK)


def _paint_wheels(brush: _Brush, far: bool) -> None:
    m, finish = brush.car.design.dimensions, brush.car.finish
    for hub in brush.car.side_view.wheels:
        if far:
            brush.flat(circle(hub, m.wheel_radius), brush.half - 0.25, _BLACK)
            continue
        arch = clip_above(circle(hub, m.wheel_radius * 1.17), m.clearance)
        brush.face(arch, (46, 46, 50) if brush.car.design.has_cladding else (24, 24, 26))
        brush.flat(circle(hub, m.wheel_radius), -brush.half + 0.22, (14, 14, 15))
        near = -brush.half + 0.02
        brush.flat(circle(hub, m.wheel_radius), near, (30, 30, 32))
        brush.flat(circle(hub, m.wheel_radius * 0.68), near, shade(finish.rim, 55))
        rim = circle(hub, m.wheel_radius * 0.62)
        for k in range(0, 24, 24 // finish.spokes):
            spoke = [hub, rim[k - 1], rim[(k + 1) % 24]]
            brush.flat(spoke, near, finish.rim)
        brush.flat(circle(hub, m.wheel_radius * 0.17), near, shade(finish.rim, 80))
