"""What a phone camera does to an image: a fixed set of corruptions, each at one strength.

They change the packed images (B, S, S, 3) uint8 and return the same shape and type. Strengths are
parts of an image's side, so that they mean the same at 48 and at 224 pixels; nothing is drawn at
random. docs/evaluation.md shows what each one does.
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

# Standard deviation of the blur: this part of the side.
BLUR = 0.015
# Of libjpeg's scale from 1 to 100.
JPEG_QUALITY = 15
# Smaller images are compressed at this side: JPEG's blocks are 8 pixels, whatever the image.
JPEG_SIDE = 224
# Pixel values are multiplied by this: three stops, as 0.4 ** 2.2 is about 1/8 of the light.
DARKNESS = 0.4
# What is left of both sides; the top and the left are lost.
CROP = 0.8


class CorruptedImages:
    """Packed images as they look after a corruption."""

    def __init__(self, images: PackedImages, corruption: Corruption) -> None:
        self._images = images
        self._corrupt = CORRUPTIONS[corruption]

    def __len__(self) -> int:
        return len(self._images)

    def whole_images(self, indices: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield whole corrupted images, a batch at a time: (B, 3, size, size) in 0..1."""
        for pixels in self._images.batches(indices):
            yield resample(self._corrupt(pixels), full_crops(len(pixels)), size)


def blur(pixels: Tensor) -> Tensor:
    """A lens out of focus: a Gaussian with a standard deviation of ``BLUR`` of the side."""
    lens = ImageFilter.GaussianBlur(BLUR * pixels.shape[1])
    return _each(pixels, lambda image: image.filter(lens))


def compress(pixels: Tensor) -> Tensor:
    """A messenger's JPEG of quality ``JPEG_QUALITY``, at no fewer than ``JPEG_SIDE`` pixels."""
    own = pixels.shape[1]

    def send(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        large = resize(image, max(own, JPEG_SIDE), "squash")
        large.save(file, "JPEG", quality=JPEG_QUALITY)
        return resize(Image.open(file), own, "squash")

    return _each(pixels, send)


def darken(pixels: Tensor) -> Tensor:
    """Too little light: every value times ``DARKNESS``."""
    return (pixels * DARKNESS).round().to(torch.uint8)


def crop(pixels: Tensor) -> Tensor:
    """The car off the centre: ``CROP`` of both sides from the lower right, enlarged."""
    count, side = pixels.shape[:2]
    start, length = torch.full((count,), 1 - CROP), torch.full((count,), CROP)
    box = Crops(start, start, length, length, torch.zeros(count, dtype=torch.bool))
    shown = (255 * resample(pixels, box, side)).round().clamp(0, 255)
    return shown.to(torch.uint8).permute(0, 2, 3, 1)


def mirror(pixels: Tensor) -> Tensor:
    """A front camera: left and right change places."""
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
