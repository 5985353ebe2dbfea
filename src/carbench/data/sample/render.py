"""Renders an image from its key: seed, class and number."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from carbench.data.sample.background import draw_background
from carbench.data.sample.body_styles import CLASSES
from carbench.data.sample.camera import Camera
from carbench.data.sample.camera_effects import (
    add_blur_and_grain,
    apply_light,
    blur_background,
    encode_jpeg,
)
from carbench.data.sample.car import paint_car, random_car
from carbench.data.sample.colours import random_light
from carbench.data.sample.rng import PortableRng
from carbench.data.sample.surroundings import paint_distant_cars, paint_foreground

_ASPECT_RATIOS = ((4, 3), (3, 2), (3, 2), (3, 2), (8, 5), (16, 9))
_SUPERSAMPLING = 2  # the car and the foreground are drawn this much larger, for smooth edges


@dataclass(frozen=True)
class RenderedImage:
    """An image, and how it is to be compressed."""

    image: Image.Image
    quality: int
    coarse_colour: bool

    def jpeg(self) -> bytes:
        """Return the image as JPEG."""
        return encode_jpeg(self.image, self.quality, coarse_colour=self.coarse_colour)


def render_image(seed: int, style: int, number: int) -> RenderedImage:
    """Render the image of a key; `style` is an index into CLASSES, `number` counts from 0."""
    rng = PortableRng(seed, 1 + style, number)
    across, down = rng.choice(_ASPECT_RATIOS)
    width = rng.integer(120, 300)
    height = width * down // across
    canvas_size = (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
    light = random_light(rng)
    car = random_car(CLASSES[style], rng, light)
    camera = _random_camera(rng).framed(
        car.corners(),
        canvas_size,
        fill=rng.uniform(0.83, 0.96),
        shift=(rng.uniform(-0.03, 0.03), rng.uniform(0.0, 0.06)),
    )
    # The background is out of focus and needs no supersampling.
    image = blur_background(
        draw_background((width, height), camera.shrunk(_SUPERSAMPLING), rng), rng
    )
    image = image.resize(canvas_size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(image, "RGBA")
    paint_distant_cars(canvas, canvas_size, camera, light, rng)
    paint_car(canvas, camera, car)
    paint_foreground(canvas, canvas_size, camera, light, rng)
    image = add_blur_and_grain(apply_light(image, light, rng).reduce(_SUPERSAMPLING), rng)
    return RenderedImage(image, quality=rng.integer(45, 93), coarse_colour=rng.chance(0.8))


def _random_camera(rng: PortableRng) -> Camera:
    """Return a random camera: three-quarter views of either end, 0.7 to 2.5 m above the road."""
    side = rng.choice((-1.0, 1.0))
    steep = rng.uniform(0.02, 0.12) if rng.chance(0.6) else rng.uniform(0.12, 0.24)
    return Camera(
        half_yaw=side * steep,
        distance=rng.uniform(8.0, 16.0),
        eye=rng.uniform(0.7, 2.5),
        faces_left=rng.chance(0.5),
        tilt=rng.uniform(-0.04, 0.04) if rng.chance(0.4) else 0.0,
    )
