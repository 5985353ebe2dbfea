"""Training pictures, changed at random, a batch at a time, on the device where the model is.

A random resized crop is two small matrices a picture: each output row is a weighted mean of input
rows, each output column of input columns. Applied by batched matrix products this is exact and
anti-aliased (a triangle filter, as Pillow's BILINEAR with its widened support), runs alike on CPU
and GPU, and needs no loop over pictures. Evaluation is the same operation with the whole picture
as its crop: one path for training, evaluation and service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from carbench.params.train import AugmentParams


@dataclass(frozen=True)
class Crops:
    """One box a picture in parts of its sides, and whether to mirror it; each (B,) float32/bool."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


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
        crops: a box a picture.
        size: pixels of a side of the result.

    Returns:
        (B, 3, size, size) float32 between 0 and 1, on the pixels' device.
    """
    device = pixels.device
    side = pixels.shape[1]
    rows = _weights(crops.top, crops.height, side, size).to(device)
    columns = _weights(crops.left, crops.width, side, size)
    columns = torch.where(crops.mirrored[:, None, None], columns.flip(1), columns).to(device)
    count = len(pixels)
    # (B, size, S) @ (B, S, S*3): rows first, while the channels still lie inside.
    tall = torch.bmm(rows, pixels.reshape(count, side, side * 3).float())
    tall = tall.view(count, size, side, 3).permute(0, 3, 1, 2)
    return torch.matmul(tall, columns.transpose(1, 2)[:, None]) / 255


def recolour(pictures: Tensor, params: AugmentParams, dice: torch.Generator) -> Tensor:
    """Change brightness and contrast of (B, 3, H, W) float pictures in 0..1, each by its own."""
    brightness, contrast = (2 * torch.rand(2, len(pictures), 1, 1, 1, generator=dice) - 1).to(
        pictures.device
    )
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    changed = (pictures - mean) * (1 + params.contrast * contrast)
    return torch.clamp(changed + mean * (1 + params.brightness * brightness), 0, 1)


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


def _weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side): the share of each input line in each output line.

    Output line i looks at the input position ``(start + length * (i + 0.5) / size) * side - 0.5``
    through a triangle as wide as one output line (at least one input line); shares sum to one.
    """
    step = length * side / size
    centre = start[:, None] * side + step[:, None] * (torch.arange(size) + 0.5) - 0.5
    reach = step.clamp(min=1)[:, None, None]
    away = (torch.arange(side) - centre[:, :, None]).abs() / reach
    shares: Tensor = (1 - away).clamp(min=0)
    return torch.div(shares, shares.sum(dim=2, keepdim=True))
