"""Checkpoint in timm's format: ``timm.create_model("local-dir:results/export")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf
from torch import nn

from carbench.models.backbones import ModelCard

# timm's names for carbench.data.images.decoding.Fit.
CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}


def write_timm_checkpoint(model: nn.Module, card: ModelCard, fit: str, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``."""
    size = (3, card.image_size, card.image_size)
    data: dict[str, Any] = {
        "input_size": size,
        "mean": tuple(card.mean),
        "std": tuple(card.std),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": CROP_MODES[fit],
    }
    # safetensors requires contiguous tensors.
    contiguous = model.to(memory_format=torch.contiguous_format)
    metadata = {"label_names": card.classes}
    save_for_hf(contiguous, str(folder), metadata, safe_serialization=True, data_config=data)
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable by the owner only
