"""Image corruptions that imitate those of a phone camera, each at one strength.

They map packed images, (B, S, S, 3) uint8, to the same shape and type. Lengths are relative to the
side of an image, so that strengths are comparable at 48 and at 224 pixels; nothing is random.
docs/evaluation.md shows the effect of each.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from carbench.data.images.decoding import resize
from carbench.data.loading.augment import Crops, full_crops, resample
from carbench.data.loading.batches import PackedImages
from carbench.params.evaluate import Corruption

# Standard deviation of the blur, relative to the side.
BLUR = 0.015
# On libjpeg's scale from 1 to 100.
JPEG_QUALITY = 15
# Smaller images are enlarged to this side for compression, as JPEG blocks always have 8 pixels.
JPEG_SIDE = 224
# Factor of pixel values: three stops, as 0.4 ** 2.2 is about 1/8 of the light.
DARKNESS = 0.4
# Fraction of both sides that remains; the top and the left are cut off.
CROP = 0.8


class CorruptedImages:
    """Packed images with a corruption applied."""

    def __init__(self, images: PackedImages, corruption: Corruption) -> None:
        self._images = images
        self._corrupt = CORRUPTIONS[corruption]

    def __len__(self) -> int:
        return len(self._images)

    def whole_images(self, indices: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield batches of whole corrupted images, (B, 3, size, size), in 0..1."""
        for pixels in self._images.batches(indices):
            yield resample(self._corrupt(pixels), full_crops(len(pixels)), size)


def blur(pixels: Tensor) -> Tensor:
    """Blur as by a lens out of focus: a Gaussian with standard deviation ``BLUR``."""
    lens = ImageFilter.GaussianBlur(BLUR * pixels.shape[1])
    return _each(pixels, lambda image: image.filter(lens))


def compress(pixels: Tensor) -> Tensor:
    """Compress as JPEG of quality ``JPEG_QUALITY``, as messaging apps do."""
    own = pixels.shape[1]

    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        large = resize(image, max(own, JPEG_SIDE), "squash")
        large.save(file, "JPEG", quality=JPEG_QUALITY)
        return resize(Image.open(file), own, "squash")

    return _each(pixels, compressed)


def darken(pixels: Tensor) -> Tensor:
    """Darken as in too little light: multiply all values by ``DARKNESS``."""
    return (pixels * DARKNESS).round().to(torch.uint8)


def crop(pixels: Tensor) -> Tensor:
    """Crop to ``CROP`` of both sides at the lower right and enlarge: the car is off-centre."""
    count, side = pixels.shape[:2]
    start, length = torch.full((count,), 1 - CROP), torch.full((count,), CROP)
    box = Crops(start, start, length, length, torch.zeros(count, dtype=torch.bool))
    shown = (255 * resample(pixels, box, side)).round().clamp(0, 255)
    return shown.to(torch.uint8).permute(0, 2, 3, 1)


def mirror(pixels: Tensor) -> Tensor:
    """Swap left and right, as front cameras do."""
    return pixels.flip(2)


CORRUPTIONS: Mapping[Corruption, Callable[[Tensor], Tensor]] = {
    "blur": blur,
    "jpeg": compress,
    "dark": darken,
    "crop": crop,
    "mirror": mirror,
}


def _each(pixels: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    changed = [np.asarray(change(Image.fromarray(each))) for each in pixels.cpu().numpy()]
    return torch.from_numpy(np.stack(changed)).to(pixels.device)
