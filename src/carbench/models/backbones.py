"""Creates timm models by name, loads initial weights, and loads trained models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import resolve_model_input_args
from torch import Tensor, nn

from carbench.core.errors import CarbenchError
from carbench.models.devices import move_to_device
from carbench.models.heads import may_be_reinitialised
from carbench.models.model_file import read_metadata, read_tensors
from carbench.models.timm_names import unknown_model


@dataclass(frozen=True)
class ModelCard:
    """Metadata that is needed to use a trained model.

    ``mean`` and ``std`` refer to RGB values between 0 and 1.
    """

    model: str
    classes: list[str]
    image_size: int
    mean: list[float]
    std: list[float]


def create_model(model: str, class_count: int, image_size: int, key: str = "model") -> nn.Module:
    """Create a timm model with random weights, from torch's random state.

    Architectures with a fixed image size (position embeddings, windows) are created for
    ``image_size``. A model with two heads (distilled) returns the mean of their logits, in training
    and in prediction: timm's way to fine-tune without a teacher, which trains both heads.

    Raises:
        CarbenchError: unknown model name.
        Exception: any, if the architecture does not support this size; stage weights rejects such
            backbones (:mod:`carbench.models.dry_run`).
    """
    if not timm.is_model(model):
        raise unknown_model(model, timm.list_models(), Path("params.yaml"), key)
    arguments = resolve_model_input_args(model, {"img_size": image_size})
    size: dict[str, Any] = {"img_size": image_size} if "img_size" in arguments else {}
    created: nn.Module = timm.create_model(model, pretrained=False, num_classes=class_count, **size)
    if hasattr(created, "set_distilled_training"):
        created.set_distilled_training(False)  # type: ignore[operator]
    return created


def normalization(model: nn.Module) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation (RGB, 0..1) in the timm config of a backbone."""
    config: dict[str, Any] = resolve_model_data_config(model)
    return list(config["mean"]), list(config["std"])


def load_initial_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    """Load initial weights; tensors of the head with another shape keep their random values.

    Returns:
        The names of the tensors that were not loaded.

    Raises:
        CarbenchError: weights of another model or another image size.
    """
    fix = "correct the backbone's `model:` or `weights:` in params.yaml"
    refuse_mismatched_weights(model, tensors, path, fix=fix)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if _fits(own, name, tensor)}
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def refuse_mismatched_weights(
    model: nn.Module,
    tensors: dict[str, Tensor],
    where: object,
    *,
    fix: str,
    key: str | None = None,
) -> None:
    """Raise :class:`CarbenchError` unless the weights match the model except for its head."""
    own = model.state_dict()
    fitting = {name for name, tensor in tensors.items() if _fits(own, name, tensor)}
    if len(fitting) < len(own) / 2:
        raise CarbenchError(
            where,
            key=key,
            found=f"{len(fitting)} of the model's {len(own)} tensors",
            expected="weights of the same timm model",
            fix=fix,
        )
    # Counts of batches, which old checkpoints lack, have no effect.
    left = [
        name
        for name in own
        if name not in fitting
        and not name.endswith("num_batches_tracked")
        and not may_be_reinitialised(model, name)
    ]
    if left:
        name, *others = left
        raise CarbenchError(
            where,
            key=key,
            found=(
                f"{name} of shape {list(tensors[name].shape)}" if name in tensors else f"no {name}"
            )
            + (f" (and {len(others)} more that do not fit)" if others else ""),
            expected=f"shape {list(own[name].shape)}, as in the model at this image size",
            fix=fix,
        )


def _fits(own: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in own and own[name].shape == tensor.shape


def load_trained_model(path: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    """Load a trained model in evaluation mode, and its card."""
    metadata = read_metadata(path)
    card = ModelCard(**metadata["card"])
    model = create_model(card.model, len(card.classes), card.image_size)
    model.load_state_dict(read_tensors(path))
    return move_to_device(model, device).eval(), card


def card_dict(card: ModelCard) -> dict[str, Any]:
    """Return the card as it is stored in a model file."""
    return asdict(card)
