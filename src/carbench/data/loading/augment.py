"""Random augmentation of whole batches, on the device of the model.

:func:`draw_augmentation` draws all random parameters of an epoch at once, :func:`augment` applies
them to a batch.

A random resized crop is computed with two small matrices per image: each output row is a weighted
mean of input rows, each output column of input columns. These batched matrix products are
anti-aliased (a triangle filter with widened support, as Pillow's BILINEAR), give the same result on
CPU and GPU, and need no loop over images. Evaluation is the same operation with the whole image as
the crop: training, evaluation and serving share one code path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from carbench.params.train import AugmentParams

# Parameters of random erasing, as recommended by its authors.
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = 3.0


class PerImageTensors:
    """Base of dataclasses whose fields are tensors (N, ...), one row per image."""

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """Return a copy on a device."""
        return type(self)(
            *(part.to(device, non_blocking=non_blocking) for part in vars(self).values())
        )

    def split(self, size: int) -> list[Self]:
        """Split into batches."""
        parts = [part.split(size) for part in vars(self).values()]
        return [type(self)(*each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Crops(PerImageTensors):
    """One crop box per image, as fractions of its sides, and whether it is mirrored; each (N,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class ColourJitter(PerImageTensors):
    """Relative changes of brightness and contrast; each (N,) float32."""

    brightness: Tensor
    contrast: Tensor


@dataclass(frozen=True)
class ErasedBoxes(PerImageTensors):
    """One box per image to erase, as fractions of its sides, and its RGB colour in 0..1.

    Each (N,) float32, the colour (N, 3). Nothing is erased where the height is 0.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    colour: Tensor


@dataclass(frozen=True)
class MixupPairs(PerImageTensors):
    """Mixup parameters: the weight of each image (N,) float32, and the index of the other image
    within the batch (N,) int64.
    """

    weight: Tensor
    other: Tensor


@dataclass(frozen=True)
class Augmentation(PerImageTensors):
    """All random parameters of the augmentation of N images."""

    crops: Crops
    jitter: ColourJitter
    erased: ErasedBoxes
    mixup: MixupPairs


def draw_augmentation(
    count: int, batch_size: int, params: AugmentParams, rng: torch.Generator
) -> Augmentation:
    """Draw the augmentation of ``count`` images; mixup stays within batches of ``batch_size``."""
    return Augmentation(
        draw_crops(count, params, rng),
        draw_jitter(count, params, rng),
        draw_erased_boxes(count, params.erase, rng),
        draw_mixup(count, batch_size, params.mixup, rng),
    )


def augment(
    pixels: Tensor, targets: Tensor, drawn: Augmentation, params: AugmentParams, size: int
) -> tuple[Tensor, Tensor]:
    """Apply an augmentation to a batch.

    Args:
        pixels: (B, S, S, 3) uint8.
        targets: (B,) int64 class indices; with mixup (B, classes) float32 that sum to one.
        drawn: the augmentation of this batch, on the same device.
        params: augmentation parameters of the recipe.
        size: side length of the result in pixels.

    Returns:
        Images (B, 3, size, size) float32 in 0..1, and their targets.
    """
    images = jitter_colours(resample(pixels, drawn.crops, size), drawn.jitter)
    if params.erase:
        images = erase(images, drawn.erased)
    if params.mixup:
        images, targets = mixup(images, targets, drawn.mixup)
    return images, targets


def full_crops(count: int, device: torch.device | None = None) -> Crops:
    """Return crops of whole images, on the CPU or on ``device``."""
    zero, one = torch.zeros(count, device=device), torch.ones(count, device=device)
    return Crops(zero, zero, one, one, torch.zeros(count, dtype=torch.bool, device=device))


def draw_crops(count: int, params: AugmentParams, rng: torch.Generator) -> Crops:
    """Draw crops: area uniform in [min_area, 1], aspect ratio log-uniform within max_stretch."""
    area, shape, vertical, horizontal, coin = torch.rand(5, count, generator=rng)
    area = params.min_area + (1 - params.min_area) * area
    stretch = torch.exp((2 * shape - 1) * torch.tensor(params.max_stretch).log() / 2)
    height = (area.sqrt() * stretch).clamp(max=1)
    width = (area.sqrt() / stretch).clamp(max=1)
    mirrored = (coin < 0.5) & params.flip
    return Crops(vertical * (1 - height), horizontal * (1 - width), height, width, mirrored)


def resample(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Crop and resize images.

    Args:
        pixels: (B, S, S, 3) uint8.
        crops: one crop per image, on any device.
        size: side length of the result in pixels.

    Returns:
        (B, 3, size, size) float32 in 0..1, up to rounding, on the pixels' device.
    """
    count, side = pixels.shape[:2]
    crops = crops.to(pixels.device)
    # Both directions at once: for such small operations, launching them takes most of the time.
    weights = resize_weights(
        torch.cat([crops.top, crops.left]), torch.cat([crops.height, crops.width]), side, size
    )
    rows, columns = weights.split(count)
    columns = torch.where(crops.mirrored[:, None, None], columns.flip(1), columns)
    # (B, size, S) @ (B, S, S*3): rows first, with interleaved channels; then the columns of all
    # channels in one product per image, several times faster than broadcasting.
    tall = torch.bmm(rows, pixels.reshape(count, side, side * 3).float())
    planes = tall.view(count, size, side, 3).permute(0, 3, 1, 2).reshape(count, 3 * size, side)
    return torch.bmm(planes, columns.transpose(1, 2)).view(count, 3, size, size)


def draw_jitter(count: int, params: AugmentParams, rng: torch.Generator) -> ColourJitter:
    """Draw changes uniform in ± ``brightness`` and ± ``contrast``."""
    brightness, contrast = 2 * torch.rand(2, count, generator=rng) - 1
    return ColourJitter(params.brightness * brightness, params.contrast * contrast)


def jitter_colours(images: Tensor, jitter: ColourJitter) -> Tensor:
    """Change brightness and contrast of (B, 3, H, W) float images in 0..1."""
    brightness = jitter.brightness[:, None, None, None]
    contrast = jitter.contrast[:, None, None, None]
    # (images - mean) * (1 + contrast) + mean * (1 + brightness), in one pass.
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean * (brightness - contrast), images, 1 + contrast).clamp_(0, 1)


