"""Predicts pictures without changing them: for choosing an epoch, and for judging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from carbench.pictures.packed import Normalizer


class Pictures(Protocol):
    """What can be predicted: packed pictures, as they are or changed."""

    def __len__(self) -> int: ...

    def upright(self, wanted: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield whole pictures, a batch at a time: (B, 3, size, size) float32 in 0..1."""


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
    logits = [model(normalize(batch)).float() for batch in pictures.upright(batches, image_size)]
    return torch.cat(logits).cpu()
