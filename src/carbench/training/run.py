"""One training from the files of earlier stages: shared by the stages tune, train and subset."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carbench.core.errors import CarbenchError
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.data.split.table import SplitRow, classes_of, read_split
from carbench.models.backbones import ModelCard, create, load_start, normalization
from carbench.models.checkpoints import read_about, read_tensors
from carbench.models.devices import peak_memory_mb, place
from carbench.params.train import TrainParams
from carbench.training.loop import (
    DivergedError,
    Epoch,
    LabelledImages,
    TrainingResult,
    better,
    fit,
    out_of_memory,
)

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class TrainingData:
    """The images that a training may see: train, and val, which chooses the epoch."""

    classes: list[str]
    train: LabelledImages
    val: LabelledImages
    val_rows: list[SplitRow]
    device: torch.device


def load_data(
    pack: Path,
    split: Path,
    seed: int,
    device: torch.device,
    subset: Callable[[list[SplitRow]], list[SplitRow]] | None = None,
) -> TrainingData:
    """Load the train and val images of a seed from the pack; test images are not read.

    Args:
        pack: what stage pack wrote.
        split: split.csv.
        seed: of the training, which decides about the split where there are several.
        device: of the images.
        subset: selects training images; an epoch still has as many steps as with all of them.
    """
    rows = read_split(split, seed)
    classes = classes_of(rows)

    def labelled(own: list[SplitRow], shown: int | None = None) -> LabelledImages:
        labels = torch.tensor([classes.index(row.label) for row in own], device=device)
        images = PackedImages(pack, [row.image for row in own], device)
        return LabelledImages(images, labels, shown)

    train_rows = [row for row in rows if row.split == "train"]
    val_rows = [row for row in rows if row.split == "val"]
    return TrainingData(
        classes,
        labelled(subset(train_rows), len(train_rows)) if subset else labelled(train_rows),
        labelled(val_rows),
        val_rows,
        device,
    )


def train_backbone(
    weights: Path,
    data: TrainingData,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
) -> tuple[TrainingResult, ModelCard, dict[str, Any]]:
    """Train a backbone from its initial weights with one seed; resume from ``checkpoint``.

    Returns:
        The result, the card of the model, and where the initial weights are from.

    Raises:
        CarbenchError: weights of another model, or an impossible device.
        DivergedError: the loss stopped being a number.
    """
    torch.manual_seed(seed)
    start = read_about(weights)
    key = f"backbones.{backbone}.model"
    model = create(start["model"], len(data.classes), params.image_size, key)
    if start["start"] != "random":
        fresh = load_start(model, read_tensors(weights), weights)
        log.info("started from %s; new: %s", start["start"], ", ".join(fresh))
    # The normalisation that the weights were trained with, if they say so, else timm's.
    mean, std = (start["mean"], start["std"]) if "mean" in start else normalization(model)
    try:
        trained = fit(
            place(model, data.device, params.channels_last),
            data.train,
            data.val,
            Normalizer(mean, std, data.device, params.channels_last),
            params,
            seed,
            checkpoint,
        )
    except torch.OutOfMemoryError:  # in evaluation: a step handles its own
        key = "train.val_batch_size"
        raise out_of_memory(data.device, params.val_batch_size, key) from None
    card = ModelCard(start["model"], data.classes, params.image_size, mean, std)
    return trained, card, start


def try_rate(
    weights: Path,
    data: TrainingData,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
) -> Epoch:
    """Train with the learning rate of ``params`` and return the best epoch.

    If ``checkpoint`` is of a finished trial, nothing is trained. A rate that diverges returns an
    epoch 0 that is worse than any other.
    """
    log.info("trying learning rate %g", params.lr)
    try:
        return train_backbone(weights, data, params, seed, backbone, checkpoint)[0].best
    except DivergedError as error:
        log.info("learning rate %g is out: %s", params.lr, error)
        return Epoch(0, params.lr, math.inf, math.inf, 0.0)


def best_rate(tried: dict[float, Epoch], select: str) -> float:
    """Return the rate whose epoch is the best on val; of equals the first.

    Raises:
        CarbenchError: all rates diverged.
    """
    best, *others = tried
    for rate in others:
        if better(tried[rate], tried[best], select):
            best = rate
    if tried[best].epoch == 0:
        raise CarbenchError(
            "params.yaml",
            key="tune.learning_rates",
            found=f"{list(tried)}, with all of which the loss stopped being a number",
            expected="a rate at which this backbone learns",
            fix="add lower rates",
        )
    return best


def training_record(
    result: TrainingResult, device: torch.device, started: float, cpu_started: float
) -> dict[str, Any]:
    """Return what provenance.json says of how a training went.

    Args:
        result: what it came to.
        device: that it ran on.
        started: time.perf_counter() before the images were loaded.
        cpu_started: time.process_time() at that moment.
    """
    return {
        "seconds": round(result.seconds_before + time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "resumed_after": result.resumed_after,
        "precision": result.precision,
        "micro_batch": result.micro_batch,
        "peak_memory_mb": round(peak_memory_mb(device)),
    }
