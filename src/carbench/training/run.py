"""A training run from the files of earlier stages, for the stages tune, train and subset."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.data.pack.reading import find_rows
from carbench.data.split.table import SplitRows, read_split
from carbench.models.backbones import ModelCard, create_model, load_initial_weights, normalization
from carbench.models.devices import move_to_device, peak_memory_mb
from carbench.models.model_file import read_metadata, read_tensors
from carbench.params.train import TrainParams
from carbench.training.loop import (
    LabelledImages,
    TrainingResult,
    fit,
    out_of_memory_error,
)
from carbench.training.profiling import ENOUGH_STEPS

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class TrainingData:
    """The images of a training run: train, and val, which selects the epoch."""

    classes: list[str]
    train: LabelledImages
    val: LabelledImages
    val_rows: SplitRows
    device: torch.device


def load_data(
    pack: Path,
    split: Path,
    seed: int,
    device: torch.device,
    subset: Callable[[SplitRows], NDArray[np.intp]] | None = None,
) -> TrainingData:
    """Load the train and val images of a seed from the pack; test images are not read.

    Args:
        pack: output of stage pack.
        split: split.csv.
        seed: seed of the training run, which selects the fold or the repeated split.
        device: device of the images.
        subset: returns the indices of the training images to use; an epoch has as many steps as
            with all of them.
    """
    rows = read_split(split, seed)
    pack_rows = find_rows(pack, rows.images)

    def labelled(chosen: NDArray[np.intp], per_epoch: int | None = None) -> LabelledImages:
        labels = torch.from_numpy(rows.labels[chosen]).to(device, torch.int64)
        return LabelledImages(PackedImages(pack, pack_rows[chosen], device), labels, per_epoch)

    train, val = rows.indices_of("train"), rows.indices_of("val")
    return TrainingData(
        rows.classes,
        labelled(train[subset(rows.select(train))], len(train)) if subset else labelled(train),
        labelled(val),
        rows.select(val),
        device,
    )


def profile_backbone(
    weights: Path, data: TrainingData, params: TrainParams, seed: int, backbone: str, folder: Path
) -> None:
    """Write a profile of a training run to ``folder``, from a few of its steps and one validation.

    The result of these steps is discarded. For the other arguments, see :func:`train_backbone`.
    """
    some = replace(data.train, per_epoch=ENOUGH_STEPS * params.batch_size)
    # One epoch that trains the whole model.
    changes = {"epochs": 1, "warmup_epochs": 0.0, "freeze_epochs": 0}
    params = params.model_copy(update=changes)
    train_backbone(weights, replace(data, train=some), params, seed, backbone, profile=folder)


def train_backbone(
    weights: Path,
    data: TrainingData,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
    live: Path | None = None,
    profile: Path | None = None,
) -> tuple[TrainingResult, ModelCard, dict[str, Any]]:
    """Train a backbone from its initial weights with one seed; resume from ``checkpoint``.

    ``live`` is the file of the curve, to follow the run with, ``profile`` the folder for a profile.

    Returns:
        The result, the card of the model, and the metadata of the initial weights.

    Raises:
        CarbenchError: weights of another model, or out of memory.
        DivergedError: the loss is no longer finite.
    """
    torch.manual_seed(seed)
    start = read_metadata(weights)
    key = f"backbones.{backbone}.model"
    model = create_model(start["model"], len(data.classes), params.image_size, key)
    if start["start"] != "random":
        reinitialised = load_initial_weights(model, read_tensors(weights), weights)
        log.info("started from %s; re-initialised: %s", start["start"], ", ".join(reinitialised))
    # The normalisation that the weights were trained with, if known, else timm's default.
    mean, std = (start["mean"], start["std"]) if "mean" in start else normalization(model)
    try:
        trained = fit(
            move_to_device(model, data.device, params.channels_last),
            data.train,
            data.val,
            Normalizer(mean, std, data.device, params.channels_last),
            params,
            seed,
            checkpoint,
            live,
            profile,
        )
    except torch.OutOfMemoryError:  # in evaluation; training steps handle it themselves
        key = "train.val_batch_size"
        raise out_of_memory_error(data.device, params.val_batch_size, key) from None
    card = ModelCard(start["model"], data.classes, params.image_size, mean, std)
    return trained, card, start


def training_record(
    result: TrainingResult, device: torch.device, started: float, cpu_started: float
) -> dict[str, Any]:
    """Return the entries of provenance.json about the training run.

    Args:
        result: the result of the run.
        device: the device of the run.
        started: time.perf_counter() before loading the images.
        cpu_started: time.process_time() at the same moment.
    """
    return {
        "seconds": round(result.seconds_before + time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "resumed_after": result.resumed_after,
        "precision": result.precision,
        "micro_batch": result.micro_batch,
        "peak_memory_mb": round(peak_memory_mb(device)),
    }
