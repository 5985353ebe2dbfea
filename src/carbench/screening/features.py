"""Computes and caches features: the output of a timm model before its classifier.

The features of a candidate depend only on its weights, the images and their size. They are cached
by content, so that they are not computed again after a killed run, for other candidates or for
another probe.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from carbench.core.atomic import write_atomic
from carbench.core.progress import progress
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.devices import cpu_supports_bfloat16


@dataclass(frozen=True)
class FeatureKey:
    """All inputs of the features; equal keys give equal features, on one kind of machine.

    Attributes:
        model: timm name.
        weights: sha256 of the pretrained weights, or the seed of the random initialisation.
        images: sha256 of the names and pixels of the images.
        image_size: side length in pixels.
        precision: ``float32`` or ``bfloat16``.
        versions: versions of torch and timm.
    """

    model: str
    weights: str
    images: str
    image_size: int
    precision: str
    versions: tuple[str, str]

    @property
    def digest(self) -> str:
        """A hash of all fields."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]


class FeatureCache:
    """An LRU cache on disk of features as float16, by :class:`FeatureKey`.

    Args:
        folder: folder of the cache.
        most_bytes: maximum total size; 0 disables the cache.
    """

    def __init__(self, folder: Path, most_bytes: float) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def load(self, key: FeatureKey) -> Tensor | None:
        """Return the features (N, D) float32; None if they are missing or damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            digest, body = content[:32], content[32:]
            if hashlib.sha256(body).digest() != digest:
                return None
            features = np.load(io.BytesIO(body), allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError, EOFError):
            return None
        return torch.from_numpy(features).float()

    def save(self, key: FeatureKey, features: Tensor) -> None:
        """Save features, and remove the least recently used ones above the size limit."""
        if not self._most_bytes:
            return
        body = io.BytesIO()
        np.save(body, features.half().numpy())
        content = body.getvalue()
        write_atomic(self._path(key), hashlib.sha256(content).digest() + content)
        kept = 0
        for path in sorted(self._folder.glob("*.features"), key=_last_use, reverse=True):
            kept += path.stat().st_size
            if kept > self._most_bytes:
                path.unlink(missing_ok=True)

    def _path(self, key: FeatureKey) -> Path:
        return self._folder / f"{key.digest}.features"


def _last_use(path: Path) -> float:
    return path.stat().st_mtime


def select_precision(precision: str, device: torch.device) -> str:
    """Return the precision; ``auto`` is bfloat16 if the device supports it, else float32.

    Unlike training, inference with depthwise convolutions is faster in bfloat16 on such CPUs:
    EfficientNet-Lite takes 0.55 to 0.58 of the time (AMD EPYC, one thread, 128 pixels).
    """
    if precision != "auto":
        return precision
    supported = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_supports_bfloat16()
    return "bfloat16" if supported else "float32"


@torch.inference_mode()
def compute_features(
    model: nn.Module,
    images: PackedImages,
    normalize: Normalizer,
    image_size: int,
    batch_size: int,
    precision: str,
) -> Tensor:
    """Return features (N, D) float32, on the CPU, rounded to float16 as in the cache.

    Args:
        model: a timm model without a classifier, on the images' device, in ``precision``.
        images: N images.
        normalize: normalisation of the model.
        image_size: side length of the model input in pixels.
        batch_size: images per batch.
        precision: ``float32`` or ``bfloat16``.
    """
    model.eval()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    batches = torch.split(torch.arange(len(images)), batch_size)
    features = [
        model(normalize(batch).to(dtype)).float().flatten(1).cpu()
        for batch in progress(images.whole_images(batches, image_size), "features", len(batches))
    ]
    return torch.cat(features).half().float()
