"""Measure what saving checkpoints, which let a killed training run resume, costs.

Run from the repository's root: `python benchmarks/checkpoints.py`. Training runs of the sample's
size on random images, with and without checkpoints, alternate; prints the ratios of their wall
seconds, which include waiting for the disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from steps import CLASSES, MODELS, pack

from carbench.core.params import read_section
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.backbones import create_model
from carbench.models.devices import move_to_device, set_up_device
from carbench.params.train import TrainParams
from carbench.training.loop import LabelledImages, fit


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    params = read_section(Path("presets/sample.yaml"), "train", TrainParams)
    params = params.model_copy(update={"epochs": args.epochs})
    device = set_up_device(params, "train")
    normalize = Normalizer([0.5] * 3, [0.25] * 3, device)
    with tempfile.TemporaryDirectory() as place_of_files:
        folder = Path(place_of_files)
        rows = pack(folder, args.images, 56)
        labels = torch.arange(args.images, device=device) % CLASSES
        train = LabelledImages(PackedImages(folder, rows, device), labels)
        val = LabelledImages(PackedImages(folder, rows[:200], device), labels[:200])
        for name in MODELS["cpu"]:
            ratios = []
            for repeat in range(args.repeats + 1):
                seconds = []
                for checkpoint in (None, folder / f"{name}-{repeat}.pt"):
                    torch.manual_seed(0)
                    model = move_to_device(create_model(name, CLASSES, params.image_size), device)
                    started = time.perf_counter()
                    fit(model, train, val, normalize, params, 0, checkpoint)
                    seconds.append(time.perf_counter() - started)
                if repeat:  # the first warms up
                    ratios.append(seconds[1] / seconds[0])
            size = (folder / f"{name}-0.pt").stat().st_size / 1e6
            print(
                f"{name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
                f"times as long with checkpoints of {size:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
