"""What the camera does to the scene: light, contrast, blur, grain, and the JPEG it stores."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from carbench.data.sample.colours import Light
from carbench.data.sample.rng import Dice


def expose(image: Image.Image, light: Light, rng: Dice) -> Image.Image:
    """The scene in the light of the hour, with the camera's own contrast and brightness."""
    contrast, lift = rng.whole(70, 120), rng.whole(-16, 20)
    table: list[int] = []
    for keep in light.keep:
        for value in range(256):
            lit = value * keep // 100
            table.append(max(0, min(255, (lit - 110) * contrast // 100 + 110 + lift)))
    return image.point(table)


def soften(scene: Image.Image, rng: Dice) -> Image.Image:
    """The background as a lens focused on the car sees it: blurred, in hazy air."""
    if rng.chance(0.75):
        scene = scene.filter(ImageFilter.GaussianBlur(rng.whole(6, 34) / 10))
    # Large patches of sun and shade.
    cells = (rng.whole(2, 5), rng.whole(3, 7))
    for tone, most in (((12, 14, 30), 105), ((250, 246, 232), 140)):
        veil = Image.fromarray(rng.grid(-most, most, cells).clip(0, 255).astype(np.uint8))
        scene.paste(tone, mask=veil.resize(scene.size, Image.Resampling.BICUBIC))
    haze, clear = rng.whole(120, 220), rng.whole(60, 92)
    return scene.point([(v * clear + haze * (100 - clear)) // 100 for v in range(256)] * 3)


def develop(image: Image.Image, rng: Dice) -> Image.Image:
    """Blur and grain, at the final size."""
    if rng.chance(0.3):
        image = image.filter(ImageFilter.GaussianBlur(rng.whole(4, 10) / 10))
    grain = rng.whole(0, 9)
    if grain > 2:
        width, height = image.size
        noise = rng.grid(-grain, grain, (height, width, 1))
        noisy = np.asarray(image, dtype=np.int16) + noise
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return image


def jpeg(
    image: Image.Image, quality: int, *, coarse_colour: bool = True, exif: bytes = b""
) -> bytes:
    """JPEG bytes without metadata (but for `exif`); baseline, so that a cut one cannot decode."""
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
