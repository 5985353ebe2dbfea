"""Trains one backbone from one seed; validation pictures choose the epoch, test ones are not seen.

Everything random comes from the seed: the start and drop-out from torch's global state, order and
augmentation from a generator of their own that is seeded anew for every epoch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from carbench.augment import draw_crops, recolour, resample
from carbench.errors import CarbenchError
from carbench.packed import Normalizer, PackedPictures
from carbench.params.train import TrainParams
from carbench.predict import predict_logits
from carbench.progress import progress

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures and their class indices (N,) int64 on the same device."""

    pictures: PackedPictures
    labels: Tensor


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv; losses are means of the cross entropy in nats, without smoothing
    on val."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Trained:
    """The weights of the chosen epoch (counted from 1), and all epochs."""

    tensors: dict[str, Tensor]
    chosen: int
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
        CarbenchError: the loss stopped being a number.
    """
    optimizer = make_optimizer(model, params)
    steps = steps_per_epoch(len(train.pictures), params.batch_size)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    chosen = 0
    for epoch in range(params.epochs):
        schedule = learning_rates(epoch, steps, params)
        loss = _train_epoch(model, train, normalize, optimizer, schedule, params, seed, epoch)
        row = _judge(model, val, normalize, params, epoch, loss, optimizer.param_groups[0]["lr"])
        history.append(row)
        log.info(
            "epoch %d/%d: train loss %.4f, val loss %.4f, val accuracy %.1f %%",
            *(row.epoch, params.epochs, row.train_loss, row.val_loss, 100 * row.val_accuracy),
        )
        if not math.isfinite(row.train_loss):
            raise CarbenchError(
                "params.yaml",
                key="train.lr",
                found=f"a loss of {row.train_loss} in epoch {row.epoch}",
                expected="a finite loss",
                fix=f"lower train.lr ({params.lr:g}) for this backbone, or train in float32",
            )
        if chosen == 0 or better(row, history[chosen - 1], params.select):
            chosen = row.epoch
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Trained(best, chosen, history)


def better(row: Epoch, than: Epoch, select: str) -> bool:
    """Whether an epoch is better on val than an earlier one; the other number breaks ties."""
    if select == "val_loss":
        return (-row.val_loss, row.val_accuracy) > (-than.val_loss, than.val_accuracy)
    return (row.val_accuracy, -row.val_loss) > (than.val_accuracy, -than.val_loss)


def make_optimizer(model: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """Return the optimiser; biases and normalisation weights do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": params.weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    if params.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=params.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=params.lr, fused=True)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return full batches of an epoch; a set smaller than a batch is one batch."""
    return max(count // batch_size, 1)


def learning_rates(epoch: int, steps: int, params: TrainParams) -> Iterator[float]:
    """Yield the rate of each step of an epoch: linear warm-up, then a half cosine to zero."""
    total = params.epochs * steps
    warmup = params.warmup_epochs * steps
    for step in range(epoch * steps, (epoch + 1) * steps):
        if step < warmup:
            yield params.lr * (step + 1) / (warmup + 1)
        else:
            done = (step - warmup) / max(total - warmup, 1)
            yield params.lr * 0.5 * (1 + math.cos(math.pi * done))


def _train_epoch(
    model: nn.Module,
    train: LabelledPictures,
    normalize: Normalizer,
    optimizer: torch.optim.Optimizer,
    schedule: Iterator[float],
    params: TrainParams,
    seed: int,
    epoch: int,
) -> float:
    """Return the epoch's mean loss."""
    model.train()
    device = train.labels.device
    dice = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(len(train.pictures), generator=dice)
    batches = torch.split(order, params.batch_size)
    batches = batches[: steps_per_epoch(len(order), params.batch_size)]
    losses = torch.zeros((), device=device)
    for batch, lr in zip(progress(batches, f"epoch {epoch + 1}"), schedule, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr
        crops = draw_crops(len(batch), params.augment, dice)
        pictures = resample(train.pictures.batch(batch), crops, params.image_size)
        pictures = recolour(pictures, params.augment, dice)
        with torch.autocast(device.type, torch.bfloat16, params.precision == "bfloat16"):
            logits = model(normalize(pictures))
        loss = functional.cross_entropy(
            logits.float(),
            train.labels[batch.to(device)],
            label_smoothing=params.label_smoothing,
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), params.clip_norm)
        optimizer.step()
        # Summed on the device: reading a value every step would make a GPU wait.
        losses += loss.detach()
    return losses.item() / len(batches)


def _judge(
    model: nn.Module,
    val: LabelledPictures,
    normalize: Normalizer,
    params: TrainParams,
    epoch: int,
    train_loss: float,
    lr: float,
) -> Epoch:
    logits = predict_logits(model, val.pictures, normalize, params.image_size, params.batch_size)
    labels = val.labels.cpu()
    loss = functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Epoch(epoch + 1, lr, train_loss, loss, accuracy)
