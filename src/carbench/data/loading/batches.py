"""The packed images as torch reads them: on the device if they fit, else streamed from disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carbench.data.loading.augment import resample, whole
from carbench.data.pack.files import open_array, rows_of

# Sets up to this size are copied to the device once; larger ones stay on disk, memory-mapped.
RESIDENT_BYTES = 2_000_000_000
# ... on a GPU also larger ones, if the copy leaves so much of its free memory to the training.
RESIDENT_SHARE = 0.4
# Batches that wait, read from disk, while the device works on one.
AHEAD = 3


class PackedImages:
    """A list of images out of the pack, in the order asked for."""

    def __init__(self, pack: Path, images: list[str], device: torch.device) -> None:
        row_of = rows_of(pack)
        array = open_array(pack)
        self._rows = np.array([row_of[image] for image in images], np.int64)
        self._array: NDArray[np.uint8] = array
        self._device = device
        wanted = len(images) * (array.nbytes // max(len(array), 1))
        fits = wanted <= _room(device)
        self._resident = torch.from_numpy(array[self._rows]).to(device) if fits else None

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, wanted: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images at each of ``wanted`` (B,) int64 as (B, S, S, 3) uint8 on the device.

        What lies on disk is read ahead by a thread of its own.
        """
        if self._resident is not None:
            # Copied to the device once: a copy for every batch would make a GPU wait.
            indices_here = torch.cat(list(wanted)).to(self._device)
            for indices in indices_here.split([len(each) for each in wanted]):
                # A tenth of the time of indexing with brackets.
                yield self._resident.index_select(0, indices)
            return
        reader = ThreadPoolExecutor(1, "images")
        try:
            waiting: deque[Future[Tensor]] = deque()
            for indices in wanted:
                waiting.append(reader.submit(self._read, indices))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result().to(self._device, non_blocking=True)
            while waiting:
                yield waiting.popleft().result().to(self._device, non_blocking=True)
        finally:
            reader.shutdown(cancel_futures=True)

    def upright(self, wanted: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        """Yield whole images for evaluation, a batch at a time: (B, 3, size, size) in 0..1."""
        for pixels in self.batches(wanted):
            yield resample(pixels, whole(len(pixels), pixels.device), size)

    def _read(self, indices: Tensor) -> Tensor:
        pixels = torch.from_numpy(self._array[self._rows[indices.numpy()]])
        # Page-locked memory is copied to a GPU while the GPU works.
        return pixels.pin_memory() if self._device.type == "cuda" else pixels


class Normalizer:
    """Shifts and scales RGB in 0..1 to what a backbone was made for."""

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
        """Return (B, 3, H, W) images, normalised, in memory as the model is."""
        images = images.contiguous(memory_format=self._layout)
        return torch.addcmul(self.shift, images, self.scale)


def _room(device: torch.device) -> int:
    """Bytes of images that may live on a device."""
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return max(RESIDENT_BYTES, int(RESIDENT_SHARE * free))
