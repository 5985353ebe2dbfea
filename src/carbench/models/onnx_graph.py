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
from carbench.models.without_compiler import use_compiler

# Numbers that an embedding has, at most: enough to see that images have changed.
EMBEDDED = 16
# Initializers of what comes before the backbone and after it, which is never quantized.
UNQUANTIZED = ("shares", "axes")


class Deployable(nn.Module):
    """Pixels to probabilities and an embedding.

    Args:
        model: a trained timm model on the CPU, in evaluation mode.
        card: of the model.
        side: pixels of both sides of the shrunk images.
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
        count, self._has_one_classifier = self._look_at_head()
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("axes", torch.zeros(count, 1))

    @torch.no_grad()
    def _look_at_head(self) -> tuple[int, bool]:
        """Return how many features there are, and whether one layer makes the logits of them.

        It does in most models. Not where two heads are averaged (distilled), tokens vote (VOLO), or
        a convolution classifies (DLA).
        """
        rng = torch.Generator().manual_seed(0)
        seen = self.model.forward_features(torch.rand(1, 3, self._size, self._size, generator=rng))
        features = self._pool(seen)
        try:
            logits = self.model.get_classifier()(features)
        except Exception:  # a tuple or list of heads, or one that wants other features: any kind
            return features.shape[1], False
        expected = self.model.forward_head(seen)
        same = logits.shape == expected.shape and torch.allclose(logits, expected, equal_nan=True)
        return features.shape[1], same

    @torch.no_grad()  # tensors of inference mode are captured only in a second, slower attempt
    def embed_along_principal_axes(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        """Let an embedding be where an image stands along the principal axes of these ones."""
        features = [self.features(torch.from_numpy(pixels)).numpy() for pixels in batches]
        centre, axes = principal_axes(np.concatenate(features))
        self.centre, self.axes = torch.from_numpy(centre), torch.from_numpy(axes)

    def features(self, images: Tensor) -> Tensor:
        """Return what the classifier looks at, (N, D), of (N, S, S, 3) uint8."""
        return self._pool(self._see(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return calibrated probabilities (N, K) and embeddings (N, E) of (N, S, S, 3) uint8."""
        seen = self._see(images)
        features = self._pool(seen)
        if self._has_one_classifier:
            logits = self.model.get_classifier()(features)
        else:
            logits = self.model.forward_head(seen)
        embedding = torch.matmul(features - self.centre, self.axes)
        return torch.softmax(logits / self._temperature, dim=1), embedding

    def _see(self, images: Tensor) -> Any:
        """Return the backbone's last feature maps or tokens of (N, S, S, 3) uint8."""
        side, size = images.shape[1], self._size
        # As carbench.data.loading.augment.resample for whole images: rows first, then columns.
        tall = torch.matmul(self.shares, images.reshape(-1, side, side * 3).float())
        planes = tall.reshape(-1, size, side, 3).permute(0, 3, 1, 2)
        upright = torch.matmul(planes, self.shares.transpose(1, 2))
        return self.model.forward_features(upright * self.scale + self.shift)

    def _pool(self, seen: Any) -> Tensor:
        """Return what the classifier looks at, (N, D); of several classifiers, side by side."""
        pooled = self.model.forward_head(seen, pre_logits=True)
        features: Tensor = pooled if isinstance(pooled, Tensor) else torch.cat(list(pooled), dim=1)
        return features


def principal_axes(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return centre (D,) and the axes (D, E) along which features vary most, E at most 16.

    All axes are divided by one number, so that the whole variance is 1. Their signs, which nothing
    determines, are such that each axis's largest number is positive.

    Args:
        features: (N, D).
    """
    exact = features.astype(np.float64)
    centre = exact.mean(axis=0)
    _, spread, axes = np.linalg.svd(exact - centre, full_matrices=False)
    axes = axes[:EMBEDDED]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    axes *= np.where(largest < 0, -1.0, 1.0)[:, None]
    variance = (spread**2).sum() / max(len(features) - 1, 1)
    axes /= np.sqrt(variance) if variance > 0 else 1.0
    return centre.astype(np.float32), np.ascontiguousarray(axes.T, np.float32)


def write_onnx(model: Deployable, side: int, classes: list[str], path: Path) -> None:
    """Write the model with any number of images at a time; the same bytes on every run.

    The file holds the class names, in the metadata entry ``classes``.
    """
    use_compiler()
    _spell_out_attention(model)
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It reports its progress on stdout, and warns of its own ways and those of the architectures.
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
    # Where in which file each operation was written: other folders would make other bytes.
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


def _spell_out_attention(model: nn.Module) -> None:
    """Let attention be products and a softmax, as timm computes it where torch has no kernel.

    Of the kernel's outputs the exporter mistakes the layout where there is a mask, as for relative
    positions (torch 2.15: "Cannot view a tensor").
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
