"""Occluders and distractors: poles, bushes, pedestrians and other cars."""

from __future__ import annotations

from dataclasses import replace

from PIL import ImageDraw

from carbench.data.sample.body_styles import CLASSES
from carbench.data.sample.camera import Camera
from carbench.data.sample.car import paint_car, random_car
from carbench.data.sample.colours import LEAVES, PAINTS, Light, jitter, shade
from carbench.data.sample.rng import PortableRng


def paint_distant_cars(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    camera: Camera,
    light: Light,
    rng: PortableRng,
) -> None:
    """Paint, in some images, smaller cars of any style in the distance."""
    if not rng.chance(0.12):
        return
    for _ in range(rng.integer(1, 2)):
        other = random_car(rng.choice(CLASSES), rng, light)
        share = rng.uniform(0.25, 0.45)
        away = replace(
            camera,
            half_yaw=rng.uniform(-0.3, 0.3),
            faces_left=rng.chance(0.5),
            scale=camera.scale * share,
            left=size[0] * rng.uniform(0.0, 1.0),
        )
        paint_car(canvas, away, other)


def paint_foreground(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    camera: Camera,
    light: Light,
    rng: PortableRng,
) -> None:
    """Paint objects between the camera and the car; they occlude part of it at most."""
    if rng.chance(0.10):
        _cut_off_car(canvas, size, camera, light, rng)
    if rng.chance(0.14):
        _pole(canvas, size, rng)
    if rng.chance(0.14):
        _bush(canvas, size, rng)
    if rng.chance(0.10):
        _pedestrian(canvas, size, rng)


def _cut_off_car(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    camera: Camera,
    light: Light,
    rng: PortableRng,
) -> None:
    """Paint the front or the rear of another car, cut off by the edge of the image."""
    other = random_car(rng.choice(CLASSES), rng, light)
    on_left = rng.chance(0.5)
    reach = camera.scale / camera.distance * other.design.dimensions.length / 2
    inside = size[0] * rng.uniform(0.04, 0.12)
    nearer = rng.uniform(1.0, 1.2)
    middle = inside - reach * nearer if on_left else size[0] - inside + reach * nearer
    near = replace(
        camera,
        half_yaw=rng.uniform(-0.12, 0.12),
        faces_left=rng.chance(0.5),
        scale=camera.scale * nearer,
        left=middle,
    )
    paint_car(canvas, near, other)


def _pole(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: PortableRng) -> None:
    width, height = size
    x, wide = rng.integer(0, width), rng.integer(width // 70 + 1, width // 26)
    colour = jitter(rng.choice(((90, 94, 98), (60, 50, 44), (180, 182, 184))), rng, 16)
    lean = rng.integer(-wide, wide)
    foot = rng.integer(3 * height // 4, height)
    canvas.polygon([(x, 0), (x + wide, 0), (x + wide + lean, foot), (x + lean, foot)], fill=colour)
    canvas.line((x + 1, 0, x + 1 + lean, foot), fill=shade(colour, 130), width=max(1, wide // 5))


def _bush(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: PortableRng) -> None:
    width, height = size
    x, leaf = rng.integer(0, width), jitter(rng.choice(LEAVES), rng, 16)
    tall = rng.integer(height // 10, height // 4)
    for _ in range(rng.integer(8, 16)):
        r = rng.integer(tall // 5, tall // 2)
        cx, cy = x + rng.integer(-tall, tall), height - rng.integer(0, tall)
        canvas.ellipse(
            (cx - r, cy - r, cx + r, cy + r), fill=jitter(shade(leaf, rng.integer(70, 115)), rng, 8)
        )


def _pedestrian(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: PortableRng) -> None:
    width, height = size
    x, tall = rng.integer(0, width), rng.integer(height // 2, 3 * height // 4)
    foot = rng.integer(4 * height // 5, height)
    top, wide = foot - tall, tall // 6
    head = max(2, tall // 14)
    coat, legs = jitter(rng.choice(PAINTS), rng, 20), jitter((50, 54, 70), rng, 30)
    for step in (-1, 1):
        canvas.polygon(
            [(x - wide // 2, top + tall // 2), (x + wide // 2, top + tall // 2),
             (x + step * wide // 2 + wide // 3, foot), (x + step * wide // 2 - wide // 3, foot)],
            fill=legs,
        )  # fmt: skip
    canvas.rounded_rectangle(
        (x - wide, top + 2 * head, x + wide, top + tall * 11 // 20), radius=wide // 2, fill=coat
    )
    canvas.ellipse((x - head, top, x + head, top + 2 * head), fill=jitter((196, 150, 120), rng, 40))
