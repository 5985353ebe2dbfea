"""Makes near copies of an image, such as arise when images are republished."""

from __future__ import annotations

import io

from PIL import Image

from carbench.data.sample.camera_effects import encode_jpeg
from carbench.data.sample.rng import PortableRng


def make_near_copy(original: bytes, transform: str, rng: PortableRng) -> bytes:
    """Return a near copy as JPEG; `transform` is one of :data:`faults.TRANSFORMS`."""
    image = Image.open(io.BytesIO(original)).convert("RGB")
    width, height = image.size
    quality = rng.integer(70, 88)
    if transform == "resized":
        percent = rng.choice((62, 70, 80, 125, 140))
        size = (width * percent // 100, height * percent // 100)
        image = image.resize(size, Image.Resampling.BICUBIC)
    elif transform == "recompressed":
        quality = rng.integer(28, 45)
    elif transform == "cropped":
        # 2 to 5 % of each side, at a random position.
        lose_x = max(1, width * rng.integer(2, 5) // 100)
        lose_y = max(1, height * rng.integer(2, 5) // 100)
        left, top = rng.integer(0, lose_x), rng.integer(0, lose_y)
        image = image.crop((left, top, width - lose_x + left, height - lose_y + top))
    elif transform == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif transform == "recoloured":
        gains = [rng.integer(90, 114) for _ in range(3)]
        lift = rng.integer(-10, 14)
        table = [max(0, min(255, v * gain // 100 + lift)) for gain in gains for v in range(256)]
        image = image.point(table)
    else:
        raise ValueError(f"no transform is called {transform!r}")
    return encode_jpeg(image, quality)
