"""Predicts pictures without changing them: for choosing an epoch, and for judging."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from carbench.pictures.packed import Normalizer


class Pictures(Protocol):
    """What can be predicted: packed pictures, as they are or changed."""

    def __len__(self) -> int: ...

    def upright(self, indices: Tensor, size: int) -> Tensor:
        """Return whole pictures (B, 3, size, size) float32 in 0..1."""


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    pictures: Pictures,
    normalize: Normalizer,
    image_size: int,
    batch_size: int,
) -> Tensor:
    """Return the logits (N, classes) float32, on the CPU, of all pictures in their order."""
    model.eval()
    batches = torch.split(torch.arange(len(pictures)), batch_size)
    logits = [model(normalize(pictures.upright(batch, image_size))).float() for batch in batches]
    return torch.cat(logits).cpu()
