"""Predicts pictures without changing them: for choosing an epoch, and for judging."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from carbench.packed import Normalizer, PackedPictures


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    pictures: PackedPictures,
    normalize: Normalizer,
    image_size: int,
    batch_size: int,
) -> Tensor:
    """Return the logits (N, classes) float32, on the CPU, of all pictures in their order."""
    model.eval()
    batches = torch.split(torch.arange(len(pictures)), batch_size)
    logits = [model(normalize(pictures.upright(batch, image_size))).float() for batch in batches]
    return torch.cat(logits).cpu()
