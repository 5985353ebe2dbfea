"""Trains one backbone from one seed; validation pictures choose the epoch, test ones are not seen.

Everything random comes from the seed: the start and drop-out from torch's global state, order and
augmentation from a generator of their own that is seeded anew for every epoch.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from carbench.errors import CarbenchError
from carbench.judging.predict import predict_logits
from carbench.params.train import TrainParams
from carbench.pictures.augment import draw_crops, mix, recolour, resample
from carbench.pictures.packed import Normalizer, PackedPictures
from carbench.progress import progress
from carbench.training.optimizing import (
    learning_rates,
    make_optimizer,
    set_rate,
    steps_per_epoch,
    train_mode,
)

log = logging.getLogger("carbench")


class DivergedError(CarbenchError):
    """The loss stopped being a number: the learning rate is too high."""


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures and their class indices (N,) int64 on the same device."""

    pictures: PackedPictures
    labels: Tensor


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv: the head's last learning rate, and how train and val went.

    Losses are means of the cross entropy in nats: on train with smoothed and mixed labels where
    the recipe asks for them, on val without.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Trained:
    """The chosen epoch's weights and val logits (N, classes) float32 on the CPU; all epochs."""

    tensors: dict[str, Tensor]
    val_logits: Tensor
    chosen: Epoch
    history: list[Epoch]


def fit(
    model: nn.Module,
    train: LabelledPictures,
    val: LabelledPictures,
    normalize: Normalizer,
    params: TrainParams,
    seed: int,
) -> Trained:
    """Train ``model`` in place and return the weights that were best on ``val``.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    trainer = _Trainer(model, train, normalize, params, seed)
    history: list[Epoch] = []
    best: Trained | None = None
    for epoch in range(params.epochs):
        lr, loss = trainer.train_epoch(epoch)
        logits = predict_logits(
            trainer.judged, val.pictures, normalize, params.image_size, params.batch_size
        )
        row = _judge(epoch, lr, loss, logits, val.labels.cpu())
        history.append(row)
        log.info(
            "epoch %d/%d: train loss %.4f, val loss %.4f, val accuracy %.1f %%",
            *(row.epoch, params.epochs, row.train_loss, row.val_loss, 100 * row.val_accuracy),
        )
        if not math.isfinite(row.train_loss):
            raise DivergedError(
                "params.yaml",
                key="train.lr",
                found=f"a loss of {row.train_loss} in epoch {row.epoch}",
                expected="a finite loss",
                fix=f"lower the learning rate ({params.lr:g}) for this backbone, "
                "or train in float32",
            )
        if best is None or better(row, best.chosen, params.select):
            state = trainer.judged.state_dict()
            tensors = {name: value.detach().clone() for name, value in state.items()}
            best = Trained(tensors, logits, row, history)
        elif params.patience and row.epoch - best.chosen.epoch >= params.patience:
            log.info("stopped: no better epoch since %d", best.chosen.epoch)
            break
    assert best is not None  # there is at least one epoch
    return best


def better(row: Epoch, than: Epoch, select: str) -> bool:
    """Whether an epoch is better on val than another; the other number breaks ties."""
    if select == "val_loss":
        return (-row.val_loss, row.val_accuracy) > (-than.val_loss, than.val_accuracy)
    return (row.val_accuracy, -row.val_loss) > (than.val_accuracy, -than.val_loss)


class _Trainer:
    """A model in training, and the average of its weights where the recipe asks for one.

    The average follows the weights at once and remembers longer as the steps go by (timm's
    ``use_warmup``), up to the recipe's decay, so that short trainings have a use for it.
    """

    def __init__(
        self,
        model: nn.Module,
        train: LabelledPictures,
        normalize: Normalizer,
        params: TrainParams,
        seed: int,
    ) -> None:
        self._model = model
        self._train = train
        self._normalize = normalize
        self._params = params
        self._seed = seed
        classes: Any = model.num_classes
        self._one_hot = torch.eye(classes, device=train.labels.device)
        self._optimizer = make_optimizer(model, params)
        self._steps = 0
        self._average = ModelEmaV3(model, params.ema, use_warmup=True) if params.ema else None

    @property
    def judged(self) -> nn.Module:
        """The model that val sees and that is kept."""
        return self._average.module if self._average else self._model

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Return the last step's learning rate and the epoch's mean loss."""
        params, pictures = self._params, self._train.pictures
        train_mode(self._model, frozen=epoch < params.freeze_epochs)
        dice = torch.Generator().manual_seed((self._seed << 20) + epoch)
        order = torch.randperm(len(pictures), generator=dice)
        steps = steps_per_epoch(len(order), params.batch_size)
        batches = torch.split(order, params.batch_size)[:steps]
        rates = list(learning_rates(epoch, steps, params))
        losses = torch.zeros((), device=self._train.labels.device)
        for batch, lr in zip(progress(batches, f"epoch {epoch + 1}"), rates, strict=True):
            set_rate(self._optimizer, lr)
            # Summed on the device: reading a value every step would make a GPU wait.
            losses += self._step(batch, dice)
        return rates[-1], losses.item() / steps

    def _step(self, batch: Tensor, dice: torch.Generator) -> Tensor:
        """Learn from the pictures at ``batch`` and return the loss, a scalar on the device."""
        params, device = self._params, self._train.labels.device
        crops = draw_crops(len(batch), params.augment, dice)
        pictures = resample(self._train.pictures.batch(batch), crops, params.image_size)
        pictures = recolour(pictures, params.augment, dice)
        targets = self._train.labels[batch.to(device)]
        if params.augment.mixup:
            pictures, targets = mix(pictures, self._one_hot[targets], params.augment.mixup, dice)
        with torch.autocast(device.type, torch.bfloat16, params.precision == "bfloat16"):
            logits = self._model(self._normalize(pictures))
        loss = functional.cross_entropy(
            logits.float(), targets, label_smoothing=params.label_smoothing
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), params.clip_norm)
        self._optimizer.step()
        self._steps += 1
        if self._average:
            self._average.update(self._model, step=self._steps)
        return loss.detach()


def _judge(epoch: int, lr: float, train_loss: float, logits: Tensor, labels: Tensor) -> Epoch:
    loss = functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Epoch(epoch + 1, lr, train_loss, loss, accuracy)
