"""Random augmentation of whole batches, on the device of the model.

:func:`draw_augmentation` draws everything random of an epoch at once, :func:`augment` applies it to
a batch.

A random resized crop is two small matrices per image: each output row is a weighted mean of input
rows, each output column of input columns. Applied as batched matrix products this is exact and
anti-aliased (a triangle filter, as Pillow's BILINEAR with its widened support), the same on CPU
and GPU, and needs no loop over images. Evaluation is the same operation with the whole image as
its crop: one code path for training, evaluation and serving.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from carbench.params.train import AugmentParams

# Of random erasing, as its authors found best.
ERASED_AREA = (0.02, 0.33)
ERASED_STRETCH = 3.0


class PerImage:
    """Fields of tensors (N, ...), a row per image."""

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """Return the same on a device."""
        return type(self)(
            *(part.to(device, non_blocking=non_blocking) for part in vars(self).values())
        )

    def split(self, size: int) -> list[Self]:
        """Return the rows of each batch."""
        parts = [part.split(size) for part in vars(self).values()]
        return [type(self)(*each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Crops(PerImage):
    """One box an image in parts of its sides, and whether to mirror it; each (N,) float32/bool."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Colours(PerImage):
    """By which part to change brightness and contrast; each (N,) float32."""

    brightness: Tensor
    contrast: Tensor


@dataclass(frozen=True)
class Patches(PerImage):
    """One box an image to paint over: where and how large in parts of its sides, RGB in 0..1.

    Each (N,) float32, the colour (N, 3). Nothing is painted where the height is 0.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    colour: Tensor


@dataclass(frozen=True)
class Mixing(PerImage):
    """What each image is mixed with: its own share (N,) float32, and the other image's index
    within the batch (N,) int64.
    """

    share: Tensor
    other: Tensor


@dataclass(frozen=True)
class Augmentation(PerImage):
    """Everything random that is done to N images."""

    crops: Crops
    colours: Colours
    patches: Patches
    mixing: Mixing


def draw_augmentation(
    count: int, batch_size: int, params: AugmentParams, rng: torch.Generator
) -> Augmentation:
    """Draw what is done to ``count`` images, in batches of ``batch_size`` (mixup stays in one)."""
    return Augmentation(
        draw_crops(count, params, rng),
        draw_colours(count, params, rng),
        draw_patches(count, params.erase, rng),
        draw_mixing(count, batch_size, params.mixup, rng),
    )


def augment(
    pixels: Tensor, targets: Tensor, drawn: Augmentation, params: AugmentParams, size: int
) -> tuple[Tensor, Tensor]:
    """Apply what was drawn for a batch.

    Args:
        pixels: (B, S, S, 3) uint8.
        targets: (B,) int64 class indices; with mixup (B, classes) float32 that sum to one.
        drawn: for this batch, on the same device.
        params: the recipe's augmentation.
        size: pixels of a side of the result.

    Returns:
        Images (B, 3, size, size) float32 in 0..1, and their targets.
    """
    images = recolour(resample(pixels, drawn.crops, size), drawn.colours)
    if params.erase:
        images = erase(images, drawn.patches)
    if params.mixup:
        images, targets = mix(images, targets, drawn.mixing)
    return images, targets


def whole(count: int, device: torch.device | None = None) -> Crops:
    """Return crops that keep the whole image, on the CPU or on ``device``."""
    zero, one = torch.zeros(count, device=device), torch.ones(count, device=device)
    return Crops(zero, zero, one, one, torch.zeros(count, dtype=torch.bool, device=device))


def draw_crops(count: int, params: AugmentParams, rng: torch.Generator) -> Crops:
    """Draw boxes: area uniform in [min_area, 1], shape log-uniform within max_stretch."""
    area, shape, vertical, horizontal, coin = torch.rand(5, count, generator=rng)
    area = params.min_area + (1 - params.min_area) * area
    stretch = torch.exp((2 * shape - 1) * torch.tensor(params.max_stretch).log() / 2)
    height = (area.sqrt() * stretch).clamp(max=1)
    width = (area.sqrt() / stretch).clamp(max=1)
    mirrored = (coin < 0.5) & params.flip
    return Crops(vertical * (1 - height), horizontal * (1 - width), height, width, mirrored)


def resample(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut each image's box and resize it.

    Args:
        pixels: (B, S, S, 3) uint8.
        crops: a box an image, on any device.
        size: pixels of a side of the result.

    Returns:
        (B, 3, size, size) float32 in 0..1, up to rounding, on the pixels' device.
    """
    count, side = pixels.shape[:2]
    crops = crops.to(pixels.device)
    # Both directions at once: operations this small cost as much to start as to do.
    shares = line_shares(
        torch.cat([crops.top, crops.left]), torch.cat([crops.height, crops.width]), side, size
    )
    rows, columns = shares.split(count)
    columns = torch.where(crops.mirrored[:, None, None], columns.flip(1), columns)
    # (B, size, S) @ (B, S, S*3): rows first, while the channels still lie inside; then the columns
    # of all channels in one product an image, which is several times faster than broadcasting.
    tall = torch.bmm(rows, pixels.reshape(count, side, side * 3).float())
    planes = tall.view(count, size, side, 3).permute(0, 3, 1, 2).reshape(count, 3 * size, side)
    return torch.bmm(planes, columns.transpose(1, 2)).view(count, 3, size, size)


