"""The packed pictures as torch reads them: on the device if they fit, else a batch at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carbench.pictures.augment import resample, whole
from carbench.pictures.pack import open_array, rows_of

# Sets up to this size are copied to the device once; larger ones stay on disk, memory-mapped.
RESIDENT_BYTES = 2_000_000_000


class PackedPictures:
    """A list of pictures out of the pack, in the order asked for."""

    def __init__(self, pack: Path, images: list[str], device: torch.device) -> None:
        row_of = rows_of(pack)
        array = open_array(pack)
        self._rows = np.array([row_of[image] for image in images], np.int64)
        self._array: NDArray[np.uint8] = array
        self._device = device
        wanted = len(images) * (array.nbytes // max(len(array), 1))
        self._resident = (
            torch.from_numpy(array[self._rows]).to(device) if wanted <= RESIDENT_BYTES else None
        )

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures at ``indices`` (B,) int64 as (B, S, S, 3) uint8 on the device."""
        if self._resident is not None:
            return self._resident[indices.to(self._device)]
        return torch.from_numpy(self._array[self._rows[indices.numpy()]]).to(self._device)

    def upright(self, indices: Tensor, size: int) -> Tensor:
        """Return whole pictures for evaluation: (B, 3, size, size) float32 in 0..1."""
        return resample(self.batch(indices), whole(len(indices)), size)


class Normalizer:
    """Shifts and scales RGB in 0..1 to what a backbone was made for."""

    def __init__(self, mean: list[float], std: list[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return (B, 3, H, W) pictures, normalised, channels last in memory as the models are."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return (pictures - self._mean) / self._std
