"""Create random images, trainers and ceilings for the benchmarks of single training steps.

A trainer's ceiling is the same step on a constant batch in the device's memory: forward, backward,
clipping, optimiser and weight average, without the input path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.backbones import create_model
from carbench.models.devices import move_to_device, without_filling_memory
from carbench.params.train import TrainParams
from carbench.training.loop import LabelledImages, Trainer

MODELS = {
    "cpu": ("test_resnet", "test_efficientnet", "mobilenetv3_small_050", "test_convnext"),
    "cuda": ("resnet50", "efficientnet_b0", "mobilenetv3_large_100", "convnext_tiny"),
}
CLASSES = 6


class Ceiling(Trainer):
    """A trainer that uses the same batch, which is on the device, for every step."""

    def __init__(self, trainer: Trainer, batch: Tensor, targets: Tensor) -> None:
        vars(self).update(vars(trainer))
        self.batch, self.targets = batch, targets

    @without_filling_memory()
    def steps(self, count: int) -> None:
        """Take ``count`` training steps on the batch."""
        for _ in range(count):
            self.step(self.batch, self.targets)


def pack(folder: Path, count: int, size: int) -> NDArray[np.int64]:
    """Write the pixels of a pack of random images, and return its rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    np.save(folder / "images.npy", pixels)
    return np.arange(count)


def labelled(folder: Path, rows: NDArray[np.int64], device: torch.device) -> LabelledImages:
    """Return the images of a pack, labelled with each class in turn."""
    labels = torch.arange(len(rows), device=device) % CLASSES
    return LabelledImages(PackedImages(folder, rows, device), labels)


def normalizer(device: torch.device, params: TrainParams) -> Normalizer:
    """Return a normaliser with arbitrary mean and standard deviation."""
    return Normalizer([0.5] * 3, [0.25] * 3, device, params.channels_last)


def make_trainer(name: str, images: LabelledImages, params: TrainParams) -> Trainer:
    """Return a trainer of a timm model with random weights, which are always the same."""
    device = images.labels.device
    torch.manual_seed(0)
    model = move_to_device(
        create_model(name, CLASSES, params.image_size), device, params.channels_last
    )
    return Trainer(model, images, normalizer(device, params), params, 0)


def make_ceiling(trainer: Trainer, images: LabelledImages, params: TrainParams) -> Ceiling:
    """Return the ceiling of a trainer; both train the same model.

    Its labels have the trainer's form: one-hot rows if the recipe uses mixup.
    """
    device, side = images.labels.device, params.image_size
    batch = torch.rand((params.batch_size, 3, side, side), device=device)
    targets = images.labels[: params.batch_size]
    if params.augment.mixup:
        targets = torch.eye(CLASSES, device=device)[targets]
    return Ceiling(trainer, normalizer(device, params)(batch), targets)


def clock(device: torch.device) -> float:
    """Return a time in seconds: on a GPU wall time after its last kernel, on a CPU CPU time.

    On shared cores, CPU time varies less than wall time.
    """
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def rounds(
    trainer: Trainer, ceiling: Ceiling, steps: int, repeats: int, now: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of an epoch, and of ``steps`` steps of the ceiling."""
    trainer.train_epoch(0)  # allocations, choice of kernels
    ceiling.steps(3)
    for repeat in range(repeats):
        started = now()
        trainer.train_epoch(repeat + 1)
        middle = now()
        ceiling.steps(steps)
        yield middle - started, now() - middle
