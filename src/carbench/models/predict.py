"""Predicts whole images, to select an epoch and to evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from carbench.data.loading.batches import Normalizer
from carbench.models.devices import without_filling_memory


class ImageBatches(Protocol):
    """Images for prediction: packed images, original or corrupted."""

    def __len__(self) -> int: ...

    def whole_images(self, indices: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield whole images in batches, (B, 3, size, size) float32 in 0..1."""


@without_filling_memory()
@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    images: ImageBatches,
    normalize: Normalizer,
    image_size: int,
    batch_size: int,
    bfloat16: bool = False,
) -> Tensor:
    """Return the logits (N, classes) float32, on the CPU, of all images in their order.

    Args:
        model: a model; it is put into evaluation mode.
        images: N images.
        normalize: normalisation of the model.
        image_size: side length of the model input in pixels.
        batch_size: images per batch.
        bfloat16: compute in bfloat16 where autocast does; images and logits stay float32.
    """
    model.eval()
    batches = torch.split(torch.arange(len(images)), batch_size)
    logits = []
    for batch in images.whole_images(batches, image_size):
        with torch.autocast(batch.device.type, torch.bfloat16, bfloat16):
            logits.append(model(normalize(batch)).float())
    return torch.cat(logits).cpu()
