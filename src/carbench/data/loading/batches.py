"""Batches of packed images: from device memory if they fit, else streamed from disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carbench.data.loading.augment import full_crops, resample
from carbench.data.pack.reading import open_array

# Sets up to this size are copied to the device once; larger ones are read from the memory map.
RESIDENT_BYTES = 2_000_000_000
# ... on a GPU also larger ones, up to this fraction of its free memory.
RESIDENT_FRACTION = 0.4
# Batches that are read from disk ahead of the device.
PREFETCHED_BATCHES = 3


class PackedImages:
    """Images of the pack.

    Args:
        pack: output of stage pack.
        rows: (N,) their rows, from :func:`carbench.data.pack.reading.find_rows`.
        device: device of the batches.
    """

    def __init__(self, pack: Path, rows: NDArray[np.int64], device: torch.device) -> None:
        array = open_array(pack)
        self._rows = rows
        self._array: NDArray[np.uint8] = array
        self._device = device
        size = len(rows) * (array.nbytes // max(len(array), 1))
        self._resident = self._copy() if size <= _resident_limit(device) else None

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images at each of ``indices`` (B,) int64 as (B, S, S, 3) uint8 on the device.

        A thread reads ahead from disk.
        """
        if self._resident is not None:
            # All indices are copied at once: a copy per batch would make a GPU wait.
            all_indices = torch.cat(list(indices)).to(self._device)
            for batch in all_indices.split([len(each) for each in indices]):
                # Ten times as fast as indexing with brackets.
                yield self._resident.index_select(0, batch)
            return
        reader = ThreadPoolExecutor(1, "images")
        try:
            waiting: deque[Future[Tensor]] = deque()
            for batch in indices:
                waiting.append(reader.submit(self._read, batch))
                if len(waiting) > PREFETCHED_BATCHES:
                    yield waiting.popleft().result().to(self._device, non_blocking=True)
            while waiting:
                yield waiting.popleft().result().to(self._device, non_blocking=True)
        finally:
            reader.shutdown(cancel_futures=True)

    def whole_images(self, indices: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield whole images for evaluation in batches, (B, 3, size, size) in 0..1."""
        for pixels in self.batches(indices):
            yield resample(pixels, full_crops(len(pixels), pixels.device), size)

    def _copy(self) -> Tensor | None:
        """Copy all images to the device; None if other jobs have taken its memory meanwhile."""
        try:
            return torch.from_numpy(self._array[self._rows]).to(self._device)
        except torch.OutOfMemoryError:
            return None

    def _read(self, indices: Tensor) -> Tensor:
        pixels = torch.from_numpy(self._array[self._rows[indices.numpy()]])
        # Page-locked memory is copied to a GPU asynchronously.
        return pixels.pin_memory() if self._device.type == "cuda" else pixels


class Normalizer:
    """Normalises RGB in 0..1 with the mean and standard deviation of a backbone."""

    def __init__(
        self,
        mean: list[float],
        std: list[float],
        device: torch.device,
        channels_last: bool = True,
    ) -> None:
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.scale = (1 / torch.tensor(std, device=device)).view(1, 3, 1, 1)
        self.shift = -torch.tensor(mean, device=device).view(1, 3, 1, 1) * self.scale

    def __call__(self, images: Tensor) -> Tensor:
        """Return (B, 3, H, W) images, normalised, in the memory layout of the model."""
        images = images.contiguous(memory_format=self._layout)
        return torch.addcmul(self.shift, images, self.scale)


def _resident_limit(device: torch.device) -> int:
    """Return how many bytes of images may stay in the memory of a device."""
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return max(RESIDENT_BYTES, int(RESIDENT_FRACTION * free))
