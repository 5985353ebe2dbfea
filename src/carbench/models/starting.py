"""Starting weights in the form that a model has at the study's image size.

timm converts checkpoints of other sizes (position embeddings are resampled) and of other authors
(tensors are renamed) with a function of each architecture; this calls it without timm's download.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

from carbench.core.errors import CarbenchError
from carbench.models.backbones import refuse_unfitting

Convert = Callable[..., dict[str, Tensor]]


def adapt(
    tensors: dict[str, Tensor], model: nn.Module, name: str, image_size: int, key: str
) -> dict[str, Tensor]:
    """Return starting weights as ``model`` takes them.

    Args:
        tensors: a state dict, of any image size.
        model: what they start, made for ``image_size``.
        name: of the timm model.
        image_size: pixels of both sides of the images.
        key: of the weights in params.yaml.

    Raises:
        CarbenchError: the weights are of another model, or of another image size and timm cannot
            convert them.
    """
    if convert := _conversion(name):
        tensors = _converted(convert, dict(tensors), model, name, key)
    refuse_unfitting(
        model,
        tensors,
        "params.yaml",
        key=key,
        fix=f"correct it, the backbone's `model:`, or train.image_size, which is {image_size}",
    )
    return tensors


def _converted(
    convert: Convert, tensors: dict[str, Tensor], model: nn.Module, name: str, key: str
) -> dict[str, Tensor]:
    try:
        try:
            made = convert(tensors, model)
        except TypeError:  # the oldest take the tensors alone, as timm itself tries
            made = convert(tensors)
    except Exception as error:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"a checkpoint that timm cannot convert ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})",
            expected=f"weights of {name}",
            fix="correct it or the backbone's `model:`",
        ) from None
    # Copies: safetensors does not write tensors that are views of each other's memory.
    return {
        part: tensor.detach().clone() for part, tensor in made.items() if isinstance(tensor, Tensor)
    }


def _conversion(name: str) -> Convert | None:
    """Return the function by which timm converts checkpoints of an architecture, if it has one.

    It is an argument that the architecture's constructor hands to timm's loader, and nowhere else.
    """
    handed: list[Convert | None] = []

    def loader(model: nn.Module, filter_fn: Convert | None = None, **options: Any) -> None:
        handed.append(filter_fn)

    with patch.object(_builder, "load_pretrained", loader), torch.device("meta"):
        timm.create_model(name, pretrained=True)
    return handed[0] if handed else None
