"""One dry pass of a backbone before any training: forward, backward and the exported graph.

Whatever timm has can be named in params.yaml; not all of it takes every image size, classifies or
can be captured as a graph. The pass runs what the later stages run (the training's mode and loss,
:func:`carbench.models.onnx_graph.write_onnx`, ONNX Runtime), with random weights, two classes and
two images, so that a backbone that would fail there is refused in stage weights.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from carbench.core.errors import CarbenchError
from carbench.data.loading.batches import Normalizer
from carbench.models.backbones import ModelCard, create, normalization
from carbench.models.devices import place, prepare
from carbench.models.heads import train_mode
from carbench.models.onnx_graph import Deployable, write_onnx
from carbench.models.refusing import (
    CLASSES,
    IMAGES,
    UnfitError,
    refuse_other_than_logits,
    refused,
)
from carbench.params.compute import ComputeSection

# An ONNX file is one protocol buffer, which holds 2 GiB; the graph needs a little of it.
LARGEST = 2**31 - 2**24
# Of probabilities: rounding differs between torch and ONNX Runtime, a wrong graph by far more.
TOLERANCE = 0.01


def dry_run(name: str, image_size: int, backbone: str) -> nn.Module:
    """Make a timm model for two classes and let it pass once through what the stages do with it.

    Args:
        name: of the timm model.
        image_size: pixels of both sides of the images, ``train.image_size``.
        backbone: its name under ``backbones:``.

    Returns:
        The model, on the CPU, with random weights.

    Raises:
        CarbenchError: the model cannot be made, trained or exported at this size.
    """
    device = prepare(ComputeSection(device="cpu", threads=1, batch_size=IMAGES), "weights")
    torch.manual_seed(0)  # the same verdict on every run
    key = f"backbones.{backbone}.model"
    with refused(name, image_size, key, "made"):
        _refuse_large(name, image_size, key)
        model = create(name, len(CLASSES), image_size, key)
    with refused(name, image_size, key, "trained"):
        _train(place(model, device), image_size)
    with refused(name, image_size, key, "exported"):
        _export(model.eval(), name, image_size)
    return model


def _refuse_large(name: str, image_size: int, key: str) -> None:
    with torch.device("meta"):
        model = create(name, len(CLASSES), image_size, key)
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(each.numel() * each.element_size() for each in tensors)
    if size > LARGEST:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, whose weights take {size / 1e9:.1f} GB",
            expected=f"at most {LARGEST / 1e9:.1f} GB, which an ONNX file can hold",
            fix="name a smaller model",
        )


def _train(model: nn.Module, image_size: int) -> None:
    """Take the gradients of one batch, as :class:`carbench.training.loop.Trainer` does."""
    train_mode(model, frozen=False)
    images = torch.rand(IMAGES, 3, image_size, image_size)
    logits = model(images.contiguous(memory_format=torch.channels_last))
    refuse_other_than_logits(logits)
    functional.cross_entropy(logits, torch.arange(IMAGES)).backward()
    model.zero_grad(set_to_none=True)


def _export(model: nn.Module, name: str, image_size: int) -> None:
    """Write the graph and hold what ONNX Runtime makes of it against the model itself."""
    mean, std = normalization(model)
    card = ModelCard(name, CLASSES, image_size, mean, std)
    pixels = torch.randint(0, 256, (IMAGES + 1, image_size, image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        upright = pixels.permute(0, 3, 1, 2).float() / 255
        logits = model(Normalizer(mean, std, torch.device("cpu"))(upright))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(Deployable(model, card, image_size, 1.0).eval(), image_size, CLASSES, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given, _) = session.run(None, {"images": pixels.numpy()})
    difference = (torch.from_numpy(given) - logits.softmax(dim=1)).abs().max().item()
    # Random weights may put out infinities, of which nothing can be compared.
    if math.isfinite(difference) and difference > TOLERANCE:
        raise UnfitError(f"the graph's probabilities are {difference:.2g} off")
