"""Trains one backbone from one seed; validation pictures choose the epoch, test ones are not seen.

A training that was killed goes on from its checkpoint, to the same bits.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from carbench.errors import CarbenchError
from carbench.judging.predict import predict_logits
from carbench.params.train import TrainParams
from carbench.pictures.packed import Normalizer
from carbench.training.resuming import Checkpoint
from carbench.training.trainer import LabelledPictures, Trainer

log = logging.getLogger("carbench")


class DivergedError(CarbenchError):
    """The loss stopped being a number: the learning rate is too high."""


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
    """The chosen epoch's weights and val logits (N, classes) float32 on the CPU; all epochs.

    And how it went: the precision that was computed in, the most pictures that the device held at
    a time, and, of a training that was killed, the epochs that it went on after and how long it had
    trained until then.
    """

    tensors: dict[str, Tensor]
    val_logits: Tensor
    chosen: Epoch
    history: list[Epoch]
    precision: str = ""
    micro_batch: int = 0
    resumed_after: list[int] = field(default_factory=list)
    seconds_before: float = 0.0


def fit(
    model: nn.Module,
    train: LabelledPictures,
    val: LabelledPictures,
    normalize: Normalizer,
    params: TrainParams,
    seed: int,
    checkpoint: Path | None = None,
) -> Trained:
    """Train ``model`` in place and return the weights that were best on ``val``.

    Args:
        model: a timm model on the pictures' device, as made and started from ``seed``.
        train: what it learns from.
        val: what chooses the epoch.
        normalize: what the model wants done to pictures.
        params: the recipe.
        seed: of order and augmentation.
        checkpoint: file to go on from if this training was killed, and to save to; None: neither.

    Raises:
        DivergedError: the loss stopped being a number.
    """
    trainer = Trainer(model, train, normalize, params, seed)
    kept = Checkpoint(checkpoint, _made_from(model, train, val, params, seed))
    history: list[Epoch] = []
    best: Trained | None = None
    if saved := kept.load():
        trainer.load_state(saved["trainer"])
        history = [Epoch(**row) for row in saved["history"]]
        chosen = history[saved["chosen"] - 1]
        best = Trained(saved["tensors"], saved["val_logits"], chosen, history)
        log.info("going on after epoch %d", len(history))
    while best is None or not _is_over(history, best.chosen, params):
        epoch = len(history)
        lr, loss = trainer.train_epoch(epoch)
        logits = predict_logits(
            trainer.judged,
            val.pictures,
            normalize,
            params.image_size,
            params.val_batch_size,
            trainer.judges_in_bfloat16,
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
        progressed = {
            "trainer": trainer.state(),
            "history": [vars(row) for row in history],
            "chosen": best.chosen.epoch,
            "tensors": best.tensors,
            "val_logits": best.val_logits,
        }
        # The end is always saved: a job of several trainings does not repeat those it finished.
        kept.save(len(history), progressed, always=_is_over(history, best.chosen, params))
    if len(history) < params.epochs:
        log.info("stopped: no better epoch since %d", best.chosen.epoch)
    return replace(
        best,
        precision=trainer.precision,
        micro_batch=trainer.micro_batch,
        resumed_after=kept.resumed_after,
        seconds_before=kept.seconds_before,
    )


def _made_from(
    model: nn.Module,
    train: LabelledPictures,
    val: LabelledPictures,
    params: TrainParams,
    seed: int,
) -> dict[str, Any]:
    """Return what a checkpoint must share with this training to fit it."""
    return {
        "params": params.model_dump(),
        "seed": seed,
        "pictures": [len(train.pictures), len(val.pictures)],
        "tensors": {name: list(value.shape) for name, value in model.state_dict().items()},
        "versions": [str(torch.__version__), timm.__version__],
    }


def _is_over(history: list[Epoch], chosen: Epoch, params: TrainParams) -> bool:
    """Whether all epochs were trained, or none was better for as long as patience lasts."""
    waited = len(history) - chosen.epoch
    return len(history) == params.epochs or 0 < params.patience <= waited


def better(row: Epoch, than: Epoch, select: str) -> bool:
    """Whether an epoch is better on val than another; the other number breaks ties."""
    if select == "val_loss":
        return (-row.val_loss, row.val_accuracy) > (-than.val_loss, than.val_accuracy)
    return (row.val_accuracy, -row.val_loss) > (than.val_accuracy, -than.val_loss)


def _judge(epoch: int, lr: float, train_loss: float, logits: Tensor, labels: Tensor) -> Epoch:
    loss = functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Epoch(epoch + 1, lr, train_loss, loss, accuracy)
