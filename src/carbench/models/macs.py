"""Counts the multiply-accumulates and parameters of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.inference_mode()
def count_macs(model: nn.Module, one: Tensor) -> int:
    """Return the multiply-accumulates of a forward pass of one image (1, 3, H, W).

    The parameters of the model should not require gradients: the counter hooks the gradients of
    tokens, which do not exist in inference mode.
    """
    with FlopCounterMode(display=False) as counter:
        model(one)
    return int(counter.get_total_flops() // 2)


def count_parameters(model: nn.Module) -> int:
    """Return the number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
