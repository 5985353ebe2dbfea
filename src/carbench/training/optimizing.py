"""What is trained at which rate: head and body of a model, the optimiser, the schedule.

The head is the classifier that is made anew for the classes; the body is all the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from carbench.models.heads import head_of
from carbench.params.train import TrainParams


def train_mode(model: nn.Module, frozen: bool) -> None:
    """Make all of a model learn, or its head alone.

    A frozen body keeps its weights and its batch normalisation's statistics, and drops nothing.
    """
    model.train(not frozen).requires_grad_(not frozen)
    for head in head_of(model):
        head.train().requires_grad_(True)


def make_optimizer(model: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """Return the optimiser; biases and normalisation weights do not decay.

    The groups carry ``lr_scale``, timm's name for what :func:`set_rate` multiplies a rate by.
    """
    head = {id(each) for module in head_of(model) for each in module.parameters()}
    groups: list[dict[str, Any]] = [
        {
            "params": [
                each
                for each in model.parameters()
                if (id(each) in head) == is_head and (each.ndim > 1) == decays
            ],
            "lr_scale": 1.0 if is_head else params.backbone_lr_scale,
            "weight_decay": params.weight_decay if decays else 0.0,
        }
        for is_head in (True, False)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    if params.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=params.lr, momentum=0.9, nesterov=True, fused=params.fused
        )
    return torch.optim.AdamW(groups, lr=params.lr, fused=params.fused)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of the next step: ``lr`` for the head, its part for the body."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


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