def draw_colours(count: int, params: AugmentParams, rng: torch.Generator) -> Colours:
    """Draw changes uniform in ± ``brightness`` and ± ``contrast``."""
    brightness, contrast = 2 * torch.rand(2, count, generator=rng) - 1
    return Colours(params.brightness * brightness, params.contrast * contrast)


def recolour(images: Tensor, colours: Colours) -> Tensor:
    """Change brightness and contrast of (B, 3, H, W) float images in 0..1, each by its own."""
    brightness = colours.brightness[:, None, None, None]
    contrast = colours.contrast[:, None, None, None]
    # (images - mean) * (1 + contrast) + mean * (1 + brightness), in one pass.
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean * (brightness - contrast), images, 1 + contrast).clamp_(0, 1)


def draw_patches(count: int, chance: float, rng: torch.Generator) -> Patches:
    """Draw what random erasing paints (Zhong et al., "Random Erasing Data Augmentation", 2020).

    Over each image with probability ``chance``: an area uniform in 2 to 33 % of it, its shape
    log-uniform between 1 : 3 and 3 : 1, in a colour drawn from RGB.
    """
    coin, area, shape, vertical, horizontal, *colour = torch.rand(8, count, generator=rng)
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area
    stretch = torch.exp((2 * shape - 1) * math.log(ERASED_STRETCH) / 2)
    height = torch.where(coin < chance, area.sqrt() * stretch, 0)
    width = area.sqrt() / stretch
    top, left = vertical * (1 - height), horizontal * (1 - width)
    return Patches(top, left, height, width, torch.stack(colour, dim=1))


def erase(images: Tensor, patches: Patches) -> Tensor:
    """Paint the boxes over (B, 3, H, W) images."""
    inside = _band(patches.top, patches.height, images.shape[2])[:, None, :, None]
    inside = inside & _band(patches.left, patches.width, images.shape[3])[:, None, None, :]
    return torch.where(inside, patches.colour[:, :, None, None], images)


def draw_mixing(count: int, batch_size: int, alpha: float, rng: torch.Generator) -> Mixing:
    """Draw what mixup lays over what (Zhang et al., "mixup: Beyond Empirical Risk Minimization",
    2018).

    The shares are from Beta(alpha, alpha), one an image: the smaller alpha, the more often nearly
    all of one image. The others are a permutation of each batch. Where alpha is 0 nothing is
    drawn, and each image keeps all of itself.

    Args:
        count: images of whole batches, or of one smaller batch.
        batch_size: images of a batch.
        alpha: 0 or above.
        rng: source of randomness.
    """
    if not alpha:
        return Mixing(torch.ones(count), torch.arange(count) % batch_size)
    # torch draws no Beta from a generator of one's own.
    seed = int(torch.randint(2**62, (), generator=rng))
    shares = np.random.default_rng(seed).beta(alpha, alpha, count).astype(np.float32)
    batches = torch.ones(count).split(batch_size)
    others = [torch.randperm(len(batch), generator=rng) for batch in batches]
    return Mixing(torch.from_numpy(shares), torch.cat(others))


def mix(images: Tensor, targets: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """Lay each image and its target over another of the batch (mixup).

    Args:
        images: (B, 3, H, W) float32.
        targets: (B, classes) float32, rows sum to one.
        mixing: of this batch, on the same device.

    Returns:
        Images and targets of the same shapes.
    """
    share = mixing.share[:, None]
    other_images, other_targets = (each.index_select(0, mixing.other) for each in (images, targets))
    mixed = torch.lerp(other_images, images, share[:, :, None, None])
    return mixed, torch.lerp(other_targets, targets, share)


def _band(start: Tensor, length: Tensor, side: int) -> Tensor:
    """Return (B, side) bool: lines whose middle lies in a part of the side."""
    line = (torch.arange(side, device=start.device) + 0.5) / side
    return (line >= start[:, None]) & (line < (start + length)[:, None])


def line_shares(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side): the share of each input line in each output line.

    Output line i looks at the input position ``(start + length * (i + 0.5) / size) * side - 0.5``
    through a triangle as wide as one output line (at least one input line). Shares sum to the
    square root of 1/255: applied in both directions they bring 0..255 to 0..1.
    """
    step = length * side / size
    outputs, inputs = (torch.arange(count, device=start.device) for count in (size, side))
    centre = start[:, None] * side + step[:, None] * (outputs + 0.5) - 0.5
    reach = step.clamp(min=1)[:, None, None]
    shares = (inputs - centre[:, :, None]).abs_().div_(reach).neg_().add_(1).clamp_(min=0)
    return shares.div_(shares.sum(dim=2, keepdim=True) * math.sqrt(255))