def draw_erased_boxes(count: int, chance: float, rng: torch.Generator) -> ErasedBoxes:
    """Draw boxes for random erasing (Zhong et al., "Random Erasing Data Augmentation", 2020).

    In each image with probability ``chance``: the area is uniform in 2 to 33 % of the image, the
    aspect ratio log-uniform between 1 : 3 and 3 : 1, the colour uniform in RGB.
    """
    coin, area, shape, vertical, horizontal, *colour = torch.rand(8, count, generator=rng)
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area
    stretch = torch.exp((2 * shape - 1) * math.log(ERASED_ASPECT) / 2)
    height = torch.where(coin < chance, area.sqrt() * stretch, 0)
    width = area.sqrt() / stretch
    top, left = vertical * (1 - height), horizontal * (1 - width)
    return ErasedBoxes(top, left, height, width, torch.stack(colour, dim=1))


def erase(images: Tensor, boxes: ErasedBoxes) -> Tensor:
    """Erase the boxes in (B, 3, H, W) images."""
    inside = _inside(boxes.top, boxes.height, images.shape[2])[:, None, :, None]
    inside = inside & _inside(boxes.left, boxes.width, images.shape[3])[:, None, None, :]
    return torch.where(inside, boxes.colour[:, :, None, None], images)


def draw_mixup(count: int, batch_size: int, alpha: float, rng: torch.Generator) -> MixupPairs:
    """Draw mixup pairs (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018).

    The weights are from Beta(alpha, alpha), one per image: the smaller alpha, the closer they are
    to 0 or 1. The other images are a permutation of each batch. If alpha is 0, nothing is drawn,
    and all weights are 1.

    Args:
        count: number of images, of whole batches or of one smaller batch.
        batch_size: images per batch.
        alpha: 0 or above.
        rng: source of randomness.
    """
    if not alpha:
        return MixupPairs(torch.ones(count), torch.arange(count) % batch_size)
    # torch cannot draw from a Beta distribution with a given generator.
    seed = int(torch.randint(2**62, (), generator=rng))
    weights = np.random.default_rng(seed).beta(alpha, alpha, count).astype(np.float32)
    batches = torch.ones(count).split(batch_size)
    others = [torch.randperm(len(batch), generator=rng) for batch in batches]
    return MixupPairs(torch.from_numpy(weights), torch.cat(others))


def mixup(images: Tensor, targets: Tensor, pairs: MixupPairs) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with another of the batch.

    Args:
        images: (B, 3, H, W) float32.
        targets: (B, classes) float32, rows sum to one.
        pairs: mixup pairs of this batch, on the same device.

    Returns:
        Images and targets of the same shapes.
    """
    weight = pairs.weight[:, None]
    other_images, other_targets = (each.index_select(0, pairs.other) for each in (images, targets))
    mixed = torch.lerp(other_images, images, weight[:, :, None, None])
    return mixed, torch.lerp(other_targets, targets, weight)


def _inside(start: Tensor, length: Tensor, side: int) -> Tensor:
    """Return (B, side) bool: lines whose centre is within a fraction of the side."""
    line = (torch.arange(side, device=start.device) + 0.5) / side
    return (line >= start[:, None]) & (line < (start + length)[:, None])


def resize_weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side): the weight of each input line in each output line.

    Output line i is centred at the input position ``(start + length * (i + 0.5) / size) * side -
    0.5``, with a triangle filter as wide as one output line (at least one input line). Weights sum
    to the square root of 1/255: applied in both directions, they scale 0..255 to 0..1.
    """
    step = length * side / size
    outputs, inputs = (torch.arange(count, device=start.device) for count in (size, side))
    centre = start[:, None] * side + step[:, None] * (outputs + 0.5) - 0.5
    reach = step.clamp(min=1)[:, None, None]
    weights = (inputs - centre[:, :, None]).abs_().div_(reach).neg_().add_(1).clamp_(min=0)
    return weights.div_(weights.sum(dim=2, keepdim=True) * math.sqrt(255))
