"""Features of images: what a timm model computes before its classifier, kept by content.

A candidate's features depend on its weights, the images and the size, and on nothing that is
decided later; they are kept in a folder of their own, so that a killed run, a new candidate or
another probe does not compute them again.
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

from carbench.core.atomic_write import write_whole
from carbench.core.progress import progress
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.devices import computes_bfloat16


@dataclass(frozen=True)
class Origin:
    """All that features depend on; equal origins have equal features, on one kind of machine.

    Attributes:
        model: timm's name.
        weights: the sha256 of the trained weights, or the seed of the random start.
        images: the sha256 of the images' names and pixels.
        image_size: pixels of a side.
        precision: ``float32`` or ``bfloat16``.
        versions: of torch and timm.
    """

    model: str
    weights: str
    images: str
    image_size: int
    precision: str
    versions: tuple[str, str]

    @property
    def key(self) -> str:
        """A short name by content."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]


class FeatureCache:
    """Features on disk by :class:`Origin`, as float16; the least recently used ones go first.

    Args:
        folder: where they lie.
        most_bytes: what they may take together; 0 keeps nothing.
    """

    def __init__(self, folder: Path, most_bytes: float) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def load(self, origin: Origin) -> Tensor | None:
        """Return the features (N, D) float32; None if they are not here, or damaged."""
        path = self._path(origin)
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

    def save(self, origin: Origin, features: Tensor) -> None:
        """Keep features, and remove the least recently used ones above the limit."""
        if not self._most_bytes:
            return
        body = io.BytesIO()
        np.save(body, features.half().numpy())
        content = body.getvalue()
        write_whole(self._path(origin), hashlib.sha256(content).digest() + content)
        kept = 0
        for path in sorted(self._folder.glob("*.features"), key=_last_use, reverse=True):
            kept += path.stat().st_size
            if kept > self._most_bytes:
                path.unlink(missing_ok=True)

    def _path(self, origin: Origin) -> Path:
        return self._folder / f"{origin.key}.features"


def _last_use(path: Path) -> float:
    return path.stat().st_mtime


def precision_for(asked: str, device: torch.device) -> str:
    """Return ``bfloat16`` or ``float32`` for ``auto``: bfloat16 where the device computes with it.

    Unlike training, inference of depthwise convolutions is faster in bfloat16 on such processors:
    0.55 to 0.58 of the time of EfficientNet-Lite (AMD EPYC, one thread, 128 pixels).
    """
    if asked != "auto":
        return asked
    able = torch.cuda.is_bf16_supported() if device.type == "cuda" else computes_bfloat16()
    return "bfloat16" if able else "float32"


@torch.inference_mode()
def compute_features(
    model: nn.Module,
    images: PackedImages,
    normalize: Normalizer,
    image_size: int,
    batch_size: int,
    precision: str,
) -> Tensor:
    """Return features (N, D) float32, on the CPU, rounded to float16 as the cache keeps them.

    Args:
        model: a timm model without a classifier, on the images' device, in ``precision``.
        images: N images.
        normalize: what the model wants done to images.
        image_size: pixels of a side.
        batch_size: images at a time.
        precision: ``float32`` or ``bfloat16``.
    """
    model.eval()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    batches = torch.split(torch.arange(len(images)), batch_size)
    found = [
        model(normalize(batch).to(dtype)).float().flatten(1).cpu()
        for batch in progress(images.whole_images(batches, image_size), "features", len(batches))
    ]
    return torch.cat(found).half().float()
