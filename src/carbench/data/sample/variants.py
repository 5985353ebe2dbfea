"""Changed copies of an image, as they come about when images wander from site to site."""

from __future__ import annotations

import io

from PIL import Image

from carbench.data.sample.film import jpeg
from carbench.data.sample.rng import Dice


def changed_copy(original: bytes, transform: str, rng: Dice) -> bytes:
    """JPEG bytes of a near duplicate; `transform` is one of planted.TRANSFORMS."""
    image = Image.open(io.BytesIO(original)).convert("RGB")
    width, height = image.size
    quality = rng.whole(70, 88)
    if transform == "resized":
        percent = rng.pick((62, 70, 80, 125, 140))
        size = (width * percent // 100, height * percent // 100)
        image = image.resize(size, Image.Resampling.BICUBIC)
    elif transform == "recompressed":
        quality = rng.whole(28, 45)
    elif transform == "cropped":
        # 2 to 5 % of each dimension go, from whichever side.
        lose_x = max(1, width * rng.whole(2, 5) // 100)
        lose_y = max(1, height * rng.whole(2, 5) // 100)
        left, top = rng.whole(0, lose_x), rng.whole(0, lose_y)
        image = image.crop((left, top, width - lose_x + left, height - lose_y + top))
    elif transform == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif transform == "recoloured":
        gains = [rng.whole(90, 114) for _ in range(3)]
        lift = rng.whole(-10, 14)
        table = [max(0, min(255, v * gain // 100 + lift)) for gain in gains for v in range(256)]
        image = image.point(table)
    else:
        raise ValueError(f"no transform is called {transform!r}")
    return jpeg(image, quality)
