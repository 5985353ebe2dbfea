"""The steps of a training: a model, its optimiser, and the average of its weights.

Everything random comes from the seed: the start and drop-out from torch's global state, order and
augmentation from a generator of their own that is seeded anew for every epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from carbench.errors import CarbenchError
from carbench.models.devices import tf32, uses_bfloat16
from carbench.models.without_compiler import use_compiler
from carbench.params.train import TrainParams
from carbench.pictures.augment import (
    Colours,
    Crops,
    Mixing,
    Patches,
    draw_colours,
    draw_crops,
    draw_mixing,
    draw_patches,
    erase,
    mix,
    recolour,
    resample,
)
from carbench.pictures.packed import Normalizer, PackedPictures
from carbench.progress import progress
from carbench.training.averaging import Average
from carbench.training.optimizing import (
    learning_rates,
    make_optimizer,
    set_rate,
    steps_per_epoch,
    train_mode,
)

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures and their class indices (N,) int64 on the same device."""

    pictures: PackedPictures
    labels: Tensor


class Trainer:
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
        self._forward: Callable[[Tensor], Tensor] = _compiled(model) if params.compile else model
        self._train = train
        self._normalize = normalize
        self._params = params
        self._seed = seed
        classes: Any = model.num_classes
        self._one_hot = torch.eye(classes, device=train.labels.device)
        self._optimizer = make_optimizer(model, params)
        self._steps = 0
        self._average = Average(model, params.ema) if params.ema else None
        bfloat16 = uses_bfloat16(params.precision, model, train.labels.device)
        self.precision = "bfloat16" if bfloat16 else "float32"
        self.micro_batch = params.batch_size
        """How many pictures the device holds at a time: the batch, or less of it after a want of
        memory."""

    @property
    def judged(self) -> nn.Module:
        """The model that val sees and that is kept."""
        return self._average.module if self._average else self._model

    @property
    def judges_in_bfloat16(self) -> bool:
        """Whether val is predicted in bfloat16: on a GPU that trains in it. On a CPU never."""
        return self.precision == "bfloat16" and self._train.labels.device.type == "cuda"

    def state(self) -> dict[str, Any]:
        """Return all that the epochs to come depend on; its tensors are the living ones."""
        device = self._train.labels.device
        return {
            "model": self._model.state_dict(),
            "average": self._average.module.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
            "micro_batch": self.micro_batch,
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
        self.micro_batch = state["micro_batch"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self._train.labels.device)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Return the last step's learning rate and the epoch's mean loss.

        Raises:
            CarbenchError: the GPU's memory does not hold a batch, and the recipe keeps it whole.
        """
        params, device = self._params, self._train.labels.device
        train_mode(self._model, frozen=epoch < params.freeze_epochs)
        dice = torch.Generator().manual_seed((self._seed << 20) + epoch)
        order = torch.randperm(len(self._train.pictures), generator=dice)
        steps = steps_per_epoch(len(order), params.batch_size)
        batches = torch.split(order, params.batch_size)[:steps]
        # Copied to the device once: a copy every step would make a GPU wait.
        labels = torch.split(self._train.labels[order.to(device)], params.batch_size)
        rates = list(learning_rates(epoch, steps, params))
        losses = torch.zeros((), device=device)
        count = sum(map(len, batches))
        crops = draw_crops(count, params.augment, dice)
        colours = draw_colours(count, params.augment, dice)
        patches = draw_patches(count, params.augment.erase, dice)
        mixing = draw_mixing(count, params.batch_size, params.augment.mixup, dice)
        draws = (crops, colours, patches, mixing)
        chance = zip(*(each.to(device).split(params.batch_size) for each in draws), strict=True)
        pictures = progress(self._train.pictures.batches(batches), f"epoch {epoch + 1}", steps)
        for pixels, targets, drawn, lr in zip(pictures, labels[:steps], chance, rates, strict=True):
            set_rate(self._optimizer, lr)
            # Summed on the device: reading a value every step would make a GPU wait, too.
            losses += self._step(pixels, targets, drawn)
        return rates[-1], losses.item() / steps

    def _step(
        self,
        pixels: Tensor,
        targets: Tensor,
        drawn: tuple[Crops, Colours, Patches, Mixing],
    ) -> Tensor:
        """Learn from (B, S, S, 3) uint8 pictures and return the loss, a scalar on the device."""
        augment = self._params.augment
        crops, colours, patches, mixing = drawn
        with tf32(pixels.device):  # errs by less than half a grey level
            pictures = resample(pixels, crops, self._params.image_size)
        pictures = recolour(pictures, colours)
        if augment.erase:
            pictures = erase(pictures, patches)
        if augment.mixup:
            pictures, targets = mix(pictures, self._one_hot[targets], mixing)
        return self.learn(self._normalize(pictures), targets)

    def learn(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Take one step on a batch.

        Args:
            pictures: (B, 3, S, S) float32, normalised.
            targets: class indices (B,) int64, or (B, classes) float32 that sum to one.

        Returns:
            The loss, a scalar on the device.

        Raises:
            CarbenchError: the device's memory is too small, and the recipe keeps batches whole.
        """
        while (loss := self._gradients(pictures, targets)) is None:
            self._halve()
        nn.utils.clip_grad_norm_(self._model.parameters(), self._params.clip_norm)
        self._optimizer.step()
        self._steps += 1
        if self._average:
            self._average.update(self._model, step=self._steps)
        return loss

    def _gradients(self, pictures: Tensor, targets: Tensor) -> Tensor | None:
        """Add up the gradients of a batch, a micro-batch at a time, and return the mean loss.

        Returns None if the device's memory was too small.
        """
        params = self._params
        total = torch.zeros((), device=pictures.device)
        self._optimizer.zero_grad(set_to_none=True)
        try:
            for some, wanted in zip(
                *(each.split(self.micro_batch) for each in (pictures, targets)), strict=True
            ):
                with torch.autocast(
                    pictures.device.type, torch.bfloat16, self.precision == "bfloat16"
                ):
                    logits = self._forward(some)
                loss = functional.cross_entropy(
                    logits.float(), wanted, label_smoothing=params.label_smoothing
                )
                loss = loss * (len(some) / len(pictures))
                loss.backward()
                total += loss.detach()
        except torch.OutOfMemoryError:
            return None
        return total

    def _halve(self) -> None:
        """Let the device hold half as many pictures at a time."""
        device = self._train.labels.device
        if self._params.out_of_memory == "stop" or self.micro_batch == 1:
            raise out_of_memory(device, self.micro_batch)
        self.micro_batch = (self.micro_batch + 1) // 2
        log.warning("out of memory; going on with %d pictures at a time", self.micro_batch)
        self._optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(device: torch.device, count: int, key: str = "train.batch_size") -> CarbenchError:
    """Return the error for a device whose memory does not hold ``count`` pictures at a time."""
    size = ""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        size = f" of {total / 1e9:.0f} GB"
    return CarbenchError(
        "params.yaml",
        key=key,
        found=f"{count} pictures at a time, for which the memory{size} is too small",
        expected="a batch that fits beside the model, and beside other jobs on the same GPU",
        fix="lower it, or set train.out_of_memory: halve, or let fewer jobs share a GPU "
        "(--resources gpu=N)",
    )


def _compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    use_compiler()
    torch.use_deterministic_algorithms(True)
    compiled: Callable[[Tensor], Tensor] = torch.compile(model)
    return compiled
