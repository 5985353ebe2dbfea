"""One picture, from its key alone."""

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
    """A drawn picture, and how its camera stores it."""

    picture: Image.Image
    quality: int
    coarse_colour: bool

    def jpeg(self) -> bytes:
        """The file's bytes."""
        return jpeg(self.picture, self.quality, coarse_colour=self.coarse_colour)


def draw_shot(seed: int, style: int, number: int) -> Shot:
    """The picture with this key: `style` is an index into CLASSES, `number` counts from 0."""
    dice = Dice(seed, 1 + style, number)
    across, down = dice.pick(_SHAPES)
    width = dice.whole(120, 300)
    height = width * down // across
    canvas_size = (width * _FINER, height * _FINER)
    light = draw_light(dice)
    car = draw_car(CLASSES[style], dice, light)
    lens = _draw_lens(dice).framed(
        car.corners(),
        canvas_size,
        fill=dice.between(0.83, 0.96),
        shift=(dice.between(-0.03, 0.03), dice.between(0.0, 0.06)),
    )
    # The background is out of focus, so it needs no finer drawing.
    picture = soften(draw_scene((width, height), lens.shrunk(_FINER), dice), dice)
    picture = picture.resize(canvas_size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(picture, "RGBA")
    paint_parked(canvas, canvas_size, lens, light, dice)
    paint_car(canvas, lens, car)
    paint_foreground(canvas, canvas_size, lens, light, dice)
    picture = develop(expose(picture, light, dice).reduce(_FINER), dice)
    return Shot(picture, quality=dice.whole(45, 93), coarse_colour=dice.chance(0.8))


def _draw_lens(dice: Dice) -> Lens:
    """Mostly three-quarter views, as people photograph cars, from a child's to a balcony's eye."""
    side = dice.pick((-1.0, 1.0))
    steep = dice.between(0.02, 0.12) if dice.chance(0.6) else dice.between(0.12, 0.24)
    return Lens(
        half_yaw=side * steep,
        distance=dice.between(8.0, 16.0),
        eye=dice.between(0.7, 2.5),
        faces_left=dice.chance(0.5),
        tilt=dice.between(-0.04, 0.04) if dice.chance(0.4) else 0.0,
    )
