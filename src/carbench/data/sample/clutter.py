"""What gets into the image: poles, bushes, passers-by, and other cars before or behind ours."""

from __future__ import annotations

from dataclasses import replace

from PIL import ImageDraw

from carbench.data.sample.car import draw_car, paint_car
from carbench.data.sample.colours import LEAVES, PAINTS, Light, jitter, shade
from carbench.data.sample.lens import Lens
from carbench.data.sample.rng import Dice
from carbench.data.sample.styles import CLASSES


def paint_parked(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], lens: Lens, light: Light, rng: Dice
) -> None:
    """Sometimes smaller cars in the distance, of any style: they are not the image's subject."""
    if not rng.chance(0.12):
        return
    for _ in range(rng.whole(1, 2)):
        other = draw_car(rng.pick(CLASSES), rng, light)
        share = rng.between(0.25, 0.45)
        away = replace(
            lens,
            half_yaw=rng.between(-0.3, 0.3),
            faces_left=rng.chance(0.5),
            scale=lens.scale * share,
            left=size[0] * rng.between(0.0, 1.0),
        )
        paint_car(canvas, away, other)


def paint_foreground(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], lens: Lens, light: Light, rng: Dice
) -> None:
    """Things between us and the car; they hide at most a part of it."""
    if rng.chance(0.10):
        _edge_of_a_car(canvas, size, lens, light, rng)
    if rng.chance(0.14):
        _pole(canvas, size, rng)
    if rng.chance(0.14):
        _bush(canvas, size, rng)
    if rng.chance(0.10):
        _passer_by(canvas, size, rng)


def _edge_of_a_car(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], lens: Lens, light: Light, rng: Dice
) -> None:
    """The front or the tail of a neighbour, cut by the edge of the image."""
    other = draw_car(rng.pick(CLASSES), rng, light)
    on_left = rng.chance(0.5)
    reach = lens.scale / lens.distance * other.plan.measures.length / 2
    inside = size[0] * rng.between(0.04, 0.12)
    nearer = rng.between(1.0, 1.2)
    middle = inside - reach * nearer if on_left else size[0] - inside + reach * nearer
    near = replace(
        lens,
        half_yaw=rng.between(-0.12, 0.12),
        faces_left=rng.chance(0.5),
        scale=lens.scale * nearer,
        left=middle,
    )
    paint_car(canvas, near, other)


def _pole(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: Dice) -> None:
    width, height = size
    x, wide = rng.whole(0, width), rng.whole(width // 70 + 1, width // 26)
    colour = jitter(rng.pick(((90, 94, 98), (60, 50, 44), (180, 182, 184))), rng, 16)
    lean = rng.whole(-wide, wide)
    foot = rng.whole(3 * height // 4, height)
    canvas.polygon([(x, 0), (x + wide, 0), (x + wide + lean, foot), (x + lean, foot)], fill=colour)
    canvas.line((x + 1, 0, x + 1 + lean, foot), fill=shade(colour, 130), width=max(1, wide // 5))


def _bush(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: Dice) -> None:
    width, height = size
    x, leaf = rng.whole(0, width), jitter(rng.pick(LEAVES), rng, 16)
    tall = rng.whole(height // 10, height // 4)
    for _ in range(rng.whole(8, 16)):
        r = rng.whole(tall // 5, tall // 2)
        cx, cy = x + rng.whole(-tall, tall), height - rng.whole(0, tall)
        canvas.ellipse(
            (cx - r, cy - r, cx + r, cy + r), fill=jitter(shade(leaf, rng.whole(70, 115)), rng, 8)
        )


def _passer_by(canvas: ImageDraw.ImageDraw, size: tuple[int, int], rng: Dice) -> None:
    width, height = size
    x, tall = rng.whole(0, width), rng.whole(height // 2, 3 * height // 4)
    foot = rng.whole(4 * height // 5, height)
    top, wide = foot - tall, tall // 6
    head = max(2, tall // 14)
    coat, legs = jitter(rng.pick(PAINTS), rng, 20), jitter((50, 54, 70), rng, 30)
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
