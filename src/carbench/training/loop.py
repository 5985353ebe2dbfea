"""The training loop: epochs, batches, forward, backward, step.

`fit` runs the epochs, evaluates on val after each and keeps the best one; `Trainer.train_epoch`
runs the batches of an epoch, `Trainer.step` trains on one batch. Test images are never read.

All randomness comes from the seed: initial weights and dropout from torch's global state, order and
augmentation from a generator that is seeded for each epoch. A killed training run resumes from its
checkpoint and gives bit-identical results.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import record_function

from carbench.core.errors import CarbenchError
from carbench.core.progress import progress
from carbench.data.loading.augment import Augmentation, augment, draw_augmentation
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.compiler_stub import load_compiler
from carbench.models.devices import tf32, uses_bfloat16, without_filling_memory
from carbench.models.heads import train_mode
from carbench.models.predict import predict_logits
from carbench.params.train import TrainParams
from carbench.training.checkpoint import Checkpoint
from carbench.training.live_curve import LiveCurve
from carbench.training.optim import (
    MovingAverage,
    create_optimizer,
    learning_rates,
    set_learning_rate,
    steps_per_epoch,
)
from carbench.training.profile_table import (
    AUGMENT,
    AVERAGE,
    BACKWARD,
    CLIP,
    FORWARD,
    LOAD,
    LOSS,
    NORMALIZE,
    OPTIMIZER,
)
from carbench.training.profiling import StepProfiler, labelled

log = logging.getLogger("carbench")


class DivergedError(CarbenchError):
    """The loss is no longer finite: the learning rate is too high."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and their class indices (N,) int64, on the same device.

    ``per_epoch`` is the number of images in an epoch, if not N: with a subset, images are repeated,
    so that the number of steps is that of the whole set.
    """

    images: PackedImages
    labels: Tensor
    per_epoch: int | None = None


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv: last learning rate of the head, losses and accuracy.

    Losses are mean cross entropies in nats: on train with label smoothing and mixup if the recipe
    uses them, on val without.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class TrainingResult:
    """Weights and val logits (N, classes) float32, on the CPU, of the best epoch; and all epochs.

    ``precision`` is the precision that was used, ``micro_batch`` the number of images on the device
    at a time. ``resumed_after`` lists the epochs after which the run was resumed, and
    ``seconds_before`` is the training time of the earlier runs.
    """

    tensors: dict[str, Tensor]
    val_logits: Tensor
    best: Epoch
    history: list[Epoch]
    precision: str = ""
    micro_batch: int = 0
    resumed_after: list[int] = field(default_factory=list)
    seconds_before: float = 0.0


def fit(
    model: nn.Module,
    train: LabelledImages,
    val: LabelledImages,
    normalize: Normalizer,
    params: TrainParams,
    seed: int,
    checkpoint: Path | None = None,
    live: Path | None = None,
    profile: Path | None = None,
) -> TrainingResult:
    """Train ``model`` in place and return the weights of the epoch that was best on ``val``.

    Args:
        model: a timm model on the images' device, initialised from ``seed``.
        train: training images.
        val: images that select the epoch.
        normalize: normalisation of the model.
        params: the recipe.
        seed: seed of order and augmentation.
        checkpoint: file to save to, and to resume from after a kill; None: no checkpoints.
        live: file for the curve, to follow the run with; None: no such file.
        profile: folder for a profile of the first steps that train the whole model; None: none.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    profiler = StepProfiler(profile, train.labels.device)
    trainer = Trainer(model, train, normalize, params, seed, profiler)
    checkpoints = Checkpoint(checkpoint, _fingerprint(model, train, val, params, seed))
    history: list[Epoch] = []
    best: TrainingResult | None = None
    if saved := checkpoints.load():
        trainer.load_state(saved["trainer"])
        history = [Epoch(**row) for row in saved["history"]]
        best = TrainingResult(
            saved["tensors"], saved["val_logits"], history[saved["best"] - 1], history
        )
        log.info("resuming after epoch %d", len(history))
    curve = LiveCurve(live, params.epochs, [vars(each) for each in history])

    while best is None or not _is_over(history, best.best, params):
        lr, train_loss = trainer.train_epoch(len(history))
        with profiler.validation():
            logits = predict_logits(
                trainer.eval_model,
                val.images,
                normalize,
                params.image_size,
                params.val_batch_size,
                trainer.eval_in_bfloat16,
            )
        profiler.save(model, params, trainer.precision, len(train.images), len(val.images))
        row = _evaluate(len(history) + 1, lr, train_loss, logits, val.labels.cpu())
        history.append(row)
        curve.append(vars(row))
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
        if best is None or is_better(row, best.best, params.select):
            state = trainer.eval_model.state_dict()
            tensors = {name: value.detach().clone() for name, value in state.items()}
            best = TrainingResult(tensors, logits, row, history)
        progressed = {
            "trainer": trainer.state(),
            "history": [vars(each) for each in history],
            "best": best.best.epoch,
            "tensors": best.tensors,
            "val_logits": best.val_logits,
        }
        # The end is always saved, so that a job with several runs does not repeat completed ones.
        checkpoints.save(len(history), progressed, always=_is_over(history, best.best, params))

    if len(history) < params.epochs:
        log.info("stopped early: no better epoch since %d", best.best.epoch)
    return replace(
        best,
        precision=trainer.precision,
        micro_batch=trainer.micro_batch,
        resumed_after=checkpoints.resumed_after,
        seconds_before=checkpoints.seconds_before,
    )


