"""Training pictures, changed at random, a batch at a time, on the device where the model is.

A random resized crop is two small matrices a picture: each output row is a weighted mean of input
rows, each output column of input columns. Applied by batched matrix products this is exact and
anti-aliased (a triangle filter, as Pillow's BILINEAR with its widened support), runs alike on CPU
and GPU, and needs no loop over pictures. Evaluation is the same operation with the whole picture
as its crop: one path for training, evaluation and service.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from carbench.params.train import AugmentParams

# Of random erasing, as its authors found best.
ERASED_AREA = (0.02, 0.33)
ERASED_STRETCH = 3.0


@dataclass(frozen=True)
class Crops:
    """One box a picture in parts of its sides, and whether to mirror it; each (B,) float32/bool."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> Crops:
        """Return the same boxes on a device: a few bytes a picture, what follows is made there."""
        return Crops(*(part.to(device, non_blocking=True) for part in vars(self).values()))


def whole(count: int) -> Crops:
    """Return crops that keep the whole picture."""
    zero, one = torch.zeros(count), torch.ones(count)
    return Crops(zero, zero, one, one, torch.zeros(count, dtype=torch.bool))


def draw_crops(count: int, params: AugmentParams, dice: torch.Generator) -> Crops:
    """Draw boxes: area uniform in [min_area, 1], shape log-uniform within max_stretch."""
    area, shape, vertical, horizontal, coin = torch.rand(5, count, generator=dice)
    area = params.min_area + (1 - params.min_area) * area
    stretch = torch.exp((2 * shape - 1) * torch.tensor(params.max_stretch).log() / 2)
    height = (area.sqrt() * stretch).clamp(max=1)
    width = (area.sqrt() / stretch).clamp(max=1)
    mirrored = (coin < 0.5) & params.flip
    return Crops(vertical * (1 - height), horizontal * (1 - width), height, width, mirrored)


def resample(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut each picture's box and resize it.

    Args:
        pixels: (B, S, S, 3) uint8.
        crops: a box a picture, on any device.
        size: pixels of a side of the result.

    Returns:
        (B, 3, size, size) float32 between 0 and 1, on the pixels' device.
    """
    count, side = pixels.shape[:2]
    crops = crops.to(pixels.device)
    rows = _weights(crops.top, crops.height, side, size) / 255
    columns = _weights(crops.left, crops.width, side, size)
    columns = torch.where(crops.mirrored[:, None, None], columns.flip(1), columns)
    # (B, size, S) @ (B, S, S*3): rows first, while the channels still lie inside; then the columns
    # of all channels in one product a picture, which is several times faster than broadcasting.
    tall = torch.bmm(rows, pixels.reshape(count, side, side * 3).float())
    planes = tall.view(count, size, side, 3).permute(0, 3, 1, 2).reshape(count, 3 * size, side)
    return torch.bmm(planes, columns.transpose(1, 2)).view(count, 3, size, size)


def recolour(pictures: Tensor, params: AugmentParams, dice: torch.Generator) -> Tensor:
    """Change brightness and contrast of (B, 3, H, W) float pictures in 0..1, each by its own."""
    brightness, contrast = (2 * torch.rand(2, len(pictures), 1, 1, 1, generator=dice) - 1).to(
        pictures.device, non_blocking=True
    )
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    changed = (pictures - mean) * (1 + params.contrast * contrast)
    return torch.clamp(changed + mean * (1 + params.brightness * brightness), 0, 1)


def erase(pictures: Tensor, chance: float, dice: torch.Generator) -> Tensor:
    """Paint a box of one colour over some pictures (Zhong et al., "Random Erasing", 2020).

    Of each picture with probability ``chance``: an area uniform in 2 to 33 % of it, its shape
    log-uniform between 1 : 3 and 3 : 1, cut off at the edges, in a colour drawn from RGB.

    Args:
        pictures: (B, 3, H, W) float32 in 0..1.
        chance: between 0 and 1.
        dice: where chance is from.

    Returns:
        Pictures of the same shape.
    """
    count, _, height, width = pictures.shape
    drawn = torch.rand(8, count, generator=dice).to(pictures.device, non_blocking=True)
    coin, area, shape, vertical, horizontal = drawn[:5]
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area
    stretch = torch.exp((2 * shape - 1) * math.log(ERASED_STRETCH) / 2)
    inside = _band(vertical, area.sqrt() * stretch, height)[:, None, :, None]
    inside = inside & _band(horizontal, area.sqrt() / stretch, width)[:, None, None, :]
    inside = inside & (coin < chance)[:, None, None, None]
    return torch.where(inside, drawn[5:].T[:, :, None, None], pictures)


def mix(
    pictures: Tensor, targets: Tensor, alpha: float, dice: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lay each picture and its target over another of the batch (mixup).

    The shares are drawn from Beta(alpha, alpha), one a picture: the smaller alpha, the more often
    nearly all of one picture (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018).

    Args:
        pictures: (B, 3, H, W) float32.
        targets: (B, classes) float32, rows sum to one.
        alpha: above 0.
        dice: where chance is from.

    Returns:
        Pictures and targets of the same shapes.
    """
    count = len(pictures)
    # torch draws no Beta from a generator of one's own.
    seed = int(torch.randint(2**62, (), generator=dice))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, count).astype(np.float32)
    share = torch.from_numpy(drawn).to(pictures.device)[:, None]
    other = torch.randperm(count, generator=dice).to(pictures.device)
    mixed = torch.lerp(pictures[other], pictures, share[:, :, None, None])
    return mixed, torch.lerp(targets[other], targets, share)


def _band(place: Tensor, length: Tensor, side: int) -> Tensor:
    """Return (B, side) bool: lines of a band that is ``length`` of the side, somewhere on it."""
    length = length.clamp(max=1)
    start = (place * (1 - length))[:, None]
    line = (torch.arange(side, device=place.device) + 0.5) / side
    return (line >= start) & (line < start + length[:, None])


def _weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side): the share of each input line in each output line.

    Output line i looks at the input position ``(start + length * (i + 0.5) / size) * side - 0.5``
    through a triangle as wide as one output line (at least one input line); shares sum to one.
    """
    step = length * side / size
    outputs, inputs = (torch.arange(count, device=start.device) for count in (size, side))
    centre = start[:, None] * side + step[:, None] * (outputs + 0.5) - 0.5
    reach = step.clamp(min=1)[:, None, None]
    away = (inputs - centre[:, :, None]).abs() / reach
    shares: Tensor = (1 - away).clamp(min=0)
    return torch.div(shares, shares.sum(dim=2, keepdim=True))
