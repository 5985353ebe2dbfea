"""Changed copies of a picture, as they come about when pictures wander from site to site."""

from __future__ import annotations

import io

from PIL import Image

from carbench.data.sample.film import jpeg
from carbench.data.sample.rng import Dice


def changed_copy(original: bytes, transform: str, dice: Dice) -> bytes:
    """JPEG bytes of a near duplicate; `transform` is one of planted.TRANSFORMS."""
    picture = Image.open(io.BytesIO(original)).convert("RGB")
    width, height = picture.size
    quality = dice.whole(70, 88)
    if transform == "resized":
        percent = dice.pick((62, 70, 80, 125, 140))
        size = (width * percent // 100, height * percent // 100)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    elif transform == "recompressed":
        quality = dice.whole(28, 45)
    elif transform == "cropped":
        # 2 to 5 % of each dimension go, from whichever side.
        lose_x = max(1, width * dice.whole(2, 5) // 100)
        lose_y = max(1, height * dice.whole(2, 5) // 100)
        left, top = dice.whole(0, lose_x), dice.whole(0, lose_y)
        picture = picture.crop((left, top, width - lose_x + left, height - lose_y + top))
    elif transform == "mirrored":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif transform == "recoloured":
        gains = [dice.whole(90, 114) for _ in range(3)]
        lift = dice.whole(-10, 14)
        table = [max(0, min(255, v * gain // 100 + lift)) for gain in gains for v in range(256)]
        picture = picture.point(table)
    else:
        raise ValueError(f"no transform is called {transform!r}")
    return jpeg(picture, quality)
