"""Predicts pictures without changing them: for choosing an epoch, and for judging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from carbench.data.batches import Normalizer


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
    bfloat16: bool = False,
) -> Tensor:
    """Return the logits (N, classes) float32, on the CPU, of all pictures in their order.

    Args:
        model: is put into evaluation mode.
        pictures: (N) pictures.
        normalize: what the model wants done to pictures.
        image_size: pixels of a side that the model sees.
        batch_size: pictures at a time.
        bfloat16: compute in bfloat16 where autocast does; pictures and logits stay float32.
    """
    model.eval()
    batches = torch.split(torch.arange(len(pictures)), batch_size)
    logits = []
    for batch in pictures.upright(batches, image_size):
        with torch.autocast(batch.device.type, torch.bfloat16, bfloat16):
            logits.append(model(normalize(batch)).float())
    return torch.cat(logits).cpu()
