"""Effects of light and camera on a scene: exposure, contrast, blur, grain, JPEG compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from carbench.data.sample.colours import Light
from carbench.data.sample.rng import PortableRng


def apply_light(image: Image.Image, light: Light, rng: PortableRng) -> Image.Image:
    """Return the scene in a light, with random contrast and brightness of the camera."""
    contrast, lift = rng.integer(70, 120), rng.integer(-16, 20)
    table: list[int] = []
    for keep in light.keep:
        for value in range(256):
            lit = value * keep // 100
            table.append(max(0, min(255, (lit - 110) * contrast // 100 + 110 + lift)))
    return image.point(table)


def blur_background(scene: Image.Image, rng: PortableRng) -> Image.Image:
    """Return the background out of focus, with patches of light and haze."""
    if rng.chance(0.75):
        scene = scene.filter(ImageFilter.GaussianBlur(rng.integer(6, 34) / 10))
    # Large patches of sunlight and shadow.
    cells = (rng.integer(2, 5), rng.integer(3, 7))
    for tone, most in (((12, 14, 30), 105), ((250, 246, 232), 140)):
        veil = Image.fromarray(rng.integers(-most, most, cells).clip(0, 255).astype(np.uint8))
        scene.paste(tone, mask=veil.resize(scene.size, Image.Resampling.BICUBIC))
    haze, clear = rng.integer(120, 220), rng.integer(60, 92)
    return scene.point([(v * clear + haze * (100 - clear)) // 100 for v in range(256)] * 3)


def add_blur_and_grain(image: Image.Image, rng: PortableRng) -> Image.Image:
    """Return the image, at its final size, with blur and grain."""
    if rng.chance(0.3):
        image = image.filter(ImageFilter.GaussianBlur(rng.integer(4, 10) / 10))
    grain = rng.integer(0, 9)
    if grain > 2:
        width, height = image.size
        noise = rng.integers(-grain, grain, (height, width, 1))
        noisy = np.asarray(image, dtype=np.int16) + noise
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return image


def encode_jpeg(
    image: Image.Image, quality: int, *, coarse_colour: bool = True, exif: bytes = b""
) -> bytes:
    """Return a JPEG without metadata except `exif`; baseline, so that a truncated one is broken."""
    out = io.BytesIO()
    image.save(
        out,
        "JPEG",
        quality=quality,
        subsampling="4:2:0" if coarse_colour else "4:4:4",
        optimize=False,
        progressive=False,
        exif=exif,
    )
    return out.getvalue()
