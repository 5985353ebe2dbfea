"""ONNX graphs as stage export would write them, created before any training.

The operations do not depend on the trained weights, so random ones suffice: operations and shapes
are those of :func:`carbench.models.onnx_export.write_onnx` for this study's classes and image
sizes. Initial weights would not suffice: the exporter omits biases that are zero, and layers with
equal weights share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carbench.models.backbones import ModelCard, create_model, normalization
from carbench.models.devices import move_to_device
from carbench.models.model_errors import explained_errors
from carbench.models.onnx_export import EMBEDDING_SIZE, ExportableModel, write_onnx
from carbench.models.onnx_int8 import write_int8

# Not 1, like a fitted temperature: the exporter would omit a division by 1.
TEMPERATURE = 1.5
# Random images that determine the ranges of the 8-bit model; these do not affect its latency.
CALIBRATION_IMAGES = 16


@dataclass(frozen=True)
class GraphShape:
    """Image sizes and classes of all backbones of a study.

    Attributes:
        side: side length in pixels of the input of the graph (``pack.size``).
        image_size: side length in pixels of the input of the backbone.
        classes: the class names.
    """

    side: int
    image_size: int
    classes: tuple[str, ...]

    def random_images(self, count: int) -> NDArray[np.uint8]:
        """Return ``count`` images (N, side, side, 3), the same on every call."""
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (count, self.side, self.side, 3), np.uint8)


def build_deployable(backbone: str, model: str, shape: GraphShape) -> ExportableModel:
    """Return the exportable model of a backbone with random weights, the same on every call.

    Raises:
        CarbenchError: the model cannot be created or exported for this image size.
    """
    torch.manual_seed(0)
    key = f"backbones.{backbone}.model"
    with explained_errors(model, shape.image_size, key, "made"):
        made = create_model(model, len(shape.classes), shape.image_size, key)
    made = move_to_device(made, torch.device("cpu")).eval().requires_grad_(False)
    _make_uneven(made)
    card = ModelCard(model, list(shape.classes), shape.image_size, *normalization(made))
    with explained_errors(model, shape.image_size, key, "exported"):
        deployable = ExportableModel(made, card, shape.side, TEMPERATURE).eval()
    features = len(deployable.centre)
    deployable.axes = torch.rand(features, min(EMBEDDING_SIZE, features))
    return deployable


def _make_uneven(model: nn.Module) -> None:
    """Randomise constant weights and statistics, as models have them before training."""
    statistics = [each for name, each in model.named_buffers() if "running_" in name]
    for tensor in [*model.parameters(), *statistics]:
        if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
            tensor.add_(torch.rand_like(tensor), alpha=0.1)


def write_graphs(backbone: str, model: str, shape: GraphShape, folder: Path, int8: bool) -> None:
    """Write ``BACKBONE.onnx`` and, if ``int8``, ``BACKBONE.int8.onnx`` as stage export would.

    Raises:
        CarbenchError: the model cannot be exported.
    """
    path = onnx_path(folder, backbone, int8=False)
    deployable = build_deployable(backbone, model, shape)
    with explained_errors(model, shape.image_size, f"backbones.{backbone}.model", "exported"):
        write_onnx(deployable, shape.side, list(shape.classes), path)
        if int8:
            some = shape.random_images(CALIBRATION_IMAGES)
            write_int8(path, onnx_path(folder, backbone, int8=True), [some])


def onnx_path(folder: Path, backbone: str, int8: bool) -> Path:
    """Return the path of a graph that :func:`write_graphs` writes."""
    return folder / f"{backbone}{'.int8' if int8 else ''}.onnx"
