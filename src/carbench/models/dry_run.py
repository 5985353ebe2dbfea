"""Dry run of a backbone before any training: forward and backward pass, and ONNX export.

Any timm model can be named in params.yaml, but not all of them are classifiers, support every image
size or can be exported. The dry run does the same as the later stages (training mode and loss,
:func:`carbench.models.onnx_export.write_onnx`, ONNX Runtime) with random weights, two classes and
two images, so that stage weights rejects a backbone that would fail later.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from carbench.core.errors import CarbenchError
from carbench.data.loading.batches import Normalizer
from carbench.models.backbones import ModelCard, create_model, normalization
from carbench.models.devices import move_to_device, set_up_device
from carbench.models.heads import train_mode
from carbench.models.model_errors import (
    CLASSES,
    IMAGES,
    UnsupportedModelError,
    check_logits,
    explained_errors,
)
from carbench.models.onnx_export import ExportableModel, write_onnx
from carbench.models.onnx_runtime import onnxruntime
from carbench.params.compute import ComputeSection

# An ONNX file is one protocol buffer of at most 2 GiB, including the graph.
MAX_ONNX_BYTES = 2**31 - 2**24
# Maximum difference of probabilities: above rounding differences between torch and ONNX Runtime.
TOLERANCE = 0.01


def dry_run(name: str, image_size: int, backbone: str) -> nn.Module:
    """Create a timm model for two classes and run the operations of all stages once.

    Args:
        name: name of the timm model.
        image_size: side length of the images, ``train.image_size``.
        backbone: its name under ``backbones:``.

    Returns:
        The model, on the CPU, with random weights.

    Raises:
        CarbenchError: the model cannot be created, trained or exported at this size.
    """
    device = set_up_device(ComputeSection(device="cpu", threads=1, batch_size=IMAGES), "weights")
    torch.manual_seed(0)  # the same result on every run
    key = f"backbones.{backbone}.model"
    with explained_errors(name, image_size, key, "created"):
        _refuse_large(name, image_size, key)
        model = create_model(name, len(CLASSES), image_size, key)
    with explained_errors(name, image_size, key, "trained"):
        _training_pass(move_to_device(model, device), image_size)
    with explained_errors(name, image_size, key, "exported"):
        _export_pass(model.eval(), name, image_size)
    return model


def _refuse_large(name: str, image_size: int, key: str) -> None:
    with torch.device("meta"):
        model = create_model(name, len(CLASSES), image_size, key)
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(each.numel() * each.element_size() for each in tensors)
    if size > MAX_ONNX_BYTES:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, whose weights take {size / 1e9:.1f} GB",
            expected=f"at most {MAX_ONNX_BYTES / 1e9:.1f} GB, which an ONNX file can hold",
            fix="name a smaller model",
        )


def _training_pass(model: nn.Module, image_size: int) -> None:
    """Compute the gradients of one batch, as :class:`carbench.training.loop.Trainer` does.

    New memory is filled with NaN (:func:`carbench.models.devices.without_filling_memory`): if a NaN
    reaches a gradient from finite logits, the training would depend on what was in memory before.
    """
    train_mode(model, frozen=False)
    images = torch.rand(IMAGES, 3, image_size, image_size)
    logits = model(images.contiguous(memory_format=torch.channels_last))
    check_logits(logits)
    functional.cross_entropy(logits, torch.arange(IMAGES)).backward()
    gradients = {name: each.grad for name, each in model.named_parameters()}
    unknown = [name for name, each in gradients.items() if each is not None and each.isnan().any()]
    if unknown and logits.isfinite().all():
        raise UnsupportedModelError(f"the gradient of {unknown[0]} is not a number")
    model.zero_grad(set_to_none=True)


def _export_pass(model: nn.Module, name: str, image_size: int) -> None:
    """Export the model and compare the output of ONNX Runtime with that of torch."""
    mean, std = normalization(model)
    card = ModelCard(name, CLASSES, image_size, mean, std)
    pixels = torch.randint(0, 256, (IMAGES + 1, image_size, image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        upright = pixels.permute(0, 3, 1, 2).float() / 255
        logits = model(Normalizer(mean, std, torch.device("cpu"))(upright))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(ExportableModel(model, card, image_size, 1.0).eval(), image_size, CLASSES, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (probabilities, _) = session.run(None, {"images": pixels.numpy()})
    difference = (torch.from_numpy(probabilities) - logits.softmax(dim=1)).abs().max().item()
    # Random weights may give infinities, which cannot be compared.
    if math.isfinite(difference) and difference > TOLERANCE:
        raise UnsupportedModelError(
            f"the probabilities of the ONNX model differ by {difference:.2g}"
        )
