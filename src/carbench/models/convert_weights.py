"""Converts pretrained weights to the image size of the study.

Each timm architecture may have a function that converts checkpoints of other sizes (position
embeddings are resampled) and of other authors (tensors are renamed); this module calls it without
timm's download.
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
from carbench.models.backbones import refuse_mismatched_weights

Convert = Callable[..., dict[str, Tensor]]


def convert_weights(
    tensors: dict[str, Tensor], model: nn.Module, name: str, image_size: int, key: str
) -> dict[str, Tensor]:
    """Return weights converted for ``model``.

    Args:
        tensors: a state dict, of any image size.
        model: the target model, created for ``image_size``.
        name: name of the timm model.
        image_size: side length of the images in pixels.
        key: key of the weights in params.yaml.

    Raises:
        CarbenchError: weights of another model, or of another image size that timm cannot convert.
    """
    if convert := _conversion_function(name):
        tensors = _convert(convert, dict(tensors), model, name, key)
    refuse_mismatched_weights(
        model,
        tensors,
        "params.yaml",
        key=key,
        fix=f"correct it, the backbone's `model:`, or train.image_size, which is {image_size}",
    )
    return tensors


def _convert(
    convert: Convert, tensors: dict[str, Tensor], model: nn.Module, name: str, key: str
) -> dict[str, Tensor]:
    try:
        try:
            converted = convert(tensors, model)
        except TypeError:  # old functions take the tensors only; timm does the same
            converted = convert(tensors)
    except Exception as error:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"a checkpoint that timm cannot convert ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})",
            expected=f"weights of {name}",
            fix="correct it or the backbone's `model:`",
        ) from None
    # Copies, because safetensors does not write tensors that share memory.
    return {
        part: tensor.detach().clone()
        for part, tensor in converted.items()
        if isinstance(tensor, Tensor)
    }


def _conversion_function(name: str) -> Convert | None:
    """Return timm's conversion function of an architecture, or None.

    It is only available as an argument that the constructor passes to timm's loader.
    """
    functions: list[Convert | None] = []

    def loader(model: nn.Module, filter_fn: Convert | None = None, **options: Any) -> None:
        functions.append(filter_fn)

    with patch.object(_builder, "load_pretrained", loader), torch.device("meta"):
        timm.create_model(name, pretrained=True)
    return functions[0] if functions else None
