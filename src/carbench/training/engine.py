"""Trains one backbone from one seed; validation pictures choose the epoch, test ones are not seen.

Everything random comes from the seed: the start and drop-out from torch's global state, order and
augmentation from a generator of their own that is seeded anew for every epoch. A training that was
killed goes on from its checkpoint, to the same bits.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
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
from carbench.training.resuming import Checkpoint

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
    """The chosen epoch's weights and val logits (N, classes) float32 on the CPU; all epochs.

    Of a training that was killed also the epochs that it went on after, and how long it had
    trained until then.
    """

    tensors: dict[str, Tensor]
    val_logits: Tensor
    chosen: Epoch
    history: list[Epoch]
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
    trainer = _Trainer(model, train, normalize, params, seed)
    kept = Checkpoint(checkpoint, _made_from(model, train, val, params, seed))
    history: list[Epoch] = []
    best: Trained | None = None
    if saved := kept.load():
        trainer.load_state(saved["trainer"])
        history = [Epoch(**row) for row in saved["history"]]
        chosen = history[saved["chosen"] - 1]
        best = Trained(
            *(saved["tensors"], saved["val_logits"], chosen, history),
            *(kept.resumed_after, kept.seconds_before),
        )
        log.info("going on after epoch %d", len(history))
    while best is None or not _is_over(history, best.chosen, params):
        epoch = len(history)
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
            best = Trained(tensors, logits, row, history, kept.resumed_after, kept.seconds_before)
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
    return best


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

    def state(self) -> dict[str, Any]:
        """Return all that the epochs to come depend on; its tensors are the living ones."""
        device = self._train.labels.device
        return {
            "model": self._model.state_dict(),
            "average": self._average.module.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state` returned in a training that was made alike."""
        self._model.load_state_dict(state["model"])
        if self._average:
            self._average.module.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self._train.labels.device)

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
