"""timm models: made by name, started from an artifact, loaded for prediction."""

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
from carbench.models.checkpoints import read_about, read_tensors
from carbench.models.devices import place
from carbench.models.heads import may_be_new
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


def create(model: str, class_count: int, image_size: int, key: str = "model") -> nn.Module:
    """Return a timm model with a new head and random weights, from torch's random state.

    Where the architecture is made for one size of images (position embeddings, windows), that is
    ``image_size``. A model with two heads (distilled) gives the mean of their logits, in training
    as in prediction: timm's way to fine-tune without a teacher, in which both heads learn.

    Raises:
        CarbenchError: timm does not know the model.
        Exception: of any kind, where the architecture cannot be made for this size; stage weights
            has refused such a backbone (:mod:`carbench.models.dry_run`).
    """
    if not timm.is_model(model):
        raise unknown_model(model, timm.list_models(), Path("params.yaml"), key)
    wanted = resolve_model_input_args(model, {"img_size": image_size})
    size: dict[str, Any] = {"img_size": image_size} if "img_size" in wanted else {}
    made: nn.Module = timm.create_model(model, pretrained=False, num_classes=class_count, **size)
    if hasattr(made, "set_distilled_training"):
        made.set_distilled_training(False)  # type: ignore[operator]
    return made


def normalization(model: nn.Module) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation (RGB, 0..1) that a backbone's config asks for."""
    config: dict[str, Any] = resolve_model_data_config(model)
    return list(config["mean"]), list(config["std"])


def load_start(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> list[str]:
    """Load starting weights; tensors of the head that have another shape stay as made.

    Returns:
        Names of the model's tensors that were not loaded.

    Raises:
        CarbenchError: the weights are of another model, or of another image size.
    """
    fix = "correct the backbone's `model:` or `weights:` in params.yaml"
    refuse_unfitting(model, tensors, path, fix=fix)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if _fits(own, name, tensor)}
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def refuse_unfitting(
    model: nn.Module,
    tensors: dict[str, Tensor],
    where: object,
    *,
    fix: str,
    key: str | None = None,
) -> None:
    """Raise :class:`CarbenchError` unless starting weights hold all of a model but its head."""
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
    # Counts of batches, which older checkpoints lack, have no influence.
    left = [
        name
        for name in own
        if name not in fitting
        and not name.endswith("num_batches_tracked")
        and not may_be_new(model, name)
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
            expected=f"shape {list(own[name].shape)}, as the model has it at this image size",
            fix=fix,
        )


def _fits(own: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in own and own[name].shape == tensor.shape


def load_trained(path: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    """Return a trained model, ready to predict, and its card."""
    about = read_about(path)
    card = ModelCard(**about["card"])
    model = create(card.model, len(card.classes), card.image_size)
    model.load_state_dict(read_tensors(path))
    return place(model, device).eval(), card


def card_document(card: ModelCard) -> dict[str, Any]:
    """Return the card as a checkpoint stores it."""
    return asdict(card)
