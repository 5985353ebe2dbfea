"""The input path against its ceiling: trainings on real batches and on one that never changes.

Run by hand in the repository's root: `python benchmarks/input.py`, on a GPU `--device cuda
--size 224 --batch 128`. A step is whole: pictures gathered from the pack, cut, resampled,
recoloured and normalised, then forward, backward, clipping and optimiser; at the ceiling the last
four only. Rounds of both alternate. `--stream` reads pictures from the memory map instead of the
device's memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carbench.models.backbones import create
from carbench.models.devices import place, prepare
from carbench.params.base import read_section
from carbench.params.train import TrainParams
from carbench.pictures import packed
from carbench.pictures.packed import Normalizer, PackedPictures
from carbench.tables import write_table
from carbench.training.trainer import LabelledPictures, Trainer

MODELS = {
    "cpu": ("test_resnet", "test_efficientnet", "mobilenetv3_small_050", "test_convnext"),
    "cuda": ("resnet50", "efficientnet_b0", "mobilenetv3_large_100", "convnext_tiny"),
}
CLASSES = 6


class Ceiling(Trainer):
    """A trainer whose every batch is the same, ready on the device."""

    def __init__(self, trainer: Trainer, batch: Tensor, targets: Tensor) -> None:
        vars(self).update(vars(trainer))
        self._batch, self._targets = batch, targets

    def steps(self, count: int) -> None:
        """Learn from the batch so many times."""
        for _ in range(count):
            self.learn(self._batch, self._targets)


def pack(folder: Path, count: int, size: int) -> list[str]:
    """Write a pack of random pictures; their content costs nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    np.save(folder / "images.npy", pixels)
    names = [f"{row}.png" for row in range(count)]
    rows = [{"row": row, "image": name} for row, name in enumerate(names)]
    write_table(folder / "index.csv", ["row", "image"], rows)
    return names


def rounds(
    trainer: Trainer, ceiling: Ceiling, steps: int, repeats: int, clock: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of an epoch and of as many steps at the ceiling."""
    trainer.train_epoch(0)  # allocations, choice of kernels
    ceiling.steps(3)
    for repeat in range(repeats):
        started = clock()
        trainer.train_epoch(repeat + 1)
        middle = clock()
        ceiling.steps(steps)
        yield middle - started, clock() - middle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--stream", action="store_true")
    args = parser.parse_args()
    if args.stream:
        packed.RESIDENT_BYTES, packed.RESIDENT_SHARE = 0, 0.0
    params = read_section(Path("presets/sample.yaml"), "train", TrainParams).model_copy(
        update={
            "image_size": args.size,
            "batch_size": args.batch,
            "device": args.device,
            "epochs": args.repeats + 1,
        }
    )
    device = prepare(params, "train")

    def clock() -> float:
        # On shared cores CPU seconds of the one thread are steadier than wall seconds.
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    print("| backbone | pictures a second | ceiling | of the ceiling |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        count = args.steps * args.batch
        names = pack(Path(folder), count, args.size + args.size // 8)
        labels = torch.arange(count, device=device) % CLASSES
        pictures = LabelledPictures(PackedPictures(Path(folder), names, device), labels)
        normalize = Normalizer([0.5] * 3, [0.25] * 3, device)
        for name in MODELS[args.device]:
            torch.manual_seed(0)
            model = place(create(name, CLASSES, name), device)
            trainer = Trainer(model, pictures, normalize, params, 0)
            shape = (args.batch, 3, args.size, args.size)
            batch = normalize(torch.rand(shape, device=device))
            ceiling = Ceiling(trainer, batch, labels[: args.batch])
            both = list(rounds(trainer, ceiling, args.steps, args.repeats, clock))
            real, best = (statistics.median(each) for each in zip(*both, strict=True))
            ratios = [two / one for one, two in both]
            print(
                f"| {name} | {count / real:,.0f} | {count / best:,.0f} | "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
