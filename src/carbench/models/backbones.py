"""timm models: made by name, started from an artifact, loaded for prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from carbench.errors import CarbenchError
from carbench.models.checkpoints import read_about, read_tensors
from carbench.models.devices import place
from carbench.models.timm_names import unknown_model


@dataclass(frozen=True)
class ModelCard:
    """What a trained checkpoint needs to be used: everything but the tensors.

    ``mean`` and ``std`` are of RGB values between 0 and 1.
    """

    model: str
    classes: list[str]
    image_size: int
    mean: list[float]
    std: list[float]


def create(model: str, class_count: int, key: str = "model") -> nn.Module:
    """Return a timm model with a new head and random weights, from torch's random state."""
    if not timm.is_model(model):
        raise unknown_model(model, timm.list_models(), Path("params.yaml"), key)
    made: nn.Module = timm.create_model(model, pretrained=False, num_classes=class_count)
    return made


def normalization(model: nn.Module) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation (RGB, 0..1) that a backbone's config asks for."""
    config: dict[str, Any] = resolve_model_data_config(model)
    return list(config["mean"]), list(config["std"])


def load_start(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    """Load starting weights; tensors of another shape (the old head) stay as made.

    Returns:
        Names of the model's tensors that were not loaded.
    """
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in tensors.items()
        if name in own and own[name].shape == tensor.shape
    }
    if len(fitting) < len(own) / 2:
        raise CarbenchError(
            path,
            found=f"{len(fitting)} of the model's {len(own)} tensors",
            expected="weights of the same timm model",
            fix="correct the backbone's `model:` or `weights:` in params.yaml",
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def load_trained(path: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    """Return a trained model, ready to predict, and its card."""
    about = read_about(path)
    card = ModelCard(**about["card"])
    model = create(card.model, len(card.classes))
    model.load_state_dict(read_tensors(path))
    return place(model, device).eval(), card


def card_document(card: ModelCard) -> dict[str, Any]:
    """Return the card as a checkpoint stores it."""
    return asdict(card)
