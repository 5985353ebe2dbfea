"""One image, from its key alone."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from carbench.data.sample.car import draw_car, paint_car
from carbench.data.sample.clutter import paint_foreground, paint_parked
from carbench.data.sample.colours import draw_light
from carbench.data.sample.film import develop, expose, jpeg, soften
from carbench.data.sample.lens import Lens
from carbench.data.sample.rng import Dice
from carbench.data.sample.scene import draw_scene
from carbench.data.sample.styles import CLASSES

_SHAPES = ((4, 3), (3, 2), (3, 2), (3, 2), (8, 5), (16, 9))
_FINER = 2  # everything is drawn this much larger, then shrunk, for smooth edges


@dataclass(frozen=True)
class Shot:
    """A drawn image, and how its camera stores it."""

    image: Image.Image
    quality: int
    coarse_colour: bool

    def jpeg(self) -> bytes:
        """The file's bytes."""
        return jpeg(self.image, self.quality, coarse_colour=self.coarse_colour)


def draw_shot(seed: int, style: int, number: int) -> Shot:
    """The image with this key: `style` is an index into CLASSES, `number` counts from 0."""
    rng = Dice(seed, 1 + style, number)
    across, down = rng.pick(_SHAPES)
    width = rng.whole(120, 300)
    height = width * down // across
    canvas_size = (width * _FINER, height * _FINER)
    light = draw_light(rng)
    car = draw_car(CLASSES[style], rng, light)
    lens = _draw_lens(rng).framed(
        car.corners(),
        canvas_size,
        fill=rng.between(0.83, 0.96),
        shift=(rng.between(-0.03, 0.03), rng.between(0.0, 0.06)),
    )
    # The background is out of focus, so it needs no finer drawing.
    image = soften(draw_scene((width, height), lens.shrunk(_FINER), rng), rng)
    image = image.resize(canvas_size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(image, "RGBA")
    paint_parked(canvas, canvas_size, lens, light, rng)
    paint_car(canvas, lens, car)
    paint_foreground(canvas, canvas_size, lens, light, rng)
    image = develop(expose(image, light, rng).reduce(_FINER), rng)
    return Shot(image, quality=rng.whole(45, 93), coarse_colour=rng.chance(0.8))


def _draw_lens(rng: Dice) -> Lens:
    """Mostly three-quarter views, as people photograph cars, from a child's to a balcony's eye."""
    side = rng.pick((-1.0, 1.0))
    steep = rng.between(0.02, 0.12) if rng.chance(0.6) else rng.between(0.12, 0.24)
    return Lens(
        half_yaw=side * steep,
        distance=rng.between(8.0, 16.0),
        eye=rng.between(0.7, 2.5),
        faces_left=rng.chance(0.5),
        tilt=rng.between(-0.04, 0.04) if rng.chance(0.4) else 0.0,
    )
