"""Exports a model as one ONNX graph, from the pixels of a resized image to probabilities.

The input is the result of :func:`carbench.data.images.decoding.decode_resized`, as in stage pack.
Everything else (resizing to the input size of the backbone, normalisation, temperature) is part of
the graph, so that all users of the model do the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carbench.data.loading.augment import resize_weights
from carbench.data.loading.batches import Normalizer
from carbench.models.backbones import ModelCard
from carbench.models.compiler_stub import load_compiler

# Maximum size of an embedding: enough to detect drift.
EMBEDDING_SIZE = 16
# Initializers of the nodes before and after the backbone, which are never quantized.
UNQUANTIZED = ("shares", "axes")


class ExportableModel(nn.Module):
    """Computes probabilities and an embedding from pixels.

    Args:
        model: a trained timm model on the CPU, in evaluation mode.
        card: card of the model.
        side: side length of the resized images in pixels.
        temperature: divides the logits.
    """

    model: Any
    shares: Tensor
    scale: Tensor
    shift: Tensor
    centre: Tensor
    axes: Tensor

    def __init__(self, model: Any, card: ModelCard, side: int, temperature: float) -> None:
        super().__init__()
        self.model = model
        self._size = card.image_size
        self._temperature = temperature
        zero, one = torch.zeros(1), torch.ones(1)
        self.register_buffer("shares", resize_weights(zero, one, side, self._size))
        normalize = Normalizer(card.mean, card.std, torch.device("cpu"))
        self.register_buffer("scale", normalize.scale)
        self.register_buffer("shift", normalize.shift)
        count, self._has_one_classifier = self._inspect_head()
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("axes", torch.zeros(count, 1))

    @torch.no_grad()
    def _inspect_head(self) -> tuple[int, bool]:
        """Return the number of features, and whether a single layer computes the logits from them.

        This is the case in most models, but not if two heads are averaged (distilled), if all
        tokens are classified (VOLO), or if the classifier is a convolution (DLA).
        """
        rng = torch.Generator().manual_seed(0)
        maps = self.model.forward_features(torch.rand(1, 3, self._size, self._size, generator=rng))
        features = self._pool(maps)
        try:
            logits = self.model.get_classifier()(features)
        except Exception:  # several heads, or a head with another input: any exception
            return features.shape[1], False
        expected = self.model.forward_head(maps)
        same = logits.shape == expected.shape and torch.allclose(logits, expected, equal_nan=True)
        return features.shape[1], same

    @torch.no_grad()  # inference-mode tensors would need a second, slower export attempt
    def fit_embedding(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        """Set the embedding to the coordinates along the principal axes of these images."""
        features = [self.features(torch.from_numpy(pixels)).numpy() for pixels in batches]
        centre, axes = principal_axes(np.concatenate(features))
        self.centre, self.axes = torch.from_numpy(centre), torch.from_numpy(axes)

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the classifier, (N, D), for (N, S, S, 3) uint8 pixels."""
        return self._pool(self._forward_features(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return calibrated probabilities (N, K) and embeddings (N, E) of (N, S, S, 3) uint8."""
        maps = self._forward_features(images)
        features = self._pool(maps)
        if self._has_one_classifier:
            logits = self.model.get_classifier()(features)
        else:
            logits = self.model.forward_head(maps)
        embedding = torch.matmul(features - self.centre, self.axes)
        return torch.softmax(logits / self._temperature, dim=1), embedding

    def _forward_features(self, images: Tensor) -> Any:
        """Return the last feature maps or tokens of the backbone for (N, S, S, 3) uint8 pixels."""
        side, size = images.shape[1], self._size
        # Same as carbench.data.loading.augment.resample for whole images: rows, then columns.
        tall = torch.matmul(self.shares, images.reshape(-1, side, side * 3).float())
        planes = tall.reshape(-1, size, side, 3).permute(0, 3, 1, 2)
        resized = torch.matmul(planes, self.shares.transpose(1, 2))
        return self.model.forward_features(resized * self.scale + self.shift)

    def _pool(self, maps: Any) -> Tensor:
        """Return the input of the classifier, (N, D); of several classifiers, concatenated."""
        pooled = self.model.forward_head(maps, pre_logits=True)
        features: Tensor = pooled if isinstance(pooled, Tensor) else torch.cat(list(pooled), dim=1)
        return features


def principal_axes(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean (D,) and the principal axes (D, E) of features, E at most 16.

    All axes are divided by one factor, so that the total variance is 1. The arbitrary sign of each
    axis is chosen so that its largest coefficient is positive.

    Args:
        features: (N, D).
    """
    exact = features.astype(np.float64)
    centre = exact.mean(axis=0)
    _, spread, axes = np.linalg.svd(exact - centre, full_matrices=False)
    axes = axes[:EMBEDDING_SIZE]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    axes *= np.where(largest < 0, -1.0, 1.0)[:, None]
    variance = (spread**2).sum() / max(len(features) - 1, 1)
    axes /= np.sqrt(variance) if variance > 0 else 1.0
    return centre.astype(np.float32), np.ascontiguousarray(axes.T, np.float32)


def write_onnx(model: ExportableModel, side: int, classes: list[str], path: Path) -> None:
    """Export a model with a dynamic batch size; the bytes are the same on every run.

    The class names are stored in the metadata entry ``classes``.
    """
    load_compiler()
    _disable_fused_attention(model)
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The exporter prints its progress to stdout and warns about internals and architectures.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities", "embedding"],
            dynamic_shapes={"images": {0: torch.export.Dim("images_at_a_time")}},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Remove source locations, which would make the bytes depend on the folder of the code.
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in (node for function in proto.functions for node in function.node):
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(proto, {"classes": json.dumps(classes, ensure_ascii=False)})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _disable_fused_attention(model: nn.Module) -> None:
    """Make timm compute attention with products and a softmax instead of torch's fused kernel.

    With a mask, as for relative positions, the exporter assumes a wrong layout of the kernel's
    output (torch 2.15: "Cannot view a tensor").
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
