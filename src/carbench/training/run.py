"""One training, from the files of earlier stages: what the stages tune and train share."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carbench.errors import CarbenchError
from carbench.models.backbones import ModelCard, create, load_start, normalization
from carbench.models.checkpoints import read_about, read_tensors
from carbench.models.devices import place
from carbench.params.train import TrainParams
from carbench.parts import SplitRow, classes_of, read_split
from carbench.pictures.packed import Normalizer, PackedPictures
from carbench.training.engine import DivergedError, Epoch, Trained, better, fit
from carbench.training.trainer import LabelledPictures, out_of_memory

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class Material:
    """The pictures that a training may see: those it learns from and those that choose."""

    classes: list[str]
    train: LabelledPictures
    val: LabelledPictures
    val_rows: list[SplitRow]
    device: torch.device


def load_material(pack: Path, split: Path, seed: int, device: torch.device) -> Material:
    """Read what the trainings of a seed need of the pack and of split.csv, and no test picture."""
    rows = read_split(split, seed)
    classes = classes_of(rows)

    def labelled(own: list[SplitRow]) -> LabelledPictures:
        labels = torch.tensor([classes.index(row.label) for row in own], device=device)
        return LabelledPictures(PackedPictures(pack, [row.image for row in own], device), labels)

    val_rows = [row for row in rows if row.split == "val"]
    return Material(
        classes,
        labelled([row for row in rows if row.split == "train"]),
        labelled(val_rows),
        val_rows,
        device,
    )


def train_backbone(
    weights: Path,
    material: Material,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
) -> tuple[Trained, ModelCard, dict[str, Any]]:
    """Train the model that ``weights`` starts, from one seed; go on from ``checkpoint`` if killed.

    Returns:
        What came of it, the card of the model, and where the start is from.

    Raises:
        CarbenchError: weights of another model, or an impossible device.
        DivergedError: the loss stopped being a number.
    """
    torch.manual_seed(seed)
    start = read_about(weights)
    key = f"backbones.{backbone}.model"
    model = create(start["model"], len(material.classes), params.image_size, key)
    if start["start"] != "random":
        fresh = load_start(model, read_tensors(weights), weights)
        log.info("started from %s; new: %s", start["start"], ", ".join(fresh))
    # What the weights were trained with, where they say so; else what timm knows of the model.
    mean, std = (start["mean"], start["std"]) if "mean" in start else normalization(model)
    try:
        trained = fit(
            place(model, material.device, params.channels_last),
            material.train,
            material.val,
            Normalizer(mean, std, material.device, params.channels_last),
            params,
            seed,
            checkpoint,
        )
    except torch.OutOfMemoryError:  # a step's own is told by the trainer
        key = "train.val_batch_size"
        raise out_of_memory(material.device, params.val_batch_size, key) from None
    card = ModelCard(start["model"], material.classes, params.image_size, mean, std)
    return trained, card, start


def try_rate(
    weights: Path,
    material: Material,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
) -> Epoch:
    """Train with the rate of ``params`` and return the best epoch.

    If ``checkpoint`` is of a trial that was finished, nothing is trained. A rate that diverges gets
    an epoch 0 that nothing is worse than.
    """
    log.info("trying learning rate %g", params.lr)
    try:
        return train_backbone(weights, material, params, seed, backbone, checkpoint)[0].chosen
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