class Trainer:
    """A model, its optimiser, and the moving average of its weights if the recipe has one."""

    def __init__(
        self,
        model: nn.Module,
        train: LabelledImages,
        normalize: Normalizer,
        params: TrainParams,
        seed: int,
        profiler: StepProfiler | None = None,
    ) -> None:
        self._model = model
        self._forward: Callable[[Tensor], Tensor] = _compile(model) if params.compile else model
        self._train = train
        self._device = train.labels.device
        self._normalize = normalize
        self._params = params
        self._seed = seed
        self._profiler = profiler or StepProfiler(None, self._device)
        classes: Any = model.num_classes
        self._one_hot = torch.eye(classes, device=self._device)
        self._optimizer = create_optimizer(model, params)
        self._average = MovingAverage(model, params.ema) if params.ema else None
        self._steps = 0
        bfloat16 = uses_bfloat16(params.precision, model, self._device)
        self.precision = "bfloat16" if bfloat16 else "float32"
        self.micro_batch = params.batch_size
        """Images on the device at a time: the batch size, or less after running out of memory."""

    @without_filling_memory()
    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Train for an epoch; return its last learning rate and its mean loss.

        Raises:
            CarbenchError: out of memory, and the recipe does not allow smaller micro-batches.
        """
        params, images = self._params, self._train.images
        train_mode(self._model, frozen=epoch < params.freeze_epochs)
        rng = torch.Generator().manual_seed((self._seed << 20) + epoch)
        order = draw_epoch_order(len(images), self._train.per_epoch, rng)
        steps = steps_per_epoch(len(order), params.batch_size)
        batches = torch.split(order, params.batch_size)[:steps]
        # Labels, augmentation and losses stay on the device for the whole epoch, because a copy or
        # a value read back in each step would stall a GPU.
        labels = torch.split(self._train.labels[order.to(self._device)], params.batch_size)
        count = sum(map(len, batches))
        drawn = draw_augmentation(count, params.batch_size, params.augment, rng)
        losses = torch.zeros((), device=self._device)
        rates = list(learning_rates(epoch, steps, params))
        pixels_of_batches = labelled(images.batches(batches), LOAD)
        # Frozen steps cost less than the others.
        is_whole = epoch >= params.freeze_epochs
        with self._profiler.epoch(steps) if is_whole else nullcontext():
            for pixels, targets, augmentation, lr in zip(
                progress(pixels_of_batches, f"epoch {epoch + 1}", steps),
                labels[:steps],
                drawn.to(self._device).split(params.batch_size),
                rates,
                strict=True,
            ):
                set_learning_rate(self._optimizer, lr)
                with record_function(AUGMENT):
                    batch, targets = self._augment(pixels, targets, augmentation)
                with record_function(NORMALIZE):
                    batch = self._normalize(batch)
                losses += self.step(batch, targets)
                self._profiler.end_of_step()
        return rates[-1], losses.item() / steps

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take one optimiser step on a batch.

        Args:
            images: (B, 3, S, S) float32, normalised.
            targets: class indices (B,) int64, or (B, classes) float32 that sum to one.

        Returns:
            The loss, a scalar on the device.

        Raises:
            CarbenchError: out of memory, and the recipe does not allow smaller micro-batches.
        """
        while (loss := self._backward(images, targets)) is None:
            self._halve_micro_batch()
        with record_function(CLIP):
            nn.utils.clip_grad_norm_(self._model.parameters(), self._params.clip_norm)
        with record_function(OPTIMIZER):
            self._optimizer.step()
        self._steps += 1
        if self._average:
            with record_function(AVERAGE):
                self._average.update(self._model, step=self._steps)
        return loss

    def _augment(
        self, pixels: Tensor, targets: Tensor, augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        """Return (B, 3, S, S) float32 images of (B, S, S, 3) uint8 pixels, and their targets."""
        params = self._params.augment
        if params.mixup:
            targets = self._one_hot[targets]
        with tf32(self._device):  # the error is below half a grey level
            return augment(pixels, targets, augmentation, params, self._params.image_size)

    def _backward(self, images: Tensor, targets: Tensor) -> Tensor | None:
        """Accumulate the gradients of a batch over micro-batches; return its mean loss.

        Returns None if the device ran out of memory. The caller handles this after the tensors of
        this frame are released.
        """
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=images.device)
        try:
            for some_images, some_targets in zip(
                images.split(self.micro_batch), targets.split(self.micro_batch), strict=True
            ):
                with (
                    record_function(FORWARD),
                    torch.autocast(
                        images.device.type, torch.bfloat16, self.precision == "bfloat16"
                    ),
                ):
                    logits = self._forward(some_images)
                with record_function(LOSS):
                    loss = functional.cross_entropy(
                        logits.float(), some_targets, label_smoothing=self._params.label_smoothing
                    )
                    loss = loss * (len(some_images) / len(images))
                with record_function(BACKWARD):
                    loss.backward()
                total += loss.detach()
        except torch.OutOfMemoryError:
            return None
        return total

    def _halve_micro_batch(self) -> None:
        if self._params.out_of_memory == "stop" or self.micro_batch == 1:
            raise out_of_memory_error(self._device, self.micro_batch)
        self.micro_batch = (self.micro_batch + 1) // 2
        log.warning("out of memory; continuing with %d images at a time", self.micro_batch)
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def eval_model(self) -> nn.Module:
        """The model that is evaluated on val and saved: the moving average, if there is one."""
        return self._average.module if self._average else self._model

    @property
    def eval_in_bfloat16(self) -> bool:
        """Whether val is predicted in bfloat16: on a GPU that trains in it, never on a CPU."""
        return self.precision == "bfloat16" and self._device.type == "cuda"

    def state(self) -> dict[str, Any]:
        """Return the complete training state; its tensors are not copies."""
        is_cuda = self._device.type == "cuda"
        return {
            "model": self._model.state_dict(),
            "average": self._average.module.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
            "micro_batch": self.micro_batch,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self._device) if is_cuda else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned, in a trainer with the same arguments."""
        self._model.load_state_dict(state["model"])
        if self._average:
            self._average.module.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]
        self.micro_batch = state["micro_batch"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self._device)


def is_better(row: Epoch, than: Epoch, select: str) -> bool:
    """Return whether an epoch is better on val than another; the other metric breaks ties."""
    if select == "val_loss":
        return (-row.val_loss, row.val_accuracy) > (-than.val_loss, than.val_accuracy)
    return (row.val_accuracy, -row.val_loss) > (than.val_accuracy, -than.val_loss)


def draw_epoch_order(count: int, per_epoch: int | None, rng: torch.Generator) -> Tensor:
    """Return the indices of the images of an epoch, (per_epoch,) int64, in random order.

    Each image occurs once before any is repeated; None: each image once.
    """
    rounds = -(-per_epoch // count) if per_epoch else 1
    orders = [torch.randperm(count, generator=rng) for _ in range(rounds)]
    return torch.cat(orders)[:per_epoch]


def out_of_memory_error(
    device: torch.device, count: int, key: str = "train.batch_size"
) -> CarbenchError:
    """Return the error for a device without enough memory for ``count`` images at a time."""
    size = ""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        size = f" of {total / 1e9:.0f} GB"
    return CarbenchError(
        "params.yaml",
        key=key,
        found=f"{count} images at a time, for which the memory{size} is too small",
        expected="a batch that fits next to the model and to other jobs on the same GPU",
        fix="lower it, or set train.out_of_memory: halve, or let fewer jobs share a GPU "
        "(--resources gpu=N)",
    )


def _is_over(history: list[Epoch], best: Epoch, params: TrainParams) -> bool:
    """Return whether all epochs are done, or patience is exhausted."""
    epochs_since_best = len(history) - best.epoch
    return len(history) == params.epochs or 0 < params.patience <= epochs_since_best


def _evaluate(epoch: int, lr: float, train_loss: float, logits: Tensor, labels: Tensor) -> Epoch:
    loss = functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return Epoch(epoch, lr, train_loss, loss, accuracy)


def _fingerprint(
    model: nn.Module, train: LabelledImages, val: LabelledImages, params: TrainParams, seed: int
) -> dict[str, Any]:
    """Return the values that a checkpoint must share with this run."""
    return {
        "params": params.model_dump(),
        "seed": seed,
        "images": [len(train.images), len(val.images), train.per_epoch],
        "tensors": {name: list(value.shape) for name, value in model.state_dict().items()},
        "versions": [str(torch.__version__), timm.__version__],
    }


def _compile(model: nn.Module) -> Callable[[Tensor], Tensor]:
    load_compiler()
    torch.use_deterministic_algorithms(True)
    compiled: Callable[[Tensor], Tensor] = torch.compile(model)
    return compiled
