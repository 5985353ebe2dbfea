"""What the camera does to the scene: light, contrast, blur, grain, and the JPEG it stores."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from carbench.data.sample.colours import Light
from carbench.data.sample.rng import Dice


def expose(picture: Image.Image, light: Light, dice: Dice) -> Image.Image:
    """The scene in the light of the hour, with the camera's own contrast and brightness."""
    contrast, lift = dice.whole(70, 120), dice.whole(-16, 20)
    table: list[int] = []
    for keep in light.keep:
        for value in range(256):
            lit = value * keep // 100
            table.append(max(0, min(255, (lit - 110) * contrast // 100 + 110 + lift)))
    return picture.point(table)


def soften(scene: Image.Image, dice: Dice) -> Image.Image:
    """The background as a lens focused on the car sees it: blurred, in hazy air."""
    if dice.chance(0.75):
        scene = scene.filter(ImageFilter.GaussianBlur(dice.whole(6, 34) / 10))
    # Large patches of sun and shade.
    cells = (dice.whole(2, 5), dice.whole(3, 7))
    for tone, most in (((12, 14, 30), 105), ((250, 246, 232), 140)):
        veil = Image.fromarray(dice.grid(-most, most, cells).clip(0, 255).astype(np.uint8))
        scene.paste(tone, mask=veil.resize(scene.size, Image.Resampling.BICUBIC))
    haze, clear = dice.whole(120, 220), dice.whole(60, 92)
    return scene.point([(v * clear + haze * (100 - clear)) // 100 for v in range(256)] * 3)


def develop(picture: Image.Image, dice: Dice) -> Image.Image:
    """Blur and grain, at the final size."""
    if dice.chance(0.3):
        picture = picture.filter(ImageFilter.GaussianBlur(dice.whole(4, 10) / 10))
    grain = dice.whole(0, 9)
    if grain > 2:
        width, height = picture.size
        noise = dice.grid(-grain, grain, (height, width, 1))
        noisy = np.asarray(picture, dtype=np.int16) + noise
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return picture


def jpeg(
    picture: Image.Image, quality: int, *, coarse_colour: bool = True, exif: bytes = b""
) -> bytes:
    """JPEG bytes without metadata (but for `exif`); baseline, so that a cut one cannot decode."""
    out = io.BytesIO()
    picture.save(
        out,
        "JPEG",
        quality=quality,
        subsampling="4:2:0" if coarse_colour else "4:4:4",
        optimize=False,
        progressive=False,
        exif=exif,
    )
    return out.getvalue()
