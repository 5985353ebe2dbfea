"""What the benchmarks of single training steps share: random images, trainers, and the ceiling.

The ceiling of a trainer is the same step on a batch that never changes and lies on the device:
forward, backward, clipping, optimiser and average, without the path that images take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carbench.core.tables import write_table
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.backbones import create_model
from carbench.models.devices import move_to_device
from carbench.params.train import TrainParams
from carbench.training.loop import LabelledImages, Trainer

MODELS = {
    "cpu": ("test_resnet", "test_efficientnet", "mobilenetv3_small_050", "test_convnext"),
    "cuda": ("resnet50", "efficientnet_b0", "mobilenetv3_large_100", "convnext_tiny"),
}
CLASSES = 6


class Ceiling(Trainer):
    """A trainer whose every batch is the same, ready on the device."""

    def __init__(self, trainer: Trainer, batch: Tensor, targets: Tensor) -> None:
        vars(self).update(vars(trainer))
        self.batch, self.targets = batch, targets

    def steps(self, count: int) -> None:
        """Learn from the batch so many times."""
        for _ in range(count):
            self.step(self.batch, self.targets)


def pack(folder: Path, count: int, size: int) -> list[str]:
    """Write a pack of random images, whose content costs nothing, and return their names."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    np.save(folder / "images.npy", pixels)
    names = [f"{row}.png" for row in range(count)]
    rows = [{"row": row, "image": name} for row, name in enumerate(names)]
    write_table(folder / "index.csv", ["row", "image"], rows)
    return names


def labelled(folder: Path, names: list[str], device: torch.device) -> LabelledImages:
    """Return the images of a pack; their classes take turns."""
    labels = torch.arange(len(names), device=device) % CLASSES
    return LabelledImages(PackedImages(folder, names, device), labels)


def normalizer(device: torch.device, params: TrainParams) -> Normalizer:
    """Return a normaliser that suits no backbone in particular."""
    return Normalizer([0.5] * 3, [0.25] * 3, device, params.channels_last)


def make_trainer(name: str, images: LabelledImages, params: TrainParams) -> Trainer:
    """Return a trainer of a timm model with random weights, always the same ones."""
    device = images.labels.device
    torch.manual_seed(0)
    model = move_to_device(
        create_model(name, CLASSES, params.image_size), device, params.channels_last
    )
    return Trainer(model, images, normalizer(device, params), params, 0)


def make_ceiling(trainer: Trainer, images: LabelledImages, params: TrainParams) -> Ceiling:
    """Return the ceiling of a trainer; both train the same model.

    Its labels are of the trainer's kind: one-hot rows if the recipe mixes images.
    """
    device, side = images.labels.device, params.image_size
    batch = torch.rand((params.batch_size, 3, side, side), device=device)
    targets = images.labels[: params.batch_size]
    if params.augment.mixup:
        targets = torch.eye(CLASSES, device=device)[targets]
    return Ceiling(trainer, normalizer(device, params)(batch), targets)


def clock(device: torch.device) -> float:
    """Return seconds: of the wall after the GPU's last kernel; on a CPU of this process's work.

    On shared cores CPU seconds of the one thread are steadier than wall seconds.
    """
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def rounds(
    trainer: Trainer, ceiling: Ceiling, steps: int, repeats: int, now: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of an epoch and of as many steps at the ceiling."""
    trainer.train_epoch(0)  # allocations, choice of kernels
    ceiling.steps(3)
    for repeat in range(repeats):
        started = now()
        trainer.train_epoch(repeat + 1)
        middle = now()
        ceiling.steps(steps)
        yield middle - started, now() - middle
