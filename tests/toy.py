"""Images and a recipe that train in a second."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carbench.core.tables import write_table
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.data.pack.reading import find_rows
from carbench.data.split.table import read_split
from carbench.models.model_file import save_model
from carbench.params.train import TrainParams
from carbench.training.loop import LabelledImages
from conftest import SMOKE

CPU = torch.device("cpu")
CLASSES = ["blue", "green", "red"]
COUNT = {"train": 48, "val": 24}
NORMALIZE = Normalizer([0.5] * 3, [0.5] * 3, CPU)


def write_images(folder: Path) -> None:
    """Write what the stages before train would have: noisy images in three colours."""
    rng = np.random.default_rng(0)
    total = sum(COUNT.values())
    labels = np.arange(total) % len(CLASSES)
    pixels = rng.integers(0, 200, (total, 32, 32, 3))
    pixels[np.arange(total), :, :, labels] += 40
    np.save(folder / "images.npy", pixels.astype(np.uint8))
    names = [f"{number}.png" for number in range(total)]
    rows = [{"row": row, "image": name} for row, name in enumerate(names)]
    write_table(folder / "index.csv", ["row", "image"], rows)
    split = [
        {
            "image": name,
            "class": CLASSES[labels[row]],
            "group": row,
            "split": "train" if row < COUNT["train"] else "val",
            "leaked": 0,
        }
        for row, name in enumerate(names)
    ]
    write_table(folder / "split.csv", list(split[0]), split)
    save_model(folder / "start.safetensors", {}, {"model": "test_resnet", "start": "random"})


def recipe(**changes: Any) -> TrainParams:
    params = copy.deepcopy(SMOKE["train"])
    params["augment"]["mixup"] = changes.pop("mixup", 0.0)
    return TrainParams.model_validate(params | changes)


def images(made: Path, part: str) -> LabelledImages:
    rows = read_split(made / "split.csv", 0).of_split(part)
    packed = PackedImages(made, find_rows(made, rows.images), CPU)
    return LabelledImages(packed, torch.from_numpy(rows.labels).long())
